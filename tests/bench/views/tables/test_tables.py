"""Tables: which rows there are, how files merge, and what stands below them."""

import itertools

import msgspec
import pytest

from bench.errors import UsageError
from bench.records.conditions import Conditions
from bench.records.gpu import GpuRun, GpuSettings
from bench.records.solo import MemoryFigure, Solo
from bench.stats.ratios import baseline_of
from bench.views.tables.columns import columns_of
from bench.views.tables.table import build_table

from ...made_up import CPU, results

NEWER = "2026-02-01T00:00:00+00:00"
GPU = msgspec.structs.replace(CPU, device="cuda:0", hardware="a GPU", driver="1", cuda="13.0")


def models(table) -> list[str]:
    return [row.model for row in table.rows]


def row_of(table, model: str):
    (row,) = [row for row in table.rows if row.model == model]
    return row


def test_rows_stand_by_class_and_keep_the_suites_order_in_it():
    table = build_table(results(["s4", "seqboat", "transformer", "mega"]))
    assert models(table) == ["transformer", "mega", "s4", "seqboat"]
    (grid,) = table.grids()
    assert [part.heading for part in grid.sections] == ["quadratic", "linear"]


def test_ratios_are_to_the_baseline_of_the_same_file():
    table = build_table(results(["transformer", "seqboat"], blocks=3))
    fast = row_of(table, "seqboat")
    assert fast.speed_ratio == pytest.approx(8.0, rel=0.03)
    assert fast.speed_low < fast.speed_ratio < fast.speed_high
    assert fast.memory_ratio == pytest.approx(1 / 8)
    other = build_table(results(["transformer", "seqboat"]), baseline="seqboat")
    assert row_of(other, "transformer").speed_ratio == pytest.approx(1 / fast.speed_ratio)


def test_a_baseline_has_weights_of_its_own():
    suite = msgspec.structs.replace(
        results(["transformer", "seqboat"]).header.suite,
        checkpoints={"transformer": "a.safetensors", "seqboat": "b.safetensors"},
    )
    cases = suite.cases("cpu")
    assert {case.checkpoint for case in cases} == {"a.safetensors", "b.safetensors"}
    assert {baseline_of(case, cases, "transformer").implementation for case in cases} == {"transformer"}


def test_fewer_than_three_blocks_give_no_interval_and_the_note_says_why():
    table = build_table(results(blocks=2))
    assert all(row.speed_low is None and row.speed_ratio is not None for row in table.rows)
    assert any("an interval needs 3" in note for note in table.notes)


def test_lengths_without_the_baseline_are_named():
    run = results(["transformer", "mega", "seqboat"], [1024, 4096])
    longest = next(name for name in run.solos if name.startswith("transformer/text-4096"))
    run.solos[longest] = Solo(case=run.solos[longest].case, status="oom", reason="too big")
    (note,) = [note for note in build_table(run).notes if note.startswith("no ")]
    assert note.startswith("no ratios at 4096: the baseline, Transformer, was not timed there")
    assert not [note for note in build_table(run, baseline="mega").notes if note.startswith("no ")]


def test_lengths_with_fewer_than_three_blocks_are_named():
    run = results(["mega", "seqboat"], [1024, 2048])
    run.samples[:] = [one for one in run.samples if one.block < 2 or "text-1024" in one.case_id]
    (note,) = [note for note in build_table(run).notes if note.startswith("no ")]
    assert note.startswith("no intervals at 2048: 2 block(s)")
    assert note.endswith("`bench run --resume run.jsonl` measures more")
    quick = msgspec.structs.replace(
        run, header=msgspec.structs.replace(run.header, command=["run", "--quick"])
    )
    (note,) = [note for note in build_table(quick).notes if note.startswith("no ")]
    assert note.endswith("with `--resume run.jsonl`, and without `--quick`, measures more")


def test_published_figures_stand_beside_text_at_4k_alone():
    for lengths, shown in (((4096,), True), ((1024, 4096), True), ((256,), False)):
        table = build_table(results(["transformer", "seqboat"], lengths))
        headers = [column.header for column in table.columns if not column.on_demand]
        assert ("Published\nspeed" in headers) is shown
        assert any(line.startswith("Published:") for line in table.footer) is shown


def test_where_nothing_was_timed_only_the_footnotes_say_why():
    table = build_table(results(["mega", "seqboat"], failed={"mega": "oom", "seqboat": "timeout"}))
    assert not [note for note in table.notes if note.startswith("no ")]


def test_models_that_fail_share_a_footnote_where_they_share_the_reason():
    table = build_table(results(failed={"mega": "oom", "s4": "oom", "mega-chunk": "timeout"}))
    letters = {table.rows[number].model: note.letter for number, note in table.footnotes.items()}
    assert letters == {"mega": "a", "s4": "a", "mega-chunk": "b"}
    assert table.notes[0] == "a  MEGA at 4096, S4 at 4096: out of memory: Tried to allocate 64.0 GiB"
    assert row_of(table, "mega").step_seconds is None


def test_any_baseline_has_a_ratio_with_models_of_another_set():
    one = results(["s4", "seqboat", "mega"])
    apart = [
        msgspec.structs.replace(sample, group=group)
        for group, gone in enumerate(("mega/", "seqboat/"))
        for sample in one.samples
        if not sample.case_id.startswith(gone)
    ]
    table = build_table(msgspec.structs.replace(one, samples=apart), baseline="mega")
    whole = build_table(one, baseline="mega")
    assert row_of(table, "seqboat").speed_ratio == pytest.approx(row_of(whole, "seqboat").speed_ratio)


def test_files_of_different_lengths_become_one_table_by_length():
    long, short = results(lengths=[4096], path="4k.jsonl"), results(lengths=[1024], path="1k.jsonl")
    table = build_table(long, short)
    assert [row.length for row in table.rows] == [1024] * 5 + [4096] * 5
    assert row_of(build_table(short), "transformer").run == "1k.jsonl"
    assert sum(line.startswith(("4k.jsonl: ", "1k.jsonl: ")) for line in table.footer) == 2


def test_files_of_different_machines_are_never_the_same_row():
    threads = msgspec.structs.replace(CPU, threads=8)
    table = build_table(results(), results(environment=threads, slower=0.5, created=NEWER))
    assert len(table.rows) == 10
    assert {row.threads for row in table.rows} == {2, 8}


def test_of_two_files_with_the_same_row_the_newest_stands_and_a_note_names_the_other():
    older = results(["transformer", "seqboat", "s4"], path="old.jsonl")
    newer = results(["transformer", "seqboat"], path="new.jsonl", created=NEWER, slower=0.5)
    for order in ((older, newer), (newer, older)):
        table = build_table(*order)
        assert {row.model: row.run for row in table.rows} == {
            "transformer": "new.jsonl", "seqboat": "new.jsonl", "s4": "old.jsonl",
        }  # fmt: skip
        (note,) = [note for note in table.notes if note.startswith("SeqBoat")]
        assert "new.jsonl (speed 8." in note
        assert "is newer than old.jsonl (speed 8." in note


def test_a_newer_failure_stands_but_a_case_that_was_not_reached_does_not():
    older = results(["transformer", "seqboat"], path="old.jsonl")
    failed = results(["transformer", "seqboat"], path="new.jsonl", created=NEWER, failed={"seqboat": "oom"})
    assert row_of(build_table(older, failed), "seqboat").status == "oom"
    solos = {case: solo for case, solo in failed.solos.items() if solo.status == "ok"}
    unreached = msgspec.structs.replace(failed, solos=solos)
    assert row_of(build_table(older, unreached), "seqboat").run == "old.jsonl"


def test_the_same_run_twice_counts_once():
    once = build_table(results())
    assert build_table(results(), results(path="copy.jsonl")).rows == [
        msgspec.structs.replace(row, run="copy.jsonl") for row in once.rows
    ]


def test_files_with_different_baselines_need_one_that_both_have():
    one, other = results(["transformer", "s4"], path="1.jsonl"), results(["mega", "s4"], path="2.jsonl")
    with pytest.raises(UsageError, match=r"1\.jsonl is against transformer, 2\.jsonl against mega"):
        build_table(one, other)
    with pytest.raises(UsageError, match=r"1\.jsonl: has no 'mega'"):
        build_table(one, other, baseline="mega")
    assert len(build_table(one, other, baseline="s4").rows) == 3


def test_rows_with_disturbed_runs_and_models_that_leak_are_named():
    run = results(["transformer", "seqboat"], [256])
    first = run.samples[0]
    solos = {
        name: msgspec.structs.replace(
            solo, growth_bytes=4 << 20 if solo.case.implementation == "seqboat" else 100
        )
        for name, solo in run.solos.items()
    }
    samples = [msgspec.structs.replace(first, disturbed=True), *run.samples[1:]]
    notes = build_table(msgspec.structs.replace(run, solos=solos, samples=samples)).notes
    name = "Transformer" if "transformer" in first.case_id else "SeqBoat"
    of_it = sum(sample.case_id == first.case_id for sample in samples)
    assert any("was disturbed" in note and f"{name} at 256 (1 of {of_it} runs)" in note for note in notes)
    assert "memory grows with every step: SeqBoat at 256 by 4.00 MiB" in notes
    clean = build_table(run).notes
    assert not any("disturbed" in note or "grows" in note for note in clean)


def test_the_share_of_disturbed_runs_stands_in_the_footer_and_their_rows_in_a_note():
    run = results(["transformer", "seqboat"], [256])
    calm = Conditions(wall_seconds=1.0)
    first, *rest = (msgspec.structs.replace(sample, conditions=calm) for sample in run.samples)
    disturbed = msgspec.structs.replace(first, disturbed_by="was stopped and continued", seconds=99.0)
    table = build_table(msgspec.structs.replace(run, samples=[disturbed, first, *rest]))
    assert any("25 runs in 1m 40s, 1 of them (4%) disturbed; stopped" in line for line in table.footer)
    (note,) = [note for note in table.notes if "disturbed" in note]
    assert "repeated and do not count: Transformer at 256 (1 of 13 runs); for example, was st" in note
    assert table.rows == build_table(msgspec.structs.replace(run, samples=[first, *rest])).rows
    quiet = build_table(msgspec.structs.replace(run, samples=[first, *rest]))
    assert any("none disturbed; stopped" in line for line in quiet.footer)


def test_a_block_of_disturbed_runs_alone_is_told():
    run = results(["transformer", "seqboat"], [256])
    samples = [
        msgspec.structs.replace(sample, disturbed_by="was stopped and continued")
        if sample.block == 1 and "seqboat" in sample.case_id
        else sample
        for sample in run.samples
    ]
    notes = build_table(msgspec.structs.replace(run, samples=samples)).notes
    assert any(
        "fewer than three runs of a block were undisturbed" in n and "SeqBoat at 256 (1 blocks)" in n
        for n in notes
    )


def test_a_group_of_disturbed_runs_alone_is_told():
    """The baseline is in both groups, and quiet in one of them: the other's ratio is of disturbed runs."""
    run = results(["transformer", "seqboat", "mega"], [256], rounds=4)
    elsewhere = {0: "mega", 1: "seqboat"}
    grouped = [msgspec.structs.replace(sample, group=sample.round // 2) for sample in run.samples]
    samples = [
        msgspec.structs.replace(sample, disturbed_by="was stopped and continued")
        if (sample.block, sample.group) == (1, 0) and "transformer" in sample.case_id
        else sample
        for sample in grouped
        if not sample.case_id.startswith(f"{elsewhere[sample.group]}/")
    ]
    (note,) = [
        note
        for note in build_table(msgspec.structs.replace(run, samples=samples)).notes
        if "all of them count there" in note
    ]
    assert "undisturbed, so that all of them count there: Transformer at 256 (1 blocks);" in note


def test_a_throttled_run_is_counted_and_a_dropped_line_told():
    table = build_table(msgspec.structs.replace(results(throttled="thermal"), notice="a line was dropped"))
    assert any(note.endswith("were made while the GPU was throttled") for note in table.notes)
    assert "a line was dropped" in table.notes


def test_a_run_at_the_power_limit_is_told_and_not_called_throttled():
    run = results(["transformer", "seqboat"], environment=GPU)
    held = [1.0, 0.0, *(0.01 for _ in run.samples[2:])]
    samples = [
        msgspec.structs.replace(sample, gpu=GpuRun(held_back_seconds={"power cap": share * sample.seconds}))
        for sample, share in zip(run.samples, held, strict=True)
    ]
    notes = build_table(msgspec.structs.replace(run, samples=samples)).notes
    assert f"1 of {len(samples)} runs were made at the GPU's power limit, and count" in notes
    assert not any("throttled" in note for note in notes)


def test_a_driver_without_throttle_counters_is_told():
    def told(counters: list[str] | None) -> bool:
        environment = msgspec.structs.replace(GPU, gpu=GpuSettings(throttle_counters=counters))
        notes = build_table(results(environment=environment)).notes
        return any("no throttle counters" in note for note in notes)

    assert [told(counters) for counters in ([], ["power cap"], None)] == [True, False, False]


def test_rows_whose_runs_usually_allocate_are_told():
    """In all of one, in a single one of the other."""
    run = results(["transformer", "seqboat"], environment=GPU)
    counts = {"transformer": iter([8]), "seqboat": itertools.repeat(2)}
    samples = [
        msgspec.structs.replace(sample, gpu=GpuRun(allocations=next(counts[sample.case_id.split("/")[0]], 0)))
        for sample in run.samples
    ]
    notes = build_table(msgspec.structs.replace(run, samples=samples)).notes
    (note,) = [note for note in notes if "driver allocated" in note]
    assert note.endswith("in timed runs: SeqBoat at 4096 (2 per run)")


def test_memory_that_only_the_driver_sees_is_told():
    run = results(["transformer", "seqboat"], environment=GPU)

    def told(*sizes: int | None) -> list[str]:
        solos = {
            name: msgspec.structs.replace(
                solo,
                memory=[*solo.memory, MemoryFigure(kind="driver_only", bytes=size)],
            )
            for (name, solo), size in zip(run.solos.items(), sizes, strict=True)
        }
        notes = build_table(msgspec.structs.replace(run, solos=solos)).notes
        return [note for note in notes if "only the driver sees" in note]

    assert told(512 << 20, 1 << 30)[0].endswith("beside Mem's: 512 MiB to 1.00 GiB (SeqBoat at 4096)")
    assert told(512 << 20, None)[0].endswith("beside Mem's: 512 MiB")
    assert told(None, None) == []


def test_a_wrong_row_that_prints_the_same_takes_no_rank():
    run = results(["transformer", "s4", "mega", "seqboat"])
    sizes = {"transformer": 300, "mega": 100, "s4": 100, "seqboat": 200}
    solos = {
        name: msgspec.structs.replace(
            solo,
            status="wrong" if solo.case.implementation == "s4" else "ok",
            memory=[MemoryFigure(kind="tensor_bytes", bytes=sizes[solo.case.implementation] << 20)],
        )
        for name, solo in run.solos.items()
    }
    rows = build_table(msgspec.structs.replace(run, solos=solos)).rows
    (column,) = (one for one in columns_of(rows, "Transformer") if one.fields == ("peak_memory_bytes",))
    ranks = {row.model: column.rank(row, rows) for row in rows}
    assert ranks == {"transformer": None, "mega": "best", "s4": None, "seqboat": "second"}
