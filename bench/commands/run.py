"""`bench run`: measure a suite."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bench.commands.console import (
    INCOMPLETE,
    INTERRUPTED,
    OK,
    WORKLOAD_HELP,
    Implementations,
    Traceback,
    complain,
    names,
    numbers,
    print_tracebacks,
    rates,
)
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError
from bench.text.units import parse_length

app = typer.Typer()


@app.command()
@prints_table("-o", "--table")
def run(
    suite: Annotated[
        str | None,
        typer.Option(help="A suite's name, or a file that ends in .yaml; with --resume, that of the record."),
    ] = None,
    impl: Implementations = None,
    workload: Annotated[str | None, typer.Option(help=WORKLOAD_HELP)] = None,
    length: Annotated[str | None, typer.Option(help="Sequence lengths, comma-separated; 4k is 4096.")] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Sequences per step, comma-separated; auto: the suite's, or as many as the baseline fits."
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Time steps per step: the batch is this over the length.")
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(help="full (every position real) or real (true lengths), or both with a comma."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, tf32, bf16, bf16-pure, fp16 or fp64, comma-separated.")
    ] = None,
    phase: Annotated[str | None, typer.Option(help="train, forward or decode (token by token).")] = None,
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            help="published, matched (the same depth and width for all), small, or params:10M (as many "
            "parameters for all)."
        ),
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Activation rates of sparse models, comma-separated; init leaves them.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Model that ratios are against.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Figures of your own, comma-separated: package.module:function of a step."),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="auto, torch, cpu or triton.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run, as 90s, 3m30s or 1h.")] = None,
    threads: Annotated[
        str | None, typer.Option(help="CPU threads, comma-separated; by default one per core.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="eager, compile, checkpoint (of layers) or graph (CUDA), comma-separated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of models and batches.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three short blocks: wide intervals, soon.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only the table, and where the run is kept.")
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoints of bench train, comma-separated: models as trained.")
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Joules per step too; ten seconds per case.")
    ] = False,
    pairing: Annotated[
        str | None,
        typer.Option(help="turns (default), or duet: each model beside the baseline, on half of the cores."),
    ] = None,
    lock_clocks: Annotated[
        int | None,
        typer.Option(min=1, metavar="MHZ", help="Fix the GPU's SM clock for the run, if permitted."),
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray: the devices of a Ray cluster.")] = "local",
    predict: Annotated[
        bool, typer.Option("--predict", help="Peak memory from shapes alone; nothing is run, timed or kept.")
    ] = False,
    max_length: Annotated[
        str | None,
        typer.Option(
            metavar="MEMORY",
            help="Each model's longest sequence within it, as 8GiB; measured, or with --predict predicted.",
        ),
    ] = None,
    max_batch: Annotated[
        str | None,
        typer.Option(
            metavar="MEMORY",
            help="Each model's largest batch within it, as 8GiB; measured, or with --predict predicted.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Result file; by default below results/runs.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue a run that was cut short.")] = None,
    traceback: Traceback = False,
    *,
    shown: Shown,
) -> None:
    """Measure a suite and print its table."""
    from bench.measure import collection, session
    from bench.measure.request import begun, request_for
    from bench.suites.collection import load as collection_of
    from bench.suites.files import suite_file
    from bench.views.tables import by_task as task_table
    from bench.views.tables.choice import needs_arithmetic
    from bench.views.tables.table import build_table
    from bench.views.tables.untimed import table_to_come

    if suite is None and resume is None:
        raise UsageError("--suite: name a suite (bench list suites), or a run to continue with --resume")
    read, before = begun(resume) if suite is None and resume else (suite_file(suite or ""), {})
    parts = collection_of(read)
    if pairing is not None and before.get("pairing", pairing) != pairing:
        raise UsageError(f"--pairing {pairing}: {resume} was made with --pairing {before['pairing']}")

    def check(run: Any) -> None:
        if timed:
            _check(shown, run, by_task=parts is not None)
        else:
            ratios = max_length is None and max_batch is None
            shown.check(table_to_come(run, ratios=ratios, models=shown.rows), ())

    timed = not predict and max_length is None and max_batch is None
    request = request_for(
        read,
        implementations=names(impl, "--impl"),
        workload=workload,
        lengths=numbers(length, parse_length, "--length"),
        batch="auto" if batch == "auto" else numbers(batch, int, "--batch"),
        tokens=tokens,
        fill=names(fill, "--fill"),
        device=device,
        precision=names(precision, "--precision"),
        phase=phase,
        hyperparameters=hyperparameters,
        activation=rates(activation),
        baseline=baseline,
        metrics=names(metric, "--metric"),
        backend=backend,
        budget=before.get("budget") if budget is None else budget,
        threads=numbers(threads, int, "--threads"),
        modes=names(mode, "--mode"),
        seed=seed,
        quick=quick or before.get("quick", False),
        quiet=quiet,
        checkpoints=tuple(map(Path, names(checkpoint, "--checkpoint") or ())),
        energy=energy or before.get("energy", False),
        lock_clocks=lock_clocks or before.get("lock_clocks"),
        pairing=before.get("pairing") if pairing is None else pairing,
        arithmetic=needs_arithmetic([*(shown.choice.columns or ()), shown.choice.sort or ""])
        or before.get("arithmetic", False),
        executor=executor,
        check=None if shown.is_plain else check,
        out=out,
        resume=resume,
    )
    if not timed:
        _memory_needs(request, predict, max_length, max_batch, shown, traceback, kept=out or resume)
    outcome = session.run(request) if parts is None else collection.run(parts, request)
    try:
        by_task = parts is not None and task_table.of_one_machine(outcome.runs)
        build = task_table.build if by_task else lambda runs, models: build_table(*runs, models=models)
        shown.show_measured(build(outcome.runs, models=shown.rows))
    except UsageError:
        complain(f"kept in {outcome.path}: bench table prints it")
        raise
    if traceback:
        print_tracebacks(outcome.runs)
    if outcome.interrupted:
        complain(f"interrupted; resume with: {outcome.resume_line}")
        raise typer.Exit(INTERRUPTED)
    complain(f"kept in {outcome.path}")
    raise typer.Exit(OK if outcome.complete else INCOMPLETE)


def _check(shown: Shown, run: Any, *, by_task: bool) -> None:
    """Refuse what the table of a run won't have, before it is measured. Raises UsageError."""
    from bench.records.published import TASKS
    from bench.views.tables import by_task as task_table
    from bench.views.tables.columns import later_columns
    from bench.views.tables.table import build_table

    suite = run.header.suite
    if by_task:
        shown.check(task_table.build([run], models=shown.rows), TASKS.values())
    elif not suite.metrics:
        shown.check(build_table(run, models=shown.rows), later_columns(suite, run.kind))
    # The figures of metrics have names that nobody knows yet.


def _memory_needs(
    request: Any,
    predict: bool,
    max_length: str | None,
    max_batch: str | None,
    shown: Shown,
    traceback: bool,
    kept: Path | None,
) -> NoReturn:
    from bench.measure.memory_needs import memory_needs
    from bench.views.tables.untimed import untimed_table

    if kept is not None:
        raise UsageError(
            f"{kept}: --predict, --max-length and --max-batch keep no file; leave out --out and --resume"
        )
    timing = {
        "--energy": request.energy,
        "--lock-clocks": request.lock_clocks,
        "--pairing": request.pairing != "turns",
    }
    for option in (name for name, is_given in timing.items() if is_given):
        raise UsageError(f"{option}: nothing is timed with --predict, --max-length and --max-batch")
    found = memory_needs(request, predicted=predict, max_length=max_length, max_batch=max_batch)
    table = untimed_table(
        found.results,
        found.sized,
        found.notes,
        predicted=predict,
        ratios=max_length is None and max_batch is None,
        models=shown.rows,
    )
    shown.show(table)
    if traceback:
        print_tracebacks([found.results])
    raise typer.Exit(OK if found.complete else INCOMPLETE)
