"""The result in a sentence: true of the rows, with its interval, and nothing that was not measured."""

import msgspec
import pytest

from bench.records.solo import MemoryFigure
from bench.views import headline
from bench.views.tables.table import build_table

from ..made_up import CPU, results

GPU = msgspec.structs.replace(CPU, device="cuda:0", hardware="a GPU", driver="1", cuda="13.0")


def sentences(*runs, baseline="transformer"):
    return headline.sentences(build_table(*runs, baseline=baseline).rows, baseline)


def row_of(run, model):
    return next(row for row in build_table(run).rows if row.model == model)


def timed(run, seconds):
    """The run with other times: by model, those of its blocks."""
    samples = [
        msgspec.structs.replace(sample, seconds=seconds[sample.case_id.split("/")[0]][sample.block])
        for sample in run.samples
    ]
    return msgspec.structs.replace(run, samples=samples)


def test_the_fastest_model_is_held_against_the_baseline_with_its_interval():
    run = results(["transformer", "s4", "seqboat"])
    row = row_of(run, "seqboat")
    low, high = f"{row.speed_low:.2f}", f"{row.speed_high:.2f}"
    assert sentences(run) == [
        f"SeqBoat is {low} to {high} times as fast as Transformer, at 12% of its memory."
    ]


def test_another_baseline_gives_another_sentence():
    (sentence,) = sentences(results(["transformer", "s4", "seqboat"]), baseline="s4")
    assert sentence.startswith("SeqBoat is ")
    assert "times as fast as S4, at 50% of its memory." in sentence


def test_without_an_interval_it_says_so():
    (sentence,) = sentences(results(["transformer", "seqboat"], blocks=1))
    assert sentence == (
        "SeqBoat is 8.00 times as fast as Transformer, at 12% of its memory; "
        "without an interval, which needs 3 blocks."
    )


def test_a_ratio_whose_interval_holds_one_decides_nothing():
    run = timed(
        results(["transformer", "seqboat"]), {"transformer": (1.0, 1.1, 0.9), "seqboat": (1.0, 0.8, 1.1)}
    )
    (sentence,) = sentences(run)
    assert sentence.startswith("No model is surely faster than Transformer: the nearest, SeqBoat, is ")


def test_a_model_that_is_surely_faster_goes_before_one_that_may_be():
    run = timed(
        results(["transformer", "s4", "seqboat"]),
        {"transformer": (1.0, 1.0, 1.0), "s4": (0.5, 0.51, 0.5), "seqboat": (0.1, 3.0, 0.1)},
    )
    assert row_of(run, "seqboat").speed_ratio > row_of(run, "s4").speed_ratio
    assert sentences(run)[0].startswith("S4 is 1.9")


def test_where_all_are_slower_it_says_so():
    (sentence,) = sentences(results(["seqboat", "transformer", "s4"]), baseline="seqboat")
    assert sentence.startswith("No model is as fast as SeqBoat: the nearest, S4, is 0.")


def test_a_suite_of_one_model_has_its_cost_and_no_ratio():
    one = results(["transformer"], slower=0.5, blocks=1)
    assert sentences(one) == ["Only Transformer was timed: 2.0 s per step and 1.00 GiB."]


def test_several_rates_of_one_model_are_told_apart():
    (sentence,) = sentences(results(["seqboat"], activation=[0.1, 0.3], blocks=1), baseline="seqboat")
    assert sentence == (
        "Only SeqBoat was timed. SeqBoat, activation 0.1 takes the least time: 400 ms per step and 128 MiB."
    )


def test_a_baseline_that_failed_gives_no_ratio():
    (sentence,) = sentences(
        results(["transformer", "s4", "seqboat"], failed={"transformer": "oom"}, blocks=1)
    )
    assert sentence == (
        "Nothing to compare with: the baseline, Transformer, has no time (out of memory). "
        "SeqBoat takes the least time: 500 ms per step and 128 MiB. 1 of 3 rows have an X: 1 out of memory."
    )


@pytest.mark.parametrize("status", ["wrong", "nan", "crashed"])
def test_a_row_with_an_x_wins_nothing(status):
    run = results(["transformer", "s4", "seqboat"])
    solos = {
        name: msgspec.structs.replace(solo, status=status, reason="as planted")
        if name.startswith("seqboat")
        else solo
        for name, solo in run.solos.items()
    }
    (sentence,) = sentences(msgspec.structs.replace(run, solos=solos))
    assert sentence.startswith("S4 is ")
    assert "1 of 3 rows have an X" in sentence
    assert "SeqBoat" not in sentence


def test_nothing_that_was_not_measured_is_said():
    run = results(["transformer", "seqboat"])
    no_memory = {
        name: msgspec.structs.replace(
            solo, memory=[MemoryFigure(kind="tensor_bytes", bytes=None, unavailable="why")]
        )
        for name, solo in run.solos.items()
    }
    (sentence,) = sentences(msgspec.structs.replace(run, solos=no_memory))
    assert "memory" not in sentence
    failed = results(["transformer", "seqboat"], failed={"transformer": "oom", "seqboat": "oom"})
    assert sentences(failed) == ["No model was timed. 2 of 2 rows have an X: 2 out of memory."]
    assert sentences(msgspec.structs.replace(run, samples=[])) == ["Nothing was timed."]


def test_more_memory_is_a_multiple():
    (sentence,) = sentences(results(["seqboat", "transformer"]), baseline="seqboat")
    assert ", at 8.00 times its memory." in sentence


def test_each_machine_has_its_own_sentence():
    runs = [
        results(["transformer", "seqboat"]),
        results(["transformer", "seqboat"], environment=GPU, path="b"),
    ]
    cpu, gpu = sentences(*runs)
    assert cpu.startswith("batch 1, a processor, cpu: SeqBoat is ")
    assert gpu.startswith("batch 25, a GPU, cuda:0: SeqBoat is ")


def test_the_row_that_is_named_has_its_mode():
    run = results(["transformer", "seqboat"], modes=("eager", "compile"), precision=("fp32", "bf16"))
    samples = [
        msgspec.structs.replace(sample, seconds=sample.seconds / 10)
        if "seqboat" in sample.case_id and "compile" in sample.case_id
        else sample
        for sample in run.samples
    ]
    found = sentences(msgspec.structs.replace(run, samples=samples))
    assert len(found) == 2
    assert all("SeqBoat, compile" in sentence and "eager:" not in sentence for sentence in found)
