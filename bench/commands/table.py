"""`bench table`: result files as a table."""

from typing import Annotated

import typer

from bench.commands.console import FilesOrFolder, Json, known_format, print_table, read_all

app = typer.Typer()


@app.command()
def table(
    files: FilesOrFolder,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex, csv, html or json.")
    ] = "terminal",
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="With the accuracies that papers print, and their sources.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the table of one or several result files, merged; of a folder, a column for each task."""
    from bench.records.reading import files_of

    form = "json" if json else known_format(format_)
    results = read_all(files_of(files))
    print_table(results, form, baseline, published, by_task=any(path.is_dir() for path in files))
