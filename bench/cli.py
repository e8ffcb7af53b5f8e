"""`bench …`: parses, calls and prints. Torch is loaded only by the commands that compute."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from bench import __version__, cli_checks, cli_store, cli_train
from bench.cli_common import (
    BAD_USAGE,
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    Files,
    FilesOrFolder,
    Json,
    as_json,
    complain,
    prepare_streams,
    show,
    write_bytes,
)
from bench.errors import UsageError
from implementations.errors import RegistryError


class Commands(TyperGroup):
    """All commands; Ctrl-C ends any of them with a line, where typer would say nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: rich would take longer to import than everything else together.
    rich_markup_mode=None,
    help="How fast, and how much memory, is this sequence model really?",
)

app.add_typer(cli_checks.app)
app.add_typer(cli_store.app)
app.add_typer(cli_train.app)


def main() -> None:
    """The console script: whatever is wrong with input or machine is one line and exit code 2."""
    prepare_streams()
    try:
        app()
    except (UsageError, RegistryError) as error:
        complain(str(error))
        sys.exit(BAD_USAGE)
    except OSError as error:
        complain(f"{error.filename or 'output'}: {error.strerror or error}")
        sys.exit(BAD_USAGE)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        show(f"seqboat-bench {__version__}")
        raise typer.Exit


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="[suites|implementations|workloads]")] = "suites",
    json: Json = False,
) -> None:
    """What there is: suites, implementations or workloads."""
    from bench import listing

    rows = listing.rows(what)
    show(as_json(rows) if json else listing.as_text(rows))


@app.command()
def run(
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")],
    impl: Annotated[
        str | None,
        typer.Option(help="Implementations, comma-separated; package.module:build for one of your own."),
    ] = None,
    length: Annotated[str | None, typer.Option(help="Sequence lengths, comma-separated.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences a step.")] = None,
    fill: Annotated[
        str | None, typer.Option(help="full (every position real) or real (true lengths).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16, fp16 or fp64.")] = None,
    phase: Annotated[str | None, typer.Option(help="train, forward or decode (token by token).")] = None,
    hyperparameters: Annotated[
        str | None, typer.Option(help="published, matched (the same depth and width for all) or small.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Activation rates of sparse models, comma-separated; init leaves them.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, torch, cpu or triton.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run, as 90s, 5m or 1h.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of models and batches.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short block, no intervals.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoints of bench train, comma-separated: models as trained.")
    ] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Joules a step too, ten seconds a case.")] = False,
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
    out: Annotated[Path | None, typer.Option(help="Result file; by default below results/runs.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run that was cut short.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex, csv, html or json.")
    ] = "terminal",
) -> None:
    """Measure a suite and print its table."""
    from bench import collection, session, task_table

    overrides = {
        "implementations": _names(impl),
        "lengths": _numbers(length, int, "--length"),
        "fill": fill,
        "precision": precision,
        "phase": phase,
        "hyperparameters": hyperparameters,
        "activation": _rates(activation),
        "baseline": baseline,
        "backend": backend,
        "seed": seed,
    }
    request = session.Request(
        suite=suite,
        overrides={key: value for key, value in overrides.items() if value is not None},
        batch=batch,
        budget=budget,
        device=device,
        threads=threads,
        quick=quick,
        energy=energy,
        out=out or session.default_out(suite),
        resume=resume,
        executor=executor,
        checkpoints=tuple(Path(name) for name in _names(checkpoint) or ()),
    )
    form = _format(format_)
    if predict or max_length is not None:
        _forecast(request, predict, max_length, form, kept=out or resume)
    parts = collection.load(suite)
    outcome = session.run(request) if parts is None else collection.run(parts, request)
    by_task = parts is not None and task_table.of_one_machine(outcome.runs)
    _print_table(outcome.runs, form, by_task=by_task)
    if outcome.interrupted:
        complain(f"interrupted; go on with: {outcome.resume_line}")
        raise typer.Exit(INTERRUPTED)
    complain(f"kept in {outcome.path}")
    raise typer.Exit(OK if outcome.complete else INCOMPLETE)


@app.command()
def plan(
    suite: Annotated[str, typer.Option(help="A suite, or a collection such as lra.")] = "lra",
    device: Annotated[str, typer.Option(help="cpu or cuda: which records' step times count.")] = "cuda",
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Result file, or folder of them; by default results/baselines."),
    ] = None,
    json: Json = False,
) -> None:
    """Estimate hours and joules of full published trainings from measured steps, before anyone starts."""
    from bench import estimate

    found = estimate.forecast(suite, device, from_ or [])
    show(as_json(found) if json else estimate.as_text(found))


@app.command()
def table(
    files: FilesOrFolder,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex, csv, html or json.")
    ] = "terminal",
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="With the accuracies that papers print, and their sources.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the table of one or several result files, merged; of a folder, a column for each task."""
    from bench import collection

    form = "json" if json else _format(format_)
    results = _read(collection.files_of(files))
    _print_table(results, form, baseline, published, by_task=any(path.is_dir() for path in files))


@app.command()
def plot(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture: .svg, .png, .html or .json.")],
    chart: Annotated[
        str | None,
        typer.Option(help="speed, growth, trade-off, activation, activation-time, rounds or roofline."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
) -> None:
    """Draw result files; by default growth over lengths, or speed where there is one length."""
    from bench import chart_style, charts, roofline_chart
    from bench.profile_record import read_profile

    if chart == "roofline":
        chart_style.save(roofline_chart.roofline([read_profile(path) for path in files]), out)
    else:
        chart_style.save(charts.specification(_read(files), chart, baseline), out)


@app.command("profile")
def profile_(
    impl: Annotated[str, typer.Option(help="The implementation; package.module:build for one of your own.")],
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")],
    length: Annotated[int | None, typer.Option(min=1, help="Sequence length; the suite's first.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences a step.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16, fp16 or fp64.")] = None,
    activation: Annotated[str | None, typer.Option(help="Activation rate of a sparse model.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core by default.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps under the profiler.")] = 3,
    trace: Annotated[Path | None, typer.Option(help="Trace for Chrome or Perfetto (.json).")] = None,
    out: Annotated[Path | None, typer.Option(help="The profile as a file, for bench plot.")] = None,
    json: Json = False,
) -> None:
    """Show where a step's time and memory go, stage by stage, and how near each is to the device's limits."""
    from bench import profile_request, profile_view

    overrides = {
        "implementations": [impl],
        "baseline": impl,
        "lengths": None if length is None else [length],
        "precision": precision,
        "activation": _rates(activation),
    }
    made = profile_request.run(
        suite,
        {key: value for key, value in overrides.items() if value is not None},
        batch=batch,
        device=device,
        threads=threads,
        steps=steps,
        trace=trace,
        out=out,
    )
    show(as_json(made) if json else profile_view.as_text(made))


@app.command()
def report(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
) -> None:
    """Write one page with the table, the charts and every raw figure; it needs no network."""
    from bench import report as reports

    reports.write(_read(files), out, baseline)


@app.command()
def verify(
    golden: Annotated[Path, typer.Option(help="Folder of golden vectors.")] = Path("tests/golden"),
    impl: Annotated[str | None, typer.Option(help="Systems or variants, comma-separated.")] = None,
    json: Json = False,
) -> None:
    """Hold implementations against vectors recorded from official code."""
    from bench import verification_report

    failed = verification_report.print_verdicts(golden, _names(impl), json)
    raise typer.Exit(FAILED if failed else OK)


@app.command()
def data(
    workload: Annotated[str, typer.Argument(help="A workload's name (bench list workloads).")],
    length: Annotated[
        int | None, typer.Option(min=1, help="Sequence length; by default the published.")
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences that the statistics are over.")] = 96,
    seed: Annotated[int, typer.Option(help="Of the sequences.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Also write samples to this PNG file (workloads of pictures).")
    ] = None,
    json: Json = False,
) -> None:
    """Where a workload's data comes from, what is missing and how to get it, statistics and a sample."""
    from bench import datasets

    sheet = datasets.describe(workload, length, seed, sequences)
    if picture is not None:
        write_bytes(picture, datasets.picture(workload, length, seed))
    show(as_json(sheet) if json else datasets.as_text(sheet))


def _read(files: list[Path]) -> list[Any]:
    """Every run of some result files; a file of several kinds of device holds one for each."""
    from bench.result_file import read_kinds

    return [run for path in files for run in read_kinds(path)]


def _forecast(request: Any, predict: bool, max_length: str | None, form: Any, kept: Path | None) -> NoReturn:
    from bench.formats import render
    from bench.predictions import forecast

    if kept is not None:
        raise UsageError(f"{kept}: --predict and --max-length keep no file; leave out --out and --resume")
    found = forecast(request, predicted=predict, max_length=max_length)
    show(render(found.table, form))
    raise typer.Exit(OK if found.complete else INCOMPLETE)


def _print_table(
    results: list[Any],
    form: Any,
    baseline: str | None = None,
    published: bool = False,
    by_task: bool = False,
) -> None:
    from bench import task_table
    from bench.formats import render
    from bench.tables import build_table

    if by_task:
        show(task_table.render(task_table.build(results, baseline), form))
        return
    show(render(build_table(*results, baseline=baseline, published=published), form))


def _format(name: str) -> Any:
    from bench.formats import FORMATS

    if name not in FORMATS:
        raise UsageError(f"--format {name}: choose {', '.join(FORMATS)}")
    return name


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None, kind: type[int] | type[float], option: str) -> list[Any] | None:
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: give numbers, comma-separated") from None


def _rates(text: str | None) -> list[float] | None:
    return [] if text == "init" else _numbers(text, float, "--activation")


if __name__ == "__main__":
    main()
