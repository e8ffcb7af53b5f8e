"""`bench profile`: where a step's time and memory go."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    WORKLOAD_HELP,
    Json,
    Traceback,
    as_json,
    given,
    one_length,
    rates,
    show,
    write_bytes,
)
from bench.errors import UsageError

app = typer.Typer()


@app.command("profile")
def profile_(
    impl: Annotated[str, typer.Option(help="The implementation; package.module:build for one of your own.")],
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
    trace: Annotated[Path | None, typer.Option(help="Trace for Chrome or Perfetto (.json).")] = None,
    out: Annotated[Path | None, typer.Option(help="The profile as a file, for bench plot.")] = None,
    json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Show where a step's time and memory go, stage by stage, and how near each is to the device's limits."""
    # Torch's profiler would log its start and stop into the output; read when torch is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import msgspec

    from bench.probes.environment import probe_environment
    from bench.suites import reading as suites
    from bench.system import own_models
    from bench.views import profile as view

    for path in filter(None, (trace, out)):
        if not path.parent.is_dir():
            raise UsageError(f"{path}: cannot be written (no such folder)")
    overrides = {
        "implementations": [impl],
        "baseline": impl,
        "lengths": None if length is None else [length],
        "workload": workload,
        "precision": precision,
        "activation": rates(activation),
        "batch": batch,
    }
    loaded = suites.load(suite, given(overrides))
    if loaded.phase == "decode":
        raise UsageError(f"{suite}: bench profile takes a training or a forward step apart, not decoding")
    environment = probe_environment(device, threads)

    own_models.look_here()
    from bench.steps.profiler import profile

    made = profile(loaded.cases(environment.kind)[0], environment, steps, trace)
    if out is not None:
        write_bytes(out, msgspec.json.encode(made) + b"\n")
    show(as_json(made) if json else view.as_text(made))
