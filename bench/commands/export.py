"""`bench export`: a result file for a CI service."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import show

app = typer.Typer()


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result file.")],
    format_: Annotated[
        str, typer.Option("--format", help="github-action-benchmark, bencher, pytest-benchmark or junit.")
    ],
) -> None:
    """A result file for a CI service."""
    from bench.records.reading import read
    from bench.views.ci_formats import export as exported

    show(exported(read(file), format_))
