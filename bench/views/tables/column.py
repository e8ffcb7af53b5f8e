"""A column of a table: what it shows of a row, which of its values is best, and the cells below it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from bench.records.published import TASKS
from bench.views.tables import about
from bench.views.tables.footnotes import Footnote
from bench.views.tables.grid import FAILED, MISSING, Align, Cell, Head, Rank
from bench.views.tables.row import Row

Value = Callable[[Row], float | None]

LEFT_OUT_FIRST = (
    *("Published\nmem", "Published\nspeed", "real\ntokens/s", "Params", "tokens/s"),
    *(*TASKS.values(), "GPU\nbusy"),
    *("Activation", "State", "Peak\nmemory", "95% interval", "ms/step", "ms/token"),
)
"""Columns that a narrow terminal goes without, the least important first."""


@dataclass(frozen=True)
class Column:
    """A header and what a row shows below it.

    `timed` columns show an X for a model that failed. `best` says whether the largest or the smallest
    `value` is the best; a column without it is not ranked, only sorted.
    """

    header: str
    show: Callable[[Row], str | None]
    timed: bool = False
    align: Align = "right"
    value: Value | None = None
    best: Callable[[Sequence[float]], float] | None = None
    help: str = ""
    """Description of the column, in a sentence or two."""
    published: bool = False
    """Whether its figures are a paper's, not measured here."""
    fields: Sequence[str] = ()
    """Names of its figures in CSV and JSON."""
    on_demand: bool = False
    """Whether it is shown only if it is named (`--columns`)."""
    tells: bool = False
    """Whether rows can't be told apart without it."""

    @property
    def head(self) -> Head:
        name = self.header.split("\n(×")[0]
        drop = LEFT_OUT_FIRST.index(name) if name in LEFT_OUT_FIRST else -1
        return Head(
            self.header,
            self.align,
            drop=len(LEFT_OUT_FIRST) - drop if drop >= 0 else 0,
            label=self.tells,
            most_first=self.best is max,
            fields=self.fields,
            on_demand=self.on_demand,
        )

    def rank(self, row: Row, panel: Sequence[Row]) -> Rank | None:
        """Whether a row's value is the best or second best of its panel's; values that print equal tie."""
        if self.value is None or self.best is None or self.value(row) is None:
            return None
        by_text = {self.show(one): value for one in panel if (value := self.value(one)) is not None}
        values = list(by_text.values())
        if len(values) < 2:
            return None
        first = self.best(values)
        second = self.best([value for value in values if value != first])
        mine = by_text[self.show(row)]
        return "best" if mine == first else "second" if mine == second else None


def cells_of(
    rows: Sequence[Row], footnotes: Mapping[int, Footnote], columns: Sequence[Column]
) -> Iterator[list[Cell]]:
    """The cells of each row. footnotes: by number of the row."""
    for number, row in enumerate(rows):
        panel = [other for other in rows if other.panel == row.panel]
        footnote = footnotes.get(number)
        letter = footnote.letter if footnote else None
        yield [_cell(column, row, panel, letter) for column in columns]


def _cell(column: Column, row: Row, panel: Sequence[Row], letter: str | None) -> Cell:
    name = row.model if column.fields[:1] == ("model",) else None
    if column.timed and letter is not None:
        return Cell(FAILED, footnote=letter)
    text = column.show(row)
    value = None if column.value is None else column.value(row)
    return Cell(MISSING) if text is None else Cell(text, column.rank(row, panel), value=value, name=name)


def figure_column(
    header: str, write: Callable[[float], str], field: str, words: str, timed: bool = False
) -> Column:
    """A column of one field of rows, which is not ranked."""
    value: Value = attrgetter(field)

    def show(row: Row) -> str | None:
        found = value(row)
        return None if found is None else write(found)

    return Column(header, show, timed, value=value, help=words, fields=(field,))


def ranked_column(
    header: str,
    write: Callable[[float], str],
    field: str,
    best: Callable[[Sequence[float]], float],
    words: str,
) -> Column:
    return replace(figure_column(header, write, field, words, timed=True), best=best)


def published_column(
    header: str, write: Callable[[float], str], field: str, best: Callable[[Sequence[float]], float]
) -> Column:
    column = ranked_column(header, write, field, best, about.PUBLISHED)
    return replace(column, timed=False, published=True)
