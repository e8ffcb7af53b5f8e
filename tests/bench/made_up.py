"""Results of runs that never happened, with figures that a test can foretell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.records.environment import Environment
from bench.records.reading import Results
from bench.records.run import SCHEMA, End, Header, Sample
from bench.records.solo import Activation, MemoryFigure, Solo
from bench.suites.case import Case
from bench.suites.suite import Suite

CPU = Environment(
    device="cpu", hardware="a processor", processor="a processor", threads=2, memory_bytes=8 << 30,
    driver=None, cuda=None, torch="2.13.0", python="3.11.7", platform="Linux", libraries={"numpy": "2.0"},
    commit="0123456789abcdef", dirty=False, load_average=0.0,
)  # fmt: skip

STEP_SECONDS: Mapping[str, float] = {
    "transformer": 4.0,
    "mega": 1.6,
    "s4": 1.0,
    "mega-chunk": 0.8,
    "seqboat": 0.5,
}
"""At length 4096; proportional to the length, and quadratic for the Transformer."""
BYTES: Mapping[str, int] = {name: int(seconds * (1 << 28)) for name, seconds in STEP_SECONDS.items()}
REASONS = {"oom": "Tried to allocate 64.0 GiB", "timeout": "no answer within 120 s"}


def results(
    implementations: Sequence[str] = tuple(STEP_SECONDS),
    lengths: Sequence[int] = (4096,),
    *,
    path: str = "run.jsonl",
    blocks: int = 3,
    rounds: int = 2,
    failed: Mapping[str, str] = {},
    activation: Sequence[float] = (0.3,),
    created: str = "2026-01-01T00:00:00+00:00",
    environment: Environment = CPU,
    slower: float = 1.0,
    workload: str = "text",
    throttled: str | None = None,
    data: str = "made up",
    **settings: Any,
) -> Results:
    """A run of some models. `failed` maps implementations to the status that ends them.

    settings: further fields of the suite.
    """
    suite = Suite(
        name="made-up",
        description="figures that a test can foretell",
        workload=workload,
        lengths=tuple(lengths),
        implementations=tuple(implementations),
        baseline=implementations[0],
        activation=tuple(activation),
        **settings,
    )
    header = Header(
        schema=SCHEMA,
        created=created,
        command=["bench", "run", "--suite", "made-up"],
        suite=suite,
        environment=environment,
        data=data,
    )
    kind = "cuda" if environment.device.startswith("cuda") else "cpu"
    cases = suite.cases(kind)
    ok = [case for case in cases if case.implementation not in failed]
    return Results(
        path=path,
        header=header,
        solos={case.id: _solo(case, kind, failed.get(case.implementation), slower) for case in cases},
        samples=[
            sample
            for block in range(blocks)
            for number in range(rounds)
            for sample in _round(ok, block, number, slower, throttled)
        ],
        lost={},
        end=End(reason="blocks", seconds=100.0),
    )


def write(made_up: Results, folder: Path) -> Path:
    """The same as a result file."""
    path = folder / made_up.path
    records = (made_up.header, *made_up.solos.values(), *made_up.samples, made_up.end)
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return path


def step_seconds(case: Case) -> float:
    seconds = STEP_SECONDS.get(case.implementation, 1.0)
    growth = (case.length / 4096) ** (2 if case.implementation == "transformer" else 1)
    return seconds * growth * (0.7 + (case.activation or 0.3))


def _solo(case: Case, kind: str, status: str | None, slower: float) -> Solo:
    if status is not None:
        return Solo(case=case, status=status, reason=REASONS[status])
    needed = int(BYTES.get(case.implementation, 1 << 28) * case.length / 4096)
    rates = [0.2, 0.3, 0.4, 0.3] if case.activation else None
    return Solo(
        case=case,
        status="ok",
        parameters=600_000,
        tokens=case.length * case.batch,
        real_tokens=case.length * case.batch,
        stationary=True,
        step_seconds=step_seconds(case) * slower,
        memory=[MemoryFigure(kind="tensor_bytes" if kind == "cpu" else "allocated", bytes=needed)],
        activation=Activation(case.activation, rates) if rates else None,
        backend="torch",
    )


def _round(
    cases: Sequence[Case], block: int, number: int, slower: float, throttled: str | None
) -> list[Sample]:
    """Both visits of every case; each model drifts by a little from block to block in its own way."""
    samples = []
    for position, case in enumerate([*cases, *reversed(cases)]):
        drift = 1 + 0.01 * block * (len(case.implementation) % 3)
        samples.append(
            Sample(
                case_id=case.id,
                block=block,
                group=0,
                round=number,
                visit=0 if position < len(cases) else 1,
                position=position,
                steps=1,
                seconds=step_seconds(case) * slower * drift,
                activation=case.activation,
                throttled=throttled,
            )
        )
    return samples
