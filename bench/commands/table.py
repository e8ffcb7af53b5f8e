"""The commands that show what there is and what was measured: list, data, table, plot, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.console import (
    Files,
    FilesOrFolder,
    Json,
    as_json,
    complain,
    known_format,
    print_table,
    show,
    write_bytes,
)

app = typer.Typer()


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="[suites|implementations|workloads]")] = "suites",
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Suites of your own, to list instead.")
    ] = None,
    json: Json = False,
) -> None:
    """What there is: suites, implementations or workloads."""
    from bench.commands import list as listing

    rows = listing.rows(what, files or ())
    show(as_json(rows) if json else listing.as_text(rows))
    for problem in listing.problems(what):
        complain(problem)


@app.command()
def data(
    workload: Annotated[str, typer.Argument(help="A workload's name (bench list workloads).")],
    length: Annotated[
        int | None, typer.Option(min=1, help="Sequence length; by default the published.")
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences that the statistics are over.")] = 96,
    seed: Annotated[int, typer.Option(help="Of the sequences.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Also write samples to this PNG file (workloads of pictures).")
    ] = None,
    json: Json = False,
) -> None:
    """Where a workload's data comes from, what is missing and how to get it, statistics and a sample."""
    from bench.workloads import sheet as datasets

    sheet = datasets.describe(workload, length, seed, sequences)
    if picture is not None:
        write_bytes(picture, datasets.picture(workload, length, seed))
    show(as_json(sheet) if json else datasets.as_text(sheet))


@app.command()
def table(
    files: FilesOrFolder,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, latex, csv, html or json.")
    ] = "terminal",
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="With the accuracies that papers print, and their sources.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the table of one or several result files, merged; of a folder, a column for each task."""
    from bench.records.reading import files_of

    form = "json" if json else known_format(format_)
    results = _read_all(files_of(files))
    print_table(results, form, baseline, published, by_task=any(path.is_dir() for path in files))


@app.command()
def plot(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture: .svg, .png, .html or .json.")],
    chart: Annotated[
        str | None,
        typer.Option(help="speed, growth, trade-off, activation, activation-time, rounds or roofline."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
) -> None:
    """Draw result files; by default growth over lengths, or speed where there is one length."""
    from bench.records.profile import read_profile
    from bench.views.charts import charts
    from bench.views.charts import roofline as roofline_chart
    from bench.views.charts import style as chart_style

    if chart == "roofline":
        chart_style.save(roofline_chart.roofline([read_profile(path) for path in files]), out)
    else:
        chart_style.save(charts.specification(_read_all(files), chart, baseline), out)


@app.command()
def report(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    baseline: Annotated[str | None, typer.Option(help="What ratios are against.")] = None,
) -> None:
    """Write one page with the table, the charts and every raw figure; it needs no network."""
    from bench.views import report as reports

    reports.write(_read_all(files), out, baseline)


def _read_all(files: list[Path]) -> list[Any]:
    """Every run of some result files; a file of several kinds of device holds one for each."""
    from bench.records.reading import read_kinds

    return [run for path in files for run in read_kinds(path)]
