"""Readers of files that anybody may have written: the answer is what they hold, or one clear line."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.correctness.golden import GoldenError, GoldenFile, find_cases
from bench.errors import UsageError
from bench.records import published
from bench.records.profile import read_profile
from bench.records.reading import Results, read
from bench.suites import reading as suites
from bench.text.escape import escape_terminal, one_line
from bench.views.ci_formats import FORMATS as EXPORTS
from bench.views.ci_formats import export
from bench.views.comparison import compare
from bench.views.profile import Profiles
from bench.views.tables.formats import FORMATS, render
from bench.views.tables.table import build_table
from implementations import registry
from implementations.card import read_card
from implementations.errors import RegistryError

from ..made_up import results, write

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
"""Examples are drawn anew in every run; `tox -e fuzz` draws more at once."""
MANY = settings(
    max_examples=200 * TIMES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=False,
    database=None,
)
SOME = settings(MANY, max_examples=30 * TIMES)
FEW = settings(MANY, max_examples=10 * TIMES)

ROOT = Path(__file__).parents[3]

NASTY = st.sampled_from(
    [
        None, True, 0, -1, 1, 1.5, 1e-300, 1e300, 2**63, 10**40, "", "x", "\x1b[31m", "🛶", "-1%", "nan",
        "1e999h", [], {}, [[]], {"": None}, "\n", "transformer", "seqboat", "a:b", ":",
        "../x", "text", "\u202e",
    ]
)  # fmt: skip
VALUES = NASTY | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def refused(call: Callable[[], object]) -> str | None:
    """What a call is refused with, as the user sees it; None where it is not."""
    try:
        call()
    except (UsageError, RegistryError) as error:
        said = str(error)
    else:
        return None
    line = escape_terminal(one_line(said))
    assert len(line.splitlines()) == 1, line
    return line


def changed(data: st.DataObject, value: object) -> object:
    """A copy with one place somewhere inside set to something else, left out, doubled or renamed."""
    tree = copy.deepcopy(value)
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return tree
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            place = inner
            continue
        match data.draw(st.sampled_from(["set", "set", "drop", "double", "rename"])):
            case "drop":
                del place[key]
            case "double" if isinstance(place, list):
                place.append(inner)
            case "rename" if isinstance(place, dict):
                place[data.draw(st.text(max_size=8))] = place.pop(key)
            case _:
                place[key] = data.draw(VALUES)
        return tree


def mangled(data: st.DataObject, content: bytes) -> bytes:
    """Bytes of a valid file, some of them replaced, cut out or put in."""
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 12))
        content = content[:begin] + data.draw(st.binary(max_size=12)) + content[begin + length :]
    return content


# Suites

SUITE = {
    "name": "mine",
    "description": "of mine",
    "workload": "text",
    "lengths": [64, 128],
    "implementations": ["transformer", "seqboat", "mine:build"],
    "baseline": "transformer",
    "batch": {"cpu": 1, "cuda": 2},
    "fill": "full",
    "precision": "fp32",
    "activation": [0.1, 0.3],
    "seed": 0,
    "timing": {
        "min_blocks": 1,
        "max_blocks": 2,
        "max_rounds": 2,
        "target": "3%",
        "budget": "1m",
        "deadline": 5,
    },
    "quick": {"target": 0.5},
}
YAML_WORDS = st.lists(
    st.sampled_from(
        ["lengths", ": ", "- ", "[", "]", "{", "}", "\n", "  ", "&a ", "*a", "!!int ",
         "!!python/name:os.system ", "2001-99-99", "<<", "? ", "|", ">", "'", '"', "#", "%", "@", "`", "---",
         "...", "0x", "1e9",
         ".nan", ".inf", "1" * 5000, "[" * 400, "\t", "\x00", "\ufeff", "text", "64", "=", "~", "!!float ",
         "!!timestamp x", "!!binary ="]
    ),
    max_size=12,
).map("".join)  # fmt: skip


def check_suite(folder: Path, content: bytes) -> None:
    path = folder / "mine.yaml"
    path.write_bytes(content)

    def use() -> None:
        suite = suites.load(str(path))
        assert suite.cases("cpu")
        assert suite.budget_seconds > 0
        assert suite.deadline_seconds > 0
        assert 0 < suite.target < 1
        assert suites.load(str(path)) == suite

    said = refused(use)
    if said is not None:
        assert said.startswith(str(path))


@MANY
@given(st.data())
def test_suites_of_any_bytes(folder, data):
    valid = yaml.safe_dump(SUITE).encode()
    kind = data.draw(st.sampled_from(["bytes", "words", "mangled", "mangled"]))
    content = {
        "bytes": lambda: data.draw(st.binary(max_size=200)),
        "words": lambda: data.draw(YAML_WORDS).encode(),
        "mangled": lambda: mangled(data, valid),
    }[kind]()
    check_suite(folder, content)


@MANY
@given(st.data())
def test_suites_with_any_values(folder, data):
    tree = SUITE
    for _ in range(data.draw(st.integers(1, 2))):
        tree = changed(data, tree)
    check_suite(folder, yaml.safe_dump(tree).encode())


def test_suites_that_nest_or_refer_without_end(folder):
    laughs = "\n".join(
        ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    )
    for content in (laughs, "[" * 100_000, "lengths: &a [*a]\nname: x", "a: &a {b: *a}", "- " * 50_000):
        check_suite(folder, content.encode())


# Result files


@pytest.fixture(scope="module")
def lines(folder) -> list[bytes]:
    made = results(
        ["transformer", "mega", "seqboat"], [1024, 4096], failed={"mega": "oom"}, blocks=2, rounds=1
    )
    return write(made, folder).read_bytes().splitlines()


def use(run: Results, original: Results) -> None:
    """Every view that needs no drawing library."""
    for form in FORMATS:
        refused(lambda form=form: render(build_table(run), form))
    for form in EXPORTS:
        refused(lambda form=form: export(run, form))
    refused(lambda: render(compare(original, run, force=True), "terminal"))
    refused(lambda: build_table(run, original))


def check_record(
    folder: Path, content: bytes, original: list[bytes], view: Callable[[Results, Results], None]
):
    path = folder / "fuzzed.jsonl"
    path.write_bytes(content)
    whole = folder / "whole.jsonl"
    whole.write_bytes(b"\n".join(original) + b"\n")
    said = refused(lambda: view(read(path), read(whole)))
    if said is not None:
        assert said.startswith(str(path))


@MANY
@given(st.data())
def test_records_of_any_bytes(folder, lines, data):
    valid = b"\n".join(lines) + b"\n"
    content = (
        data.draw(st.binary(max_size=200)) if data.draw(st.integers(0, 4)) == 0 else mangled(data, valid)
    )
    check_record(folder, content, lines, lambda run, _: run.header)


def with_changed_records(data: st.DataObject, lines: list[bytes]) -> bytes:
    """Valid JSON throughout, whose values are anything; lines doubled, dropped and exchanged."""
    records = list(lines)
    for _ in range(data.draw(st.integers(1, 2))):
        number = data.draw(st.integers(0, len(records) - 1))
        match data.draw(st.sampled_from(["value", "value", "value", "drop", "double", "exchange"])):
            case "value":
                records[number] = json.dumps(changed(data, json.loads(lines[number % len(lines)]))).encode()
            case "drop" if len(records) > 1:
                del records[number]
            case "double":
                records.append(records[number])
            case "exchange":
                records[0], records[number] = records[number], records[0]
    return b"\n".join(records) + b"\n"


@MANY
@given(st.data())
def test_records_with_any_values_and_every_view_of_them(folder, lines, data):
    check_record(folder, with_changed_records(data, lines), lines, use)


@FEW
@given(st.data())
def test_records_with_any_values_in_charts_and_reports(folder, lines, data):
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    from bench.views import report
    from bench.views.charts import charts

    def draw(run: Results, _: Results) -> None:
        charts.available([run])
        report.write([run], folder / "report.html")

    check_record(folder, with_changed_records(data, lines), lines, draw)


# Profiles, cards, published figures, golden vectors


def profile_as_text(path: Path) -> str:
    return render(Profiles.of([read_profile(path)]), "terminal")


@SOME
@given(st.data())
def test_profiles_with_any_values(folder, data):
    made = results(["transformer"])
    cost = {"seconds": 0.1, "flops": 5, "bytes": 7}
    profile = {
        "type": "profile", "schema": 1, "created": "2026", "command": ["bench"],
        "case": msgspec.to_builtins(made.header.suite.cases("cpu")[0]),
        "environment": msgspec.to_builtins(made.header.environment),
        "steps": 3, "plain_seconds": 1.0, "named_seconds": 1.0, "profiled_seconds": 1.0,
        "stages": [
            {"path": ["layers", "attention"], "calls": 1, "forward": cost, "backward": cost, "peak_bytes": 9}
        ],
        "timeline": [[0.0, 5, "x"], [1.0, 7, "y"]],
        "ceilings": {"flops_per_second": 1e9, "bytes_per_second": 1e9, "matrix": "a", "copy": "b"},
        "flops_from": "transformer",
    }  # fmt: skip
    path = folder / "profile.json"
    path.write_text(json.dumps(profile))
    assert refused(lambda: profile_as_text(path)) is None
    path.write_text(json.dumps(changed(data, profile)))
    refused(lambda: profile_as_text(path))


@FEW
@given(st.data())
def test_cards_with_any_values(folder, data):
    card = yaml.safe_load((registry.CARDS / "seqboat.yaml").read_text(encoding="utf-8"))
    path = folder / "card.yaml"
    path.write_bytes(yaml.safe_dump(changed(data, card)).encode())
    said = refused(lambda: list(registry._rows_of(read_card(path))))
    assert said is None or said.startswith(str(path))


@SOME
@given(st.data())
def test_cards_and_published_figures_of_any_bytes(folder, data):
    path = folder / "card.yaml"
    for source, reader in (
        (registry.CARDS / "s4.yaml", read_card),
        (published.figures_folder() / "lra.yaml", published.read),
    ):
        path.write_bytes(mangled(data, source.read_bytes()))
        said = refused(lambda reader=reader: reader(path))
        assert said is None or said.startswith(str(path))


@FEW
@given(st.data())
def test_published_figures_with_any_values(folder, data):
    content = yaml.safe_load((published.figures_folder() / "lra.yaml").read_text(encoding="utf-8"))
    content = {name: content[name] for name in ("protocols", "models")}
    path = folder / "lra.yaml"
    path.write_text(yaml.safe_dump(changed(data, content)), encoding="utf-8")
    said = refused(lambda: published.read(path))
    assert said is None or said.startswith(str(path))


@MANY
@given(st.data())
def test_golden_files_of_any_bytes(folder, golden, data):
    content = (golden / "s4" / "kernel_dplr_L64.safetensors").read_bytes()
    # Half of the changes in the header, which says what everything else is.
    size = int.from_bytes(content[:8], "little") + 8
    head = (
        mangled(data, content[:size])
        if data.draw(st.booleans())
        else content[: data.draw(st.integers(0, size))]
    )
    path = folder / "case.safetensors"
    path.write_bytes(head + content[size:])
    said = refused(GoldenFile(path, "s4", "case", required=True).read)
    assert said is None or said.startswith(str(path))


def test_a_list_of_optional_golden_cases_that_is_no_text(tmp_path, golden):
    (tmp_path / "s4").mkdir()
    (tmp_path / "s4" / "case.safetensors").write_bytes(b"")
    (tmp_path / "OPTIONAL.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(GoldenError, match=r"OPTIONAL\.txt: is not a list of case names"):
        list(find_cases(tmp_path))
