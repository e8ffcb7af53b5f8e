"""Random expressions of ListOps, grown and evaluated level by level.

The generator is equal in distribution to the published one (Tay et al., Long Range Arena, arXiv 2011.04006):
trees of depth at most 10 with 2 to 10 arguments, a node being an operator with probability ¼. It draws a
tree's shape level by level, so that the eleven in twelve trees that are not kept cost little.

Tokens: digit v is v + 1, then MIN, MAX, MED, SM and the closing bracket; 0 is padding.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_DEPTH = 10
MAX_ARGUMENTS = 10
OPERATOR_PROBABILITY = 0.25

SYMBOLS = (*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
TOKENS = {symbol: token for token, symbol in enumerate(SYMBOLS, start=1)}
FIRST_OPERATOR, CLOSE = TOKENS["[MIN"], TOKENS["]"]
VOCABULARY = len(SYMBOLS) + 1

Integers = npt.NDArray[np.int64]
Expression = tuple[Integers, int]
"""Tokens `(size,)` and the value."""


@dataclass(frozen=True)
class Tree:
    """The shape of an expression, level by level: which nodes are operators, and their argument counts."""

    operators: tuple[npt.NDArray[np.bool_], ...]
    arguments: tuple[Integers, ...]
    size: int
    """Symbols, closing brackets included."""

    def expression(self, generator: np.random.Generator) -> Expression:
        """Fill the shape with digits and operators, evaluate it from the leaves, and write it down."""
        symbols = [
            np.where(
                operators,
                FIRST_OPERATOR + generator.integers(4, size=operators.size),
                1 + generator.integers(10, size=operators.size),
            )
            for operators in self.operators
        ]
        values, sizes = self._evaluate(symbols)
        return self._write(symbols, sizes), int(values[0])

    def _evaluate(self, symbols: list[Integers]) -> tuple[Integers, list[Integers]]:
        """The values of the topmost level, and the symbols below and at each node of every level."""
        below = np.zeros(0, dtype=np.int64)
        sizes: list[Integers] = []
        for level in reversed(range(len(symbols))):
            operators, arguments = self.operators[level], self.arguments[level]
            values, size = symbols[level] - 1, np.ones_like(symbols[level])
            if arguments.size:
                starts = np.cumsum(arguments) - arguments
                kinds = symbols[level][operators] - FIRST_OPERATOR
                values[operators] = apply(kinds, below, starts, arguments)
                size[operators] = 2 + np.add.reduceat(sizes[-1], starts)
            below = values
            sizes.append(size)
        return below, sizes[::-1]

    def _write(self, symbols: list[Integers], sizes: list[Integers]) -> Integers:
        tokens = np.full(self.size, CLOSE, dtype=np.int64)
        places = np.zeros(1, dtype=np.int64)
        for level, arguments in enumerate(self.arguments):
            tokens[places] = symbols[level]
            if arguments.size:
                before = np.cumsum(sizes[level + 1]) - sizes[level + 1]
                starts = np.cumsum(arguments) - arguments
                first = places[self.operators[level]] + 1 - before[starts]
                places = np.repeat(first, arguments) + before
        return tokens


def grow(generator: np.random.Generator, limit: int) -> Tree | None:
    """The shape of a random tree; None if it has more than `limit` symbols."""
    operators: list[npt.NDArray[np.bool_]] = []
    arguments: list[Integers] = []
    nodes, size = 1, 0
    for depth in range(1, MAX_DEPTH + 1):
        if depth < MAX_DEPTH:
            operators.append(generator.random(nodes) <= OPERATOR_PROBABILITY)
        else:
            operators.append(np.zeros(nodes, dtype=bool))
        count = int(np.count_nonzero(operators[-1]))
        arguments.append(generator.integers(2, MAX_ARGUMENTS + 1, size=count))
        size += nodes + count
        nodes = int(arguments[-1].sum())
        if size + nodes > limit:
            return None
        if nodes == 0:
            break
    return Tree(tuple(operators), tuple(arguments), size)


def apply(kinds: Integers, values: Integers, starts: Integers, counts: Integers) -> Integers:
    """Operators `kinds` (0 MIN, 1 MAX, 2 MED, 3 SM), each over the `counts` values from its start on.

    MED is the median rounded down, SM the sum modulo 10.
    """
    ordered = values[np.lexsort((values, np.repeat(np.arange(kinds.size), counts)))]
    median = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) // 2
    return np.choose(
        kinds,
        [ordered[starts], ordered[starts + counts - 1], median, np.add.reduceat(values, starts) % 10],
    )
