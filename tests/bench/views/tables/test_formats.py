"""Formats: the very text against golden files, markup that compiles, and names that stay text.

`UPDATE_GOLDEN=1 pytest tests/bench/views/tables/test_formats.py` writes the golden files
again; read their diff.
"""

import csv
import io
import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from bench.views.tables.formats import FORMATS, render
from bench.views.tables.table import Table, build_table

from ...made_up import CPU, results

GOLDEN = Path(__file__).parent / "golden_output"
CONTRACT = {
    "model", "status", "speed_ratio", "speed_low", "speed_high", "memory_ratio", "step_seconds",
    "tokens_per_second", "real_tokens_per_second", "peak_memory_bytes", "peak_memory_kind", "parameters",
    "activation_rate", "length", "batch", "precision", "device",
}  # fmt: skip
HOSTILE = r"a_b:<script>alert('&')</script>|*x*`$\evil{}%#~^"


def one_run() -> Table:
    return build_table(results(failed={"mega": "oom"}))


def several_runs() -> Table:
    cpu = results(["transformer", "seqboat"], [1024, 4096], path="cpu.jsonl")
    gpu = msgspec.structs.replace(CPU, device="cuda:0", hardware="a GPU", driver="550", cuda="12.8")
    return build_table(
        cpu,
        results(["transformer", "seqboat"], [1024, 4096], path="gpu.jsonl", environment=gpu, slower=0.01),
        published=True,
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("made", [one_run, several_runs])
def test_golden_output(form, made):
    text = render(made(), form) + "\n"
    path = GOLDEN / f"{made.__name__}.{form}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_keeps_the_interval(form):
    table = build_table(results(["transformer", "seqboat"]))
    fast = table.rows[1]
    text = render(table, form)
    wanted = [f"{fast.speed_low:.2f}", f"{fast.speed_high:.2f}"]
    if form in ("csv", "json"):
        wanted = [repr(fast.speed_low), repr(fast.speed_high)]
    assert all(figure in text for figure in wanted)


def test_json_keeps_its_contract_with_null_for_what_was_not_measured():
    rows = json.loads(render(one_run(), "json"))
    assert all(set(row) >= CONTRACT for row in rows)
    (failed,) = [row for row in rows if row["status"] == "oom"]
    assert failed["speed_ratio"] is None
    assert failed["peak_memory_bytes"] is None


def test_csv_has_a_column_for_every_figure_and_nothing_for_what_is_missing():
    rows = list(csv.DictReader(io.StringIO(render(one_run(), "csv"))))
    assert set(rows[0]) >= CONTRACT
    assert [row["speed_ratio"] for row in rows if row["status"] == "oom"] == [""]


def test_the_best_is_bold_and_the_second_underlined_within_rows_that_compare():
    lines = render(several_runs(), "markdown").splitlines()
    boat = [line for line in lines if line.startswith("| SeqBoat")]
    assert len(boat) == 4
    assert all("| **61.70** |" in line for line in boat)
    transformers = [line for line in lines if line.startswith("| Transformer")]
    assert all("| <u>37.11</u> |" in line and "| X |" in line for line in transformers)


def test_a_model_that_failed_is_not_ranked_and_its_published_figures_are():
    table = build_table(results(["transformer", "seqboat"], failed={"seqboat": "oom"}))
    (boat,) = [line for line in render(table, "markdown").splitlines() if line.startswith("| SeqBoat")]
    assert "X<sup>a</sup>" in boat
    assert "**10.4**" in boat


def test_the_length_is_said_once_or_has_a_column():
    assert "length 4096" in render(one_run(), "terminal")
    assert "Length" not in render(one_run(), "terminal")
    assert "Length" in render(several_runs(), "terminal")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)

    def handle_data(self, data):
        self.text += data


def test_hostile_names_stay_text():
    table = build_table(results(["transformer", HOSTILE], failed={HOSTILE: "oom"}))
    tags = Tags()
    tags.feed(render(table, "html"))
    assert "script" not in tags.seen
    assert "<script>" in tags.text
    lines = render(table, "markdown").splitlines()
    row = next(line for line in lines if "script" in line)
    assert row.replace(r"\|", "").count("|") == lines[0].count("|")
    assert json.loads(render(table, "json"))[1]["model"] == HOSTILE


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
@pytest.mark.parametrize("made", ["one_run", "several_runs", "hostile"])
def test_the_latex_compiles(made, tmp_path):
    hostile = lambda: build_table(results(["transformer", HOSTILE + "漢字", "mega"]))  # noqa: E731
    table = {"one_run": one_run, "several_runs": several_runs, "hostile": hostile}[made]()
    source = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}",
         r"\begin{document}", render(table, "latex"), r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "table.tex").write_text(source, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    finished = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
