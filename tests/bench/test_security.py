"""Text from files stays text in every output, nothing that could run is loaded, plug-ins wait to be named."""

import ast
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from bench import cli
from bench.measure.display import LiveDisplay, PlainDisplay
from bench.records.reading import Results, read
from bench.records.run import Lost, PlugIn
from bench.records.solo import MetricFigure
from bench.text.escape import escape_terminal
from bench.views import pytorch_hud
from bench.views.ci_formats import export
from bench.views.comparison import compare
from bench.views.tables.formats import FORMATS, render
from implementations import registry

from .made_up import CPU, results, write

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("bench/**/*.py"), *ROOT.glob("implementations/**/*.py")]

TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxet\x7f\rover\x08"
NAMES = {
    "terminal": TERMINAL,
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt;\"'",
    "latex": r"[2em]*\input{/etc/passwd}\write18{x}%$#_{}~^&",
    "formula": '=HYPERLINK("http://x","y")',
    "markdown": "# a|b\n\n- [x](http://x) `c` *d* <u>e</u> &lt;i&gt;",
    "rows": "one\ntwo     1.00  2.00\r\nthree\u2028four",
    "xml": "]]>&amp;<!ENTITY x 'y'>\x00\x0b\ufffe",
    "format": "{0} %s {{7*7}} {% raw %} [bold]x[/bold] [/]",
}


def run_named(name: str) -> Results:
    """A run in which every text that a file may hold is that name; the model is a plug-in of it."""
    environment = msgspec.structs.replace(
        CPU, hardware=name, processor=name, torch=name, platform=name, commit=name, libraries={name: name}
    )
    run = results(
        ["transformer", f"{name}:{name}", f"oom:{name}"],
        failed={f"oom:{name}": "oom"},
        environment=environment,
    )
    suite = msgspec.structs.replace(run.header.suite, name=name, description=name)
    whose = PlugIn(path=name, package=name, version=name, commit=name)
    header = msgspec.structs.replace(
        run.header, created=name, command=[name], suite=suite, data=name, plug_ins={name: whose}
    )
    figures = [
        MetricFigure(metric=name, name=name, value=1.5, unit=name),
        MetricFigure(metric=name, failure=name),
    ]
    solos = {
        case: msgspec.structs.replace(
            solo,
            reason=name if solo.reason else None,
            backend=name,
            computed_by=name,
            remarks=[name],
            metrics=figures,
        )
        for case, solo in run.solos.items()
    }
    samples = [msgspec.structs.replace(sample, throttled=name) for sample in run.samples]
    return msgspec.structs.replace(run, header=header, solos=solos, samples=samples)


@pytest.fixture(params=NAMES)
def hostile(request) -> Results:
    return run_named(NAMES[request.param])


def bench(*words: object) -> int:
    """The command line, in this process: its exit code."""
    before = sys.argv
    sys.argv = ["bench", *map(str, words)]
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = before
    return 0


CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(params=["file", "folder"])
def table_of(request, tmp_path, capsys) -> Callable[[Results, str], str]:
    """What `bench table` prints of a run in a format: given the file, or its folder for a table by task."""

    def printed(run: Results, form: str) -> str:
        path = write(run, tmp_path)
        try:
            assert bench("table", path if request.param == "file" else tmp_path, "--format", form) == 0
        finally:
            path.unlink()
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("form", FORMATS)
def test_no_table_moves_a_terminal(table_of, hostile, form):
    assert not CONTROLS.search(table_of(hostile, form))


def test_no_tab_moves_a_table_s_columns(table_of):
    assert "\t" not in table_of(run_named("one\ttwo\t1.00"), "terminal")


def test_no_other_output_moves_a_terminal(tmp_path, capsys):
    path = write(run_named(TERMINAL), tmp_path)
    for form in ("junit", "bencher", "github-action-benchmark", "pytest-benchmark"):
        assert bench("export", path, "--format", form) == 0
    assert bench("compare", path, path) == 0
    assert bench("compare", path, path, "--json") == 0
    assert bench("table", f"{TERMINAL}.jsonl") == 2
    assert bench("list", TERMINAL) == 2
    assert bench("run", "--suite", TERMINAL) == 2
    assert bench("verify", "--golden", TERMINAL) == 2
    printed = capsys.readouterr()
    assert not CONTROLS.search(printed.out)
    assert not CONTROLS.search(printed.err)
    assert printed.err.count("\n") == printed.err.count("bench: ") == 4
    assert r"\u001b]0;owned\u0007" in printed.err


@pytest.mark.parametrize("name", NAMES.values())
def test_no_display_moves_a_terminal(name):
    run = run_named(name)
    solo = list(run.solos.values())[-1]
    lost = Lost(case_id=solo.case.id, block=0, status="error", reason=name)
    for kind in (PlainDisplay, LiveDisplay):
        # Not a terminal to rich, so that the only controls would be the file's.
        console = Console(file=io.StringIO(), width=400)
        with kind(console) as display:
            display.solo_begins(solo.case, 1, 1)
            display.solo_ends(solo)
            display.block_begins(0, "length 64", 1)
            display.sampled(run.samples[0])
            display.case_lost(lost)
        text = console.file.getvalue()
        assert not CONTROLS.search(text)
    plain = Console(file=io.StringIO(), width=400)
    PlainDisplay(plain).case_lost(lost)
    assert plain.file.getvalue().count("\n") == 1


def test_json_stays_the_same_json_on_its_way_to_a_terminal(tmp_path, capsys):
    run = run_named(TERMINAL)
    assert bench("table", write(run, tmp_path), "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1]["model"] == f"{TERMINAL}:{TERMINAL}"
    assert rows[2]["reason"] == TERMINAL


def test_no_name_makes_rows_of_its_own(table_of):
    for form in ("terminal", "markdown"):
        clean = table_of(run_named("name"), form)
        for name in NAMES.values():
            assert table_of(run_named(name), form).count("\n") == clean.count("\n"), (form, name)


def test_no_name_makes_rows_of_its_own_where_runs_are_compared():
    one, other = (
        render(compare(run_named(name), run_named(name)), "terminal") for name in ("name", NAMES["rows"])
    )
    assert one.count("\n") == other.count("\n")


class Tags(HTMLParser):
    """Elements, and the text outside of them."""

    def __init__(self, page: str):
        super().__init__()
        self.seen: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)

    def handle_data(self, data):
        self.text += data


def test_html_has_no_elements_of_its_own(table_of):
    clean = Tags(table_of(run_named("name"), "html"))
    for name in NAMES.values():
        tags = Tags(table_of(run_named(name), "html"))
        assert tags.seen == clean.seen
        assert escape_terminal(name.splitlines()[0]) in tags.text


def test_csv_cells_are_no_formulas(table_of):
    for name in (*NAMES.values(), "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1"):
        for row in csv.reader(io.StringIO(table_of(run_named(name), "csv"))):
            for cell in row:
                assert not re.match(r"[=+@\t\r\n＝＋－＠]|-(?![0-9.]+$)", cell), cell


def test_markdown_stays_in_its_cells(table_of):
    clean = table_of(run_named("name"), "markdown").splitlines()
    for name in NAMES.values():
        lines = table_of(run_named(name), "markdown").splitlines()
        for line, other in zip(lines, clean, strict=True):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", other)), line
            assert not re.search(r"(?<!\\)(<(?!/?(sup|u)>)|\[|&)", line), line
            assert not re.match(r"- [#+=-]", line), line


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
def test_latex_reads_and_runs_nothing(table_of, tmp_path):
    tables = [table_of(run_named(name), "latex") for name in NAMES.values()]
    source = [
        r"\documentclass{article}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        *tables,
        r"\end{document}",
    ]
    (tmp_path / "table.tex").write_text("\n".join(source), encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-recorder", "table.tex"]
    finished = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-2000:]
    assert "/etc/passwd" not in (tmp_path / "table.fls").read_text()


def test_latex_has_no_commands_of_its_own(table_of):
    ours = r"\\(begin|end|\w+rule|multicolumn|text\w+|underline|footnotesize|raggedright|noindent|par"
    ours += r"|long|gdef|benchnotes"
    ours += r"|times|pm|dots|[&%$#_{}\\])"
    for name in NAMES.values():
        rest = re.sub(ours, "", table_of(run_named(name), "latex"))
        assert "\\" not in rest, rest


def test_exports_are_whole_whatever_the_names(hostile):
    assert json.loads(pytorch_hud.as_text(hostile))
    for form in ("bencher", "github-action-benchmark", "pytest-benchmark"):
        assert json.loads(export(hostile, form))
    root = ElementTree.fromstring(export(hostile, "junit"))
    assert {element.tag for element in root.iter()} == {
        "testsuites", "testsuite", "testcase", "properties", "property", "error"
    }  # fmt: skip
    assert len(root.findall("testsuite/testcase")) == 3


def test_charts_and_pages_have_no_elements_of_their_own(tmp_path):
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    from bench.views import report
    from bench.views.charts import charts
    from bench.views.charts import style as chart_style

    clean = Tags(report.page([run_named("name")])).seen
    for name in NAMES.values():
        run = run_named(name)
        assert Tags(report.page([run])).seen == clean
    spec = charts.specification([run_named(NAMES["html"])])
    for suffix in (".svg", ".html"):
        chart_style.save(spec, tmp_path / f"chart{suffix}")
    assert "img" not in Tags((tmp_path / "chart.html").read_text(encoding="utf-8")).seen
    picture = ElementTree.parse(tmp_path / "chart.svg")
    assert not {element.tag.rpartition("}")[2] for element in picture.iter()} & {
        "script",
        "img",
        "foreignObject",
    }


# What is loaded


def calls_of(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imports_of(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_loaded_that_could_run(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not imports_of(tree) & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for call in calls_of(tree):
        name = ast.unparse(call.func)
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert not re.match(r"yaml\.(?!safe_load$|safe_dump$)\w*(load|dump)", name), name
        assert name not in ("eval", "exec", "os.system", "os.popen"), name
        assert options.get("shell") in (None, "False"), name
        assert options.get("allow_pickle") in (None, "False"), name
        if name == "torch.load":
            assert options.get("weights_only") == "True"


def test_the_check_of_sources_finds_what_it_looks_for(tmp_path):
    for code in (
        "import pickle", "import yaml\nyaml.load(x)", "yaml.unsafe_load(x)", "torch.load(x)",
        "np.load(x, allow_pickle=True)", "subprocess.run(x, shell=True)", "eval(x)",
    ):  # fmt: skip
        path = tmp_path / "bad.py"
        path.write_text(code)
        with pytest.raises(AssertionError):
            test_nothing_is_loaded_that_could_run(path)


def test_yaml_builds_no_objects(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n")
    assert bench("run", "--suite", path) == 2
    assert not (tmp_path / "owned").exists()


# Plug-ins


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Iterator[Path]:
    """Folder of an installed package with an entry point, whose module leaves a mark when it is imported."""
    folder = tmp_path / "site"
    metadata = folder / "evil-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[seqboat_bench.implementations]\nevil = evil:build\n")
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n"
        "from fault_models import tiny as build\n"
    )
    paths = (ROOT, folder, Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setattr(sys, "path", [*map(str, paths), *sys.path])
    monkeypatch.chdir(folder)
    registry._entry_points.cache_clear()
    yield folder
    registry._entry_points.cache_clear()
    sys.modules.pop("evil", None)


def test_a_plug_in_runs_only_when_it_is_named(installed, tmp_path, write_suite, capsys):
    """Also where a result file names it, and where its module lies in the folder that one is in."""
    path = write(results(["transformer", "evil", "evil:build"]), tmp_path)
    assert bench("list", "implementations", "--json") == 0
    assert "evil" in [row["name"] for row in json.loads(capsys.readouterr().out)]
    for words in (["table", path], ["compare", path, path], ["export", path, "--format", "junit"]):
        assert bench(*words) == 0
    suite = write_suite("fault_models:tiny")
    run = ("run", "--quick", "--device", "cpu", "--threads", "1", "--suite", suite)
    assert bench(*run, "--out", tmp_path / "without.jsonl") == 0
    assert not (tmp_path / "imported").exists()
    assert bench(*run, "--impl", "evil", "--out", tmp_path / "with.jsonl") == 0, capsys.readouterr().err
    assert (tmp_path / "imported").exists()
    assert "evil/text-32x1-full/train-fp32" in read(tmp_path / "with.jsonl").solos
