"""The small studies as tables and figures: a view on the records of trainings, and of runs that timed them.

Run as `python -m bench.views.study results/studies docs/images`. In the first folder, each study is a
folder of its own: what `bench train --out` wrote there, and `speed.jsonl` of `bench run --checkpoint`. The
figures are written into the second; the tables are printed as markdown.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.records.environment import threads_in_words
from bench.records.reading import Results, read
from bench.records.training import TrainingResults, read_training
from bench.views import training as summary
from bench.views.charts import style as chart_style
from bench.views.charts.looks import COLOURS, looks_of
from bench.views.charts.style import alt
from bench.views.tables.formats import render
from bench.views.tables.rows import rows_of
from bench.views.tables.titles import title_of
from implementations import registry

SPEED = "speed.jsonl"
Point = dict[str, Any]
WIDTH, HEIGHT = 260, 220


@dataclass(frozen=True)
class Study:
    """One folder: trainings of one suite, and the run that timed their checkpoints, if there is one."""

    name: str
    trainings: list[TrainingResults]
    speed: Results | None


def read_study(folder: Path) -> Study:
    """A study's records. Raises UsageError if there are none."""
    paths = sorted(path for path in folder.glob("*.jsonl") if path.name != SPEED)
    if not paths:
        raise UsageError(f"{folder}: holds no records of bench train")
    speed = folder / SPEED
    trainings = sorted((read_training(path) for path in paths), key=_order)
    return Study(folder.name, trainings, read(speed) if speed.exists() else None)


def _order(training: TrainingResults) -> int:
    return list(registry.catalogue()).index(training.begin.case.implementation)


def trade_off(studies: Sequence[Study]) -> list[Point]:
    """Validation accuracy and measured speed of each trained model."""
    points = []
    for study in studies:
        if study.speed is None:
            continue
        trained = study.speed.header.checkpoints
        accuracy = {registry.find(name).plain: made.accuracy for name, made in trained.items()}
        for row in rows_of(study.speed, study.speed.header.suite.baseline):
            found = accuracy.get(registry.find(row.model).plain)
            if row.checkpoint and row.speed_ratio is not None and found is not None:
                points.append(
                    {
                        "study": study.name,
                        "model": title_of(row.model),
                        "accuracy": found,
                        "speed": row.speed_ratio,
                        "low": row.speed_low,
                        "high": row.speed_high,
                    }
                )
    return points


def activation(studies: Sequence[Study]) -> list[Point]:
    """Activation rates of each layer at each evaluation, with their spread over validation sequences."""
    return [
        {
            "study": study.name,
            "model": title_of(training.begin.case.implementation),
            "layer": layer,
            "step": evaluation.step,
            "last": evaluation is training.evaluations[-1],
            "rate": rates.mean,
            "low": rates.low,
            "high": rates.high,
        }
        for study in studies
        for training in study.trainings
        for evaluation in training.evaluations
        for layer, rates in enumerate(evaluation.activation, 1)
    ]


def trade_off_chart(points: list[Point]) -> chart_style.Spec:
    """Accuracy over speed, a panel a study."""
    looks = looks_of((point["model"], point["model"]) for point in points)
    base = alt.Chart(alt.InlineData(values=points))
    x = alt.X("speed:Q", title="Speed of a training step (× the baseline)", scale=alt.Scale(type="log"))
    y = alt.Y("accuracy:Q", title="Validation accuracy", axis=alt.Axis(format="%"))
    y = y.scale(zero=False)
    dots = base.mark_point(filled=True, size=90).encode(
        x=x,
        y=y,
        color=chart_style.by_model(looks, "color"),
        shape=chart_style.by_model(looks, "shape"),
    )
    whiskers = base.mark_rule().encode(
        x="low:Q", x2="high:Q", y="accuracy:Q", color=chart_style.by_model(looks, "color")
    )
    return _by_study(whiskers + dots, "Accuracy and speed as trained")


def activation_chart(points: list[Point]) -> chart_style.Spec:
    """The last rates by layer; bars span four fifths of the validation sequences."""
    last = [point for point in points if point["last"]]
    base = alt.Chart(alt.InlineData(values=last)).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0))
    )
    rate = alt.Y("low:Q", title="Activation rate", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_rule(strokeWidth=2, color="#888").encode(y=rate, y2="high:Q")
    dots = base.mark_point(filled=True, size=90, color=COLOURS[0]).encode(y="rate:Q")
    return _by_study(bars + dots, "Activation by layer after training")


def course_chart(points: list[Point]) -> chart_style.Spec:
    """The rates through training, one line per layer, within the same spans."""
    layers = sorted({point["layer"] for point in points})
    color = alt.Color(
        "layer:O",
        title="Layer",
        scale=alt.Scale(domain=layers, range=list(COLOURS[: len(layers)])),
    )
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X("step:Q", title="Training steps"), color=color
    )
    lines = base.mark_line().encode(y=alt.Y("rate:Q", title="Activation rate", axis=alt.Axis(format="%")))
    bands = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
    return _by_study(bands + lines, "Activation by layer through training")


def _by_study(chart: Any, title: str) -> chart_style.Spec:
    panels = chart.properties(width=WIDTH, height=HEIGHT).facet(
        column=alt.Column("study:N", title=None), title=alt.TitleParams(title, anchor="start")
    )
    return chart_style.finished(panels.resolve_scale(x="independent", y="independent"))


def tables(studies: Sequence[Study]) -> str:
    """Tables of every training's outcome, one per study."""
    parts = []
    for study in studies:
        begin = study.trainings[0].begin
        where = begin.environment
        parts.append(f"### {study.name}\n\n{render(summary.Trainings(study.trainings), 'markdown')}")
        parts.append(
            f"Data: {begin.data}. Length {begin.case.length}, {begin.recipe.batch} sequences per step, seed "
            f"{begin.case.seed}, {begin.recipe.validation_sequences} validation sequences; {where.hardware}, "
            f"{threads_in_words(where.threads, where.pairing)}, torch {where.torch}, "
            f"commit {(where.commit or 'unknown')[:9]}."
        )
    return "\n\n".join(parts)


def main(folder: Path, images: Path) -> None:
    """Print the tables and write the figures that there is data for."""
    studies = [read_study(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    images.mkdir(parents=True, exist_ok=True)
    for name, points, draw in (
        ("small-accuracy-speed", trade_off(studies), trade_off_chart),
        ("small-activation", activation(studies), activation_chart),
        ("small-activation-course", activation(studies), course_chart),
    ):
        if points:
            chart_style.save(draw(points), images / f"{name}.svg")
    print(tables(studies))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UsageError as error:
        sys.exit(f"bench: {error}")
