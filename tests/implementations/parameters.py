"""Parameters of each published model in the official code, and why ours has others.

The official figures are counts of the official classes at the number of symbols, classes and time steps of
our workloads (fairseq's dictionaries have four symbols of their own and `<CLS>` besides). S5's come from
jax.eval_shape; those of Reformer, BigBird, Linformer and Performer, which need a flax that is gone, are sums
of the shapes in their source. Run as a module, this prints the table of docs/models.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench import workloads
from implementations.task import Task

ROOT = Path(__file__).parents[2]

WORKLOADS = {"path_x": "path-x", "enwik8": "lm"}
"""Workloads that are not named as their tasks are."""

LENGTHS = {"text": 4000}
"""Time steps that are not the workload's own: 4000 in the official recipes."""


class Count(NamedTuple):
    """Parameters of a model on a task; because: the reason for a difference."""

    official: int
    ours: int
    because: str = ""


def same(**tasks: int) -> dict[str, Count]:
    return {task: Count(count, count) for task, count in tasks.items()}


def differ(because: str, **tasks: tuple[int, int]) -> dict[str, Count]:
    """Pairs of the official count and ours."""
    return {task: Count(official, ours, because) for task, (official, ours) in tasks.items()}


TABLES = "official tables of relative positions hold two more time steps, for `<CLS>` and an end"
ARENA = (
    "attention has biases, which the official code lacks; there is no class vector and no bias of the "
    "logits; the official head has one more layer on Retrieval"
)

OFFICIAL: Mapping[str, Mapping[str, Count]] = {
    "transformer": same(listops=4232704, text=3490560, retrieval=958848, image=59584, pathfinder=166144),
    "luna-256": same(
        listops=5153792, text=4348160, retrieval=1191040, image=88704, pathfinder=248960, path_x=248960
    ),
    "reformer": differ(
        f"attention has an output projection, which the official one lacks; {ARENA}",
        listops=(6851082, 7901184),
        text=(2962434, 3225344),
        retrieval=(956546, 891776),
        image=(154058, 170560),
        pathfinder=(54338, 62656),
    ),
    "bigbird": differ(
        ARENA,
        listops=(8948234, 8955904),
        text=(3486722, 3490560),
        retrieval=(1087618, 958848),
        image=(248458, 248512),
        pathfinder=(87874, 88512),
    ),
    "linformer": differ(
        f"keys and values have a projection along time each, while the official ones share one; {ARENA}",
        listops=(9076298, 9205760),
        text=(3742786, 3999488),
        retrieval=(1343618, 1469312),
        image=(264858, 281088),
        pathfinder=(30050, 46464),
    ),
    "performer": differ(
        ARENA,
        listops=(8948234, 8955904),
        text=(3486722, 3490560),
        retrieval=(1087618, 958848),
        image=(248458, 248512),
        pathfinder=(26530, 26848),
    ),
    "mega": same(image=2839096, pathfinder=1386874, path_x=381948)
    | differ(TABLES, listops=(601938, 601914), text=(990100, 990084), retrieval=(1484702, 1484678)),
    "mega-chunk": same(
        listops=579450,
        text=959108,
        retrieval=1438214,
        image=2824760,
        pathfinder=1376122,
        path_x=283644,
        speech=343134,
    ),
    "seqboat": same(text=632460, image=1810001, pathfinder=892301, path_x=729097, speech=298841)
    | differ(TABLES, listops=(408036, 408012), retrieval=(1057194, 1057170)),
    "s4": same(
        listops=599306,
        text=1353986,
        retrieval=1616386,
        image=3565834,
        pathfinder=1288706,
        path_x=1288706,
        speech=303626,
    ),
    "s4d-legs": same(
        listops=533770,
        text=1255682,
        retrieval=1518082,
        image=3565066,
        pathfinder=1190402,
        path_x=1190402,
        speech=302858,
    ),
    "s5": same(
        listops=187978,
        text=1352386,
        retrieval=792450,
        image=5133706,
        pathfinder=1113602,
        path_x=694018,
        speech=281098,
    ),
    "liquid-s4": same(
        listops=333066,
        text=179842,
        retrieval=1518082,
        image=11034634,
        pathfinder=1190402,
        path_x=1733762,
        speech=221450,
    ),
    "transformer-xl": same(enwik8=41082625),
    "adaptive-span": same(enwik8=38591841),
}


def task(name: str) -> Task:
    """What a published model is built for."""
    workload = workloads.load(WORKLOADS.get(name, name))
    return workload.task(LENGTHS.get(name, workload.published_length))


def table() -> str:
    """Ours by model and task, and the official count in brackets where it is another; then the reasons."""
    columns = ["listops", "text", "retrieval", "image", "pathfinder", "path_x", "speech", "enwik8"]
    lines = [f"| `--impl` | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, counts in OFFICIAL.items():
        cells = [_cell(counts[column]) if column in counts else "–" for column in columns]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    reasons: dict[str, list[str]] = {}
    for name, counts in OFFICIAL.items():
        for because in dict.fromkeys(count.because for count in counts.values() if count.because):
            reasons.setdefault(because, []).append(f"`{name}`")
    lines += ["", *(f"- {', '.join(names)}: {because}." for because, names in reasons.items())]
    return "\n".join(lines)


def _cell(count: Count) -> str:
    return f"{count.ours:,}" if count.ours == count.official else f"{count.ours:,} ({count.official:,})"


if __name__ == "__main__":
    print(table())
