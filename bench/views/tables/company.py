"""Notes below a table on the machine's load and its other work."""

from bench.records.reading import Results
from bench.records.surroundings import remarks


def company_notes(run: Results) -> list[str]:
    """Notes on what stood in the way while it was measured."""
    header, after = run.header, run.end.surroundings if run.end else None
    sides = 2 if header.environment.pairing == "duet" else 1
    own_load = header.environment.threads * sides
    found = remarks(header.surroundings, after, own_load) if header.surroundings else []
    return [remark.line for remark in found]


def load_lines(run: Results) -> list[str]:
    """The machine's load at both ends, if the file says it."""
    before, after = run.header.surroundings, run.end.surroundings if run.end else None
    if before is None:
        return []
    until = "" if after is None else f", {after.load_average:.1f} when it ended"
    return [f"load {before.load_average:.1f} on {before.cores} cores when it began{until}"]
