"""A file of several kinds of device: each has rows of its own, and no ratio is formed across two of them."""

import msgspec
import pytest

from bench.api import read as read_run
from bench.errors import ResultError
from bench.records.reading import read, read_kinds
from bench.records.run import Device, Void
from bench.records.writing import ResultFile
from bench.views.tables.formats import render
from bench.views.tables.table import build_table

from ..made_up import CPU, results

FASTER = msgspec.structs.replace(CPU, hardware="a faster processor", threads=8)
MODELS = ("transformer", "s4")
SLOW, FAST = {"node": "a", "device": "cpu"}, {"node": "b", "device": "cpu"}


def records_of(place, *, slower=1.0, **options):
    """What one node of a cluster measured."""
    made = results(MODELS, slower=slower, **options)
    return [msgspec.structs.replace(record, **place) for record in (*made.solos.values(), *made.samples)]


@pytest.fixture
def write(tmp_path):
    """A file of some records after its header and the devices a and b."""

    def write(*records, environments=(CPU, FASTER)):
        path = tmp_path / "run.jsonl"
        with ResultFile(path) as store:
            store.append(results(MODELS).header)
            for place, environment in zip((SLOW, FAST), environments, strict=True):
                store.append(Device(**place, environment=environment))
            for record in records:
                store.append(record)
            store.append(results(MODELS).end)
        return path

    return write


def test_each_kind_has_its_own_rows_and_ratios(write):
    slow, fast = records_of(SLOW), records_of(FAST, slower=0.01)
    mixed = [record for pair in zip(slow, fast, strict=True) for record in pair]
    path = write(*mixed)
    kinds = read_kinds(path)
    assert [run.header.environment for run in kinds] == [CPU, FASTER]
    table = build_table(*kinds)
    assert read_run(path).rows == table.rows
    by_hardware = {(row.hardware, row.model): row for row in table.rows}
    assert len(by_hardware) == 4
    for model in MODELS:
        one, other = (by_hardware[environment.hardware, model] for environment in (CPU, FASTER))
        assert one.speed_ratio == pytest.approx(other.speed_ratio)
        assert one.step_seconds == pytest.approx(100 * other.step_seconds)
        assert one.panel != other.panel
    printed = render(table, "terminal")
    assert "a processor" in printed
    assert "a faster processor" in printed


def test_what_takes_a_file_for_one_kind_refuses_it(write):
    path = write(*records_of(SLOW), *records_of(FAST))
    with pytest.raises(ResultError, match=r"2 kinds of device \(a processor, 2 threads.*8 threads"):
        read(path)


def test_nodes_of_one_kind_make_one_table(write):
    samples = records_of(SLOW) + records_of(FAST)[len(MODELS) :]
    run = read(write(*samples, environments=(CPU, CPU)))
    assert {sample.node for sample in run.samples} == {"a", "b"}
    assert any("on 2 devices of a cluster: a (cpu), b (cpu)" in line for line in build_table(run).footer)


def test_what_was_cut_off_counts_nothing_and_has_a_note(write):
    good = records_of(SLOW, blocks=3)
    spoilt = [record for record in records_of(SLOW, blocks=4, slower=7.0)[len(MODELS) :] if record.block == 3]
    void = Void(case_ids=[solo.case.id for solo in good[: len(MODELS)]], block=3, reason="it died", **SLOW)
    run, _ = read_kinds(write(*good, *spoilt, void))
    table = build_table(run)
    assert [row.blocks for row in table.rows] == [3, 3]
    assert [row.step_seconds for row in table.rows] == [
        row.step_seconds for row in build_table(results(MODELS)).rows
    ]
    assert any("was cut off on a (cpu) and counts in no figure: it died" in note for note in table.notes)


def test_a_record_of_a_device_that_nobody_described_is_refused(write):
    with pytest.raises(ResultError, match="line 4 is of cpu on c, which no line before it describes"):
        read_kinds(write(*records_of({"node": "c", "device": "cpu"})))
