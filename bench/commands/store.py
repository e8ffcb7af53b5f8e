"""The commands of the result store: store add, store query."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import Files, show
from bench.commands.tables import Shown, prints_table

app = typer.Typer()
store = typer.Typer(no_args_is_help=True, help="Keep runs in a folder that can be queried over all of them.")
app.add_typer(store, name="store")

Folder = Annotated[Path, typer.Option("--store", help="The store's folder.")]
FOLDER = Path("results") / "store"


@store.command()
def add(
    files: Files,
    store: Folder = FOLDER,
    commit: Annotated[
        str | None, typer.Option(help="The commit that was measured, if the files don't say.")
    ] = None,
) -> None:
    """Copy result files into the store."""
    from bench.records import store as result_store

    for path in files:
        show(str(result_store.add(path, store, commit)))


@store.command()
@prints_table()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query of the tables runs, cases and samples.")],
    store: Folder = FOLDER,
    *,
    shown: Shown,
) -> None:
    """Query the store in DuckDB's SQL."""
    from bench.records import store as result_store
    from bench.views.listing import Listing

    answer = result_store.query(store, sql)
    shown.show(Listing.of(answer.records(), shown.rows, answer.columns))
