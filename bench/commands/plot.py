"""`bench plot`: result files as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import Files, read_all

app = typer.Typer()


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
        chart_style.save(charts.specification(read_all(files), chart, baseline), out)
