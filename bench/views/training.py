"""Outcomes of trainings, as a table and as JSON rows. A view on records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.training import Evaluation, TrainingResults
from bench.text.units import format_count, format_duration, format_percent, significant
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.titles import title_of

LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Trainings(Tabular):
    """A row per training; no figure if there is nothing yet."""

    rows: Sequence[TrainingResults]

    @classmethod
    def of(cls, trainings: Sequence[TrainingResults], wanted: Sequence[str] | None = None) -> "Trainings":
        """All of them, or those of some models, by name or title. Raises UsageError."""
        return cls(chosen_rows(trainings, wanted, lambda one: (_model(one), title_of(_model(one)))))

    @property
    def below(self) -> list[str]:
        """Why those did not finish that did not."""
        return _notes(self.rows)

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid."""
        heads = [
            Head("Model", "left", label=True, fields=("model",)),
            Head("Params", fields=("parameters",)),
            Head("Steps", fields=("steps",), most_first=True),
            Head("Training", fields=("seconds",)),
            Head("Validation", fields=("accuracy", "bits_per_character"), most_first=True),
            Head("Chance", fields=("chance_accuracy",)),
            Head("Activation by layer", "left", fields=("activation_by_layer",)),
        ]
        return [Grid(heads, [Section(None, [_cells(one, digits) for one in self.rows])])]

    def objects(self, rows: Sequence[TrainingResults]) -> list[dict[str, Any]]:
        return list(map(_row, rows))


def _model(training: TrainingResults) -> str:
    return training.begin.case.implementation


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


def _cells(training: TrainingResults, digits: int | None) -> list[Cell]:
    begin = training.begin
    done = training.progress[-1] if training.progress else None
    last = training.evaluations[-1] if training.evaluations else None
    steps = done.step if done else 0
    rates = [
        f"{format_rate(layer.mean, digits)} ± {format_rate(layer.deviation, digits)}"
        for layer in (last.activation if last else ())
    ]
    return [
        Cell(title_of(_model(training)), name=_model(training)),
        Cell(format_count(begin.parameters, digits), value=begin.parameters),
        Cell(f"{steps} of {begin.recipe.steps}", value=steps),
        Cell(format_duration(done.seconds, digits), value=done.seconds) if done else Cell(MISSING),
        Cell(quality(last, digits), value=_goodness(last)) if last else Cell(MISSING),
        Cell(chance(last, digits)) if last else Cell(MISSING),
        Cell(", ".join(rates)),
    ]


def format_rate(rate: float, digits: int | None) -> str:
    """`31%` of 0.3141."""
    return f"{rate:.0%}" if digits is None else format_percent(rate, digits)


def _goodness(evaluation: Evaluation) -> float | None:
    """More of it is better."""
    bits = evaluation.bits_per_character
    return evaluation.accuracy if bits is None else -bits


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
    return notes


def quality(evaluation: Evaluation, digits: int | None = None) -> str:
    """`71.2%` or `2.31 bpc`."""
    if evaluation.bits_per_character is not None:
        return _bits(evaluation.bits_per_character, digits)
    return format_percent(evaluation.accuracy or 0, digits)


def chance(evaluation: Evaluation, digits: int | None = None) -> str:
    """The same of the best guess that does not look at the sequence."""
    if evaluation.bits_per_character is not None:
        return _bits(evaluation.chance_loss * LOG2_E, digits)
    return format_percent(evaluation.chance_accuracy, digits)


def _bits(bits: float, digits: int | None) -> str:
    return f"{bits:.3f} bpc" if digits is None else f"{significant(bits, digits)} bpc"
