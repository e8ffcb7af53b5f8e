"""The report: one page that needs no network, in which hostile names stay text; looked at in Chromium."""

import base64
import functools
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..made_up import results, write

pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')

from bench.errors import UsageError
from bench.views import report
from bench.views.charts.looks import COLOURS, ON_DARK
from bench.views.tables.naming import SETTINGS
from bench.views.tables.table import build_table

HOSTILE = '</script><script>document.title="pwned"</script><img src=x onerror=alert(1)>:"x"'
MODELS = ["transformer", "mega", "s4", "seqboat"]
MEGABYTE = 1e6
CHARTS = ("speed", "growth", "trade-off", "throughput", "activation", "rounds")
"""Charts of a run of several lengths."""


def a_run(**changes):
    options = {"failed": {"mega": "oom"}, "lengths": [1024, 4096], **changes}
    return results(MODELS, **options)


@functools.cache
def page_of_a_run() -> str:
    return report.page([a_run()])


class Tags(HTMLParser):
    """The elements of a page, as a browser would find them."""

    def __init__(self, page: str):
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def block(page: str, name: str):
    (text,) = re.findall(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.DOTALL
    )
    return json.loads(text)


def test_the_page_holds_everything_and_refers_to_nothing():
    run, page = a_run(), page_of_a_run()
    tags = Tags(page)
    assert {name for name, attributes in tags.seen if "src" in attributes} == set()
    assert [attributes["href"] for name, attributes in tags.seen if name == "link"] == ["data:,"]
    assert {a["href"].partition(":")[0] for n, a in tags.seen if n == "a" and a["href"][0] != "#"} == {"data"}
    assert len(page) < 3 * MEGABYTE
    assert set(block(page, "chart-data")) == set(CHARTS)
    rounds = block(page, "sample-data")
    assert sum(map(len, rounds.values())) == len(run.samples)
    for words in (
        "a processor",
        "bench run --suite made-up",
        "Tried to allocate 64.0 GiB",
        "0123456789abcdef",
    ):
        assert words in page


def test_a_long_run_stays_under_three_megabytes():
    assert len(report.page([a_run(blocks=12, rounds=16, lengths=[512, 1024, 2048, 4096])])) < 3 * MEGABYTE


def test_hostile_names_stay_text_in_every_part_of_the_page():
    page = report.page([results(["transformer", HOSTILE], path=f"{HOSTILE}.jsonl", failed={HOSTILE: "oom"})])
    names = [name for name, _ in Tags(page).seen]
    assert "img" not in names
    assert names.count("script") == 5


class Table(HTMLParser):
    """The tables of models of a page: headers, headings of groups and rows of texts."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: list[dict[str, list]] = []
        self.cell: list[str] | None = None
        self.kind = ""
        self.inside = self.skip = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "table" and attributes.get("class") == "rows":
            self.inside = True
            self.tables.append({"headers": [], "published": [], "groups": [], "rows": []})
        if not self.inside:
            return
        if tag == "tr":
            self.kind = attributes.get("class") or ("row" if "data-status" in attributes else "head")
            if self.kind == "row":
                self.tables[-1]["rows"].append([])
        if tag in ("th", "td"):
            self.cell = []
            if self.kind == "head":
                self.tables[-1]["published"].append("published" in attributes["class"].split())
        self.skip = tag in ("sup", "a") or attributes.get("class") == "about"

    def handle_data(self, data):
        if self.cell is not None and not self.skip:
            self.cell.append(data)

    def handle_endtag(self, tag):
        self.skip = False
        self.inside = self.inside and tag != "table"
        if tag in ("th", "td") and self.cell is not None:
            table, text = self.tables[-1], "".join(self.cell).strip()
            place = {"head": table["headers"], "group": table["groups"]}.get(self.kind)
            (table["rows"][-1] if place is None else place).append(text)
            self.cell = None


def test_what_was_measured_comes_first_and_papers_figures_wait_for_their_switch():
    page = page_of_a_run()
    (headers, published) = (Table(page).tables[0][key] for key in ("headers", "published"))
    assert headers[:4] == ["Model", "Speed (× Transformer)", "95% interval", "Mem (× Transformer)"]
    assert published == sorted(published), "measured columns stand before the others"
    assert [header for header, paper in zip(headers, published, strict=True) if paper] == [
        "ListOps", "Text", "Retrieval", "Image", "Pathfinder", "Path-X", "Average",
        "Published speed", "Published mem",
    ]  # fmt: skip
    assert ("input", "published") in [(tag, attributes.get("id")) for tag, attributes in Tags(page).seen]


def test_own_models_have_no_columns_of_papers_and_no_switch():
    page = report.page([results(["a.model:build", "b.model:build"], workload="listops")])
    assert not any(Table(page).tables[0]["published"])
    assert "published" not in [attributes.get("id") for _, attributes in Tags(page).seen]


def test_groups_are_those_of_the_terminals_table():
    run = results()
    (grid,) = build_table(run).grids()
    (table,) = Table(report.page([run])).tables
    assert table["groups"] == [section.heading for section in grid.sections]
    assert [row[0] for row in table["rows"]] == [
        cells[0].text for part in grid.sections for cells in part.rows
    ]
    alone = Table(report.page([results(["s4", "seqboat"])])).tables[0]
    assert alone["groups"] == []


def test_each_length_has_a_section_with_its_result():
    run = results(MODELS, lengths=[1024, 4096])
    page = report.page([run])
    assert re.findall(r"<h3[^>]*>([^<]*)</h3>", page) == ["Length 1024", "Length 4096"]
    tables = Table(page).tables
    assert [len(table["rows"]) for table in tables] == [4, 4]
    assert all("Length" not in table["headers"] for table in tables)
    rows = {(row.length, row.title): row for row in build_table(run).rows}
    for table, length in zip(tables, (1024, 4096), strict=True):
        shown = {row[0]: row[1] for row in table["rows"]}
        assert shown == {title: f"{row.speed_ratio:.2f}" for (at, title), row in rows.items() if at == length}
    top, short, long = re.findall(r"<p(?: class=\"result\")?>([^<]*SeqBoat is[^<]*)</p>", page)
    assert top == f"At length 4096: {long}"
    assert short != long
    one = report.page([results(MODELS)])
    assert "<h3" not in one
    assert len(re.findall(r"SeqBoat is", one)) == 1


@pytest.mark.parametrize(
    "settings", [{}, {"phase": "decode", "workload": "lm"}, {"lengths": [1024, 4096], "workload": "listops"}]
)
def test_every_column_says_what_it_is(settings):
    page = report.page([results(["transformer", "s4"], **settings)])
    table = Table(page).tables[0]
    places = re.findall(r'data-help="([^"]+)"', page)[: len(table["headers"])]
    meanings = dict(re.findall(r'<dd id="(help-[^"]+)"[^>]*>([^<]+)</dd>', page))
    assert len(places) == len(table["headers"])
    assert all(len(meanings[place]) > 10 for place in places)


def test_every_setting_says_what_it_is():
    assert [setting.header for setting in SETTINGS if len(setting.help) < 10] == []


def test_the_csv_has_every_figure():
    (found,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', page_of_a_run())
    assert base64.b64decode(found).decode() == build_table(a_run(), published=True).render("csv")


def test_a_letter_beside_an_x_leads_to_the_reason():
    page = page_of_a_run()
    (letter,) = set(re.findall(r'<sup><a href="#note-(\w+)"', page))
    (note,) = re.findall(rf'<p class="note" id="note-{letter}">([^<]*)</p>', page)
    assert "Tried to allocate 64.0 GiB" in note


def test_parts_have_names_for_those_who_do_not_see_them():
    seen = Tags(page_of_a_run()).seen
    regions = [attributes for _, attributes in seen if attributes.get("role") == "region"]
    assert len(regions) > 5
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    assert [name for name, _ in seen].count("caption") == 2
    assert all("scope" in attributes for name, attributes in seen if name == "th")
    identities = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        report.write([a_run()], tmp_path / "none" / "report.html")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason='needs pip install "seqboat-bench[browser]"'
    )
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


class Page:
    """A report, opened; what it asked for and complained of."""

    def __init__(self, browser, path: Path, scheme: str = "light", width: int = 1400):
        self.address = path.as_uri()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.tab.goto(self.address)

    def column(self, header: str) -> list[str]:
        """What the rows that can be seen have in a column."""
        script = """header => {
            const headers = [...document.querySelectorAll("table.rows")[0].tHead.rows[0].cells];
            const index = headers.findIndex((th) => th.querySelector(".sort").textContent === header);
            const rows = [...document.querySelectorAll("table.rows tbody tr")];
            const shown = rows.filter((row) => row.checkVisibility() && !row.classList.contains("group"));
            return shown.map((row) => row.cells[index].textContent);
        }"""
        return self.tab.evaluate(script, header)

    def headers(self) -> list[str]:
        """Those of the first table that can be seen."""
        script = """() => [...document.querySelector("table.rows").querySelectorAll(".sort")]
            .filter((button) => button.checkVisibility()).map((button) => button.textContent)"""
        return self.tab.evaluate(script)

    def click(self, header: str) -> None:
        self.tab.locator("table.rows thead .sort", has_text=header).first.click()

    def draw_all(self) -> int:
        """Waits for the charts, which are drawn without being looked at."""
        count = self.tab.locator("figure[data-chart]").count()
        self.tab.wait_for_function(
            "count => document.querySelectorAll('figure svg[role=img]').length === count", arg=count
        )
        return count

    def width(self) -> int:
        return self.tab.evaluate("document.documentElement.scrollWidth")


@pytest.fixture(scope="module")
def reports() -> dict[tuple[bytes, ...], bytes]:
    """Reports that were written before, by the files that they are of."""
    return {}


@pytest.fixture
def opened(browser, tmp_path, reports):
    """Opens the report of some runs, written as files and read again."""
    pages = []

    def open_report(*runs, scheme: str = "light", width: int = 1400) -> Page:
        from bench.records.reading import read

        path = tmp_path / "report.html"
        files = [write(run, tmp_path) for run in runs]
        content = tuple(file.read_bytes() for file in files)
        if content not in reports:
            report.write(list(map(read, files)), path)
            reports[content] = path.read_bytes()
        path.write_bytes(reports[content])
        pages.append(Page(browser, path, scheme, width))
        return pages[-1]

    yield open_report
    for page in pages:
        assert page.requests == [page.address], "the page asked for something else than itself"
        assert page.complaints == []
        page.tab.close()


def test_sorting_takes_the_best_first(opened):
    page = opened(a_run(lengths=[4096]))
    before = page.column("Model")
    groups = page.tab.locator("tr.group")
    assert groups.count() == 2
    for column, best_is_most in (("ms/step", False), ("Speed (× Transformer)", True)):
        for reverse in (best_is_most, not best_is_most):
            page.click(column)
            shown = page.column(column)
            numbers = [float(text) for text in shown if not text.startswith("X")]
            assert numbers == sorted(numbers, reverse=reverse)
            assert [text.startswith("X") for text in shown] == [False, False, False, True]
            assert not groups.first.is_visible()
        page.click(column)
        assert page.column("Model") == before
        assert groups.first.is_visible()


def test_filtering(opened):
    page = opened(a_run())
    page.tab.fill("#filter", "seqboat 4096")
    assert page.column("Model") == ["SeqBoat"]
    page.tab.fill("#filter", "")
    page.tab.select_option("#class", "quadratic")
    assert set(page.column("Model")) == {"Transformer", "MEGA"}
    page.tab.check("#finished")
    assert set(page.column("Model")) == {"Transformer"}
    assert page.tab.text_content("#count") == "2 of 8 rows"


def test_the_switch_shows_what_papers_print(opened):
    page = opened(a_run())
    assert "Path-X" not in page.headers()
    page.tab.check("#published")
    assert page.headers()[-2:] == ["Published speed", "Published mem"]
    assert page.column("Text")[0] == "65.21"


def test_a_column_explains_itself(opened):
    page = opened(a_run(), width=390)
    page.tab.get_by_label("About Mem (× Transformer)").first.click()
    about = page.tab.locator("#about")
    assert about.is_visible()
    assert about.inner_text().startswith("Peak memory of a step over that of Transformer")
    box = about.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_and_keeps_the_models_in_view(opened, scheme):
    page = opened(a_run(), scheme=scheme, width=390)
    page.draw_all()
    assert page.width() == 390
    page.tab.check("#published")
    page.tab.locator("#cases summary").first.click()
    page.tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.width() == 390
    name = page.tab.locator("table.rows tbody th[scope=row]").first
    before = name.bounding_box()["x"]
    assert page.tab.evaluate("(document.querySelector('.wide').scrollLeft = 250)") == 250
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)
    last = page.tab.locator("table.rows tbody tr:not(.group)").first.locator("td").nth(3)
    assert last.bounding_box()["x"] < before + 390


def test_figures_and_pictures_are_saved_without_a_network(opened, tmp_path):
    page = opened(a_run(), scheme="dark")
    page.draw_all()
    with page.tab.expect_download() as download:
        page.tab.click("text=All figures as CSV")
    assert download.value.suggested_filename == "made-up.csv"
    download.value.save_as(tmp_path / "figures.csv")
    assert (tmp_path / "figures.csv").read_text(encoding="utf-8").startswith("model,title,")
    with page.tab.expect_download() as download:
        page.tab.click("#chart-trade-off button.svg")
    assert download.value.suggested_filename == "made-up-trade-off.svg"
    download.value.save_as(tmp_path / "chart.svg")
    picture = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    words = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert "Published accuracy, measured speed" in words
    assert "#e8e8e8" not in words, "a picture for paper is light, whatever the page"
    page.requests[:] = [one for one in page.requests if not one.startswith(("data:", "blob:"))]


def test_paper_has_every_chart_and_no_dark(opened):
    """A printer does not wait: all is there when the event has been handled."""
    page = opened(a_run(), scheme="dark")
    page.draw_all()
    script = """() => {
        document.querySelectorAll("figure svg").forEach((picture) => picture.remove());
        window.dispatchEvent(new Event("beforeprint"));
        return [...document.querySelectorAll("figure")].map((one) => one.querySelector("svg").outerHTML);
    }"""
    drawn = page.tab.evaluate(script)
    assert len(drawn) == len(CHARTS)
    assert not any(colour in picture for picture in drawn for colour in ("#e8e8e8", "#F0F0F0"))
    assert page.tab.evaluate("document.getElementById('help').open")
    page.tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.tab.wait_for_function("document.querySelector('figure svg').outerHTML.includes('#e8e8e8')")
    assert page.tab.pdf().startswith(b"%PDF")


def test_a_dark_page_has_no_dark_marks(opened):
    page = opened(a_run(), scheme="dark")
    page.draw_all()
    script = """() => [...document.querySelectorAll("figure svg *")].flatMap((mark) =>
        ["fill", "stroke"].map((name) => mark.getAttribute(name)).filter((value) => value))"""
    used = {value for value in page.tab.evaluate(script) if value not in ("none", "transparent")}
    assert used & set(ON_DARK)
    assert not used & ({*COLOURS, "#000", "black", "#333", "#555"} - {"#56B4E9"}), used


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 390)])
def test_axe_finds_nothing(opened, scheme, width):
    axe = os.environ.get("AXE")
    if axe is None:
        pytest.skip("needs axe-core: AXE=axe.min.js of `npm pack axe-core`")
    page = opened(a_run(), scheme=scheme, width=width)
    page.draw_all()
    page.tab.evaluate(Path(axe).read_text(encoding="utf-8"))
    found = page.tab.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_and_have_tooltips(opened, scheme):
    page = opened(a_run(), scheme=scheme)
    assert page.tab.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.draw_all() == len(CHARTS)
    page.tab.locator("#chart-trade-off .mark-symbol path").first.hover()
    tooltip = page.tab.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "accuracy" in tooltip.text_content()


def test_rounds_are_shown_when_a_case_is_opened(opened):
    page = opened(a_run(blocks=3, rounds=2))
    details = page.tab.locator("details[data-case]").first
    details.locator("summary").click()
    details.locator(".rounds tr").nth(1).wait_for()
    assert details.locator(".rounds tr").count() == 1 + 3 * 2 * 2


def test_hostile_names_run_nothing(opened):
    page = opened(results(["transformer", HOSTILE, "seqboat"], lengths=[1024, 4096]))
    assert page.draw_all() == len(CHARTS)
    page.tab.locator("details[data-case] summary").nth(1).click()
    assert "pwned" not in page.tab.title()
    assert page.tab.evaluate("document.querySelectorAll('img').length") == 0


def test_it_makes_a_picture(opened, tmp_path):
    page = opened(a_run())
    page.draw_all()
    assert len(page.tab.screenshot(path=tmp_path / "report.png")) > 10_000
