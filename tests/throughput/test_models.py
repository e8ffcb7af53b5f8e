"""Training steps of whole models, plain and fused in turn in one process, so that drift meets both alike."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from bench.probes.tensor_bytes import TensorBytes
from bench.steps.step import Step
from bench.suites.case import Case
from implementations.kernels.cpu.native import library
from implementations.registry import Implementation

ROUNDS = 5

TEXT_RATES = (0.1, 0.3, 0.5, 1.0)
SETTINGS = [
    *[("seqboat", "text", length, 1, TEXT_RATES) for length in (1024, 4096, 16_384)],
    ("seqboat", "text", 4096, 4, (0.3, 1.0)),
    ("seqboat", "speech", 16_000, 1, (0.1, 0.3, 1.0)),
    ("seqboat", "lm", 4096, 1, TEXT_RATES),
    ("seqboat-full", "text", 4096, 1, (0.3,)),
    ("mega-chunk", "text", 4096, 1, (None,)),
]
CAUSAL = {
    "layers": 4, "dim": 256, "hidden": 512, "attention_dim": 64, "states": 16, "window": 128,
    "truncation": 1024,
    "attention": "softmax", "norm": "layernorm", "prenorm": True, "relative_bias": "rotary", "dropout": 0.1,
}  # fmt: skip
"""Causal, with rotary positions, otherwise as on Text: smaller than the published language model."""


def case(implementation: str, workload: str, length: int, batch: int, activation: float | None) -> Case:
    return Case(
        implementation=implementation, workload=workload, length=length, batch=batch, fill="full",
        precision="fp32", phase="train", hyperparameters="published", activation=activation, backend="auto",
        seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "workload", "length", "batch", "rate"),
    [(*setting, rate) for *setting, rates in SETTINGS for rate in rates],
)
def test_plain_and_fused(monkeypatch, model, workload, length, batch, rate):
    if workload == "lm":
        monkeypatch.setattr(Implementation, "hyperparameters", lambda *_: CAUSAL)
    plain, fused = (ready(case(name, workload, length, batch, rate)) for name in (model, f"{model}-fused"))
    times = in_turn(plain, fused)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    name = f"{model}, {workload}, {length} × {batch}" + ("" if rate is None else f", activation {rate}")
    print(
        f"\n{name:<48}{milliseconds(times[0])} plain {milliseconds(times[1])} fused {ratio:6.2f}×  "
        f"{peak_mebibytes(plain):5.0f} and {peak_mebibytes(fused):5.0f} MiB of tensors"
    )


@pytest.mark.parametrize("threads", [2, 1])
@pytest.mark.parametrize(
    ("model", "length", "rate"),
    [
        *(("seqboat-fused", length, rate) for length in (1024, 4096) for rate in TEXT_RATES),
        ("seqboat-fused", 16_384, 0.3),
        ("mega-chunk-fused", 4096, None),
    ],
)
def test_kernels_in_c(monkeypatch, model, length, rate, threads):
    """The C kernels against torch's operators in their place."""
    before, peaks = torch.get_num_threads(), []
    torch.set_num_threads(threads)

    def form(setting: str) -> Callable[[], object]:
        monkeypatch.setenv(library.SETTING, setting)
        step = ready(case(model, "text", length, 1, rate))
        peaks.append(peak_mebibytes(step))

        def run() -> None:
            monkeypatch.setenv(library.SETTING, setting)
            step()

        return run

    times = in_turn(form("off"), form("on"))
    torch.set_num_threads(before)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    print(
        f"\n{model}, {length}, activation {rate}, threads {threads}: {milliseconds(times[0])} by torch "
        f"{milliseconds(times[1])} in C {ratio:6.2f}×  {peaks[0]:5.0f} and {peaks[1]:5.0f} MiB of tensors"
    )


@pytest.mark.parametrize("rate", TEXT_RATES)
@pytest.mark.parametrize("length", [1024, 4096])
def test_a_second_thread(length, rate):
    """A fused step on one thread and on two."""
    before, step = torch.get_num_threads(), ready(case("seqboat-fused", "text", length, 1, rate))

    def on(threads: int) -> Callable[[], object]:
        def run() -> None:
            torch.set_num_threads(threads)
            step()

        return run

    one, two = in_turn(on(1), on(2))
    torch.set_num_threads(before)
    ratio = statistics.median(a / b for a, b in zip(one, two, strict=True))
    print(f"\nseqboat-fused, {length}, activation {rate}: a second thread makes it {ratio:.2f} times as fast")


@pytest.mark.parametrize("rate", TEXT_RATES)
def test_growth(rate):
    short, long = (ready(case("seqboat-fused", "text", length, 1, rate)) for length in (4096, 16_384))
    times = in_turn(short, long)
    growth = statistics.median(b / a for a, b in zip(*times, strict=True))
    print(f"\nseqboat-fused, activation {rate}: 16,384 steps take {growth:.2f} times as long as 4,096")


def ready(case: Case) -> Step:
    step = Step(case, "cpu")
    step.calibrate()
    step()
    return step


def in_turn(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Seconds of a step of each, a round an entry: a palindrome's two steps together."""
    rounds = []
    for _ in range(ROUNDS):
        a, b, c, d = (seconds(step) for step in (first, second, second, first))
        rounds.append(((a + d) / 2, (b + c) / 2))
    firsts, seconds_ = zip(*rounds, strict=True)
    return list(firsts), list(seconds_)


def seconds(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def peak_mebibytes(step: Step) -> float:
    """Peak of a step's tensors, with what is live between steps."""
    with TensorBytes(step.live()) as counted:
        step()
    return counted.peak / 2**20


def milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times) * 1e3:8.0f} ms"
