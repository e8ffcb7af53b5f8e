"""A profile in the terminal: a tree of stages, memory over the step, and what the profiling itself cost."""

from collections.abc import Iterator

from bench.records.profile import Node, Profile, tree
from bench.records.surroundings import remarks
from bench.text.text_table import text_table
from bench.text.units import format_bytes, format_count, format_duration

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 72


def as_text(profile: Profile) -> str:
    """Tree, memory, ceilings and overhead."""
    nodes = list(tree(profile))
    body = text_table(
        [_cells(profile, node, nodes[0].total.seconds) for node in nodes],
        ["Stage", "Forward", "Backward", "Share", "Calls", "FLOPs", "Bytes moved", "Roofline", "Peak memory"],
        ["left", *["right"] * 8],
    )
    return "\n".join([_title(profile), "", body, "", *_memory(profile), "", *_below(profile)])


def _title(profile: Profile) -> str:
    return f"{profile.case.id} on {profile.environment.words}"


def _cells(profile: Profile, node: Node, whole: float) -> list[str]:
    total = node.total
    # Box-drawing bars: leading blanks would be stripped.
    name = "│ " * max(0, node.depth - 1) + ("├ " if node.depth else "") + node.name
    share = f"{total.seconds / whole:.1%}" if whole else "–"
    roofline = f"{profile.ideal_seconds(total) / total.seconds:.0%}" if total.seconds and total.bytes else "–"
    return [
        name,
        _duration(node.forward.seconds),
        _duration(node.backward.seconds),
        share,
        str(node.calls) if node.calls else "–",
        format_count(total.flops) if total.flops else "–",
        format_bytes(total.bytes) if total.bytes else "–",
        roofline,
        format_bytes(node.peak_bytes) if node.peak_bytes else "–",
    ]


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if 0 < seconds < 1 else format_duration(seconds) if seconds else "–"


def _memory(profile: Profile) -> Iterator[str]:
    """Live tensor bytes over the step, as bars from zero to the peak."""
    if not profile.timeline:
        return
    peak = max(profile.timeline, key=lambda point: point[1])
    columns = [0] * WIDTH
    for place, live, _ in profile.timeline:
        column = min(WIDTH - 1, int(place * WIDTH))
        columns[column] = max(columns[column], live)
    for number in range(1, WIDTH):
        # A step of few operators leaves columns empty; memory stays as it was.
        columns[number] = columns[number] or columns[number - 1]
    top = max(peak[1], 1)
    yield "".join(BARS[round(live / top * (len(BARS) - 1))] for live in columns)
    yield f"Live tensor bytes over the step's operators; the peak, {format_bytes(peak[1])}, in {peak[2]}"


def _below(profile: Profile) -> Iterator[str]:
    ceilings = profile.ceilings
    yield (
        f"Ceilings measured here: {ceilings.flops_per_second / 1e9:,.4g} GFLOP/s (matrix product "
        f"{ceilings.matrix}), {format_bytes(ceilings.bytes_per_second)}/s (copy of {ceilings.copy})"
    )
    yield (
        "Roofline: the least time that the stage's FLOPs and bytes need under both ceilings, over its time; "
        "above 100% if a cache held what was moved"
    )
    if profile.flops_from != profile.case.implementation:
        yield (
            f"FLOPs, bytes and memory are those of {profile.flops_from}: the fused form hides them in its "
            "Triton kernels, and may move fewer bytes"
        )
    for remark in remarks(profile.surroundings) if profile.surroundings else ():
        yield f"{remark.found}: neither times nor ceilings are those of a quiet machine"
    yield (
        f"Overhead: a step takes {format_duration(profile.plain_seconds)} plain, "
        f"{format_duration(profile.named_seconds)} with its stages named "
        f"({_more(profile.named_seconds, profile.plain_seconds)}), "
        f"{format_duration(profile.profiled_seconds)} under the profiler "
        f"({_more(profile.profiled_seconds, profile.plain_seconds)}); stage times are of the last"
    )


def _more(time: float, plain: float) -> str:
    return f"{time / plain - 1:+.1%}"
