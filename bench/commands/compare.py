"""`bench compare`: two stored runs, case by case."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import FAILED, names
from bench.commands.tables import Shown, prints_table

app = typer.Typer()


@app.command()
@prints_table()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.jsonl", help="The earlier run.")],
    b: Annotated[Path, typer.Argument(metavar="B.jsonl", help="The later run.")],
    force: Annotated[
        bool, typer.Option("--force", help="Compare what differs in more than its code, and say so.")
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="slower or bigger, comma-separated: exit code 1 if B is so in any case. Repeatable.",
        ),
    ] = None,
    *,
    shown: Shown,
) -> None:
    """Compare two stored runs of one suite on one machine."""
    from bench.records.reading import read
    from bench.views import comparison

    asked = comparison.faults_of(names(fail_on, "--fail-on"))
    found = comparison.compare(read(a), read(b), force, asked, shown.rows)
    shown.show(found, [a, b])
    if found.failures:
        raise typer.Exit(FAILED)
