"""Several suites under one name: run one after another into one folder, a result file each."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.measure import session
from bench.measure.request import Request, load_suite, resume_line
from bench.measure.session import Outcome
from bench.records.reading import Results, read_kinds
from bench.suites.collection import Collection
from bench.suites.files import SuiteFile
from bench.text.escape import as_text
from bench.text.units import parse_duration


def run(collection: Collection, request: Request) -> Outcome:
    """Measure suite after suite; what an earlier run of the folder has finished is kept.

    Raises UsageError before anything is measured.
    """
    if "lengths" in request.overrides:
        raise UsageError(f"--length: the suites of {collection.name} have lengths of their own")
    if request.resume is not None and not request.resume.is_dir():
        raise UsageError(
            f"{request.resume}: is not a folder; {collection.name} is resumed by the folder of its runs"
        )
    out = request.out
    folder = request.resume or (out.with_suffix("") if out.suffix == ".jsonl" else out)
    parts = [_part(file, collection, request, folder) for file in collection.files]
    # All of them are checked before the first hours are spent.
    begun = [_begun(part, folder) for part in parts]
    runs: list[Results] = []
    interrupted = False
    for number, (name, part, there) in enumerate(zip(collection.suites, parts, begun, strict=True), 1):
        if finished := [run for run in there if run.ended]:
            runs += finished
            continue
        if not request.quiet:
            print(f"bench: {name} ({number} of {len(parts)})", file=sys.stderr)
        try:
            outcome = session.run(part, resumed_by=folder)
        except KeyboardInterrupt:
            if not runs:
                raise
            interrupted = True  # Before the suite's first record.
            break
        runs += outcome.runs
        if outcome.interrupted:
            interrupted = True
            break
    return Outcome(as_text(folder), runs, interrupted, resume_line(request.command, folder))


def _part(file: SuiteFile, collection: Collection, request: Request, folder: Path) -> Request:
    """The request for one suite, which has its share of the budget."""
    budget = request.budget
    if budget is not None:
        try:
            budget = f"{parse_duration(budget) / len(collection.suites):.3f}s"
        except ValueError as error:
            raise UsageError(f"--budget: {error}") from None
    out = folder / f"{file.path.stem}.jsonl"
    return replace(
        request,
        suite=file,
        out=out,
        overrides=_with_baseline(request.overrides, collection.baseline),
        budget=budget,
        resume=out if request.resume is not None and out.exists() else None,
    )


def _with_baseline(overrides: dict[str, Any], baseline: str) -> dict[str, Any]:
    """The user's changes, with the collection's baseline among the models that she named."""
    if "baseline" in overrides:
        return overrides
    chosen = overrides.get("implementations", [])
    more = {"implementations": [baseline, *chosen]} if chosen and baseline not in chosen else {}
    return {**overrides, **more, "baseline": baseline}


def _begun(part: Request, folder: Path) -> list[Results]:
    """Results of one suite, by kind of device, so far. Raises UsageError if they are of another run."""
    load_suite(part)
    if part.resume is None and part.out.exists():
        raise UsageError(
            f"{part.out}: exists already; continue with --resume {folder}, or choose another --out"
        )
    if not session.has_begun(part.out):
        return []
    found = read_kinds(part.out)
    session.check_resumed(part, found)
    return found
