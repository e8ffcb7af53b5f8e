"""Side by side: both begin together, exchange their cores, and what began late or strayed is found."""

import contextlib
import os
import sys
from collections import defaultdict
from types import SimpleNamespace

import msgspec
import numpy as np
import psutil
import pytest

from bench.measure.duet import NO_ROOM, Duet, disturbances, steps_of
from bench.measure.pairing import Cores
from bench.measure.procedure import Procedure
from bench.records.conditions import Conditions
from bench.records.reading import Results, read
from bench.records.run import Lost, Sample
from bench.records.solo import Solo
from bench.stats.allocation import Design
from bench.stats.ratios import block_step_seconds, block_values
from bench.suites import reading as suites
from bench.views.tables.table import build_table
from bench.workers.messages import KeptTo, Timed, Warmed

from ..in_process import bench
from ..made_up import CPU

CORES = os.cpu_count() or 1
SUITE = suites.load("ci")
CASE = msgspec.structs.replace(SUITE.cases("cpu")[0], activation=None, length=64)
PLAN = Procedure(SUITE, msgspec.structs.replace(CPU, threads=1, pairing="duet"))

two_cores = pytest.mark.skipif(Cores.of_this_process().half == 0, reason="needs two cores")


def solo(model: str, seconds: float = 0.02, **changes) -> Solo:
    case = msgspec.structs.replace(CASE, implementation=f"fault_models:{model}", **changes)
    return Solo(case=case, status="ok", step_seconds=seconds)


def duet_of(*solos: Solo, plan: Procedure = PLAN, **options) -> Duet:
    return Duet(plan, 0, 0, list(solos), Design(1), np.random.default_rng(0), **options)


def by_round(results: Results) -> dict[tuple[int, int, int], list[Sample]]:
    found = defaultdict(list)
    for sample in results.samples:
        found[sample.block, sample.group, sample.round].append(sample)
    return found


def test_a_run_in_duets_says_so_everywhere(start_runs, tmp_path):
    path = tmp_path / "run.jsonl"
    code, printed = start_runs(env={"WORDS": "--pairing duet"}).make("out", path)
    assert code == 0, printed
    results = read(path)
    assert (results.header.environment.pairing, results.header.environment.threads) == ("duet", 1)
    assert "side by side, 1 thread each" in "\n".join(build_table(results).footer)
    assert {row.pairing for row in build_table(results).rows} == {"duet"}
    rounds = by_round(results)
    # Though the suite has two rounds at most: a duet's value needs three.
    assert len(rounds) == 3 * 2 * 3  # blocks, pairs, rounds
    for samples in rounds.values():
        assert {sample.case_id.split("/")[0] for sample in samples} in (
            {"quick:one", "quick:two"},
            {"quick:one", "quick:three"},
        )
        for case_id in {sample.case_id for sample in samples}:
            own = sorted(sample.processors for sample in samples if sample.case_id == case_id)
            assert own == [[0], [1]], "cores are exchanged within the round"
    turns = start_runs()
    code, printed = turns.make("resume", path)
    assert code == 2
    assert "comes from another machine" in printed
    assert "side by side, 1 thread each" in printed


def test_a_side_that_begins_late_is_repeated_and_counts_nowhere(start_runs, tmp_path):
    path = tmp_path / "run.jsonl"
    words = {"WORDS": "--pairing duet", "BEGINS_LATE": "two"}
    code, printed = start_runs(env=words).make("out", path)
    assert code == 0, printed
    results = read(path)
    late = [sample for sample in results.samples if sample.disturbed_by]
    # The first two tries of each of its three processes, both sides of each.
    assert len(late) == 3 * 2 * 2
    assert {sample.case_id.split("/")[0] for sample in late} == {"quick:one", "quick:two"}
    assert {round(sample.alone_seconds, 3) for sample in late} == {0.0, 0.3}
    one, two, _ = results.solos
    assert len(block_values(results.samples, one, two)) == 3
    kept = [sample for sample in results.samples if not sample.disturbed_by]
    assert block_values(kept, one, two) == block_values(results.samples, one, two)
    assert block_step_seconds(kept, two) == block_step_seconds(results.samples, two)
    notes = "\n".join(build_table(results).notes)
    assert "disturbed runs were repeated" in notes
    assert "began 0.3 s apart from the run beside it" in notes


def test_what_disturbs_one_run_takes_the_one_beside_it_along():
    quiet, later = (Timed(0.5, None, began=moment) for moment in (10.0, 10.004))
    assert disturbances(quiet, later) == (None, None)
    assert all("0.006 s apart" in why for why in disturbances(quiet, Timed(0.5, None, began=10.006)))
    stopped = Timed(0.5, None, began=10.0, conditions=Conditions(wall_seconds=0.5, stops=1))
    first, second = disturbances(quiet, stopped)
    assert second == "its process was stopped and continued"
    assert first == f"the run beside it was disturbed: {second}"


def test_revisions_do_the_same_work_and_models_take_the_same_time():
    base, head = (solo("tiny", seconds, revision=name) for name, seconds in (("base", 0.02), ("head", 0.03)))
    assert set(steps_of(PLAN, [base, head]).values()) == {PLAN.steps(base)}
    other = solo("slow", 0.1)
    assert steps_of(PLAN, [base, other]) == {base.case.id: PLAN.steps(base), other.case.id: PLAN.steps(other)}


def test_a_model_with_long_steps_has_company_for_the_whole_of_its_run():
    slow, fast = solo("slow", 6.0), solo("tiny", 0.15)
    assert steps_of(PLAN, [slow, fast]) == {slow.case.id: 1, fast.case.id: 40}
    assert steps_of(PLAN, [fast, slow]) == steps_of(PLAN, [slow, fast])
    block = duet_of(slow, fast)
    assert block._run_deadline(fast) == block._run_deadline(slow) == PLAN.run_deadline_seconds(slow)
    block = duet_of(solo("slow", 60.0), fast)
    assert block._run_deadline(fast) == 20 * 60.0 > PLAN.run_deadline_seconds(fast)


def test_without_a_pair_nothing_is_timed_and_without_memory_the_other_is_lost(monkeypatch):
    assert list(duet_of(solo("tiny")).run()) == []
    monkeypatch.setattr(Procedure, "fits", lambda self, group: False)
    base, other = solo("tiny"), solo("slow")
    assert list(duet_of(base, other).run()) == [
        Lost(case_id=other.case.id, block=0, status="oom", reason=NO_ROOM)
    ]


@two_cores
def test_compiling_has_as_long_in_a_duet_as_alone():
    class Listening:
        """A worker that is never started: hears how long it is waited for."""

        def __init__(self):
            self.deadlines = {}

        def send(self, question):
            pass

        def receive(self, expected, deadline_seconds):
            self.deadlines[expected] = deadline_seconds

    block = duet_of(solo("tiny"), solo("slow", mode="compile"))
    eager, compiling = workers = [Listening(), Listening()]
    given = dict(zip((each.case.id for each in block.alive), workers, strict=True))
    block.server = SimpleNamespace(load=list, start=lambda case: contextlib.nullcontext(given[case.id]))
    with contextlib.ExitStack() as stack:
        assert list(block._start(stack)) == []
    assert compiling.deadlines[Warmed] == 5 * PLAN.deadline_seconds
    assert eager.deadlines[Warmed] == compiling.deadlines[KeptTo] == PLAN.deadline_seconds


@two_cores
@pytest.mark.usefixtures("plug_ins")
def test_both_run_at_once_each_where_it_was_told():
    block = duet_of(solo("tiny", 0.02), solo("slow", 0.05))
    seen = []
    with contextlib.closing(block.run()) as records:
        for record in records:
            assert isinstance(record, Sample), record
            seen.append(record)
            worker = psutil.Process(block.workers[record.case_id].pid)
            if len(seen) % 2 == 0:  # The second of the two: both are where it says.
                assert worker.cpu_affinity() == record.processors
    assert len(seen) >= 2 * 2
    assert {tuple(record.processors) for record in seen} == set(block.halves)


@two_cores
@pytest.mark.slow
@pytest.mark.usefixtures("plug_ins")
def test_a_model_that_leaves_its_processors_is_named(write_suite, tmp_path):
    options = ("--device", "cpu", "--quick", "--threads", "1", "--pairing", "duet")
    suite = write_suite("fault_models:tiny", "fault_models:leaves_its_processors")
    done = bench("run", "--suite", suite, *options, "--out", str(tmp_path / "run.jsonl"))
    assert done.returncode == 3, done.stderr
    assert "the model left the processors of its side" in done.stderr
    (lost,) = read(tmp_path / "run.jsonl").lost.values()
    assert "leaves_its_processors" in lost.case_id


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairing", "trio"], "--pairing trio: choose turns or duet"),
        (["--pairing", "duet", "--impl", "seqboat", "--baseline", "seqboat"], "ci times one model"),
        (["--pairing", "duet", "--executor", "ray"], "--executor ray models take turns"),
        (["--pairing", "duet", "--threads", str(8 * CORES)], f"on each side need {16 * CORES} cores"),
        (["--threads", str(64 * CORES)], f"--threads {64 * CORES}: this machine has {CORES} cores"),
    ],
)
def test_a_duet_that_can_t_be_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    from bench import cli

    out = str(tmp_path / "run.jsonl")
    monkeypatch.setattr(
        sys, "argv", ["bench", "run", "--suite", "ci", "--device", "cpu", "--out", out, *words]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.jsonl").exists()
