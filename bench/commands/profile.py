"""`bench profile`: where a step's time and memory go."""

import os
from pathlib import Path
from traceback import format_exception as print_of
from typing import Annotated, Any

import typer

from bench.commands.console import (
    INCOMPLETE,
    WORKLOAD_HELP,
    Traceback,
    chosen,
    complain,
    given,
    inputs_of,
    one_length,
    prints_aside,
    rates,
    refuse_inputs,
    refuse_unwritable,
    show_error,
    write_bytes,
)
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError

app = typer.Typer()


@app.command("profile")
@prints_table("-o", "--table")
def profile_(
    impl: Annotated[
        list[str],
        typer.Option(
            metavar="MODEL",
            help="Implementations, comma-separated; package.module:build for one of your own. Repeatable.",
        ),
    ],
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")],
    workload: Annotated[str | None, typer.Option(help=WORKLOAD_HELP)] = None,
    length: Annotated[
        int | None, typer.Option(parser=one_length, metavar="STEPS", help="As 1000 or 4k; the suite's first.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences per step.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16, bf16-pure, fp16 or fp64.")] = None,
    activation: Annotated[str | None, typer.Option(help="Activation rate of a sparse model.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps under the profiler.")] = 3,
    trace: Annotated[
        Path | None,
        typer.Option(help="Trace for Chrome or Perfetto (.json); of several models one each, by number."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The profile as a file, for bench plot; of several models one each, by number."),
    ] = None,
    traceback: Traceback = False,
    *,
    shown: Shown,
) -> None:
    """Show where a step's time and memory go, stage by stage, and how near each is to the device's limits."""
    # Torch's profiler would log into the output when it starts and what it misses; read when torch is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import msgspec

    from bench.probes.environment import probe_environment
    from bench.suites import reading as suites
    from bench.system import own_models
    from bench.views import profile as view

    read = [*inputs_of([suite, workload, impl]), *filter(None, [shown.out])]
    refuse_inputs(trace, read)
    refuse_inputs(out, [*read, *filter(None, [trace])])
    refuse_unwritable(trace, "--trace")
    refuse_unwritable(out, "--out")
    overrides = {
        **chosen(impl),
        "lengths": None if length is None else [length],
        "workload": workload,
        "precision": precision,
        "activation": rates(activation),
        "batch": batch,
        "threads": threads,
    }
    loaded = suites.load(suite, given(overrides))
    if loaded.phase == "decode":
        raise UsageError(f"{suite}: bench profile takes a training or a forward step apart, not decoding")
    if loaded.each_mode != ("eager",):
        modes = ", ".join(loaded.each_mode)
        raise UsageError(f"{suite}: bench profile takes a step apart op by op; the suite's modes are {modes}")
    if loaded.own_threads != (None,):
        raise UsageError(f"{suite}: has several numbers of threads; choose one with --threads")
    environment = probe_environment(device, loaded.most_threads)

    own_models.look_here()
    from bench.records.profile import Profile
    from bench.steps.profiler import profile
    from implementations.errors import RegistryError

    made: list[Profile] = []
    failed = False
    for number, case in enumerate(_cases(loaded, environment.kind), start=1):
        try:
            with prints_aside():
                made.append(profile(case, environment, steps, _numbered(trace, number)))
        except (UsageError, RegistryError):
            raise
        except (Exception, SystemExit) as error:
            failed = True
            if traceback:
                show_error("".join(print_of(error)).rstrip())
            complain(f"{case.implementation}: failed: {type(error).__name__}: {' '.join(str(error).split())}")
            continue
        if out is not None:
            write_bytes(_numbered(out, number) or out, msgspec.json.encode(made[-1]) + b"\n")
    if made:
        shown.show(view.Profiles.of(made, shown.rows))
    if failed:
        raise typer.Exit(INCOMPLETE)


def _cases(suite: Any, kind: str) -> list[Any]:
    """The first of each of its models."""
    return list({case.implementation: case for case in reversed(suite.cases(kind))}.values())[::-1]


def _numbered(path: Path | None, number: int) -> Path | None:
    """The file of the first model, and those beside it of the others: profile.json, profile-2.json."""
    return path if path is None or number == 1 else path.with_stem(f"{path.stem}-{number}")
