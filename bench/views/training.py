"""What trainings came to, as a table and as JSON rows. A view on records."""

import math
from collections.abc import Sequence
from typing import Any

from bench.records.training import Evaluation, TrainingResults
from bench.text.text_table import text_table
from bench.text.units import format_count, format_duration
from bench.views.tables.rows import title_of

LOG2_E = 1 / math.log(2)
HEADERS = ("Model", "Params", "Steps", "Training", "Validation", "Chance", "Activation by layer")


def rows(trainings: Sequence[TrainingResults]) -> list[dict[str, Any]]:
    """One row per training; null if there is nothing yet."""
    return [_row(training) for training in trainings]


def as_text(trainings: Sequence[TrainingResults], form: str = "simple") -> str:
    """The table, in one of tabulate's formats, with the reasons of those that did not finish."""
    cells = [_cells(training) for training in trainings]
    align = ["left", *5 * ["right"], "left"]
    table = text_table(cells, HEADERS, align, form)
    return "\n".join([table, *_notes(trainings)])


def _row(training: TrainingResults) -> dict[str, Any]:
    begin = training.begin
    last = training.evaluations[-1] if training.evaluations else None
    return {
        "model": begin.case.implementation,
        "status": training.end.reason if training.end else "not ended",
        "steps": training.progress[-1].step if training.progress else 0,
        "of_steps": begin.recipe.steps,
        "seconds": training.progress[-1].seconds if training.progress else 0.0,
        "parameters": begin.parameters,
        "accuracy": last.accuracy if last else None,
        "bits_per_character": last.bits_per_character if last else None,
        "chance_accuracy": last.chance_accuracy if last else None,
        "loss": last.loss if last else None,
        "activation_by_layer": [layer.mean for layer in last.activation] if last else [],
        "seed": begin.case.seed,
        "records": training.path,
    }


def _cells(training: TrainingResults) -> list[str]:
    begin = training.begin
    done = training.progress[-1] if training.progress else None
    last = training.evaluations[-1] if training.evaluations else None
    return [
        title_of(begin.case.implementation),
        format_count(begin.parameters),
        f"{done.step if done else 0} of {begin.recipe.steps}",
        format_duration(done.seconds) if done else "–",
        quality(last) if last else "–",
        chance(last) if last else "–",
        ", ".join(f"{layer.mean:.0%} ± {layer.deviation:.0%}" for layer in last.activation) if last else "",
    ]


def _notes(trainings: Sequence[TrainingResults]) -> list[str]:
    scaled = [
        f"{title_of(training.begin.case.implementation)} {training.begin.recipe.scaled_from}"
        for training in trainings
        if training.begin.recipe.scaled_from is not None
    ]
    notes = [f"Warm-up and schedule in proportion to the published: {', '.join(scaled)}"] if scaled else []
    for training in trainings:
        name = title_of(training.begin.case.implementation)
        if training.plateau is not None:
            notes.append(f"{name}: stuck at chance after {training.plateau.step} steps")
        if training.end is None:
            notes.append(f"{name}: was killed, or is still being trained")
        elif training.end.reason != "finished":
            notes.append(f"{name}: {training.end.reason}, {training.end.detail or 'continue with --resume'}")
    return ["", *notes] if notes else []


def quality(evaluation: Evaluation) -> str:
    """`71.2%` or `2.31 bpc`."""
    if evaluation.bits_per_character is not None:
        return f"{evaluation.bits_per_character:.3f} bpc"
    return f"{evaluation.accuracy or 0:.1%}"


def chance(evaluation: Evaluation) -> str:
    """The same of the best guess that does not look at the sequence."""
    if evaluation.bits_per_character is not None:
        return f"{evaluation.chance_loss * LOG2_E:.3f} bpc"
    return f"{evaluation.chance_accuracy:.1%}"
