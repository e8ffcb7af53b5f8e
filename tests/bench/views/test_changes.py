"""Why a level changed: each cause planted in a store, and told by the command."""

import hashlib
import json
import subprocess

import msgspec
import pytest

from bench.views import history, history_text

from .. import in_process
from ..made_up import CPU, results, write

pytest.importorskip("duckdb", reason='needs pip install "seqboat-bench[store]"')
pytest.importorskip("ruptures", reason='needs pip install "seqboat-bench[store]"')

from bench.records import store as result_store

MODELS = ["transformer", "seqboat", "mega", "s4"]
NEW_NUMPY = msgspec.structs.replace(CPU, libraries={"numpy": "2.1"})
NEW_TORCH = msgspec.structs.replace(CPU, torch="2.14.0")


def commit(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@pytest.fixture
def keep(tmp_path):
    """Store eight runs, whose second half differs: some models by a factor, or by where they ran."""

    def add(factors: dict[str, float], environment=CPU, spread: float = 0.0, harness: str | None = None):
        for number in range(8):
            late = number >= 4
            where = msgspec.structs.replace(
                environment if late else CPU,
                commit=commit(number),
                harness=harness if late else "0.1.0" if harness else None,
            )
            made = results(
                MODELS,
                environment=where,
                created=f"2026-01-{number + 1:02d}T00:00:00+00:00",
                path=f"{number}.jsonl",
                blocks=5,
            )
            samples = [
                msgspec.structs.replace(
                    sample,
                    seconds=sample.seconds
                    * (factors.get(sample.case_id.partition("/")[0], 1.0) if late else 1.0)
                    * (1 + spread * (sample.block % 3 - 1) * sample.case_id.startswith("seqboat")),
                )
                for sample in made.samples
            ]
            path = write(msgspec.structs.replace(made, samples=samples), tmp_path)
            result_store.add(path, tmp_path / "store")
        return tmp_path / "store"

    return add


def only_change(folder, figure: str, model: str = "seqboat", baseline: str | None = None):
    lines = history.history(folder, model, "made-up", figure, baseline).lines
    (change,) = [change for line in lines for change in line.changes]
    assert (change.after, change.commit) == (commit(3), commit(4))
    return change


ALL = dict.fromkeys(MODELS, 1.3)


@pytest.mark.parametrize(
    ("planted", "figure", "cause", "why"),
    [
        ({"factors": {"seqboat": 1.3}}, "speed", "code", "0 of 3 other models moved along"),
        ({"factors": {"seqboat": 1.3}}, "step", "code", "0 of 3 other models moved along"),
        ({"factors": {"transformer": 1.3}}, "speed", "code", "the baseline, transformer, moved"),
        ({"factors": {"seqboat": 1.3, "mega": 1.3}}, "step", "code", "1 of 3 other models moved along"),
        ({"factors": ALL}, "step", "machine", "3 of 3 other models moved along"),
        ({"factors": ALL | {"s4": 1.0}}, "step", "machine", "2 of 3 other models moved along"),
        ({"factors": {"seqboat": 1.3}, "environment": NEW_NUMPY}, "speed", "versions", "numpy 2.0 → 2.1"),
        ({"factors": ALL, "environment": NEW_TORCH}, "step", "versions", "torch 2.13.0 → 2.14.0"),
        ({"factors": ALL, "harness": "0.2.0"}, "step", "versions", "bench 0.1.0 → 0.2.0"),
        ({"factors": {"seqboat": 1.1}, "spread": 0.4}, "step", "noise", "a single run is uncertain by"),
    ],
)
def test_the_cause_that_was_planted_is_named(keep, planted, figure, cause, why):
    change = only_change(keep(**planted), figure)
    assert change.cause == cause
    assert why in change.why


@pytest.mark.parametrize(("of", "cause"), [(4, "code"), (99, "versions")])
def test_the_harnesss_commit_is_no_version_if_it_is_what_was_measured(keep, of, cause):
    """In this project's own repository each commit has another."""
    assert only_change(keep({"seqboat": 1.3}, harness=f"0.1.0 ({commit(of)})"), "speed").cause == cause


def test_a_later_change_of_the_machine_is_not_this_ones(keep, tmp_path):
    """SeqBoat's speed has one level after its change; within it all steps become slower."""
    folder = keep({"seqboat": 1.3})
    for number in range(8, 12):
        made = results(
            MODELS,
            environment=msgspec.structs.replace(CPU, commit=commit(number)),
            created=f"2026-01-{number + 1:02d}T00:00:00+00:00",
            blocks=5,
            slower=2.0,
        )
        samples = [
            msgspec.structs.replace(
                sample, seconds=sample.seconds * (1.3 if sample.case_id.startswith("seqboat") else 1)
            )
            for sample in made.samples
        ]
        result_store.add(write(msgspec.structs.replace(made, samples=samples), tmp_path), folder)
    assert only_change(folder, "speed").cause == "code"
    (line,) = history.history(folder, "seqboat", "made-up", "step").lines
    assert [change.cause for change in line.changes] == ["code", "machine"]


def bench(folder, *words: str) -> subprocess.CompletedProcess[str]:
    return in_process.bench("history", "--suite", "made-up", "--store", folder, *words)


def test_a_loss_fails_the_check_and_a_gain_does_not(keep):
    folder = keep({"seqboat": 1.3})
    done = bench(folder, "--check")
    assert done.returncode == 1, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("CHANGED: SeqBoat: speed × 0.769 (")
    assert f"code at {commit(4)[:9]} (0 of 3 other models moved along)" in last
    assert bench(folder, "--model", "mega", "--check").returncode == 0
    shown = bench(folder, "--check", "--model", "seqboat", "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["lines"][0]["changes"][0]["cause"] == "code"
    assert bench(folder).returncode == 2


def test_gains_and_noise_are_not_losses(keep):
    folder = keep({"seqboat": 0.7})
    found = history.histories(folder, "made-up", None)
    assert history_text.newest_loss(found) is None
    assert sum(len(line.changes) for one in found for line in one.lines) == 1


def test_only_commits_since_count(keep):
    found = history.histories(keep({"seqboat": 1.3}), "made-up", "seqboat")
    assert history_text.newest_loss(found, {commit(4)})
    assert history_text.newest_loss(found, {commit(5)}) is None
