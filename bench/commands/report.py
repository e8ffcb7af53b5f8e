"""`bench report`: result files as one page."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import Files, read_all, refuse_inputs
from bench.commands.tables import Retitle, retitle

app = typer.Typer()


@app.command()
def report(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    baseline: Annotated[str | None, typer.Option(help="Model that ratios are against.")] = None,
    rename: Retitle = None,
) -> None:
    """Write one page with the table, the charts and every raw figure; it needs no network."""
    from bench.views import report as reports

    refuse_inputs(out, files)
    runs = read_all(files)
    with retitle(rename, (model for run in runs for model in run.header.suite.implementations)):
        reports.write(runs, out, baseline)
