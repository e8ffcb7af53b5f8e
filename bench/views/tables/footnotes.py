"""Why rows of a table have an X, and how rows and cases are named in the lines below it."""

from collections.abc import Callable, Sequence

import msgspec

from bench.records.solo import Status
from bench.suites.case import Case
from bench.views.tables.naming import SETTINGS, Setting
from bench.views.tables.row import Row
from bench.views.tables.titles import title_of


class Footnote(msgspec.Struct, frozen=True):
    """Why rows have an X: a letter that stands beside it, and the reason."""

    letter: str
    text: str


STATUS_WORDS: dict[Status, str] = {
    "oom": "out of memory",
    "timeout": "out of time",
    "crashed": "crashed",
    "nan": "computed NaN",
    "wrong": "WRONG",
    "error": "failed",
    "unsupported": "not supported",
}


IN_NAMES = ("Length", "Mode")
"""Settings that stand in every name of a note."""


def footnotes_of(rows: Sequence[Row], reason_of: Callable[[Row], str]) -> dict[int, Footnote]:
    """One footnote for each reason, by number of the row."""
    failed: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status != "ok":
            failed.setdefault(reason_of(row), []).append(number)
    notes = {}
    telling = [one for one in SETTINGS if one.header not in IN_NAMES and one.tells(rows)]
    for index, (reason, numbers) in enumerate(failed.items()):
        names = ", ".join(row_name(rows[number], telling) for number in numbers)
        note = Footnote(_letters(index), f"{names}: {reason}")
        notes.update(dict.fromkeys(numbers, note))
    return notes


def _letters(index: int) -> str:
    more, letter = divmod(index, 26)
    return (_letters(more - 1) if more else "") + chr(ord("a") + letter)


def row_name(row: Row, telling: Sequence[Setting] = ()) -> str:
    """A row in a note. telling: settings in which it differs from others of the table."""
    rate = "" if row.activation_set is None else f" (activation {row.activation_set:g})"
    more = "".join(f" ({words})" for one in telling if (words := one.name(row)))
    return f"{row.title}{rate}{_mode(row.mode)}{more} at {row.length}"


def _mode(mode: str) -> str:
    return "" if mode == "eager" else f" ({mode})"


def explain(row: Row) -> str:
    words = STATUS_WORDS.get(row.status, row.status)
    return f"{words}: {row.reason}" if row.reason and row.reason != words else words


def case_name(case: Case, axes: Sequence[str] = ()) -> str:
    """A case in a note. axes: settings that have several values in its suite."""
    more = "".join(f" ({axis} {getattr(case, axis)})" for axis in axes)
    return f"{title_of(case.implementation)}{_mode(case.mode)}{more} at {case.length}"
