"""Workloads that somebody else has written: found by path and entry point, and held to what they promise."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import Batch, Task, workloads
from bench.cli import app
from bench.errors import UsageError
from bench.system import plugins
from bench.workloads.base import DataSource, used
from bench.workloads.others import Others
from implementations import registry

from ..in_process import bench

MODULE = """
import numpy as np
from bench import Batch, Task


class Parity:
    \"\"\"Is the number of twos even?

    The second paragraph.
    \"\"\"

    max_length = 512

    def task(self, length):
        return Task("text", length=length, classes=2, vocabulary=4)

    def batch(self, length, batch, fill, seed, index=0, split="all"):
        tokens = np.random.default_rng([seed, index]).integers(1, 4, size=(batch, length))
        return Batch(tokens, None, (tokens == 2).sum(axis=1) % 2)

    def data(self):
        return "parity, made up"


WORKLOAD = Parity()
"""


class Good:
    """A workload with nothing that it need not have."""

    max_length = 64

    def __init__(self, **batch) -> None:
        self.changes = batch

    def task(self, length):
        return Task("text", length=length, classes=3, vocabulary=5)

    def batch(self, length, batch, fill, seed, index=0, split="all"):
        tokens = np.random.default_rng(seed).integers(1, 5, size=(batch, length))
        parts = {"inputs": tokens, "lengths": None, "targets": tokens[:, 0] % 3}
        return Batch(**parts | {name: change(parts[name]) for name, change in self.changes.items()})

    def data(self):
        return "made up"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a module of that name, which no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "parity_of_mine.py").write_text(MODULE)
    yield tmp_path
    # Only its own: parts of scipy can't be imported twice.
    for name in [name for name, module in sys.modules.items() if comes_from(tmp_path, module)]:
        del sys.modules[name]


def comes_from(folder: Path, module: ModuleType) -> bool:
    return Path(getattr(module, "__file__", None) or "/").is_relative_to(folder)


@pytest.fixture
def entry_points(monkeypatch):
    """Lets packages be installed that have these entry points."""

    def install(*pairs: tuple[str, str]) -> None:
        group = "seqboat_bench.workloads"
        found = tuple(EntryPoint(name, value, group) for name, value in pairs)
        monkeypatch.setattr(plugins, "_points", lambda asked: found if asked == group else ())

    return install


def refused(*words: str) -> str:
    ran = CliRunner().invoke(app, list(words))
    assert isinstance(ran.exception, UsageError), ran.output
    assert "\n" not in str(ran.exception)
    return str(ran.exception)


def test_a_module_of_the_current_folder(folder):
    ran = CliRunner().invoke(app, ["data", "parity_of_mine:WORKLOAD", "--length", "32"])
    assert ran.exit_code == 0, ran.output
    assert "parity_of_mine:WORKLOAD: Is the number of twos even?\n" in ran.output
    assert "data: parity, made up" in ran.output


def test_what_a_workload_need_not_have():
    workload = Others("mine", Good())
    assert workload.published_length == 64
    assert workload.description == "A workload with nothing that it need not have."
    assert workload.sequences("train") is None
    assert [source.name for source in workload.sources()] == ["made up"]
    assert workload.show(workload.batch(4, 1, "full", 0)).count(" ") == 3


def test_whole_numbers_of_any_kind_are_taken():
    batch = Others("mine", Good(inputs=lambda x: x.astype(np.uint8))).batch(8, 2, "full", 0)
    assert batch.inputs.dtype == np.int64


WRONG = {
    "has the shape (2, 7); give (2, 8)": {"inputs": lambda x: x[:, 1:]},
    "inputs holds float64; give int64": {"inputs": lambda x: x / 2},
    "inputs holds 5; give 0 to 4": {"inputs": lambda x: x * 0 + 5},
    "targets holds -1; give 0 to 2": {"targets": lambda x: x - 3 + 2 * (x > 0)},
    "lengths holds 0; give 1 to 8": {"lengths": lambda x: np.array([0, 8])},
    "inputs is not an array": {"inputs": lambda x: [[1, 2], [1]]},
    "lengths has the shape (3,)": {"lengths": lambda x: np.array([1, 2, 3])},
}


@pytest.mark.parametrize("words", WRONG)
def test_a_batch_that_does_not_fit_its_task_is_one_line(words):
    changes = WRONG[words]
    if "targets" in changes:
        changes = {"targets": lambda x: np.full_like(x, -1)}
    with pytest.raises(UsageError) as caught:
        Others("mine", Good(**changes)).batch(8, 2, "full", 0)
    assert str(caught.value).startswith("workload mine: batch(…)")
    assert words in str(caught.value)


class Odd(Good):
    """A workload with one member that is not what it should be."""

    def __init__(self, name, member) -> None:
        super().__init__()
        setattr(self, name, member)


def raises(self):
    raise KeyError("of theirs")


ODD = [
    ("task", lambda length: Task("text", length, classes="10", vocabulary=4), "'10' classes"),
    ("task", lambda length: Task(None, length, classes=2, vocabulary=4), "has the name None"),
    ("task", lambda length: Task("text", length, classes=2, vocabulary=None), "a vocabulary of None"),
    ("sequences", lambda split: "many", "sequences('train') gives 'many'; give a number above 0"),
    ("sequences", lambda split: 0, "sequences('train') gives 0; give a number above 0"),
    ("sources", lambda: "corpus.txt", "sources() gives no tuple of bench.workloads"),
    ("sources", lambda: None, "sources() gives no tuple of bench.workloads"),
]


@pytest.mark.parametrize(("name", "member", "words"), ODD)
def test_what_a_method_gives_is_checked(name, member, words):
    workload = Others("mine", Odd(name, member))
    arguments = {"task": (32,), "sequences": ("train",)}.get(name, ())
    with pytest.raises(UsageError) as caught:
        getattr(workload, name)(*arguments)
    assert str(caught.value).startswith("workload mine: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["max_length", "published_length", "description", "sequences", "batch"])
def test_a_property_that_raises_is_one_line(name):
    theirs = type("Theirs", (Good,), {name: property(raises)})()
    with pytest.raises(UsageError, match=f"^workload mine: {name} raised KeyError: 'of theirs'$"):
        Others("mine", theirs).sequences("train")


def test_whole_numbers_of_numpy_are_whole_numbers():
    theirs = Odd("task", lambda length: Task("text", length, classes=np.int64(2), vocabulary=4))
    assert Others("mine", theirs).task(8).classes == 2
    assert type(Others("mine", Odd("max_length", np.int32(16))).max_length) is int


@pytest.mark.parametrize("obtain", ["fetch.sh", None])
def test_a_workload_whose_data_is_not_here_says_how_to_get_it(obtain):
    missing = () if obtain is None else (DataSource("a corpus", "real", None, obtain),)
    words = "it names none" if obtain is None else "a corpus: fetch.sh"
    with pytest.raises(UsageError, match=f"none of the sources of this data is here: {words}"):
        used(Others("mine", Odd("sources", lambda: missing)).sources())


def test_what_a_workload_prints_is_not_in_the_output(folder):
    text = MODULE.replace("        tokens = ", "        print('a batch')\n        tokens = ")
    (folder / "parity_of_mine.py").write_text(text)
    ran = CliRunner().invoke(app, ["data", "parity_of_mine:WORKLOAD", "--length", "32", "--json"])
    assert json.loads(ran.stdout)["length"] == 32
    assert "a batch" in ran.stderr


def test_reals_that_are_not_finite_are_refused():
    class Reals(Good):
        def task(self, length):
            return Task("image", length=length, classes=3, input="reals")

    workload = Others("mine", Reals(inputs=lambda x: np.full(x.shape, np.nan, dtype=np.float32)))
    with pytest.raises(UsageError, match="not finite"):
        workload.batch(8, 2, "full", 0)


def test_what_a_workload_raises_is_one_line():
    class Raises(Good):
        def batch(self, *words):
            raise KeyError("no\nsuch file")

    with pytest.raises(UsageError, match=r"^workload mine: batch\(…\) raised KeyError: 'no\\nsuch file'$"):
        Others("mine", Raises()).batch(8, 2, "full", 0)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "cannot import broken_of_mine:WORKLOAD (SystemExit: 3)"),
        ("import nothing_of_that_name", "(No module named 'nothing_of_that_name')"),
        ("def half(", "SyntaxError: '(' was never closed"),
        ("OTHER = 1", "module 'broken_of_mine' has no attribute 'WORKLOAD'"),
        ("WORKLOAD = 7", "has no method task(), which a workload needs"),
        ("class WORKLOAD: ...", "is a class; name an object of it, WORKLOAD = WORKLOAD()"),
        (MODULE.replace("max_length = 512", "max_length = '512'"), "max_length is '512'"),
        (
            MODULE.replace("[seed, index]", "None"),
            "gives another batch when it is asked again with the same seed",
        ),
        (MODULE.replace("vocabulary=4", "vocabulary=3"), "batch(…).inputs holds 3; give 0 to 2"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(folder, write_suite, code, words):
    (folder / "broken_of_mine.py").write_text(code)
    suite = write_suite("transformer", workload="broken_of_mine:WORKLOAD", hyperparameters="small")
    told = refused("run", "--suite", suite, "--out", "run.jsonl")
    assert told.startswith(f"{suite}: `workload`: workload broken_of_mine:WORKLOAD: ")
    assert words in told
    assert not (folder / "run.jsonl").exists()
    assert words in refused("run", "--suite", "text-small", "--workload", "broken_of_mine:WORKLOAD")


def test_a_file_that_has_the_name_of_an_installed_module_is_named(folder):
    (folder / "colorsys.py").write_text(MODULE)
    told = refused("data", "colorsys:WORKLOAD")
    assert "workload colorsys:WORKLOAD: colorsys.py in this folder has the name of" in told


def test_entry_points_have_names(folder, entry_points):
    entry_points(("parity", "parity_of_mine:WORKLOAD"))
    sys.path.append(str(folder))
    assert workloads.load("parity").data() == "parity, made up"
    listed = CliRunner().invoke(app, ["list", "workloads", "--json"])
    assert '"Is the number of twos even?"' in listed.output
    with pytest.raises(UsageError, match="did you mean 'parity'"):
        workloads.load("partiy")


def test_a_name_that_is_taken_twice_is_refused(folder, entry_points):
    entry_points(("lm", "parity_of_mine:WORKLOAD"), ("two", "a:W"), ("two", "b:W"))
    with pytest.raises(UsageError, match="'lm' is taken by seqboat-bench and by the entry point parity_of"):
        workloads.load("lm")
    with pytest.raises(UsageError, match="'two' is taken by the entry point a:W and by the entry point b:W"):
        workloads.load("two")
    listed = CliRunner().invoke(app, ["list", "workloads"])
    assert "the workload 'lm' is taken by" in listed.stderr


@pytest.fixture
def read_anew():
    """Lets entry points be read from the packages of this test, and from those of the next."""
    for cached in (plugins._points, registry._entry_points):
        cached.cache_clear()
    yield
    for cached in (plugins._points, registry._entry_points):
        cached.cache_clear()


NAMES_OF_OURS = {"implementations": "seqboat", "workloads": "image"}


@pytest.mark.parametrize("group", ["implementations", "workloads", "metrics"])
def test_an_installed_package_that_takes_a_name_stops_no_list(tmp_path, monkeypatch, read_anew, group):
    """Two packages with one name between them, one of them with a name of ours; in a folder of the path."""
    for package in ("one", "two"):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        ours = (
            f"{NAMES_OF_OURS[group]} = {package}:it\n" if package == "one" and group in NAMES_OF_OURS else ""
        )
        folder.joinpath("entry_points.txt").write_text(
            f"[seqboat_bench.{group}]\nshared = {package}:it\n{ours}"
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for what in (group, "suites"):
        ended = bench("list", what)
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
        assert what == "suites" or "'shared' is taken by the entry point" in ended.stderr
        assert what != "suites" or "peers" in ended.stdout


def test_a_broken_entry_point_costs_its_own_line_only(entry_points):
    entry_points(("lost", "nothing_of_that_name:WORKLOAD"))
    listed = CliRunner().invoke(app, ["list", "workloads"])
    assert listed.exit_code == 0
    assert "cannot be had" in listed.output
