"""TFLOP/s and utilisation: over the ceiling of the same precision, never silently above it."""

import msgspec
import pytest

from bench.errors import UsageError
from bench.records.solo import Arithmetic, Ceiling
from bench.views.tables.choice import Choice, needs_arithmetic
from bench.views.tables.formats import render
from bench.views.tables.table import build_table

from ...made_up import results, step_seconds

FLOPS = 4 * 10**12
PEAK = {"fp32": 2e12, "bf16": 50e12}


def counted(**changes):
    """A run whose Transformer does a TFLOP/s at 4096, and SeqBoat eight; half of the ceilings are noise."""
    run = results(["transformer", "seqboat"], precision=("fp32", "bf16"))
    solos = {
        name: msgspec.structs.replace(
            solo,
            arithmetic=Arithmetic(
                flops=FLOPS,
                ceiling=Ceiling(
                    flops_per_second=PEAK[solo.case.precision]
                    / (1 + (solo.case.implementation != "seqboat")),
                    matrix="1024 × 1024",
                ),
                **changes,
            ),
        )
        for name, solo in run.solos.items()
    }
    return msgspec.structs.replace(run, solos=solos)


def shown(table, *columns, **choice):
    return render(table, "markdown", Choice(columns, **choice))


def test_utilisation_is_over_the_best_product_of_the_same_precision():
    rows = build_table(counted()).rows
    found = {(row.model, row.precision): row for row in rows}
    base = found["transformer", "fp32"]
    assert base.flops_per_second == pytest.approx(FLOPS / base.step_seconds)
    assert base.utilisation == pytest.approx(base.flops_per_second / PEAK["fp32"])
    assert found["transformer", "bf16"].utilisation == pytest.approx(base.flops_per_second / PEAK["bf16"])
    assert base.step_seconds == pytest.approx(step_seconds(base_case()), rel=0.05)


def base_case():
    return next(iter(counted().solos.values())).case


def test_more_than_the_ceiling_is_marked_and_noted_also_without_notes():
    table = build_table(counted())
    over = [row for row in table.rows if row.utilisation > 1]
    assert [(row.model, row.precision) for row in over] == [("seqboat", "fp32")]
    (note,) = [note for note in table.notes if note.startswith("MFU above 100%: SeqBoat")]
    assert "Transformer" not in note
    text = shown(table, "mfu", notes=False)
    assert f"{over[0].utilisation:.1%}!" in text.replace("\\", "")
    assert text.count("!") == 1


def test_columns_are_shown_where_they_are_named():
    table = build_table(counted())
    assert "MFU" not in render(table, "markdown").splitlines()[0]
    assert shown(table, "tflop/s", "mfu").splitlines()[0].endswith("TFLOP/s | MFU |")
    assert any("transforms as 5 N log2 N" in note for note in table.notes)


def test_what_is_not_counted_is_told():
    table = build_table(counted(uncounted=["mamba::scan"]))
    assert any("not counted in TFLOP/s and MFU of SeqBoat at 4096: mamba::scan" in n for n in table.notes)
    run = counted()
    name = next(iter(run.solos))
    hidden = Arithmetic(flops=None, unavailable="what a Triton kernel computes is not seen")
    run.solos[name] = msgspec.structs.replace(run.solos[name], arithmetic=hidden)
    table = build_table(run)
    assert "no TFLOP/s of Transformer at 4096: what a Triton kernel computes is not seen" in table.notes
    assert [row.utilisation for row in table.rows if row.case_id == name] == [None]


def test_a_file_without_them_says_what_counts_them():
    with pytest.raises(UsageError, match=r"--columns mfu: no FLOPs were counted; bench run --columns mfu"):
        shown(build_table(results()), "mfu")


def test_only_these_columns_ask_for_counting():
    found = [
        needs_arithmetic(columns) for columns in (["Speed"], ["speed", "TFLOP/s"], ["utilisation"], None)
    ]
    assert found == [False, True, True, False]
