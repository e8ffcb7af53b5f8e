"""Other names for columns and models: in the heads and cells of a table, and in the lines below it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.views.tables.grid import Cell, Grid, Head, Section

_BASELINE = re.compile(r"\(× (.*)\)$")
"""The end of a title that names what its ratios are against."""


@dataclass(frozen=True)
class Names:
    """New names by old ones, of which some may not be renamed."""

    titles: Mapping[str, str]
    """New titles of models by those in the table."""
    models: Mapping[str, str]
    """The same by every word that means the model, as `plain` has it."""
    heads: Mapping[str, str]
    """New headers by those in the table, as `plain` has them."""
    known: frozenset[str]
    """Words that mean a column or a model."""
    twice: frozenset[str]
    """New names that two columns, or two models, would have, as `plain` has them."""
    pattern: re.Pattern[str]
    """Places in a line that name a column, as in `Mem: …`, or a model: the longest title there."""

    @classmethod
    def of(cls, grids: Sequence[Grid], new: Mapping[str, str]) -> "Names":
        """The names of a table's models and columns, and which of them a user wants otherwise."""
        by_word = {plain(old): word for old, word in new.items()}
        labels = [cells[0] for grid in grids for cells in grid.rows]
        heads = [head.one_line for grid in grids for head in grid.heads]
        words = {cell.text: {plain(cell.text), plain(cell.name or cell.text)} for cell in labels}
        for found in filter(None, map(_BASELINE.search, heads)):
            words.setdefault(found[1], {plain(found[1])})
        titles = {title: by_word[word] for title, own in words.items() for word in own if word in by_word}
        columns = [plain(head) for head in heads]
        renamed = {column: by_word[column] for column in columns if column in by_word}
        either = _either(words)
        shown = _either(head.split(" (×")[0] for head in heads)
        return cls(
            titles=titles,
            models={word: titles[title] for title, own in words.items() if title in titles for word in own},
            heads=renamed,
            twice=_twice(titles.get(title, title) for title in words)
            | _twice(renamed.get(column, column) for column in dict.fromkeys(columns)),
            known=frozenset(columns).union(*words.values()),
            pattern=re.compile(
                rf"(?<![\w/.-])(?:(?P<title>{either})(?![\w/-])|(?P<head>{shown or '(?!)'})(?=:))"
            ),
        )

    def in_words(self, line: str) -> str:
        """The line with the new names."""

        def new(match: re.Match[str]) -> str:
            if match["title"] is not None:
                return self.titles.get(match[0], match[0])
            return self.heads.get(plain(match[0]), match[0])

        return self.pattern.sub(new, line)

    def in_grid(self, grid: Grid) -> Grid:
        """The grid with the new names."""
        sections = [Section(part.heading, list(map(self._row, part.rows))) for part in grid.sections]
        return Grid(list(map(self._head, grid.heads)), sections)

    def _row(self, cells: Sequence[Cell]) -> list[Cell]:
        return [replace(cells[0], text=self.titles.get(cells[0].text, cells[0].text)), *cells[1:]]

    def _head(self, head: Head) -> Head:
        if plain(head.one_line) in self.heads:
            return replace(head, text=self.heads[plain(head.one_line)])
        baseline = _BASELINE.search(head.text)
        if baseline is None or baseline[1] not in self.titles:
            return head
        return replace(head, text=f"{head.text[: baseline.start(1)]}{self.titles[baseline[1]]})")


def _twice(names: Iterable[str]) -> frozenset[str]:
    counts = Counter(map(plain, names))
    return frozenset(name for name, count in counts.items() if count > 1)


def _either(words: Iterable[str]) -> str:
    """A pattern of any of them, the longest that fits; of nothing if there are none."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


def plain(header: str) -> str:
    """A header or a title as people type it: `speed` is `Speed (× Transformer)`."""
    return header.removesuffix(" (A/B)").split(" (×")[0].strip().lower()
