"""The Python interface: light to import, the same as the command line, one clear line for what is wrong."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

import bench
from bench.measure.scheduler import Scheduler
from bench.records.reading import read
from bench.system.signals import termination_interrupts

from .made_up import results, write


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, bench; heavy = {'msgspec', 'numpy', 'scipy', 'torch', 'yaml'} & set(sys.modules); "
        "print(heavy, [name for name in sys.modules if name.startswith('bench.')])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set() ['bench.version']"


def test_every_public_name_is_there():
    assert {"Run", "UsageError", "read", "run"} <= set(bench.__all__) <= set(dir(bench))
    for name in bench.__all__:
        assert getattr(bench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        bench.runn  # noqa: B018


@pytest.mark.usefixtures("plug_ins")
def test_a_run_is_what_the_command_line_makes(write_suite, tmp_path, monkeypatch):
    """The models by their import path and as the function there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fault_models

    one_round = {"min_blocks": 1, "max_blocks": 1, "max_rounds": 1}
    suite = write_suite("fault_models:half_as_fast", quick=one_round)
    models = [fault_models.tiny, "fault_models:half_as_fast"]
    run = bench.run(
        suite, implementations=models, baseline=fault_models.tiny, lengths=[16], device="cpu", quick=True
    )
    assert run.complete
    (found,) = run.results
    assert found.path.startswith("results/runs/tiny-")
    assert read(Path(found.path)) == found
    named = ["--impl", "fault_models:tiny,fault_models:half_as_fast", "--length", "16"]
    named += ["--baseline", "fault_models:tiny", "--device", "cpu", "--quick"]
    named += ["--pairing", "turns", "--executor", "local"]
    assert found.header.command == ["bench", "run", "--suite", suite, *named]
    tiny, slow = run.rows
    assert (tiny.model, tiny.speed_ratio) == ("fault_models:tiny", 1.0)
    assert (slow.model, slow.status, slow.length) == ("fault_models:half_as_fast", "ok", 16)
    assert slow.speed_ratio < 1


@pytest.mark.parametrize("model", [lambda task, hyperparameters: None, 7])
def test_a_model_that_no_worker_can_import_is_refused(model):
    with pytest.raises(bench.UsageError, match="put it as a function into a module"):
        bench.run("ci", implementations=[model])


def test_files_are_read_as_one_table(tmp_path):
    paths = [write(results(lengths=[length], path=f"{length}.jsonl"), tmp_path) for length in (1024, 4096)]
    run = bench.read(*paths)
    table = run.table(published=True, baseline="seqboat")
    assert [row.length for row in table.rows] == [1024] * 5 + [4096] * 5
    assert json.loads(table.render("json")) == msgspec.to_builtins(table.rows)
    assert str(table) == table.render("terminal")
    assert "(× SeqBoat)" in str(table)
    assert table._repr_html_().startswith("<table>")
    with pytest.raises(bench.UsageError, match="choose terminal, markdown"):
        table.render("word")
    with pytest.raises(bench.UsageError, match="at least one"):
        bench.read()
    with pytest.raises(bench.UsageError, match=r"gone\.jsonl: cannot be read"):
        bench.read(tmp_path / "gone.jsonl")


def test_a_run_is_short_in_a_notebook_and_shows_its_table(tmp_path):
    run = bench.read(write(results(lengths=[1024, 4096]), tmp_path))
    assert repr(run) == f"<Run made-up on cpu: 5 models at 1024, 4096, {tmp_path / 'run.jsonl'}>"
    assert repr(run.table()) == "<Table 10 rows, 5 models, against Transformer>"
    assert run._repr_html_() == run.table().render("html")


def test_rows_as_a_data_frame(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas", reason='needs pip install "seqboat-bench[pandas]"')
    run = bench.read(write(results(failed={"s4": "oom"}), tmp_path))
    frame = run.to_pandas(baseline="seqboat")
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["model"]) == [row.model for row in run.rows]
    by_model = frame.set_index("model")
    assert by_model.loc["seqboat", "speed_ratio"] == 1.0
    assert pandas.isna(by_model.loc["s4", "speed_ratio"])
    assert frame["peak_memory_bytes"].dtype.kind in "fi"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bench.UsageError, match=r'needs pandas: pip install "seqboat-bench\[pandas\]"'):
        run.to_pandas()


def test_a_run_that_was_cut_short_is_not_complete(tmp_path):
    path = write(results(), tmp_path)
    assert bench.read(path).complete
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert not bench.read(path).complete


def test_charts_and_reports(tmp_path):
    altair = pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')
    run = bench.read(write(results(), tmp_path))
    assert isinstance(run.chart("speed"), altair.TopLevelMixin)
    shown = run.chart("speed").properties(title="of my own")._repr_mimebundle_()
    assert list(shown) == ["image/svg+xml"]
    assert "of my own" in shown["image/svg+xml"]
    assert "://" not in shown["image/svg+xml"].replace("http://www.w3.org/", "")
    with altair.renderers.enable("json"):
        assert "image/svg+xml" not in str(run.chart("speed")._repr_mimebundle_())
    run.report(tmp_path / "page.html")
    assert "SeqBoat" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("plug_ins")
def test_an_interrupted_run_says_where_it_is_kept(write_suite, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Scheduler, "next_job", interrupted)
    out = tmp_path / "run.jsonl"
    with pytest.raises(KeyboardInterrupt, match=r"run\.jsonl.* continues it"):
        bench.run(write_suite("fault_models:tiny"), device="cpu", out=out)
    assert out.exists()


def test_a_thread_that_gets_no_signals_may_measure_too():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(within_a_run).result() == "measured"


def within_a_run() -> str:
    with termination_interrupts():
        return "measured"
