"""`bench bisect`: which commit made a model slower or bigger?"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import INCOMPLETE, OK, Json, as_json, chosen, show
from bench.commands.regress import Pairing, Setup, Source
from bench.errors import UsageError

app = typer.Typer()


@app.command()
def bisect(
    good: Annotated[str, typer.Option(help="A revision at which all was well.")],
    bad: Annotated[str, typer.Option(help="A later one at which it is not.")] = "HEAD",
    impl: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Your model, as package.module:function; by default the suite's first."
        ),
    ] = None,
    figure: Annotated[
        str, typer.Option(help="step (timed), memory or flops (both exact, without a clock).")
    ] = "step",
    source: Source = None,
    setup: Setup = None,
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")] = "ci",
    length: Annotated[
        int | None, typer.Option(min=1, help="One of the suite's lengths; by default its first.")
    ] = None,
    margin: Annotated[str, typer.Option(help="Bad must be worse than good by more than this.")] = "1%",
    budget: Annotated[str, typer.Option(help="Time for each commit, as 90s, 3m30s or 1h.")] = "15m",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core.")] = None,
    pairing: Pairing = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Kept findings; by default below results/runs.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the commit that made a model slower or bigger.

    Commits that do not build are skipped. The same command continues after an interruption. Exit code 0:
    found, 3: the ends can't be told apart.
    """
    from bench.commands.console import complain
    from bench.gate import bisect as bisections
    from bench.gate.revisions import Code
    from bench.records.writing import RUNS

    models = chosen([impl] if impl else None)
    if len(models.get("implementations", ())) > 1:
        raise UsageError(f"--impl {impl}: a search follows one model; name one")
    request = bisections.BisectRequest(
        good=good,
        bad=bad,
        folder=out or RUNS / bisections.folder_name(good, bad, figure, impl or suite),
        figure=figure,
        code=Code(tuple(source or ()), setup),
        suite=suite,
        length=length,
        margin=margin,
        budget=budget,
        device=device,
        threads=threads,
        pairing=pairing,
        overrides=models,
    )
    answer = bisections.bisect(request, complain)
    show(as_json(answer) if json else bisections.as_text(answer))
    raise typer.Exit(OK if answer.first_bad is not None else INCOMPLETE)
