"""The static site: every suite has a page, machines are apart, changes are marked; no script, no network."""

import hashlib
import json
import re
from unittest.mock import Mock

import msgspec
import pytest

from bench.errors import UsageError

from ..in_process import bench
from ..made_up import CPU, results, write

pytest.importorskip("duckdb", reason='needs pip install "seqboat-bench[store]"')
pytest.importorskip("ruptures", reason='needs pip install "seqboat-bench[store]"')
pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')

from bench.records import store
from bench.views import shelf, site
from bench.views.charts.site import merged

GPU = msgspec.structs.replace(CPU, device="cuda:0", hardware="a GPU", driver="1", cuda="13.0")
HOSTILE = "x</title><script>alert(1)</script>:build"


def commit(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight commits on two machines; SeqBoat becomes slower on one of them. A model's name is a script."""
    runs, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("store")
    for number in range(8):
        for environment in (CPU, GPU):
            made = results(
                ["transformer", "seqboat", "mega", HOSTILE],
                environment=msgspec.structs.replace(environment, commit=commit(number)),
                created=f"2026-01-{number + 1:02d}T00:00:00+00:00",
            )
            slow = 1.5 if number >= 4 and environment is CPU else 1.0
            samples = [
                msgspec.structs.replace(
                    sample, seconds=sample.seconds * (slow if sample.case_id.startswith("seqboat") else 1)
                )
                for sample in made.samples
            ]
            store.add(write(msgspec.structs.replace(made, samples=samples), runs), folder)
    return folder


@pytest.fixture(scope="module")
def pages(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "public"
    done = bench("site", "--store", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_suite_has_a_page_that_the_index_names(pages):
    index = (pages / "index.html").read_text(encoding="utf-8")
    assert '<a href="made-up.html">made-up</a>' in index
    assert "SeqBoat, activation 0.3: s" in index
    assert f"<code>{commit(4)[:9]}</code>" in index


def test_machines_are_apart_and_changes_have_their_cause(pages):
    page = (pages / "made-up.html").read_text(encoding="utf-8")
    cpu, gpu = page.split("<h2>")[1:]
    assert cpu.startswith("a processor, cpu, 2 threads, torch 2.13.0")
    assert gpu.startswith("a GPU, cuda:0")
    assert re.search(r'<td class="worse">× 0.66\d \([^<]*\), code</td><td>0 of \d other models', cpu)
    assert "No change of level." in gpu
    assert page.count("<img") == 6
    assert page.count('alt="') == 6


def test_nothing_is_run_or_fetched(pages):
    for path in pages.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "default-src 'none'" in text
        assert not re.findall(r"(?:src|href)=\"(?!data:)[a-z]+:", text)


def test_figures_and_badges_are_json(pages):
    records = json.loads((pages / "data" / "made-up.json").read_text())
    assert {record["figure"] for record in records} == {"speed", "step", "memory"}
    badges = {path.stem: json.loads(path.read_text()) for path in (pages / "badges").iterdir()}
    assert len(badges) == 4
    badge = badges["made-up-seqboat"]
    assert badge["schemaVersion"] == 1
    assert badge["label"] == "SeqBoat, activation 0.3 speed, made-up"
    assert badge["message"].startswith("× ")
    assert {badge["color"] for badge in badges.values()} <= {"red", "blue"}


def test_badges_of_suites_never_share_a_file(tmp_path):
    for number, (suite, model) in enumerate([("ci", "fused-x:build"), ("ci-fused", "x:build")]):
        environment = msgspec.structs.replace(CPU, commit=commit(number))
        made = results(["transformer", model], environment=environment)
        named = msgspec.structs.replace(made.header.suite, name=suite)
        header = msgspec.structs.replace(made.header, suite=named)
        path = write(msgspec.structs.replace(made, header=header, path=f"{number}.jsonl"), tmp_path)
        store.add(path, tmp_path / "store")
    site.write(tmp_path / "store", tmp_path / "public")
    badges = [json.loads(path.read_text())["label"] for path in (tmp_path / "public" / "badges").iterdir()]
    models = sorted(re.split("[ ,]", label)[0] for label in badges)
    assert models == ["Transformer", "Transformer", "fused-x", "x"]


def test_a_store_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="holds no runs"):
        site.write(tmp_path / "none", tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_commits_of_several_lines_come_into_one_order():
    assert merged([["a", "c", "d"], ["a", "b", "c"], ["d", "e"]]) == ["a", "b", "c", "d", "e"]
    assert merged([["b", "c"], ["a", "b", "c"]]) == ["a", "b", "c"]


def newest(tmp_path, *runs) -> str:
    """The page of made-up runs, each of a commit of its own."""
    folder = tmp_path / "store"
    for number, run in enumerate(runs):
        environment = msgspec.structs.replace(CPU, commit=commit(number))
        header = msgspec.structs.replace(
            run.header, environment=environment, created=f"2026-01-{number + 1:02d}T00:00:00+00:00"
        )
        store.add(write(msgspec.structs.replace(run, header=header), tmp_path), folder)
    site.write(folder, tmp_path / "public")
    return (tmp_path / "public" / "made-up.html").read_text(encoding="utf-8")


def test_every_activation_rate_has_a_row(tmp_path):
    page = newest(tmp_path, results(["transformer", "seqboat"], activation=(0.1, 1.0)))
    assert all(f'<th scope="row">SeqBoat, activation {rate}</th>' in page for rate in ("0.1", "1"))


def test_a_model_whose_baseline_failed_has_no_x(tmp_path):
    models = ["transformer", "seqboat"]
    page = newest(tmp_path, results(models), results(models, failed={"transformer": "oom"}))
    assert "X (oom)" in page
    assert "X (ok)" not in page


@pytest.mark.parametrize("other", [{"seed": 1}, {"backend": "torch"}])
def test_runs_of_other_settings_are_apart(tmp_path, other):
    page = newest(tmp_path, results(["transformer", "s4"]), results(["transformer", "s4"], **other))
    assert page.count('<th scope="row">S4</th>') == 2


def test_speeds_against_two_baselines_are_two_lines(tmp_path):
    page = newest(tmp_path, results(["transformer", "s4", "mega"]), results(["s4", "transformer", "mega"]))
    assert "MEGA, against S4" in page
    assert "MEGA, against Transformer" in page


def test_figures_of_a_run_are_made_once_for_all_models(folder, tmp_path, monkeypatch):
    """Not once for each model: a store of thousands of runs took minutes."""
    made, asked = Mock(side_effect=shelf.rows_of), Mock(side_effect=shelf.Repository.commits)
    monkeypatch.setattr(shelf, "rows_of", made)
    monkeypatch.setattr(shelf.Repository, "commits", asked)
    site.write(folder, tmp_path / "public")
    runs = [(call.args[0].path, call.args[1]) for call in made.call_args_list]
    assert len(runs) == len(set(runs)) == 16
    assert asked.call_count == 1
