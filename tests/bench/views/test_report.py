"""The report: one page that needs no network, in which hostile names stay text; looked at in Chromium."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ..made_up import results, write

pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')

from bench.errors import UsageError
from bench.views import report

HOSTILE = '</script><script>document.title="pwned"</script><img src=x onerror=alert(1)>:"x"'
MODELS = ["transformer", "mega", "s4", "seqboat"]
MEGABYTE = 1e6


def a_run(**changes):
    options = {"failed": {"mega": "oom"}, "lengths": [1024, 4096], **changes}
    return results(MODELS, **options)


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
    run = a_run()
    page = report.page([run])
    tags = Tags(page)
    assert {name for name, attributes in tags.seen if "src" in attributes} == set()
    assert [attributes["href"] for name, attributes in tags.seen if name == "link"] == ["data:,"]
    assert len(page) < 3 * MEGABYTE
    assert set(block(page, "chart-data")) == {"speed", "growth", "trade-off", "activation", "rounds"}
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
    assert names.count("script") == 4


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

    def __init__(self, browser, path: Path, scheme: str = "light"):
        self.address = path.as_uri()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 900})
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.tab.goto(self.address)

    def column(self, header: str) -> list[str]:
        """What the rows that can be seen have in a column."""
        script = """header => {
            const headers = [...document.querySelectorAll("#rows thead th")];
            const index = headers.findIndex((th) => th.textContent === header);
            const rows = [...document.querySelectorAll("#rows tbody tr")];
            return rows.filter((row) => !row.hidden).map((row) => row.cells[index].textContent);
        }"""
        return self.tab.evaluate(script, header)

    def click(self, header: str) -> None:
        self.tab.locator("#rows thead button", has_text=header).first.click()

    def draw_all(self) -> int:
        charts = self.tab.locator(".chart")
        for number in range(charts.count()):
            charts.nth(number).scroll_into_view_if_needed()
            charts.nth(number).locator("svg").wait_for()
        return charts.count()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the report of some runs, written as files and read again."""
    pages = []

    def open_report(*runs, scheme: str = "light") -> Page:
        from bench.records.reading import read

        path = tmp_path / "report.html"
        report.write([read(write(run, tmp_path)) for run in runs], path)
        pages.append(Page(browser, path, scheme))
        return pages[-1]

    yield open_report
    for page in pages:
        assert page.requests == [page.address], "the page asked for something else than itself"
        assert page.complaints == []
        page.tab.close()


def test_sorting(opened):
    page = opened(a_run())
    before = page.column("Model")
    page.click("ms/step")
    numbers = [float(text) for text in page.column("ms/step") if not text.startswith("X")]
    assert numbers == sorted(numbers, reverse=True)
    assert [text.startswith("X") for text in page.column("ms/step")][-2:] == [True, True]
    page.click("ms/step")
    numbers = [float(text) for text in page.column("ms/step") if not text.startswith("X")]
    assert numbers == sorted(numbers)
    page.click("ms/step")
    assert page.column("Model") == before


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_and_have_tooltips(opened, scheme):
    page = opened(a_run(), scheme=scheme)
    assert page.tab.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.draw_all() == 5
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
    assert page.draw_all() == 5
    page.tab.locator("details[data-case] summary").nth(1).click()
    assert "pwned" not in page.tab.title()
    assert page.tab.evaluate("document.querySelectorAll('img').length") == 0


def test_it_loads_in_under_a_second_and_makes_a_picture(opened, tmp_path):
    page = opened(a_run(blocks=12, rounds=8))
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    milliseconds = [page.tab.evaluate(timing)]
    for _ in range(2):
        page.tab.reload()
        milliseconds.append(page.tab.evaluate(timing))
    page.requests[:] = page.requests[:1]
    assert min(milliseconds) < 1000
    picture = page.tab.screenshot(path=tmp_path / "report.png")
    assert len(picture) > 10_000
