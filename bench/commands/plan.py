"""`bench plan`: what published trainings would cost here."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.tables import Shown, prints_table

app = typer.Typer()


@app.command()
@prints_table()
def plan(
    suite: Annotated[str, typer.Option(help="A suite, or a collection such as lra.")] = "lra",
    device: Annotated[str, typer.Option(help="cpu or cuda: which records' step times count.")] = "cuda",
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Result file, or folder of them; by default results/baselines."),
    ] = None,
    *,
    shown: Shown,
) -> None:
    """Estimate hours and joules of full published trainings from measured steps, before anyone starts."""
    from bench.views import training_cost

    shown.show(training_cost.training_costs(suite, device, from_ or [], shown.rows), from_ or [])
