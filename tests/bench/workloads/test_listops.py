"""ListOps: equal in distribution to the published recursion, and every label the value of its expression."""

import random

import numpy as np
import pytest
from scipy import stats

from bench.errors import UsageError
from bench.workloads import expressions, files, listops
from bench.workloads.expressions import SYMBOLS
from bench.workloads.listops import WORKLOAD

FUNCTIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(np.median(values)),
    "[SM": lambda values: sum(values) % 10,
}


@pytest.fixture(autouse=True)
def no_table(monkeypatch):
    monkeypatch.delenv(files.LRA_VARIABLE, raising=False)
    listops._table.cache_clear()
    yield
    listops._table.cache_clear()


def value_of(tokens) -> tuple[int, int, int]:
    """The value, depth and largest number of arguments of an expression, which must be well-formed."""
    stack: list[list] = [[]]
    depth = arguments = 0
    for token in tokens:
        symbol = SYMBOLS[token - 1]
        if symbol == "]":
            operator, *values = stack.pop()
            assert values
            arguments = max(arguments, len(values))
            stack[-1].append(FUNCTIONS[operator](values))
        elif symbol in FUNCTIONS:
            stack.append([symbol])
            depth = max(depth, len(stack))
        else:
            stack[-1].append(int(symbol))
            depth = max(depth, len(stack))
    ((value,),) = stack
    return value, depth, arguments


def published_tree(generator: random.Random, depth: int = 1) -> tuple[int, int]:
    """Value and symbols of a tree by the published recursion."""
    if depth >= 10 or generator.random() > 0.25:
        return generator.randrange(10), 1
    parts = [published_tree(generator, depth + 1) for _ in range(generator.randint(2, 10))]
    function = generator.choice(list(FUNCTIONS.values()))
    return function([value for value, _ in parts]), 2 + sum(size for _, size in parts)


@pytest.mark.parametrize("fill", ["full", "real"])
@pytest.mark.parametrize("length", [8, 9, 64, 2000, 5000])
def test_labels_are_values(fill, length):
    batch = WORKLOAD.batch(length, 4, fill, seed=1)
    for row, target in zip(batch.inputs, batch.targets, strict=True):
        value, depth, arguments = value_of(row[row > 0])
        assert value == target
        if fill == "real":
            assert depth <= 10
            assert arguments <= 10


def test_sizes_keep_the_published_bounds():
    lengths = np.concatenate([WORKLOAD.batch(2000, 20, "real", 0, index).lengths for index in range(5)])
    assert lengths.min() > 500
    assert lengths.max() < 2000


def test_trees_are_distributed_as_the_published_recursion_has_them():
    # Operators at the root only: three of four trees are a digit, which would hide the others.
    recursion, generator = random.Random(0), np.random.default_rng(0)
    theirs = [tree for tree in (published_tree(recursion) for _ in range(3000)) if tree[1] > 1]
    trees = [tree for tree in (expressions.grow(generator, 1 << 30) for _ in range(3000)) if tree.size > 1]
    ours = [(tree.expression(generator)[1], tree.size) for tree in trees]
    assert len(ours) / 3000 == pytest.approx(0.25, abs=0.03)
    assert stats.ks_2samp([size for _, size in ours], [size for _, size in theirs]).pvalue > 0.01
    counts = [np.bincount([value for value, _ in part], minlength=10) for part in (ours, theirs)]
    assert stats.chi2_contingency(counts).pvalue > 0.01


def test_acceptance_and_labels_are_the_published_ones():
    """8% of the trees are kept; 17.1% of the labels are 0 and 17.4% are 9."""
    generator = np.random.default_rng(1)
    trees = [expressions.grow(generator, 1999) for _ in range(8_000)]
    kept = [tree for tree in trees if tree is not None and tree.size > 500]
    assert len(kept) / len(trees) == pytest.approx(0.08, abs=0.01)
    labels = [tree.expression(generator)[1] for tree in kept]
    shares = np.bincount(labels, minlength=10) / len(labels)
    assert shares[[0, 9]] == pytest.approx([0.171, 0.174], abs=0.045)
    assert shares[1:9].max() < 0.15


def test_the_median_is_rounded_down():
    kinds, values = np.array([2, 2, 0, 1, 3]), np.array([1, 4, 9, 3, 5, 7, 2, 8, 6, 9])
    counts = np.array([2, 3, 2, 1, 2])
    starts = np.cumsum(counts) - counts
    assert expressions.apply(kinds, values, starts, counts).tolist() == [2, 5, 2, 8, 5]


def table(tmp_path, monkeypatch, *lines: str) -> None:
    folder = tmp_path / "listops-1000"
    folder.mkdir()
    (folder / "basic_train.tsv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv(files.LRA_VARIABLE, str(tmp_path))


def test_lra_files_are_read_without_their_round_brackets(tmp_path, monkeypatch):
    table(
        tmp_path,
        monkeypatch,
        "Source\tTarget",
        "( ( ( [MAX 4 ) ( ( ( [SM 9 ) 8 ) ] ) ) ] )\t7",
        "( ( ( [MIN 3 ) 6 ) ] )\t3",
    )
    batch = WORKLOAD.batch(12, 8, "real", seed=0)
    assert WORKLOAD.data() == "LRA's ListOps"
    assert set(zip(batch.lengths, batch.targets, strict=True)) == {(7, 7), (4, 3)}
    assert "[MAX 4 [SM 9 8 ] ] = 7" in [WORKLOAD.show(batch, row) for row in range(8)]
    full = WORKLOAD.batch(24, 2, "full", seed=0)
    assert [value_of(row)[0] for row in full.inputs] == full.targets.tolist()


LONG = f"( [MAX {'1 ' * 20}) ]\t1"


@pytest.mark.parametrize("fill", ["real", "full"])
def test_a_file_without_symbols_or_of_other_lengths_is_one_clear_line(tmp_path, monkeypatch, fill):
    """Its expressions have 22 symbols: too many for a length of 16, and too few for one of 100."""
    table(tmp_path, monkeypatch, "Source\tTarget", *[LONG] * 5)
    if fill == "full":
        assert set(WORKLOAD.batch(16, 1, fill, seed=0).inputs[0][1:-1]) <= set(range(1, 11))
        return
    place = tmp_path / "listops-1000" / "basic_train.tsv"
    words = f"{place}: has no expression for length 16, of 5 to 15 symbols; the shortest has 22,"
    with pytest.raises(UsageError, match=words):
        WORKLOAD.batch(16, 1, fill, seed=0)
    with pytest.raises(UsageError, match="no expression for length 100, of 26 to 99 symbols"):
        WORKLOAD.batch(100, 1, fill, seed=0)
    assert WORKLOAD.batch(23, 1, fill, seed=0).lengths.tolist() == [22]


def test_the_one_expression_that_fits_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(listops, "TRIES", 3)
    table(tmp_path, monkeypatch, "Source\tTarget", *[LONG] * 500, "( ( ( [MIN 3 ) 6 ) ] )\t3")
    assert WORKLOAD.batch(8, 2, "real", seed=0).targets.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["MAX 4 7"], "is not an LRA ListOps table"),
        (["Source\tTarget", "( [MAP 4 ) ]\t4"], "line 2: is not a ListOps expression"),
        (["Source\tTarget", "( ( [MAX 4 ) 3 ) ]"], "line 2: is not a ListOps expression"),
        (["Source\tTarget", "( )\t3"], "line 2: is not a ListOps expression"),
    ],
)
def test_broken_lra_files_are_one_clear_line(tmp_path, monkeypatch, lines, words):
    table(tmp_path, monkeypatch, *lines)
    with pytest.raises(UsageError, match=words):
        WORKLOAD.batch(8, 1, "real", seed=0)


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv(files.LRA_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no such folder"):
        WORKLOAD.data()


def test_a_folder_of_nobody(monkeypatch):
    monkeypatch.setenv(files.LRA_VARIABLE, "~nobody-of-that-name/lra")
    with pytest.raises(UsageError, match="~nobody-of-that-name/lra: no such folder"):
        WORKLOAD.data()
