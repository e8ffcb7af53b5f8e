"""The display of a running suite: a live table in a terminal, plain lines anywhere else."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.measure.progress import Progress
from bench.records.reading import Results
from bench.records.run import Lost, Sample, Void
from bench.records.solo import Exact, Solo
from bench.stats.intervals import Interval
from bench.suites.case import Case
from bench.text.escape import escape_terminal, one_line
from bench.text.terminal import patient_console
from bench.text.units import format_bytes, format_count, format_duration, format_ratio


class PlainDisplay:
    """One line for every event, to standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._noted: tuple[Progress, float] | None = None
        """The last progress, and the moment of the monotonic clock at which it was told."""

    @property
    def standing(self) -> Progress | None:
        """The progress by now."""
        if self._noted is None:
            return None
        progress, moment = self._noted
        return progress.after(time.monotonic() - moment)

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
        self._say(f"continuing after {solos} cases alone and {samples} timed runs")

    def solo_begins(self, case: Case, number: int, total: int) -> None:
        self._say(f"[{number}/{total}] {label(case)}: alone, for memory and step time")

    def solo_ends(self, solo: Solo) -> None:
        self._say(f"    {label(solo.case)}: {describe(solo)}")

    def block_begins(self, block: int, where: str, rounds: int) -> None:
        standing = self.standing
        far = f"; {standing.words}" if standing is not None else ""
        self._say(f"block {block + 1} at {where}: {rounds} rounds{far}")

    def progress(self, progress: Progress) -> None:
        """Note how far the run is, for the next lines."""
        self._noted = (progress, time.monotonic())

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

    def _say(self, line: str) -> None:
        self.console.print(_text(line), highlight=False, markup=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """A table that grows narrower intervals as blocks come in, below a bar and the time to go."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
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
        lines = [stage]
        standing = self.standing
        if standing is not None:
            lines.append(f"{standing.bar} {standing.words}")
        table = Table()
        table.add_column("case")
        table.add_column("alone")
        table.add_column("speed", justify="right")
        for name, line in self.solo_lines.items():
            ratio = self.shown.get(name)
            table.add_row(escape(_text(name)), escape(_text(line)), show_ratio(ratio) if ratio else "")
        # Not the table's title, which would wrap at the table's width.
        head = Text("\n".join(map(_text, lines)))
        self.live.update(Group(head, table) if self.solo_lines else head, refresh=True)


class QuietDisplay(PlainDisplay):
    """Nothing: what matters stands below the table too."""

    def _say(self, line: str) -> None:
        return


def open_display(quiet: bool = False) -> PlainDisplay:
    """A live display if standard error is a terminal, else plain lines; or none of it."""
    console = patient_console()
    if quiet:
        return QuietDisplay(console)
    kind = LiveDisplay if console.is_terminal else PlainDisplay
    return kind(console)


def _text(line: str) -> str:
    """One line that a terminal only prints, with its indentation."""
    indentation = line[: len(line) - len(line.lstrip(" "))]
    return indentation + escape_terminal(one_line(line))


USUAL = ("fp32", "full", "eager")
"""Settings that are told only if they are others."""


def label(case: Case) -> str:
    """A case in a few words."""
    rate = "" if case.activation is None else f" at activation {case.activation:g}"
    special: list[str] = [word for word in (case.precision, case.fill, case.mode) if word not in USUAL]
    if case.threads is not None:
        special.append(f"{case.threads} threads")
    side = "" if case.revision is None else f"{case.revision}: "
    return side + ", ".join([f"{case.implementation}, {case.length} × {case.batch}", *special]) + rate


def describe(solo: Solo) -> str:
    """A solo pass in a few words."""
    if solo.status != "ok":
        return f"{solo.status}: {solo.reason}"
    if solo.step_seconds is None:
        return solo.reason or "counted" if solo.exact is None else _costs(solo.exact)
    steady = "" if solo.stationary else ", not yet stationary"
    rate = f", activation {solo.activation.mean:.1%}" if solo.activation else ""
    if solo.decoding is not None:
        seconds = format_duration(solo.step_seconds / solo.decoding.tokens)
        return f"{seconds} per token, {format_bytes(solo.decoding.state_bytes)} of state{steady}{rate}"
    return f"{format_duration(solo.step_seconds)} per step{steady}{rate}"


def _costs(exact: Exact) -> str:
    """Costs of a step that was counted and not timed."""
    return f"{format_count(exact.flops)} FLOPs, {format_bytes(exact.tensor_bytes)} of tensors"


def show_ratio(ratio: Interval) -> str:
    """`2.41 ± 1.2%`."""
    if ratio.low is None:
        return f"{format_ratio(ratio.ratio)}×"
    return f"{format_ratio(ratio.ratio)}× ± {ratio.half_width:.1%}"
