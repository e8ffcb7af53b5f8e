"""Text that stays text: escapes for markdown, LaTeX and HTML, and JSON inside a page."""

import html
import re

import msgspec

escape_html = html.escape

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~])")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "…": r"\dots{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_markdown(text: str) -> str:
    """Text without markup of its own, on one line of a table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Text that every LaTeX engine compiles: what Latin-1 lacks becomes a question mark."""
    return "".join(_LATEX.get(character) or _latin(character) for character in " ".join(text.split()))


def _latin(character: str) -> str:
    return character if character.isprintable() and ord(character) < 256 else "?"


def script_json(value: object) -> str:
    """JSON that can stand in a script element: no text in it can end the element."""
    return msgspec.json.encode(value).decode().replace("<", r"\u003c")
