"""The cost model: every launch of a step is in its count, and times follow from bytes and FLOPs."""

from pathlib import Path

import pytest
import torch

from bench.steps.cost_model import GPUS, Gpu, device_seconds, host_seconds, main, predicted
from bench.steps.kernel_costs import Kernel, StepCosts, costs_of
from bench.suites.case import Case

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

from implementations.kernels.triton import packing  # isort: skip

LENGTH, BATCH = 64, 2
PAGE = Path(__file__).parents[3] / "docs" / "triton.md"


def case(implementation: str, **changes: object) -> Case:
    settings = {
        "implementation": implementation,
        "workload": "text",
        "length": LENGTH,
        "batch": BATCH,
        "fill": "full",
        "precision": "fp32",
        "phase": "train",
        "hyperparameters": "small",
        "activation": 0.25,
        "backend": "triton",
        "seed": 0,
    }
    return Case(**{**settings, **changes})  # type: ignore[arg-type]


def test_a_doubled_launch_is_in_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that takes active steps out runs once each way in each layer, and is doubled."""
    fused = case("seqboat-fused(layers=1)")
    before = costs_of(fused)
    takes = [kernel for kernel in before.kernels if kernel.name == "take_kernel"]
    once = packing._take

    def twice(x, index):
        once(x, index)
        return once(x, index)

    monkeypatch.setattr(packing, "_take", twice)
    after = costs_of(fused)
    assert after.triton_launches == before.triton_launches + len(takes)
    assert after.bytes == before.bytes + sum(kernel.bytes for kernel in takes)
    assert host_seconds(after) > host_seconds(before)
    assert device_seconds(after, GPUS[0], "fp32") > device_seconds(before, GPUS[0], "fp32")


def test_the_first_step_and_views_are_not_in_the_count() -> None:
    """Adam is one kernel, its state is made before; a forward pass without values gives no memory traffic."""
    kernels = costs_of(case("transformer(layers=1)", backend="auto")).kernels
    names = [kernel.name for kernel in kernels]
    assert names.count("_fused_adam_") == 1
    assert not {"view", "t", "transpose", "_unsafe_view", "empty", "detach", "device"} & set(names)


def test_dropout_and_casts_are_those_of_cuda() -> None:
    """One kernel with a mask of booleans; a softmax in float32, whose input autocast has made."""
    kernels = costs_of(case("transformer(layers=1)", precision="bf16", backend="auto")).kernels
    names = [kernel.name for kernel in kernels]
    assert "native_dropout" in names
    assert "bernoulli_" not in names
    (softmax,) = (kernel for kernel in kernels if kernel.name == "_softmax")
    scores = next(kernel for kernel in kernels if kernel.name == "bmm")
    assert scores.half
    assert softmax.bytes % (2 * 4 * BATCH * LENGTH**2) == 0


@pytest.mark.parametrize(
    ("kernel", "precision", "seconds"),
    [
        (Kernel("copy", 4000, 10, 0), "fp32", 4.0),
        (Kernel("mm", 10, 1000, 0), "fp32", 10.0),
        (Kernel("mm", 10, 1000, 0), "tf32", 2.0),
        (Kernel("mm", 10, 1000, 0, half=True), "bf16", 1.0),
        (Kernel("scan", 10, 0, 300), "bf16", 3.0),
        (Kernel("average", 10, 1000, 0, half=True, tf32=1000), "fp32", 3.0),
    ],
)
def test_a_kernel_takes_what_its_slowest_part_takes(kernel: Kernel, precision: str, seconds: float) -> None:
    gpu = Gpu("made up", 1e9, bandwidth=1000, fp32=100, tf32=500, bf16=1000, source="")
    assert gpu.seconds(kernel, precision) == seconds
    assert device_seconds(StepCosts([kernel, kernel], 0), gpu, precision) == 2 * seconds


def test_the_table_tells_what_the_host_limits_and_what_does_not_fit() -> None:
    gpu = Gpu("made up", 1000, bandwidth=1e6, fp32=1e6, tf32=1e6, bf16=1e6, source="")
    assert predicted(StepCosts([Kernel("copy", 5000, 0, 0)], 1000), gpu, "fp32") == "5.0"
    assert predicted(StepCosts([Kernel("take", 5, 0, 0, triton=True)], 1000), gpu, "fp32") == "0.0h"
    assert predicted(StepCosts([Kernel("copy", 5000, 0, 0)], 1001), gpu, "fp32") == "–"


AS_ON_THE_PAGE = pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page counts the operators of torch 2.13"
)


@AS_ON_THE_PAGE
def test_the_page_has_the_tables_that_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs, and one fused row, of whose kernels all others are made; `tox -e kernels` tries every row."""
    chosen = ["--suite", "lra-text-4k", "--model", "seqboat-fused", "--page", str(PAGE)]
    monkeypatch.setattr("sys.argv", ["cost_model", *chosen])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, "python -m bench.steps.cost_model prints other lines"


def test_a_line_that_a_page_lacks_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n\n")
    monkeypatch.setattr("bench.steps.cost_model.lines", lambda suites, models: ["one", "", "two"])
    monkeypatch.setattr("sys.argv", ["cost_model", "--page", str(page)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (1, "two\n")
