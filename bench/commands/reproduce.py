"""`bench reproduce`: measure what a bundle holds again, and say what came out otherwise."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    complain,
    names,
    refuse_inputs,
)
from bench.commands.tables import Shown, prints_table

app = typer.Typer()


@app.command()
@prints_table("-o", "--table")
def reproduce(
    file: Annotated[Path, typer.Argument(metavar="RUN.zip", help="A bundle of bench bundle.")],
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:i; by default the kind of the bundle's.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default as many as the bundle's run had.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run, as 90s, 5m or 1h.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short blocks: wide intervals.")] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="slower, faster or cant-tell, comma-separated: exit code 1 if any case is so. Repeatable.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Result file; by default below results/runs.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue a run that was cut short.")] = None,
    *,
    shown: Shown,
) -> None:
    """Measure what a bundle holds again, here: SAME, FASTER, SLOWER or CAN'T TELL, and what else differs."""
    from bench.measure import session
    from bench.measure.request import request_for
    from bench.measure.sharing import suite_file
    from bench.probes.packages import installed
    from bench.records import bundle
    from bench.views import reproduction as view

    asked = view.faults_of(names(fail_on, "--fail-on"))
    refuse_inputs(out, [file])
    found = bundle.read(file)
    header = found.results.header
    then = header.environment
    # Numbers of threads that the suite itself names are in its file.
    own_threads = header.suite.own_threads != (None,)
    request = request_for(
        suite_file(found),
        device=device or then.kind,
        threads=threads or (None if own_threads else then.threads),
        budget=budget,
        pairing=then.pairing,
        quick=quick,
        out=out,
        resume=resume,
    )
    outcome = session.run(request)
    held = view.reproduction(found, outcome.results, installed())
    shown.show(view.as_table(held, shown.rows), [file])
    if outcome.interrupted:
        complain(f"interrupted; resume with: {outcome.resume_line}")
        raise typer.Exit(INTERRUPTED)
    if any(row.verdict in asked for row in held.rows):
        raise typer.Exit(FAILED)
    if not outcome.complete:
        raise typer.Exit(INCOMPLETE)
