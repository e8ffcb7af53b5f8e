"""`bench export`: a result file for a CI service, a benchmark database or a tracker of experiments."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.console import refuse_inputs, show, write_bytes
from bench.errors import UsageError

app = typer.Typer()


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result file.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="For a CI service: github-action-benchmark, bencher, pytest-benchmark or junit.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="To --out: pytorch-hud (a file), wandb or mlflow (a folder, without a network)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File or folder of --to, file of --format.")
    ] = None,
) -> None:
    """Export a result file for a CI service, for PyTorch's HUD, Weights & Biases or MLflow."""
    from bench.records.reading import read
    from bench.views.ci_formats import export as exported

    if (format_ is None) == (to is None):
        raise UsageError("bench export: give --format, or --to with --out")
    if format_ is not None:
        refuse_inputs(out, [file])
        text = exported(read(file), format_)
        if out is None:
            show(text)
        else:
            write_bytes(out, f"{text}\n".encode())
        return
    writer = _writers().get(to or "")
    if writer is None:
        raise UsageError(f"--to {to}: choose {', '.join(_writers())}")
    if out is None:
        raise UsageError(f"--to {to}: name a {'file' if to == 'pytorch-hud' else 'folder'} with --out")
    refuse_inputs(out, [file])
    writer(read(file), out)
    show(f"{out}: written for {to}")


def _writers() -> Mapping[str, Callable[[Any, Path], None]]:
    from bench.views import pytorch_hud, trackers

    def write_hud(results: Any, out: Path) -> None:
        write_bytes(out, f"{pytorch_hud.as_text(results)}\n".encode())

    return {"pytorch-hud": write_hud, "wandb": trackers.write_wandb, "mlflow": trackers.write_mlflow}
