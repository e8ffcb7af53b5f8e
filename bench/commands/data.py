"""`bench data`: what a workload is made of."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import Json, as_json, one_length, refuse_record, show, write_bytes

app = typer.Typer()


@app.command()
def data(
    workload: Annotated[
        str,
        typer.Argument(
            help="A workload's name (bench list workloads), tokens:file.npy, text:file.txt, or "
            "package.module:WORKLOAD."
        ),
    ],
    length: Annotated[
        int | None,
        typer.Option(parser=one_length, metavar="STEPS", help="As 4k; by default the published length."),
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences that the statistics are over.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sequences.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Also write samples to this PNG file (workloads of pictures).")
    ] = None,
    json: Json = False,
) -> None:
    """Show where a workload's data comes from, what is missing and how to get it, statistics and a sample."""
    from bench.system import own_models
    from bench.workloads import sheet as datasets

    refuse_record(picture)
    if ":" in workload:
        own_models.look_here()
    sheet = datasets.describe(workload, length, seed, sequences)
    if picture is not None:
        write_bytes(picture, datasets.picture(workload, length, seed))
    show(as_json(sheet) if json else datasets.as_text(sheet))
