"""A table in plain text or markdown, its figures as they are written: `1.50` does not become 1.5."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from bench.text.escape import one_line


def text_table(
    rows: Iterable[Sequence[object] | str],
    heads: Sequence[str],
    align: Sequence[str] | None = None,
    form: str = "simple",
) -> str:
    """Rows of cells, or tabulate's separating line; None is written as `–`.

    align: `left` or `right` for each column; all left by default. form: one of tabulate's formats.
    """
    cells = [row if isinstance(row, str) else [_cell(value) for value in row] for row in rows]
    return tabulate(cells, heads, form, colalign=align if cells else None, disable_numparse=True)


def _cell(value: object) -> str:
    return "–" if value is None else one_line(str(value))
