"""What a person sees while a suite runs: a live table in a terminal, plain lines anywhere else."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from bench.records.reading import Results
from bench.records.run import Lost, Sample, Solo, Void
from bench.stats.intervals import Interval
from bench.suites.case import Case
from bench.text.escape import escape_terminal, one_line
from bench.text.terminal import patient_console
from bench.text.units import format_bytes, format_duration, format_ratio


class PlainDisplay:
    """One line for every event, to standard error."""

    def __init__(self, console: Console, budget_seconds: float) -> None:
        self.console = console
        self.budget_seconds = budget_seconds
        self.begin = time.monotonic()

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def notice(self, line: str) -> None:
        self._say(line)

    def resumes(self, earlier: Sequence[Results]) -> None:
        """earlier: of one file, by kind of device."""
        if earlier[0].notice is not None:
            self._say(earlier[0].notice)
        solos = sum(len(run.solos) for run in earlier)
        samples = sum(len(run.samples) for run in earlier)
        self._say(f"going on after {solos} cases alone and {samples} timed runs")

    def solo_begins(self, case: Case, number: int, total: int) -> None:
        self._say(f"[{number}/{total}] {label(case)}: alone, for memory and step time")

    def solo_ends(self, solo: Solo) -> None:
        self._say(f"    {label(solo.case)}: {describe(solo)}")

    def block_begins(self, block: int, where: str, rounds: int) -> None:
        self._say(f"block {block + 1} at {where}: {rounds} rounds, {self.time_left()} left")

    def sampled(self, sample: Sample) -> None:
        return

    def case_lost(self, lost: Lost) -> None:
        self._say(f"    {lost.case_id}: {lost.status}, {lost.reason}")

    def cut_off(self, void: Void) -> None:
        self._say(f"    {void.words}")

    def ratios(self, ratios: dict[str, Interval | None]) -> None:
        for name, ratio in ratios.items():
            if ratio is not None:
                self._say(f"    {name}: {show_ratio(ratio)}")

    def time_left(self) -> str:
        left = self.budget_seconds - (time.monotonic() - self.begin)
        return format_duration(max(left, 0.0))

    def _say(self, line: str) -> None:
        self.console.print(_text(line), highlight=False, markup=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """A table that grows narrower intervals as blocks come in, with the time left."""

    def __init__(self, console: Console, budget_seconds: float) -> None:
        super().__init__(console, budget_seconds)
        self.solo_lines: dict[str, str] = {}
        self.shown: dict[str, Interval | None] = {}
        # Redrawn between measurements only: a thread that redraws would take time from what is timed.
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveDisplay":
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def solo_begins(self, case: Case, number: int, total: int) -> None:
        self._show(f"alone, for memory and step time: {label(case)} ({number} of {total})")

    def solo_ends(self, solo: Solo) -> None:
        self.solo_lines[solo.case.id] = describe(solo)

    def block_begins(self, block: int, where: str, rounds: int) -> None:
        self._show(f"block {block + 1} at {where}: starting a fresh process for each model")

    def sampled(self, sample: Sample) -> None:
        self._show(f"block {sample.block + 1}, round {sample.round + 1}")

    def cut_off(self, void: Void) -> None:
        self._show(void.words)

    def case_lost(self, lost: Lost) -> None:
        self.solo_lines[lost.case_id] = f"{lost.status}: {lost.reason}"

    def ratios(self, ratios: dict[str, Interval | None]) -> None:
        self.shown.update(ratios)

    def _show(self, stage: str) -> None:
        title = escape(_text(f"{stage} · {self.time_left()} left"))
        table = Table(title=title, title_justify="left")
        table.add_column("case")
        table.add_column("alone")
        table.add_column("speed", justify="right")
        for name, line in self.solo_lines.items():
            ratio = self.shown.get(name)
            table.add_row(escape(_text(name)), escape(_text(line)), show_ratio(ratio) if ratio else "")
        self.live.update(table, refresh=True)


def open_display(budget_seconds: float) -> PlainDisplay:
    """Live where standard error is a terminal, else plain."""
    console = patient_console()
    kind = LiveDisplay if console.is_terminal else PlainDisplay
    return kind(console, budget_seconds)


def _text(line: str) -> str:
    """One line that a terminal only prints, with its indentation."""
    indentation = line[: len(line) - len(line.lstrip(" "))]
    return indentation + escape_terminal(one_line(line))


def label(case: Case) -> str:
    """A case in a few words."""
    rate = "" if case.activation is None else f" at activation {case.activation:g}"
    special = [word for word in (case.precision, case.fill) if word not in ("fp32", "full")]
    return ", ".join([f"{case.implementation}, {case.length} × {case.batch}", *special]) + rate


def describe(solo: Solo) -> str:
    """A solo pass in a few words."""
    if solo.status != "ok" or solo.step_seconds is None:
        return f"{solo.status}: {solo.reason}"
    steady = "" if solo.stationary else ", not yet stationary"
    rate = f", activation {solo.activation.mean:.1%}" if solo.activation else ""
    if solo.decoding is not None:
        seconds = format_duration(solo.step_seconds / solo.decoding.tokens)
        return f"{seconds} per token, {format_bytes(solo.decoding.state_bytes)} of state{steady}{rate}"
    return f"{format_duration(solo.step_seconds)} per step{steady}{rate}"


def show_ratio(ratio: Interval) -> str:
    """`2.41 ± 1.2%`."""
    if ratio.low is None:
        return f"{format_ratio(ratio.ratio)}×"
    return f"{format_ratio(ratio.ratio)}× ± {ratio.half_width:.1%}"
