"""`bench plot`: result files as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import Files, read_all, refuse_inputs
from bench.commands.tables import Retitle, retitle

app = typer.Typer()


@app.command()
def plot(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture: .svg, .png, .pdf, .html or .json.")],
    chart: Annotated[
        str | None,
        typer.Option(
            help="speed, growth, throughput, batch, trade-off, activation, activation-time, rounds or "
            "roofline."
        ),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Model that ratios are against.")] = None,
    title: Annotated[
        str | None, typer.Option(help="In place of the chart's own title, and of the files below it.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=50, help="Pixels of the widest panel.")] = None,
    height: Annotated[int | None, typer.Option(min=50, help="Pixels of the highest panel.")] = None,
    rename: Retitle = None,
) -> None:
    """Draw result files; by default growth over lengths, or speed at one; of profiles the roofline."""
    from bench.records.profile import is_profile, read_profile
    from bench.views.charts import charts
    from bench.views.charts import roofline as roofline_chart
    from bench.views.charts import style as chart_style

    refuse_inputs(out, files)
    if chart == "roofline" or (chart is None and all(map(is_profile, files))):
        profiles = [read_profile(path) for path in files]
        with retitle(rename, (profile.case.implementation for profile in profiles)):
            spec = roofline_chart.roofline(profiles)
    else:
        runs = read_all(files)
        with retitle(rename, (model for run in runs for model in run.header.suite.implementations)):
            spec = charts.specification(runs, chart, baseline)
    chart_style.save(chart_style.presented(spec, title, width, height), out)
