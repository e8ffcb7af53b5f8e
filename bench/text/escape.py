"""Escapes, so that text stays text: for terminals, markdown, LaTeX, HTML and CSV, and JSON inside a page."""

import html
import os
import re
from pathlib import Path

import msgspec

escape_html = html.escape

_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that move a cursor, colour, rename a window or turn the writing direction; lone surrogates."""

_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&]|^[#+=-]")

_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After the end of a line these would be read as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_terminal(text: str) -> str:
    """Text that a terminal only prints; JSON stays the same JSON."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_text(name: str | Path) -> str:
    """A file's name, or a word of the command line, as text: in bytes of another locale it is not one."""
    return os.fsencode(name).decode(errors="replace")


def one_line(text: str) -> str:
    """Text without line breaks, which would look like rows of their own, and tabs, which move columns."""
    return " ".join(text.replace("\t", " ").splitlines())


def escape_csv(value: object) -> object:
    """A value that no spreadsheet takes for a formula, without line breaks, which could end its row."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) else text


def escape_markdown(text: str) -> str:
    """Text without markup of its own, on one line of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Text that every LaTeX engine compiles: what Latin-1 lacks becomes a question mark."""
    return "".join(_LATEX.get(character) or _latin(character) for character in " ".join(text.split()))


def _latin(character: str) -> str:
    return character if character.isprintable() and ord(character) < 256 else "?"


def escape_xml(text: str) -> str:
    """Text without the control characters that XML has no way to write."""
    return "".join(character if character.isprintable() else "?" for character in text)


def script_json(value: object) -> str:
    """JSON that can stand in a script element: no text in it can end the element."""
    return msgspec.json.encode(value).decode().replace("<", r"\u003c")
