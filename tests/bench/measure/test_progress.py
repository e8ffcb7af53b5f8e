"""Progress tells what is done and what is left, by what was measured, and never a time that has run out."""

import io

import pytest
from rich.console import Console

from bench.measure import display
from bench.measure.display import LiveDisplay, PlainDisplay
from bench.measure.panel import Panel
from bench.measure.procedure import Procedure
from bench.measure.progress import BAR_WIDTH, Progress, blocks_for
from bench.records.reading import Findings
from bench.suites.suite import Timing

from ..made_up import CPU, results


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(0, 5), "0 of about 5 blocks done"),
        (Progress(2, 5, 24.4), "2 of about 5 blocks done, about 24 s to go"),
        (Progress(2.75, 5, 0.2, 0.061), "2 of about 5 blocks done, about 1 s to go, widest interval ± 6.1%"),
        (Progress(5, 5, 0.0, 0.02), "5 of about 5 blocks done, widest interval ± 2.0%"),
        (Progress(1, 9, 3700.0), "1 of about 9 blocks done, about 1h 01m to go"),
    ],
)
def test_progress_in_words(progress, words):
    assert progress.words == words
    assert "0 ms" not in progress.words


def test_a_bar_is_as_full_as_the_run():
    assert Progress(0, 4).bar.count("█") == 0
    assert Progress(1, 4).bar.count("█") == BAR_WIDTH // 4
    assert Progress(4, 4).bar.count("█") == len(Progress(9, 4).bar) == BAR_WIDTH


def test_an_interval_narrows_with_the_square_root_of_blocks():
    assert blocks_for(0.03, 0.03, 4) == 4
    assert blocks_for(0.03, 0.06, 4) == 16


def panel(blocks: int, **timing) -> Panel:
    """Blocks are expected to take ten seconds."""
    run = results(blocks=blocks, timing=Timing(**timing))
    return Panel(
        run.header.suite.cases("cpu"), Procedure(run.header.suite, CPU), Findings(run.solos, run.samples)
    )


def test_blocks_to_come_are_those_of_limit_budget_and_target():
    of_three = {"min_blocks": 3, "max_blocks": 12, "target": "0.001%"}
    assert panel(3, **of_three).blocks_to_come(1000, 10) == 9
    assert panel(3, **of_three).blocks_to_come(45, 10) == 4
    assert panel(3, **of_three).blocks_to_come(5, 10) == 0
    assert panel(1, **of_three).blocks_to_come(5, 10) == 2, "an interval needs them"
    assert panel(7, **of_three | {"target": "90%"}).blocks_to_come(1000, 10) == 0, "it is precise"
    assert panel(3, **of_three | {"target": "90%"}).blocks_to_come(1000, 10) == 4, "and may not end yet"
    widest = panel(3, **of_three).widest
    half_as_wide = {**of_three, "target": widest / 1.5}
    assert panel(3, **half_as_wide).blocks_to_come(1000, 10) == 4  # 3 × 1.5² = 6.75
    assert panel(2, **of_three).widest is None


def test_a_block_that_has_begun_is_to_come_whatever_time_is_left():
    of_three = {"min_blocks": 3, "max_blocks": 12, "target": "0.001%"}
    some = panel(4, **of_three)
    some.begun[4] = 0.0
    assert some.blocks_to_come(5, 10) == 1
    nearly = panel(6, **of_three | {"target": panel(6, **of_three).widest / 1.0001})
    nearly.begun |= {6: 0.0, 7: 0.0}
    assert nearly.blocks_to_come(1000, 10) == 2, "of which the first would do"


def test_a_run_does_not_end_the_moment_its_intervals_are_narrow():
    narrow = {"min_blocks": 3, "max_blocks": 12, "target": "90%"}
    assert [panel(blocks, **narrow).is_precise for blocks in (2, 3, 5)] == [False, True, True]
    assert [panel(blocks, **narrow).is_finished for blocks in (3, 6, 7)] == [False, False, True]
    assert panel(3, **narrow | {"max_blocks": 3}).is_finished
    assert not panel(7, **narrow | {"min_blocks": 8}).is_finished


def test_blocks_to_come_take_what_is_planned_for_them():
    some = panel(3, min_blocks=3, max_blocks=12)
    assert some.seconds_per_block(2) == some.procedure.block_seconds(some.alive, 2)
    some.block_seconds = 7.0
    assert some.seconds_per_block(2) == 7.0
    some.begin_block(1000.0, 1000.0)
    assert some.seconds_per_block(2) == some.planner.planned_seconds != 7.0


def test_the_time_to_go_passes_while_a_block_is_measured(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    shown = PlainDisplay(console)
    shown.progress(Progress(2, 5, 24.0))
    now[0] += 10
    assert shown.standing.words == "2 of about 5 blocks done, about 14 s to go"
    now[0] += 100
    assert shown.standing.words == "2 of about 5 blocks done"


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_a_display_says_how_far_the_run_is(kind):
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with kind(console) as display:
        display.progress(Progress(2, 5, 24.0, 0.061))
        display.block_begins(2, "length 64", 3)
    text = console.file.getvalue()
    assert "2 of about 5 blocks done, about 24 s to go, widest interval ± 6.1%" in text
    assert ("█" in text) == (kind is LiveDisplay)
