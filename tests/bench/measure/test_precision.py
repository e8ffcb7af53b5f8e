"""Narrow intervals: bursts leave them so, slowdowns stay visible; plans, and what more time gives."""

from typing import ClassVar

import msgspec
import pytest

from bench.measure.planning import Planner, designs
from bench.measure.procedure import Procedure
from bench.measure.request import Request
from bench.measure.servers import Servers
from bench.measure.session import run
from bench.records.plan import Outlook, Plan
from bench.records.reading import read
from bench.records.run import End
from bench.stats.allocation import Design
from bench.stats.ratios import speed_ratio
from bench.suites import reading as suites
from bench.suites.suite import Timing
from bench.views.tables.table import build_table

from ..made_up import CPU, results, write

SUITE = suites.load("ci")


@pytest.mark.usefixtures("plug_ins")
def test_a_burst_leaves_the_interval_narrow_and_a_slowdown_stays_visible(write_suite, tmp_path):
    """One of the four runs of each block takes eight times as long. The models sleep, so that a loaded
    machine makes them hardly slower: this run of three blocks takes its seconds."""
    models = [f"fault_models:{name}" for name in ("steady", "steady_with_a_burst", "half_as_fast")]
    quick = {"max_blocks": 3, "max_rounds": 2, "min_run": "1ms", "target": "0.01%"}
    request = Request(
        suite=write_suite(*models, quick=quick),
        out=tmp_path / "run.jsonl",
        device="cpu",
        threads=1,
        quick=True,
    )
    found = run(request).results
    steady, burst, slower = build_table(found).rows
    runs = [sample for sample in found.samples if sample.case_id == burst.case_id]
    assert sum(sample.seconds > 0.35 for sample in runs) >= 3
    assert 0.8 < burst.speed_ratio < 1.25
    assert slower.speed_high < 0.8
    by_rounds = speed_ratio(found.samples, steady.case_id, burst.case_id, estimator="rounds")
    assert by_rounds.ratio < 0.7, "by the estimator of earlier versions the burst makes a slowdown"


def test_plans_are_kept_and_told(start_runs, tmp_path):
    runs, path = start_runs(timing={"max_blocks": 4, "max_rounds": 3}), tmp_path / "run.jsonl"
    code, _ = runs.make("out", path)
    assert code == 0
    found = read(path)
    assert found.plans
    assert found.plans[0].block == 2
    assert all(case.visits >= 2 for case in found.plans[0].cases.values())
    (line,) = [line for line in build_table(found).footer if "Planned before block" in line]
    assert "blocks of" in line
    assert "as estimated" in line
    for block, design in designs(found.samples).items():
        assert design.rounds <= 3, block


def test_a_block_without_time_for_three_visits_says_so():
    run = results(["transformer", "seqboat"], [256])
    planner = Planner(Procedure(run.header.suite, CPU))
    alive = list(run.solos.values())
    assert planner.plan(alive, alive[0].case.id, run.samples[:4], 100.0, 100.0)[1] is None, "one block"
    design, plan = planner.plan(alive, alive[0].case.id, run.samples, 1e-6, 1e-6)
    assert design.rounds == 1
    assert planner.plan(alive, alive[0].case.id, run.samples, 1e-6, 1e-6)[1] is None, "the same plan again"
    told = build_table(msgspec.structs.replace(run, plans=[plan])).footer
    assert any(
        "2 visits of each model, too few for a median that shrugs off a burst" in line for line in told
    )
    assert planner.plan(alive, alive[0].case.id, run.samples, 1e6, 1e6)[0].rounds >= 2


def test_a_file_with_plans_and_an_outlook_reads_as_it_was_written(tmp_path):
    run = results(["transformer", "seqboat"], [256])
    alive = list(run.solos.values())
    planner = Planner(Procedure(run.header.suite, CPU))
    _, plan = planner.plan(alive, alive[0].case.id, run.samples, 1e3, 1e3)
    path = write(run, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    outlook = Outlook(lacking=0, block_seconds=40.0, half_width=0.08, narrowed=0.05)
    end = End(reason="budget", seconds=100.0, outlook=outlook)
    path.write_bytes(
        b"".join([*lines[:-1], msgspec.json.encode(plan) + b"\n", msgspec.json.encode(end) + b"\n"])
    )
    found = read(path)
    assert (found.plans, found.end) == ([plan], end)
    assert isinstance(found.plans[0], Plan)
    assert found.samples == run.samples


def ended(**outlook):
    run = results(["transformer", "seqboat"], [256])
    reason = outlook.pop("reason", "budget")
    settings = {"lacking": 0, "block_seconds": 40.0, "half_width": 0.08, "narrowed": 0.05} | outlook
    return build_table(
        msgspec.structs.replace(run, end=End(reason=reason, seconds=1.0, outlook=Outlook(**settings)))
    ).notes


def test_what_one_block_more_would_give_is_told_if_it_is_worth_it():
    (note,) = [note for note in ended() if "one block more" in note]
    assert "about 40.0 s, would narrow the widest interval from ±8.0% to about ±5.0%" in note
    assert not any("one block more" in note for note in ended(narrowed=0.0721))
    assert any("one block more" in note for note in ended(narrowed=0.0719))
    assert not any("one block more" in note for note in ended(reason="precise"))
    assert not any("one block more" in note for note in ended(half_width=None, narrowed=None))


def test_fewer_blocks_than_the_suite_wants_are_never_silent():
    (note,) = [note for note in ended(lacking=2, half_width=None, narrowed=None) if "lacking" in note]
    assert "2 of the blocks are lacking that the suite wants at least; one takes about 40.0 s" in note
    assert "--budget" in note


class Counted:
    """What a fork server is to those who hand it out."""

    made: ClassVar[list["Counted"]] = []

    def __init__(self, threads, sources) -> None:
        self.loaded, self.ended = False, False
        Counted.made.append(self)

    def load(self, cases) -> None:
        assert not any(server.ended for server in Counted.made)
        self.loaded = True

    def wait(self) -> None:
        assert all(server.loaded for server in Counted.made), "all are begun before one is waited for"

    def __exit__(self, *words) -> None:
        self.ended = True


def test_the_servers_of_the_least_blocks_load_at_once_and_each_block_has_its_own(monkeypatch):
    monkeypatch.setattr("bench.measure.servers.ForkServer", Counted)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("bench.measure.servers.free_memory", lambda: 64 << 30)
    monkeypatch.setattr(Counted, "made", [])
    with Servers(Procedure(SUITE, CPU), SUITE.cases("cpu"), 3) as servers:
        assert servers.alone() is servers.alone()
        assert len(Counted.made) == SUITE.timing.min_blocks == 3
        blocks = [servers.of_a_block() for _ in range(4)]
        assert blocks[0] is Counted.made[0], "the first block is forked where the cases ran alone"
        assert len(set(map(id, blocks))) == 4
        assert [server.ended for server in blocks] == [True, True, True, False]
    assert all(server.ended for server in Counted.made)


def test_one_server_loads_where_there_is_no_room_for_more(monkeypatch):
    monkeypatch.setattr("bench.measure.servers.ForkServer", Counted)
    monkeypatch.setattr("bench.measure.servers.free_memory", lambda: 1 << 30)
    monkeypatch.setattr(Counted, "made", [])
    with Servers(Procedure(SUITE, CPU), SUITE.cases("cpu"), 3) as servers:
        servers.of_a_block()
        assert len(Counted.made) == 1


def test_designs_are_read_off_samples():
    run = results(["transformer", "seqboat"], [256], rounds=3)
    found = designs(run.samples)
    assert list(found) == [0, 1, 2]
    assert found[0] == Design(3, dict.fromkeys(run.solos, 1), dict.fromkeys(run.solos, 1))


def test_a_slow_model_is_warmed_up_by_two_steps():
    """The first one gets its memory from the kernel, and the second one what was left to get."""
    plan = Procedure(SUITE, CPU)
    solo = next(iter(results(["transformer"], [256]).solos.values()))
    slow = plan.block_warm_up(msgspec.structs.replace(solo, step_seconds=5.0))
    assert (slow.min_steps, slow.max_steps) == (2, 2)
    assert plan.block_warm_up(msgspec.structs.replace(solo, step_seconds=0.1)).min_steps == 3


def test_before_the_noise_is_known_what_is_left_is_divided_by_the_blocks_to_come():
    run = results(["transformer", "seqboat"], [256])
    plan = Procedure(run.header.suite, CPU)
    alive = list(run.solos.values())
    two = plan.block_seconds(alive, 2)
    least, reference = run.header.suite.timing.min_blocks, alive[0].case.id
    first_block = [sample for sample in run.samples if sample.block == 0]
    left = (least - 1) * two * 1.01
    assert Planner(plan).plan(alive, reference, first_block, left, left)[0].rounds == 2
    assert Planner(plan).plan(alive, reference, [], left, left)[0].rounds == 1


def in_groups(run) -> list:
    """The samples of a run, each case but the first in a group of its own, with the first one in all."""
    first, *others = run.solos
    return [
        msgspec.structs.replace(sample, group=group)
        for group, other in enumerate(others)
        for sample in run.samples
        if sample.case_id in (first, other)
    ]


def test_the_baselines_visits_are_those_of_one_group():
    run = results(["transformer", "seqboat", "s4"], [256], rounds=3)
    found = designs(in_groups(run))
    assert found[0] == Design(3, dict.fromkeys(run.solos, 1), dict.fromkeys(run.solos, 1))


def test_repeats_belong_to_the_time_that_a_block_takes_beside_its_visits():
    run = results(["transformer", "seqboat"], [256])
    planner, alive = Planner(Procedure(run.header.suite, CPU)), list(run.solos.values())
    timed = {block: sum(s.seconds for s in run.samples if s.block == block) for block in range(3)}
    planner.block_seconds = {block: seconds + 10.0 for block, seconds in timed.items()}
    again = [msgspec.structs.replace(sample, attempt=1) for sample in run.samples[:4]]
    for samples in (run.samples, [*run.samples, *again]):
        _, plan = planner.plan(alive, alive[0].case.id, samples, 100.0, 100.0)
        planner.told = None
        assert plan.start_seconds == pytest.approx(10.0)


def test_a_duet_has_three_rounds_whatever_a_suite_has_at_most():
    run = results(["transformer", "seqboat"], [256], timing=Timing(max_rounds=2))
    turns = Procedure(run.header.suite, CPU)
    duet = Procedure(run.header.suite, msgspec.structs.replace(CPU, pairing="duet"))
    alive = list(run.solos.values())
    reference = alive[0].case.id
    assert [Planner(plan).plan(alive, reference, [], 1e9, 1e9)[0].rounds for plan in (turns, duet)] == [2, 3]
    assert [
        Planner(plan).plan(alive, reference, run.samples, 1e9, 1e9)[0].rounds for plan in (turns, duet)
    ] == [2, 3]
