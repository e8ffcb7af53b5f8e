"""Every key of a suite's file, as tables of docs/suites.md: made from the structs that files are read into.

Run as `python -m bench.suites.keys docs/suites.md`: it writes the tables anew between their two marks.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from bench.suites.collection import CollectionKeys
from bench.suites.suite import Allowed, BatchSizes, Suite, Timing, Training

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"
"""Marks around the tables in a page."""
PARTS: dict[str, type[msgspec.Struct]] = {
    "A suite": Suite,
    "`batch`": BatchSizes,
    "`timing` and `quick`": Timing,
    "`training`": Training,
    "`limits`, by implementation": Allowed,
    "A collection": CollectionKeys,
}
EXTENDS = "| `extends` | text | | The suite that this file changes: its name, or its file's path. |"


def tables() -> str:
    """The tables, in markdown."""
    return "\n\n".join(_table(title, part) for title, part in PARTS.items())


def renewed(page: str) -> str:
    """A page with its tables made anew. Raises ValueError if it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _table(title: str, part: type[msgspec.Struct]) -> str:
    meanings, hints = documented(part), get_type_hints(part, include_extras=True)
    rows = [
        f"| `{field.name}` | {_cell(_words(hints[field.name]))} | {_default(field)} | "
        f"{_cell(meanings[field.name])} |"
        for field in msgspec.structs.fields(part)
    ]
    heads = ["| Key | Value | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([f"### {title}", "", *heads, *([EXTENDS] if part is Suite else []), *rows])


def documented(part: type[msgspec.Struct]) -> dict[str, str]:
    """Docstrings below the fields in the source; empty if there is none."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
    assert isinstance(body, ast.ClassDef)
    found = dict.fromkeys((field.name for field in msgspec.structs.fields(part)), "")
    for line, below in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = _text(below)
    return found


def _text(line: ast.stmt | None) -> str:
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
        return " ".join(str(line.value.value).split())
    return ""


def _words(kind: Any) -> str:
    """A type, as people say what to write."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([_words(parts[0]), *_bounds(parts[1])])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return _either([part for part in parts if part is not NoneType])
    if origin in (list, tuple):
        return f"list of {_words(parts[0])}"
    if origin is dict:
        return f"mapping to {_words(parts[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(kind, "mapping, see below")


def _either(kinds: list[Any]) -> str:
    first, *others = kinds
    if others and get_origin(others[0]) in (list, tuple) and get_args(others[0])[0] == first:
        return f"{_words(first)}; or a list"
    return " or ".join(dict.fromkeys(map(_words, kinds)))


def _bounds(meta: msgspec.Meta) -> Iterator[str]:
    if meta.gt is not None:
        yield f"above {meta.gt}"
    if meta.ge is not None:
        yield f"from {meta.ge}"
    if meta.le is not None and meta.le < sys.maxsize:
        yield f"to {meta.le}"


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT:
        return "the file's name" if field.name == "name" else "required"
    if value is None or isinstance(value, tuple | dict | list):
        return ", ".join(map(str, value or ()))
    if isinstance(value, msgspec.Struct):
        return _changed(value)
    return f"`{value}`"


def _changed(value: msgspec.Struct) -> str:
    """Fields that are not as their own table has them."""
    plain = type(value)()
    names = [name for name in value.__struct_fields__ if getattr(value, name) != getattr(plain, name)]
    return ", ".join(f"`{name}: {getattr(value, name)}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def main(path: Path) -> None:
    """Write the tables of a page anew."""
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
