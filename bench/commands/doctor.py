"""`bench doctor`: can this machine measure, and how finely?"""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    BAD_USAGE,
    OK,
    Implementations,
    Traceback,
    chosen,
    print_tracebacks,
    read_all,
    refuse_existing,
)
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError

app = typer.Typer()


@app.command()
@prints_table("-o", "--table")
def doctor(
    aa: Annotated[bool, typer.Option("--aa", help="Measure noise: identical code against itself.")] = False,
    suite: Annotated[str | None, typer.Option(help="Whose cases --aa measures; by default ci.")] = None,
    impl: Implementations = None,
    blocks: Annotated[int, typer.Option(min=3, help="Blocks that --aa measures.")] = 5,
    budget: Annotated[str, typer.Option(help="Time for --aa, as 90s, 3m30s or 1h.")] = "10m",
    tolerance: Annotated[str, typer.Option(help="Tolerance of the gate that it is to serve.")] = "3%",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core.")] = None,
    pairing: Annotated[
        str, typer.Option(help="Pairings that --aa tries: both, duet (two at the same time) or turns.")
    ] = "both",
    out: Annotated[
        Path | None, typer.Option(help="Result file of --aa; that of the duet lies beside it.")
    ] = None,
    traceback: Traceback = False,
    *,
    shown: Shown,
) -> None:
    """Check whether this machine can measure, and how finely. Exit code 2 if something stands in the way."""
    from bench.gate import doctor as doctors
    from bench.measure.request import default_out

    measured = {"--suite": suite, "--impl": impl, "--out": out}
    for option in (name for name, value in measured.items() if value is not None and not aa):
        raise UsageError(f"{option}: is of what --aa measures; give --aa too")
    refuse_existing(out)
    if out is not None and pairing == "both":
        refuse_existing(out.with_stem(f"{out.stem}-duet"))
    suite = "ci" if suite is None else suite
    request = doctors.DoctorRequest(
        out=default_out(suite, "noise") if out is None else out,
        device=device,
        threads=threads,
        aa=aa,
        suite=suite,
        blocks=blocks,
        budget=budget,
        tolerance=tolerance,
        pairing=pairing,
        overrides=chosen(impl),
    )
    diagnosis = doctors.diagnose(request)
    shown.show(doctors.as_table(diagnosis, shown.rows))
    if traceback and aa:
        print_tracebacks(read_all([request.out]))
    raise typer.Exit(OK if diagnosis.sound else BAD_USAGE)
