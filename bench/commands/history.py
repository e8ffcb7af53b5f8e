"""`bench history`: a model's figure over commits."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import FAILED, complain, refuse_record, show
from bench.commands.store import FOLDER, Folder
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError

app = typer.Typer()


@app.command()
@prints_table("--table")
def history(
    suite: Annotated[str, typer.Option(help="The suite's name, as its runs have it.")],
    model: Annotated[
        str | None, typer.Option(help="The implementation; with --check, by default all of them.")
    ] = None,
    figure: Annotated[str, typer.Option(help="speed, step (seconds) or memory (bytes).")] = "speed",
    baseline: Annotated[str | None, typer.Option(help="Model that speed is against.")] = None,
    store: Folder = FOLDER,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 if the newest confirmed change is for the worse.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="REVISION", help="With --check: only changes after this commit.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Picture: .svg, .png, .pdf, .html or .json.")
    ] = None,
    *,
    shown: Shown,
) -> None:
    """Show a model's figure over commits, where its level changes, and the cause of each change."""
    from bench.views import history as histories
    from bench.views import history_text

    if model is None and not check:
        raise UsageError("--model: name an implementation; only --check looks at all of them")
    if model is None and out is not None:
        raise UsageError("--out: a picture is of one model; name it with --model")
    if since is not None and not check:
        raise UsageError(f"--since {since}: is of --check; give --check too")
    refuse_record(out)
    found = histories.histories(store, suite, model, figure, baseline)
    if out is not None:
        from bench.views.charts import history as history_chart
        from bench.views.charts import style as chart_style

        chart_style.save(history_chart.specification(found[0]), out)
    shown.show(history_text.HistoryTable.of(found, shown.rows, alone=model is not None))
    if check:
        loss = history_text.newest_loss(found, histories.commits_since(since))
        verdict = f"CHANGED: {loss}" if loss else "no confirmed change for the worse"
        (show if shown.form == "terminal" and shown.out is None else complain)(verdict)
        if loss:
            raise typer.Exit(FAILED)
