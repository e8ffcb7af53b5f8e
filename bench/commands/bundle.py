"""`bench bundle`: a run as one file to hand on."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.console import complain, refuse_inputs, show

app = typer.Typer()


@app.command("bundle")
def bundle_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result file.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN.zip", help="The bundle.")],
) -> None:
    """Pack a run into one file: record, suite, packages, uncommitted changes, checksums of the data."""
    from bench.measure.sharing import write_bundle

    refuse_inputs(out, [file])
    manifest = write_bundle(file, out)
    for line in manifest.since:
        complain(f"{file}: since the run, {line}")
    for changes in manifest.changes:
        others = (
            f"; {changes.left_out} new files that are not Python's are left out" if changes.left_out else ""
        )
        show(f"{changes.member}: changes since {changes.commit[:12]} of {', '.join(changes.of)}{others}")
    show(f"{out}: {', '.join(manifest.members)}")
