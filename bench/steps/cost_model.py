"""Cost model of a training step on GPUs: the least time that each could take, for each suite and model.

`python -m bench.steps.cost_model` prints the tables of docs/triton.md; `--suite` and `--model` narrow them.

A kernel takes as long as its bytes take at the GPU's bandwidth, or its FLOPs on their units, whichever is
longer; a step takes the sum over its kernels, or as long as the host takes to launch them.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.steps.kernel_costs import Kernel, StepCosts, costs_of
from bench.suites import reading
from bench.suites.case import Case, Precision
from bench.suites.suite import Suite

SUITES = (
    *("lra-text-4k", "lra-listops-2k", "lra-retrieval-4k", "lra-image-1k", "lra-pathfinder-1k"),
    *("lra-path-x-16k", "speech-commands-16k", "enwik8-8k", "sweep-16k"),
)
MODELS = ("transformer", "seqboat", "seqboat-fused")
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")

OPERATOR_SECONDS = 6e-6
"""Time of the host for an operator of torch: 3 µs to dispatch it, measured on small tensors, and as much
again for autograd's node and CUDA's launch."""
TRITON_SECONDS = 30e-6
"""The same for a Triton kernel: 23 µs measured with a driver that launches nothing and seven arguments; most
have more."""


class Gpu(NamedTuple):
    """A GPU by its data sheet: dense products, floats that are accumulated in float32."""

    name: str
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes per second."""
    fp32: float
    """FLOP/s of plain units."""
    tf32: float
    bf16: float
    source: str

    def seconds(self, kernel: Kernel, precision: str) -> float:
        """The least time of one kernel, in a step of that precision."""
        products = self.bf16 if kernel.half else self.tf32 if precision == "tf32" else self.fp32
        units = kernel.products / products + kernel.tf32 / self.tf32
        return max(kernel.bytes / self.bandwidth, units, kernel.other / self.fp32)


GPUS = (
    Gpu("A100 80 GB", 80e9, 2.039e12, 19.5e12, 156e12, 312e12, "NVIDIA A100 data sheet, SXM"),
    Gpu(
        "H100 80 GB",
        80e9,
        3.35e12,
        67e12,
        494.7e12,
        989.4e12,
        "NVIDIA H100 data sheet, SXM, without sparsity",
    ),
    Gpu("H200", 141e9, 4.8e12, 67e12, 494.7e12, 989.4e12, "NVIDIA H200 data sheet, SXM, without sparsity"),
    Gpu("RTX 4090", 24e9, 1.008e12, 82.6e12, 82.6e12, 165.2e12, "NVIDIA Ada GPU architecture, appendix A"),
)


def device_seconds(costs: StepCosts, gpu: Gpu, precision: str) -> float:
    """The least time in which a GPU could compute a step."""
    return sum(gpu.seconds(kernel, precision) for kernel in costs.kernels)


def host_seconds(costs: StepCosts) -> float:
    """Time that the host takes to launch a step's kernels."""
    operators = len(costs.kernels) - costs.triton_launches
    return operators * OPERATOR_SECONDS + costs.triton_launches * TRITON_SECONDS


def predicted(costs: StepCosts, gpu: Gpu, precision: str) -> str:
    """Milliseconds of a step, with an `h` if it is the host's time; `–` if its tensors do not fit the GPU."""
    if costs.peak > gpu.memory:
        return "–"
    device, host = device_seconds(costs, gpu, precision), host_seconds(costs)
    return f"{1e3 * host:.1f}h" if host > device else f"{1e3 * device:.1f}"


def row_of(suite: str, case: Case) -> str:
    """A model's row of the table: its costs in fp32 and bf16, and its times in each precision."""
    costs = {precision: costs_of(_in_precision(case, precision)) for precision in PRECISIONS}
    single, half = costs["fp32"], costs["bf16"]
    times = (
        " / ".join(predicted(costs[precision], gpu, precision) for precision in PRECISIONS) for gpu in GPUS
    )
    cells = (
        f"{suite}, {case.batch} × {case.length}",
        case.implementation,
        f"{len(single.kernels)} ({single.triton_launches})",
        f"{single.bytes / 1e9:.1f} / {half.bytes / 1e9:.1f}",
        f"{single.products / 1e9:.0f}",
        f"{single.other / 1e9:.0f}",
        f"{single.peak / 2**30:.1f} / {half.peak / 2**30:.1f}",
        *times,
    )
    return f"| {' | '.join(cells)} |"


def lines(suites: Iterable[str], models: Iterable[str]) -> Iterator[str]:
    """The tables in Markdown: GPUs, then steps."""
    yield "| GPU | GB/s | fp32 TFLOP/s | tf32 | bf16 | source |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for gpu in GPUS:
        rates = (gpu.bandwidth / 1e9, gpu.fp32 / 1e12, gpu.tf32 / 1e12, gpu.bf16 / 1e12)
        yield f"| {gpu.name} | {' | '.join(f'{rate:g}' for rate in rates)} | {gpu.source} |"
    yield ""
    heads = ("launches (Triton's)", "GB", "GFLOP of products", "other GFLOP", "peak GiB")
    yield f"| suite, batch × length | model | {' | '.join(heads)} | {' | '.join(g.name for g in GPUS)} |"
    yield f"| --- | --- |{' ---: |' * (len(heads) + len(GPUS))}"
    for name in suites:
        for case in _cases(reading.load(name), models):
            yield row_of(name, case)


def _cases(suite: Suite, models: Iterable[str]) -> Iterator[Case]:
    """A suite's cases on CUDA of these models, at its longest length."""
    for case in suite.cases("cuda"):
        if case.implementation in models and case.length == max(suite.lengths):
            yield case


def _in_precision(case: Case, precision: Precision) -> Case:
    backend = "triton" if case.implementation.endswith("-fused") else "auto"
    return msgspec.structs.replace(case, precision=precision, backend=backend)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the cost model's tables.")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=SUITES)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument(
        "--page", type=Path, help="print only lines that this page lacks, and exit with 1 if any"
    )
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8").splitlines() if options.page else []
    lacking = 0
    for line in lines(options.suite, options.model):
        if line not in page:
            print(line, flush=True)
            lacking += 1
    raise SystemExit(1 if options.page and lacking else 0)


if __name__ == "__main__":
    main()
