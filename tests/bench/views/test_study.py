"""The small studies' page says what the committed records say, and figures come from records alone."""

from pathlib import Path

import msgspec
import pytest

from bench.errors import UsageError
from bench.records.training import SCHEMA, Begin, Evaluation, LayerActivation, Progress, Recipe, TrainingEnd
from bench.records.writing import ResultFile
from bench.views import study

from ..made_up import CPU
from ..training.test_training import case

ROOT = Path(__file__).parents[3]
STUDIES = sorted(path for path in (ROOT / "results" / "studies").glob("*") if path.is_dir())


def write(folder: Path, name: str, rates: tuple[float, ...]) -> None:
    recipe = Recipe(steps=10, batch=4, learning_rate=0.1, warm_up=1, validation_sequences=8)
    made = case(implementation=name)
    with ResultFile(folder / f"{name}.jsonl") as store:
        store.append(
            Begin(
                schema=SCHEMA,
                created="2026-01-01T00:00:00+00:00",
                command=["bench"],
                suite="tiny",
                case=made,
                recipe=recipe,
                environment=CPU,
                data="made up",
                parameters=1000,
                unit="accuracy",
            )
        )
        for step in (0, 10):
            if step:
                store.append(Progress(step=step, loss=0.5, learning_rate=0.1, seconds=20.0))
            layers = [
                LayerActivation(mean=rate, deviation=0.1, low=rate - 0.1, high=rate + 0.1) for rate in rates
            ]
            store.append(
                Evaluation(
                    step=step,
                    loss=0.6,
                    accuracy=0.5 + step / 40,
                    bits_per_character=None,
                    chance_loss=0.69,
                    chance_accuracy=0.5,
                    sequences=8,
                    activation=layers,
                )
            )
        store.append(TrainingEnd(reason="finished", step=10, seconds=20.0))


def test_tables_and_figures_of_a_study(tmp_path):
    folder = tmp_path / "tiny"
    write(folder, "seqboat", (0.2, 0.4))
    write(folder, "s4", ())
    made = study.read_study(folder)
    assert [training.begin.case.implementation for training in made.trainings] == ["s4", "seqboat"]
    text = study.tables([made])
    assert "### tiny" in text
    assert "75.0%" in text
    assert "20% ± 10%, 40% ± 10%" in text
    points = study.activation([made])
    assert [(p["layer"], p["step"], p["rate"], p["last"]) for p in points] == [
        (1, 0, 0.2, False), (2, 0, 0.4, False), (1, 10, 0.2, True), (2, 10, 0.4, True)
    ]  # fmt: skip
    assert study.trade_off([made]) == []
    pytest.importorskip("altair")
    for draw in (study.activation_chart, study.course_chart):
        assert "tiny" in msgspec.json.encode(draw(points)).decode()


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no records of bench train"):
        study.read_study(tmp_path)


def test_a_training_that_did_not_end_is_said_to_be_so(tmp_path):
    write(tmp_path, "s4", ())
    path = tmp_path / "s4.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "was killed, or is still being trained" in study.tables([study.read_study(tmp_path)])


@pytest.mark.skipif(not STUDIES, reason="no studies are committed")
def test_the_page_has_the_tables_of_the_committed_records():
    page = (ROOT / "docs" / "results-small.md").read_text(encoding="utf-8")
    assert study.tables([study.read_study(path) for path in STUDIES]) in page
