"""What is measured next, whoever carries it out: no process is started here."""

import msgspec
import pytest

from bench.measure.jobs import BlockJob, ImportJob, SoloJob
from bench.measure.procedure import Procedure
from bench.measure.scheduler import TRIES, Scheduler
from bench.records.reading import read, read_kinds
from bench.records.run import Device, Lost, Sample
from bench.records.solo import Solo
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


def make_scheduler(
    store, lengths=(32,), earlier=None, devices=1, models=MODELS, sources=None, environment=CPU, **timing
):
    timing = Timing(**{"max_blocks": 3, "target": "0.01%", **timing})
    suite = Suite(
        name="tiny",
        description="",
        workload="text",
        lengths=lengths,
        implementations=models,
        baseline=models[0],
        timing=timing,
    )
    procedure = Procedure(suite, environment)
    return Scheduler(procedure, store, Silent(), earlier, devices, sources or {})


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


def do(scheduler, job) -> None:
    records = {ImportJob: lambda job: [], SoloJob: lambda job: [solo_of(job)], BlockJob: samples_of}
    for record in records[type(job)](job):
        scheduler.take(record)
    scheduler.finished(job)


def do_solo_pass(scheduler) -> None:
    for _ in scheduler.cases:
        do(scheduler, scheduler.next_job())


def cut_off(scheduler, job) -> None:
    scheduler.cut_off(job, "a", "cpu", "the node died")


def test_cases_go_first_and_a_block_waits_for_those_of_its_length(store):
    scheduler = make_scheduler(store, lengths=(32, 64))
    jobs = [scheduler.next_job() for _ in range(4)]
    assert [(job.case.length, job.case.implementation) for job in jobs] == [
        (length, model) for length in (32, 64) for model in MODELS
    ]
    assert scheduler.next_job() is None
    do(scheduler, jobs[0])
    assert scheduler.next_job() is None
    do(scheduler, jobs[1])
    block = scheduler.next_job()
    assert [solo.case.length for solo in block.solos] == [32, 32]


def test_lengths_take_turns_and_no_more_blocks_are_begun_than_there_may_be(store):
    scheduler = make_scheduler(store, lengths=(32, 64), devices=7)
    do_solo_pass(scheduler)
    jobs = [scheduler.next_job() for _ in range(6)]
    assert [job.solos[0].case.length for job in jobs] == [32, 64] * 3
    assert [job.number for job in jobs] == [0, 0, 1, 1, 2, 2]
    assert scheduler.next_job() is None
    for job in reversed(jobs):
        do(scheduler, job)
    assert scheduler.next_job() is None
    assert scheduler.reason == "precise"


def test_a_length_at_which_every_model_fails_leaves_the_others(store):
    progress = []
    scheduler = make_scheduler(store, lengths=(32, 64), max_blocks=2, min_blocks=2)
    scheduler.observer.progress = progress.append
    for _ in scheduler.cases:
        job = scheduler.next_job()
        failed = job.case.length == 32
        solo = solo_of(job)
        scheduler.take(msgspec.structs.replace(solo, status="oom" if failed else "ok"))
        scheduler.finished(job)
    while (job := scheduler.next_job()) is not None:
        do(scheduler, job)
    assert (scheduler.reason, [found.total for found in progress]) == ("blocks", [2, 2])


def test_a_block_that_is_cut_off_counts_nothing_and_is_measured_again(store, path):
    scheduler = make_scheduler(store, max_blocks=3)
    do_solo_pass(scheduler)
    first = scheduler.next_job()
    for record in samples_of(first, seconds=(1.0, 50.0)):
        scheduler.take(record)
    scheduler.take(
        Lost(case_id=first.case_ids[1], block=0, status="oom", reason="killed", node="a", device="cpu")
    )
    cut_off(scheduler, first)
    again = scheduler.next_job()
    assert (again.number, again.case_ids) == (1, first.case_ids)
    do(scheduler, again)

    found = read(path)
    assert {sample.block for sample in found.samples} == {1}
    assert found.lost == {}
    assert [void.block for void in found.voids] == [0]

    resumed = make_scheduler(store, earlier=found)
    assert [resumed.next_job().number for _ in range(2)] == [2, 3]
    assert resumed.next_job() is None


def test_a_case_that_is_cut_off_alone_is_run_again(store, path):
    scheduler = make_scheduler(store)
    first = scheduler.next_job()
    scheduler.take(Solo(case=first.case, status="oom", reason="killed", node="a", device="cpu"))
    cut_off(scheduler, first)
    assert scheduler.next_job() == first
    do(scheduler, first)
    assert read(path).solos[first.case.id].status == "ok"


def test_who_is_cut_off_again_and_again_has_crashed(store, path):
    scheduler = make_scheduler(store)
    for _ in range(TRIES):
        job = scheduler.next_job()
        assert job.case.implementation == MODELS[0]
        cut_off(scheduler, job)
    solo = scheduler.found.solos[job.case.id]
    assert (solo.status, solo.reason) == ("crashed", f"was cut off {TRIES} times, last: the node died")
    do(scheduler, scheduler.next_job())
    for _ in range(TRIES):
        cut_off(scheduler, scheduler.next_job())
    assert scheduler.next_job() is None
    assert scheduler.reason == "failed"
    assert [lost.status for lost in read(path).lost.values()] == ["crashed"]


def test_what_a_run_without_devices_ends_with(store):
    scheduler = make_scheduler(store)
    scheduler.next_job()
    assert scheduler.reason == "devices"


@pytest.mark.parametrize(("kept", "to_come"), [(3, [2, 3]), (4, [2]), (5, [2]), (7, [2])])
def test_a_partial_block_is_no_block_when_a_run_goes_on_unless_each_case_has_a_whole_round(
    store, path, kept, to_come
):
    scheduler = make_scheduler(store)
    do_solo_pass(scheduler)
    do(scheduler, scheduler.next_job())
    job = scheduler.next_job()
    second = [msgspec.structs.replace(sample, round=1) for sample in samples_of(job)]
    for record in [*samples_of(job), *second][:kept]:
        scheduler.take(record)
    resumed = make_scheduler(store, earlier=read_kinds(path)[0])
    assert [resumed.next_job().number for _ in to_come] == to_come
    assert resumed.next_job() is None


def test_what_is_plugged_in_runs_alone_before_others(store):
    scheduler = make_scheduler(store, models=("transformer", "mine:build", "s4"))
    do(scheduler, scheduler.next_job())
    first = [scheduler.next_job().case.implementation for _ in range(3)]
    assert first == ["mine:build", "transformer", "s4"]


def test_every_plug_in_is_imported_before_the_first_model_runs(store):
    """What can't be imported fails at all of its lengths, and never runs."""
    scheduler = make_scheduler(store, (32, 64), models=("transformer", "a:build", "b:build", "c:build"))
    jobs = [scheduler.next_job() for _ in range(3)]
    assert [job.cases[0].implementation for job in jobs] == ["a:build", "b:build", "c:build"]
    assert all(len(job.cases) == 2 for job in jobs)
    for job in jobs[1:]:
        for case in job.cases:
            scheduler.take(Solo(case=case, status="error", reason="cannot import", node="a", device="cpu"))
        scheduler.finished(job)
    scheduler.cut_off(jobs[0], "a", "cpu", "the node died")
    alone = [scheduler.next_job() for _ in range(4)]
    assert [job.case.implementation for job in alone] == ["a:build", "a:build", "transformer", "transformer"]
    assert scheduler.next_job() is None


def test_a_resumed_run_imports_only_what_is_still_to_be_measured(store, path):
    first = make_scheduler(store, models=("a:build", "b:build"))
    for _ in range(3):
        do(first, first.next_job())
    resumed = make_scheduler(store, earlier=read(path), models=("a:build", "b:build"))
    job = resumed.next_job()
    assert isinstance(job, ImportJob)
    assert [case.implementation for case in job.cases] == ["b:build"]
    assert isinstance(resumed.next_job(), SoloJob)


@pytest.mark.parametrize("gone", [False, True])
def test_a_model_that_is_edited_meanwhile_is_lost(store, monkeypatch, gone):
    """Its next process would be of another program, and one row of both."""
    scheduler = make_scheduler(store, sources=dict.fromkeys(MODELS, "as it was"))
    now = dict.fromkeys(MODELS, "as it was")

    def source_of(name, suite):
        if gone and now[name] == "edited":
            raise FileNotFoundError(name)
        return now[name]

    monkeypatch.setattr("bench.measure.scheduler.source_of", source_of)
    do_solo_pass(scheduler)
    do(scheduler, scheduler.next_job())
    now[MODELS[1]] = "edited"
    assert [id_.split("/")[0] for id_ in scheduler.next_job().case_ids] == [MODELS[0]]
    (lost,) = scheduler.found.lost.values()
    assert lost.reason == "its source was edited while the run continued"


@pytest.mark.parametrize("pairing", ["turns", "duet"])
def test_a_model_that_is_alone_is_timed_in_turns_and_has_no_duet(store, pairing):
    environment = msgspec.structs.replace(CPU, pairing=pairing)
    scheduler = make_scheduler(store, environment=environment)
    do_solo_pass(scheduler)
    job = scheduler.next_job()
    lost = Lost(case_id=job.case_ids[1], block=0, status="crashed", reason="gone", node="a", device="cpu")
    scheduler.take(lost)
    scheduler.finished(job)
    if pairing == "duet":
        assert scheduler.next_job() is None
        assert (scheduler.reason, scheduler.outlook) == ("failed", None)
    else:
        assert scheduler.next_job().case_ids == job.case_ids[:1]


def test_late_in_a_run_of_several_cells_a_block_is_as_good_as_the_time_left_allows(store):
    """Three cells share what is left, which is enough for one block of two rounds."""
    scheduler = make_scheduler(store, lengths=(32, 64, 128), max_blocks=9, max_rounds=4, budget="1000s")
    do_solo_pass(scheduler)
    for _ in range(6):
        do(scheduler, scheduler.next_job())
    shortest = scheduler.panels[0].planner.shortest(
        scheduler.panels[0].alive, scheduler.panels[0].baseline.id, scheduler.panels[0]._samples()
    )
    for panel in scheduler.panels:
        panel.blocks = 3  # An interval needs no more of them.
    scheduler.begin -= 1000 - 1.5 * shortest
    assert scheduler.next_job().design.rounds == 2
