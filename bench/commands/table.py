"""`bench table`: result files as a table."""

from typing import Annotated

import typer

from bench.commands.console import FilesOrFolder, read_all
from bench.commands.tables import Shown, prints_table

app = typer.Typer()


@app.command()
@prints_table()
def table(
    files: FilesOrFolder,
    baseline: Annotated[str | None, typer.Option(help="Model that ratios are against.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="With the accuracies that papers print, and their sources.")
    ] = False,
    *,
    shown: Shown,
) -> None:
    """Print the table of one or several result files, merged; of a folder, a column for each task."""
    from bench.records.reading import files_of
    from bench.views.tables import by_task
    from bench.views.tables.table import build_table

    found = files_of(files)
    runs = read_all(found)
    if any(path.is_dir() for path in files):
        shown.show(by_task.build(runs, baseline, shown.rows), found)
    else:
        made = build_table(*runs, baseline=baseline, published=published, models=shown.rows)
        shown.show(made, found)
