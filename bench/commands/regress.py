"""The commands that say how far numbers can be trusted: regress, doctor, compare, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.console import BAD_USAGE, FAILED, INCOMPLETE, OK, Json, as_json, names, show

app = typer.Typer()

EXIT_CODES = {"PASSED": OK, "REGRESSED": FAILED, "INCONCLUSIVE": INCOMPLETE}


@app.command()
def regress(
    base: Annotated[str, typer.Option(help="The revision to compare with, as git names it.")],
    head: Annotated[
        str, typer.Option(help="The revision to judge; worktree for the working tree as it is.")
    ] = "worktree",
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")] = "ci",
    impl: Annotated[str | None, typer.Option(help="Implementations, comma-separated.")] = None,
    margin: Annotated[str, typer.Option(help="Slower than this for sure: REGRESSED.")] = "1%",
    tolerance: Annotated[str, typer.Option(help="For sure no slower than this: PASSED.")] = "3%",
    blocks: Annotated[int, typer.Option(help="Of the first stage; what stays open gets twice as many.")] = 5,
    budget: Annotated[str, typer.Option(help="Time for all of it, as 90s, 5m or 1h.")] = "15m",
    exact: Annotated[
        bool, typer.Option("--exact", help="Only FLOPs, tensor bytes, operators and parameters; no clock.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Result file; by default below results/runs.")] = None,
    json: Json = False,
) -> None:
    """Has a revision become slower or bigger? Exit code 0: no, 1: yes, 3: can't be told."""
    from bench.gate import regress as gate
    from bench.gate import verdicts
    from bench.measure.session import default_out

    request = gate.GateRequest(
        base=base,
        head=head,
        suite=suite,
        overrides=_chosen(impl),
        margin=margin,
        tolerance=tolerance,
        blocks=blocks,
        budget=budget,
        exact=exact,
        device=device,
        threads=threads,
        out=out or default_out(suite, "regress"),
    )
    report = gate.regress(request)
    show(as_json(report) if json else verdicts.as_text(report))
    raise typer.Exit(EXIT_CODES[report.verdict])


@app.command()
def doctor(
    aa: Annotated[bool, typer.Option("--aa", help="Measure noise: identical code against itself.")] = False,
    suite: Annotated[str, typer.Option(help="Whose cases --aa measures.")] = "ci",
    impl: Annotated[str | None, typer.Option(help="Implementations, comma-separated.")] = None,
    blocks: Annotated[int, typer.Option(min=3, help="Blocks that --aa measures.")] = 5,
    budget: Annotated[str, typer.Option(help="Time for --aa, as 90s, 5m or 1h.")] = "10m",
    tolerance: Annotated[str, typer.Option(help="Of the gate that the machine is to serve.")] = "3%",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Result file of --aa.")] = None,
    json: Json = False,
) -> None:
    """Can this machine measure, and how finely? Exit code 2 where something stands in the way."""
    from bench.gate import doctor as doctors
    from bench.measure.session import default_out

    request = doctors.DoctorRequest(
        out=out or default_out(suite, "noise"),
        device=device,
        threads=threads,
        aa=aa,
        suite=suite,
        blocks=blocks,
        budget=budget,
        tolerance=tolerance,
        overrides=_chosen(impl),
    )
    diagnosis = doctors.diagnose(request)
    show(as_json(diagnosis) if json else doctors.as_text(diagnosis))
    raise typer.Exit(OK if diagnosis.sound else BAD_USAGE)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.jsonl", help="The earlier run.")],
    b: Annotated[Path, typer.Argument(metavar="B.jsonl", help="The later run.")],
    force: Annotated[
        bool, typer.Option("--force", help="Compare what differs in more than its code, and say so.")
    ] = False,
    json: Json = False,
) -> None:
    """Hold two stored runs of one suite on one machine against each other."""
    from bench.records.reading import read
    from bench.views import comparison

    found = comparison.compare(read(a), read(b), force)
    show(as_json(found) if json else comparison.as_text(found))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result file.")],
    format_: Annotated[
        str, typer.Option("--format", help="github-action-benchmark, bencher, pytest-benchmark or junit.")
    ],
) -> None:
    """A result file for a CI service."""
    from bench.records.reading import read
    from bench.views.ci_formats import export as exported

    show(exported(read(file), format_))


def _chosen(impl: str | None) -> dict[str, Any]:
    chosen = names(impl)
    return {"implementations": chosen, "baseline": chosen[0]} if chosen else {}
