"""`bench train`: parses, calls and prints."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import (
    INCOMPLETE,
    INTERRUPTED,
    OK,
    WORKLOAD_HELP,
    Implementations,
    Traceback,
    complain,
    given,
    names,
    one_length,
    prints_aside,
    show_error,
)
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError

app = typer.Typer()


@app.command()
@prints_table("-o", "--table")
def train(
    suite: Annotated[str, typer.Option(help="A suite's name, or a file that ends in .yaml.")],
    impl: Implementations = None,
    workload: Annotated[str | None, typer.Option(help=WORKLOAD_HELP)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0, help="In place of steps, if the data has an end.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the end of the warm-up; by default as published.")
    ] = None,
    warm_up: Annotated[
        int | None, typer.Option(min=0, help="Steps in which it rises; by default the published share.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="As published by default.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Sequences per step; by default as published.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(parser=one_length, metavar="STEPS", help="As 1000 or 4k; the suite's first."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the weights, dropout and order of the data.")
    ] = None,
    activation_reg: Annotated[
        float | None,
        typer.Option(min=0, help="Penalty on the mean confidence of configurators; published: none."),
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations, and checkpoints.")
    ] = None,
    validation: Annotated[int | None, typer.Option(min=1, help="Validation sequences.")] = None,
    hyperparameters: Annotated[
        str | None, typer.Option(help="published, matched, small or params:10M (as many parameters for all).")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16 or fp64.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one per core.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for records and checkpoints; by default below results/runs.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")] = False,
    traceback: Traceback = False,
    *,
    shown: Shown,
) -> None:
    """Train the models of a suite, one after the other, with checkpoints that resume exactly."""
    from bench.measure.request import default_out
    from bench.training import session
    from bench.views import training as summary

    if resume and out is None:
        raise UsageError("--resume continues what lies in a folder: name it with --out")
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other")
    chosen = names(impl, "--impl")
    overrides = {
        "implementations": chosen,
        "baseline": chosen[0] if chosen else None,
        "workload": workload,
        "lengths": None if length is None else [length],
        "seed": seed,
        "hyperparameters": hyperparameters,
        "precision": precision,
    }
    changes = {
        "steps": steps,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "warm_up": warm_up,
        "weight_decay": weight_decay,
        "batch": batch,
        "activation_penalty": activation_reg,
        "evaluate_every": evaluate_every,
        "validation_sequences": validation,
    }
    with prints_aside():
        outcome = session.train(
            session.TrainRequest(
                suite=suite,
                out=out or default_out(suite, "train", suffix=""),
                overrides=given(overrides),
                changes=given(changes),
                device=device,
                threads=threads,
                resume=resume,
            )
        )
    shown.show(summary.Trainings.of(outcome.trainings, shown.rows))
    for text in (each.end.traceback for each in outcome.trainings if each.end and traceback):
        if text is not None:
            show_error(text.rstrip())
    if outcome.interrupted:
        complain(f"interrupted; resume with: {outcome.resume_line}")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(OK if outcome.complete else INCOMPLETE)
