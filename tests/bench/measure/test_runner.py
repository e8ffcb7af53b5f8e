"""What is measured next, whoever carries it out: no process is started here."""

import pytest

from bench.measure.jobs import BlockJob, SoloJob
from bench.measure.procedure import Procedure
from bench.measure.scheduler import TRIES, Runner
from bench.records.reading import read, read_kinds
from bench.records.run import Device, Lost, Sample, Solo
from bench.records.writing import ResultFile
from bench.suites.suite import Suite, Timing

from ..made_up import CPU, results

MODELS = ("transformer", "s4")


class Silent:
    """An observer that looks away."""

    def __getattr__(self, name):
        return lambda *words: None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def store(path):
    with ResultFile(path) as store:
        store.append(results(MODELS).header)
        store.append(Device(node="a", device="cpu", environment=CPU))
        yield store


def make_runner(store, lengths=(32,), earlier=None, devices=1, **timing):
    timing = Timing(**{"max_blocks": 3, "target": "0.01%", **timing})
    suite = Suite(
        name="tiny",
        description="",
        workload="text",
        lengths=lengths,
        implementations=MODELS,
        baseline=MODELS[0],
        timing=timing,
    )
    return Runner(Procedure(suite, CPU), store, Silent(), earlier, devices)


def solo_of(job: SoloJob) -> Solo:
    return Solo(case=job.case, status="ok", step_seconds=0.1, node="a", device="cpu")


def samples_of(job: BlockJob, seconds=(1.0, 2.0)) -> list[Sample]:
    times = dict(zip(job.case_ids, seconds, strict=True))
    return [
        Sample(
            case_id=case_id,
            block=job.number,
            group=0,
            round=0,
            visit=visit,
            position=0,
            steps=1,
            seconds=times[case_id],
            node="a",
            device="cpu",
        )
        for case_id in job.case_ids
        for visit in (0, 1)
    ]


def do(runner, job) -> None:
    for record in [solo_of(job)] if isinstance(job, SoloJob) else samples_of(job):
        runner.take(record)
    runner.finished(job)


def do_solo_pass(runner) -> None:
    for _ in runner.cases:
        do(runner, runner.next_job())


def cut_off(runner, job) -> None:
    runner.cut_off(job, "a", "cpu", "the node died")


def test_cases_go_first_and_a_block_waits_for_those_of_its_length(store):
    runner = make_runner(store, lengths=(32, 64))
    jobs = [runner.next_job() for _ in range(4)]
    assert [(job.case.length, job.case.implementation) for job in jobs] == [
        (length, model) for length in (32, 64) for model in MODELS
    ]
    assert runner.next_job() is None
    do(runner, jobs[0])
    assert runner.next_job() is None
    do(runner, jobs[1])
    block = runner.next_job()
    assert [solo.case.length for solo in block.solos] == [32, 32]


def test_lengths_take_turns_and_no_more_blocks_are_begun_than_there_may_be(store):
    runner = make_runner(store, lengths=(32, 64), devices=7)
    do_solo_pass(runner)
    jobs = [runner.next_job() for _ in range(6)]
    assert [job.solos[0].case.length for job in jobs] == [32, 64] * 3
    assert [job.number for job in jobs] == [0, 0, 1, 1, 2, 2]
    assert runner.next_job() is None
    for job in reversed(jobs):
        do(runner, job)
    assert runner.next_job() is None
    assert runner.reason == "precise"


def test_a_block_that_is_cut_off_counts_nothing_and_is_measured_again(store, path):
    runner = make_runner(store, max_blocks=3)
    do_solo_pass(runner)
    first = runner.next_job()
    for record in samples_of(first, seconds=(1.0, 50.0)):
        runner.take(record)
    runner.take(
        Lost(case_id=first.case_ids[1], block=0, status="oom", reason="killed", node="a", device="cpu")
    )
    cut_off(runner, first)
    again = runner.next_job()
    assert (again.number, again.case_ids) == (1, first.case_ids)
    do(runner, again)

    found = read(path)
    assert {sample.block for sample in found.samples} == {1}
    assert found.lost == {}
    assert [void.block for void in found.voids] == [0]

    resumed = make_runner(store, earlier=found)
    assert [resumed.next_job().number for _ in range(2)] == [2, 3]
    assert resumed.next_job() is None


def test_a_case_that_is_cut_off_alone_is_run_again(store, path):
    runner = make_runner(store)
    first = runner.next_job()
    runner.take(Solo(case=first.case, status="oom", reason="killed", node="a", device="cpu"))
    cut_off(runner, first)
    assert runner.next_job() == first
    do(runner, first)
    assert read(path).solos[first.case.id].status == "ok"


def test_who_is_cut_off_again_and_again_has_crashed(store, path):
    runner = make_runner(store)
    for _ in range(TRIES):
        job = runner.next_job()
        assert job.case.implementation == MODELS[0]
        cut_off(runner, job)
    solo = runner.found.solos[job.case.id]
    assert (solo.status, solo.reason) == ("crashed", f"was cut off {TRIES} times, last: the node died")
    do(runner, runner.next_job())
    for _ in range(TRIES):
        cut_off(runner, runner.next_job())
    assert runner.next_job() is None
    assert runner.reason == "failed"
    assert [lost.status for lost in read(path).lost.values()] == ["crashed"]


def test_what_a_run_without_devices_ends_with(store):
    runner = make_runner(store)
    runner.next_job()
    assert runner.reason == "devices"


def test_a_partial_block_is_no_block_when_a_run_goes_on(store, path):
    runner = make_runner(store)
    do_solo_pass(runner)
    do(runner, runner.next_job())
    for record in samples_of(runner.next_job())[:3]:
        runner.take(record)
    resumed = make_runner(store, earlier=read_kinds(path)[0])
    assert [resumed.next_job().number for _ in range(2)] == [2, 3]
    assert resumed.next_job() is None
