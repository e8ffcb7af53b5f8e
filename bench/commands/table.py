"""`bench table`: result files as a table."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    FilesOrFolder,
    Json,
    known_format,
    names,
    print_table,
    read_all,
    refuse_inputs,
)
from bench.errors import UsageError

app = typer.Typer()


@app.command()
def table(
    files: FilesOrFolder,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex, csv, html or json.")
    ] = "terminal",
    baseline: Annotated[str | None, typer.Option(help="Model that ratios are against.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="With the accuracies that papers print, and their sources.")
    ] = False,
    columns: Annotated[
        str | None, typer.Option(help="Columns, comma-separated, in that order: speed,mem,ms/step.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Models, comma-separated, by name.")] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="A column's or a model's name in the table. Repeatable."),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="The column that orders the rows, best first.")] = None,
    no_notes: Annotated[bool, typer.Option("--no-notes", help="Without the notes below the table.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file in place of the terminal.")] = None,
    json: Json = False,
) -> None:
    """Print the table of one or several result files, merged; of a folder, a column for each task."""
    from bench.records.reading import files_of
    from bench.views.tables.choice import Choice

    form = "json" if json else known_format(format_)
    found = files_of(files)
    refuse_inputs(out, found)
    print_table(
        read_all(found),
        form,
        baseline,
        published,
        by_task=any(path.is_dir() for path in files),
        models=names(rows, "--rows"),
        choice=Choice(names(columns, "--columns"), sort, _renamed(rename or []), not no_notes),
        out=out,
    )


def _renamed(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise UsageError(f"--rename {pair}: write it as OLD=NEW")
    return {old: new for old, _, new in (pair.partition("=") for pair in pairs)}
