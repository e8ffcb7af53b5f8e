"""`bench site`: a static site of a store."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import show
from bench.commands.store import FOLDER, Folder

app = typer.Typer()


@app.command()
def site(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder of the pages.")] = Path(
        "public"
    ),
    store: Folder = FOLDER,
) -> None:
    """Make a static site: a page for each suite, all models over commits, changes with their cause."""
    from bench.views import site as sites

    files = sites.write(store, out)
    show(f"{len(files)} files; open {out / 'index.html'}")
