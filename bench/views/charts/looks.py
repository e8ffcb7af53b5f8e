"""Look of each model: one colour, shape and dash in all charts, whatever else is in them.

Colours are told apart by the colour-blind (the first seven are Okabe and Ito's), and shapes by whoever
prints in grey. Models of the catalogue have theirs by their place in it, all others by their title, so that
neither the file nor the chart matters.
"""

import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from implementations import registry

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00",
    "#56B4E9", "#8C6D31", "#882255", "#6A4FC3", "#7A7A7A", "#7F7F00",
)  # fmt: skip
ON_DARK = (
    "#4DA3DB", "#F2803A", "#2FC99B", "#E39BC4", "#F0F0F0", "#F3B63F",
    "#8CCBF2", "#C7A562", "#D9699F", "#A796F2", "#A8A8A8", "#C4C440",
)  # fmt: skip
"""Replacement of each colour on a dark page."""
GREYS_ON_DARK = {"#555": "#a3a8ae", "#999": "#858b92", "#e4e4e4": "#363b42"}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (4, 4))
LOOKS = len(COLOURS) * len(SHAPES)
"""As many models look different."""


@dataclass(frozen=True)
class Look:
    """Look of a model's marks and lines."""

    colour: str
    shape: str
    dash: tuple[int, ...]

    @classmethod
    def number(cls, number: int) -> "Look":
        """Each number below LOOKS has a colour and shape of its own.

        A second dozen takes the colours in another order, so that neighbours of a table seldom share one.
        """
        again, place = divmod(number % LOOKS, len(COLOURS))
        colour = (place + 3 * again) % len(COLOURS)
        shape = (colour + again) % len(SHAPES)
        return cls(COLOURS[colour], SHAPES[shape], DASHES[number % len(DASHES)])


def looks_of(series: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """The look of each line of a chart, by its name, in the order given.

    series: titles of models, each with the name of a line. Several lines of one model have its colour, and
    shapes of their own.
    """
    lines: dict[str, list[str]] = {}
    order = list(dict.fromkeys(series))
    for title, name in order:
        lines.setdefault(title, []).append(name)
    numbers = _numbers(lines)
    taken = set(numbers.values())
    found: dict[str, Look] = {}
    for title, names in lines.items():
        found[names[0]] = Look.number(numbers[title])
        for name in names[1:]:
            number = _free(_others(numbers[title]), taken)
            taken.add(number)
            found[name] = Look.number(number)
    return {name: found[name] for _, name in order}


def _numbers(titles: Iterable[str]) -> dict[str, int]:
    """A number for each title: that of the catalogue, or one that follows from the title and is free."""
    cards = (item.title for item in registry.catalogue().values() if not item.plugged_in)
    places = {title: number % LOOKS for number, title in enumerate(cards)}
    numbers = {title: places[title] for title in titles if title in places}
    for title in sorted(set(titles) - set(places)):
        first = zlib.crc32(title.encode("utf-8", "replace")) % LOOKS
        wanted = [(first + step) % LOOKS for step in range(LOOKS)]
        taken = set(numbers.values())
        of_no_card = [number for number in wanted if number not in places.values()]
        numbers[title] = _free([*of_no_card, *wanted], taken)
    return numbers


def _free(wanted: Sequence[int], taken: Container[int]) -> int:
    return next((number for number in wanted if number not in taken), wanted[0])


def _others(number: int) -> list[int]:
    """The other numbers: first those of the same colour, then all."""
    colour = Look.number(number).colour
    others = [(number + step) % LOOKS for step in range(1, LOOKS)]
    return sorted(others, key=lambda other: Look.number(other).colour != colour)


def shown(looks: Mapping[str, Look], names: Iterable[str]) -> list[str]:
    """Those names that a chart shows, in the order of the table."""
    chosen = set(names)
    return [name for name in looks if name in chosen]
