"""Charts: what they show, that each can be drawn, and that they say where they come from."""

import importlib
import json
import math
import struct
import sys
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.suites.suite import BatchSizes
from bench.views.charts import data as chart_data
from bench.views.charts import placing as labels
from bench.views.charts.looks import LOOKS, looks_of
from bench.views.history import History, Line, Point
from bench.views.tables.table import build_table

from ..made_up import results

pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')

from bench.views.charts import charts, line_charts, margins
from bench.views.charts import history as history_chart
from bench.views.charts import site as site_chart
from bench.views.charts import style as chart_style

SWEEP = {"implementations": ["transformer", "mega-chunk", "seqboat"], "lengths": [1024, 2048, 4096]}
RATES = {"implementations": ["transformer", "seqboat"], "activation": [0.1, 0.3, 1.0]}
RUNS = {
    "speed": {},
    "growth": SWEEP,
    "throughput": {**SWEEP, "tokens": 8192},
    "batch": {"batch": BatchSizes(cpu=(1, 4, 16))},
    "trade-off": {},
    "activation": {},
    "activation-time": RATES,
    "rounds": {"throttled": "thermal"},
}


@pytest.mark.parametrize("name", charts.CHARTS)
def test_each_chart_is_a_picture_that_names_its_run(name, tmp_path):
    spec = charts.specification([results(**RUNS[name])], name)
    path = tmp_path / f"{name}.svg"
    chart_style.save(spec, path)
    picture = path.read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "run.jsonl: made-up, train, fp32, a processor" in picture


def test_png_html_and_json_come_from_the_same_definition(tmp_path):
    spec = charts.specification([results()])
    for suffix in ("png", "html", "json"):
        chart_style.save(spec, tmp_path / f"figure.{suffix}")
    png = (tmp_path / "figure.png").read_bytes()
    assert png[:4] == b"\x89PNG"
    width, height = struct.unpack(">II", png[16:24])
    assert min(width, height) > 200
    page = (tmp_path / "figure.html").read_text(encoding="utf-8")
    assert "<script src=" not in page, "the page must work without a network"
    assert json.loads((tmp_path / "figure.json").read_text())["title"] == spec["title"]


def test_a_hostile_name_stays_text_in_a_page(tmp_path):
    hostile = 'x</script><script>alert(1)</script>:"x"'
    run = results(["transformer", hostile], path=f"{hostile}.jsonl")
    chart_style.save(charts.specification([run]), tmp_path / "figure.html")
    page = (tmp_path / "figure.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    assert "<script>alert" not in page


def test_throughput_tells_the_batch_at_each_length():
    run = results(["transformer", "seqboat"], [1024, 2048], tokens=8192)
    points = chart_data.throughput(build_table(run).rows)
    assert [(p["model"], p["length"], p["label"]) for p in points] == [
        ("Transformer", 1024, "× 8"),
        ("Transformer", 2048, "× 4"),
        ("SeqBoat", 1024, "× 8"),
        ("SeqBoat", 2048, "× 4"),
    ]
    first, second = points[:2]  # Of equal tokens; its time grows with the square of the length.
    assert first["value"] == pytest.approx(4 * second["value"])
    assert chart_data.throughput(build_table(results()).rows) == []


def test_the_legend_of_throughput_names_every_line(tmp_path):
    """A layer without a legend takes it from all that share its scale."""
    run = results(["transformer", "seqboat"], [1024, 2048], batch=BatchSizes(cpu=(1, 4)))
    chart_style.save(charts.specification([run], "throughput"), tmp_path / "throughput.svg")
    picture = (tmp_path / "throughput.svg").read_text(encoding="utf-8")
    assert [f">{name}<" in picture for name in ("SeqBoat, batch 1", "SeqBoat, batch 4")] == [True, True]


def test_lines_over_batches_are_of_one_length_and_both_quantities():
    run = results(["transformer", "s4"], [1024, 2048], batch=BatchSizes(cpu=(1, 4)))
    points = chart_data.over_batches(build_table(run).rows)
    lines = {(p["model"], p["quantity"]) for p in points}
    assert ("S4, length 1024", "Tokens/s") in lines
    assert len(lines) == 2 * 2 * 2
    assert {p["batch"] for p in points} == {1, 4}


def test_the_exponent_is_the_slope_that_was_measured():
    points = chart_data.growth(build_table(results(**SWEEP)).rows)
    exponents = {(p["model"], p["quantity"]): p["exponent"] for p in points}
    assert exponents["Transformer", "Step time (s)"] == pytest.approx(2.0, abs=0.01)
    assert exponents["SeqBoat", "Step time (s)"] == pytest.approx(1.0, abs=0.01)
    labels = [p["label"] for p in points if p["label"] and p["quantity"] == "Step time (s)"]
    assert labels == ["Transformer  L^2.00", "MEGA-chunk  L^1.00", "SeqBoat  L^1.00"]


def test_rows_that_failed_are_in_no_chart():
    failed = results(failed={"seqboat": "oom"})
    assert "SeqBoat" not in {point["model"] for point in chart_data.ratios(build_table(failed).rows)}
    assert "SeqBoat" not in {point["model"] for point in chart_data.rounds([failed])}


def test_the_same_model_at_several_rates_has_a_name_for_each():
    names = {point["model"] for point in chart_data.ratios(build_table(results(**RATES)).rows)}
    wanted = {"Transformer", *(f"SeqBoat, activation {rate:g}" for rate in RATES["activation"])}
    assert names == wanted


@pytest.mark.parametrize("titles", [60, LOOKS])
def test_two_models_never_look_the_same(titles):
    looks = looks_of((f"model {number}", f"model {number}") for number in range(titles))
    assert len({(look.colour, look.shape) for look in looks.values()}) == titles


def test_lines_of_one_model_share_its_colour_and_differ_in_shape():
    looks = looks_of([("SeqBoat", f"SeqBoat, activation {number}") for number in range(7)])
    assert len({look.colour for look in looks.values()}) == 1
    assert len({look.shape for look in looks.values()}) == 7
    assert looks["SeqBoat, activation 0"] == looks_of([("SeqBoat", "SeqBoat")])["SeqBoat"]


def looks_in(part, found=None):
    """Every colour and shape that a name has anywhere in a specification."""
    found = {} if found is None else found
    if isinstance(part, list):
        for each in part:
            looks_in(each, found)
    elif isinstance(part, dict):
        for channel in ("color", "shape"):
            scale = part.get(channel, {}).get("scale", {}) if isinstance(part.get(channel), dict) else {}
            for name, value in zip(scale.get("domain", []), scale.get("range", []), strict=False):
                found.setdefault((name, channel), set()).add(value)
        for each in part.values():
            looks_in(each, found)
    return found


MIXED = ["a.model:build", "transformer", "mega", "seqboat", "b.model:build", "s4", "mega-chunk"]


def test_a_model_has_one_colour_and_shape_in_all_charts_of_all_files():
    """Also where some charts lack some models, and another file has them in another order."""
    runs = [
        results(MIXED, failed={"mega": "oom"}, lengths=[1024, 4096]),
        results([*reversed(MIXED)], workload="listops"),
        results(["s4", "a.model:build"]),
    ]
    found = {}
    for run in runs:
        for spec in charts.available([run]).values():
            looks_in(spec, found)
    assert {name for name, _ in found} >= {"SeqBoat", "MEGA", "S4", "a.model", "b.model"}
    assert {key: values for key, values in found.items() if len(values) > 1} == {}


@pytest.mark.parametrize("name", ["activation", "rounds"])
def test_legends_are_in_the_order_of_the_table(name):
    run = results(["seqboat", "transformer", "mega-chunk", "mega"])
    order = [row.title for row in build_table(run).rows]
    (domain,) = {
        tuple(part["scale"]["domain"])
        for part in parts_of(charts.specification([run], name))
        if part.get("field") == "model" and "scale" in part
    }
    assert list(domain) == [title for title in order if title in domain]
    assert len(domain) > 1 or name == "activation"


def parts_of(spec):
    """Every object within a specification."""
    if isinstance(spec, dict):
        yield spec
    for each in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        yield from parts_of(each)


def test_panels_of_all_lengths_have_one_scale():
    spec = charts.specification([results(**SWEEP)], "speed")
    domains = {
        tuple(part["scale"]["domain"])
        for part in parts_of(spec)
        if part.get("field") == "speed" and "scale" in part
    }
    assert len(domains) == 1


def test_an_axis_speaks_of_intervals_only_where_there_are_some():
    with_intervals, without = (
        json.dumps(charts.specification([results(blocks=blocks)], "speed")) for blocks in (3, 1)
    )
    assert "Speed, 95% interval" in with_intervals
    assert "95% interval" not in without


@given(st.lists(st.floats(0, 300), max_size=20))
def test_names_in_a_margin_are_apart_and_in_order(wanted):
    placed = labels.spread(wanted, 300.0)
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    assert all(placed[b] - placed[a] >= labels.LINE - 1e-6 for a, b in pairwise(order))
    assert min(placed, default=0) >= 0
    if len(wanted) * labels.LINE <= 300:
        assert max(placed, default=0) <= 300 + 1e-6


def test_names_of_lines_stand_right_of_them_all():
    spec = charts.specification([results(**SWEEP)], "growth")
    words = [part for part in parts_of(spec) if part.get("text", {}) == {"field": "label", "type": "nominal"}]
    assert words
    assert all(part["x"]["value"] == line_charts.PANEL + 28 for part in words)


def test_names_keep_away_from_lines():
    points = [{"speed": 10.0, "accuracy": 80.0, "label": "a name", "radius": 4}]
    x, y = labels.Axis.around([1.0, 100.0], 500, 60, log=True), labels.Axis.around([70.0, 90.0], 300, 50)
    above, beside = [(1.0, 82.0), (100.0, 82.0)], [(1.0, 80.0), (100.0, 80.0)]
    for line in (above, beside):
        (placed,) = labels.place(points, ("speed", x), ("accuracy", y), [line])
        distance = abs(y.pixel(placed["label_y"]) - y.pixel(line[0][1]))
        assert distance >= labels.LINE / 2


@given(
    st.lists(
        st.tuples(st.floats(0, 700), st.text("abc ×", min_size=1, max_size=30)), max_size=12, unique=True
    )
)
def test_words_above_a_chart_cover_neither_each_other_nor_the_lines_they_stand_on(changes):
    places, texts = [place for place, _ in changes], [text for _, text in changes]
    rows = margins.rows_above(places, texts)
    spans = [
        (place, place + labels.LETTER * len(text), row)
        for (place, text), row in zip(changes, rows, strict=True)
    ]
    for (begin, end, row), (other, other_end, higher) in permutations(spans, 2):
        if row == higher:
            assert end <= other or other_end <= begin
        if row < higher:
            assert not begin < other < end, "a line would go through a text"


@example([(50.0, 3.0), (50.00000000000001, 3.0)])
@given(st.lists(st.tuples(st.floats(50, 90), st.floats(3, 20)), min_size=1, max_size=8))
def test_names_stay_in_the_chart_and_cover_neither_each_other_nor_points_where_there_is_room(places):
    points = [
        {"speed": 3.0**number, "accuracy": accuracy, "label": f"model {number}", "radius": radius}
        for number, (accuracy, radius) in enumerate(places)
    ]
    x = labels.Axis.around([point["speed"] for point in points], 2000, padding=120, log=True)
    y = labels.Axis.around([point["accuracy"] for point in points], 400, padding=60)
    placed = labels.place(points, ("speed", x), ("accuracy", y))
    names = [
        labels.Box(x.pixel(p["label_x"]), y.pixel(p["label_y"]), labels.LETTER * len(p["label"]), labels.LINE)
        for p in placed
    ]
    bubbles = [
        labels.Box(x.pixel(p["speed"]), y.pixel(p["accuracy"]), 2 * p["radius"], 2 * p["radius"])
        for p in placed
    ]
    assert all(0 < box.x < x.pixels and 0 < box.y < y.pixels for box in names)
    assert all(one.overlap(other) < 1e-6 for one, other in combinations(names, 2))
    assert all(name.overlap(bubble) < 1e-6 for name in names for bubble in bubbles)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [1.0, 2.0, 50.0])
def test_an_axis_around_values_a_rounding_apart_leaves_room(value, log):
    values = [value, math.nextafter(value, math.inf)]
    axis = labels.Axis.around(values, 300, 20, log=log)
    assert [axis.pixel(each) for each in values] == pytest.approx([150, 150])


def test_a_crowd_of_points_gets_names_further_away_with_lines():
    points = [
        {"speed": 1.0 + number / 1000, "accuracy": 80.0, "label": "a name", "radius": 5}
        for number in range(7)
    ]
    x, y = labels.Axis.around([0.5, 2.0], 500, 60), labels.Axis.around([70.0, 90.0], 300, 50)
    placed = labels.place(points, ("speed", x), ("accuracy", y))
    assert [point["far"] for point in placed][:4] == [False] * 4
    assert placed[-1]["far"]


@pytest.mark.parametrize("name", ["activation", "activation-time", "rounds"])
def test_charts_without_names_at_their_points_have_a_legend(name, tmp_path):
    path = tmp_path / "figure.svg"
    chart_style.save(charts.specification([results(**RUNS[name])], name), path)
    assert "role-legend-label" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words"),
    [("growth", "at two lengths or more"), ("activation-time", "two activation rates"), ("pie", "choose")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line_that_says_what_it_needs(name, words):
    with pytest.raises(UsageError, match=words) as caught:
        charts.specification([results()], name)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.svg"):
        chart_style.save(charts.specification([results()]), tmp_path / "figure.gif")
    with pytest.raises(UsageError, match="cannot be written"):
        chart_style.save(charts.specification([results()]), tmp_path / "none" / "figure.json")


def test_a_missing_library_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.delitem(sys.modules, "bench.views.charts.style")
    with pytest.raises(UsageError, match=r'needs altair: pip install "seqboat-bench\[report\]"'):
        importlib.import_module("bench.views.charts.style")


def a_line(title):
    point = {"subject": None, "created": "2026-01-01", "run": "r", "status": "ok", "reason": None}
    points = [
        Point(commit=f"{number:040d}"[::-1], value=1.0 + number, low=None, high=None, **point)
        for number in range(3)
    ]
    machine = {"device": "cpu", "hardware": "a processor", "threads": 2, "torch": "2"}
    machine |= {"allocator": None, "variables": None}
    return Line(
        name=title, case_id="seqboat/x", baseline=None, pairing="turns", data="d", points=points, changes=[],
        **machine,
    )  # fmt: skip


def test_history_and_site_draw_a_model_as_reports_do():
    line = a_line("SeqBoat")
    look = looks_of([("SeqBoat", "SeqBoat")])["SeqBoat"]
    record = History(model="seqboat", suite="s", figure="step", order="commit", lines=[line])
    drawn = {
        (part["mark"]["color"], part["mark"]["shape"])
        for part in parts_of(history_chart.specification(record))
        if isinstance(part.get("mark"), dict) and part["mark"]["type"] == "point"
    }
    assert drawn == {(look.colour, look.shape)}
    site = site_chart.specification([("SeqBoat", line)], "step", {"SeqBoat": look})
    report = looks_in(charts.specification([results(["transformer", "seqboat"])], "speed"))
    for channel in ("color", "shape"):
        assert looks_in(site)["SeqBoat", channel] == report["SeqBoat", channel]
    assert report["SeqBoat", "color"] == {look.colour}


BOXES = st.builds(labels.Box, *[st.floats(0, 100)] * 2, *[st.floats(1, 50)] * 2)


@given(BOXES, st.lists(BOXES, max_size=8))
def test_a_names_cost_is_all_that_it_covers(box, taken):
    """Though most of what is there is passed over, as too far away."""
    frame = labels.Box(50, 50, 1000, 1000)
    assert labels._cost(box, frame, taken) == pytest.approx(
        box.width * box.height - box.overlap(frame) + sum(map(box.overlap, taken)), abs=1e-6
    )
