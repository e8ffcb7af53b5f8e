"""What the commands share: exit codes and arguments."""

from pathlib import Path
from typing import Annotated, Any

import typer

OK, FAILED, BAD_USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Result files.", show_default=False)]
FilesOrFolder = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Result files, or a collection's folder.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def names(text: str | None) -> list[str] | None:
    """The words of a comma-separated option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def as_json(value: Any) -> str:
    """Structs and builtins as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()
