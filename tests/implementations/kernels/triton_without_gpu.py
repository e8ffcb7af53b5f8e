"""Compile the Triton kernels of published models for GPUs that this machine does not have.

`python triton_without_gpu.py --arch 80 90 --precision fp32 tf32 --task text enwik8 --model seqboat-fused`

A driver that launches nothing stands in the place of CUDA's. Triton compiles as it would on the device,
down to machine code, and refuses a kernel that asks for more shared memory than the device has. Printed is
what each kernel takes: registers, bytes of spilled registers, shared memory. The interpreter cannot say so:
it knows no types of branches, no layouts and no resources. Exits with 1 if a kernel fits in no form, or
spills more than `--spills`.

`--counts` compiles for ten different counts of active steps instead, and exits with 1 if any but the first
compiles something: a training step must not.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.errors import OutOfResources

from implementations import registry

SHARED_MEMORY = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 120: 99 * 1024}
"""Bytes that a block may have, by compute capability."""
HELD_IN = {
    **dict.fromkeys(("fp32", "tf32", "bf16"), torch.float32),
    "bf16-pure": torch.bfloat16,
    "fp64": torch.float64,
}
"""Type of weights and inputs, by precision; bf16 is autocast, as in the suites."""
MODELS = ("seqboat-fused", "seqboat-full-fused", "mega-fused", "mega-chunk-fused")
TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "path_x", "speech", "enwik8", "ones")
LENGTH = 2048
PADDED = 48
"""Steps of padding of a row that has some."""
ONES = {"dim": 1, "hidden": 1, "attention_dim": 1, "window": 1, "truncation": 1}
"""Triton makes a constant of every size that is 1."""


@dataclass
class Kernel:
    """A kernel as it would be loaded."""

    name: str
    registers: int
    spilled: int
    shared: int

    def __str__(self) -> str:
        taken = f"{self.registers:>4} registers {self.spilled:>5} B spilled {self.shared:>7} B shared"
        return f"  {self.name:<28}{taken}"


class Device:
    """What Triton asks of a driver, and what was loaded."""

    def __init__(self, arch: int) -> None:
        self.arch = arch
        self.loaded: list[Kernel] = []
        self.utils = self

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, ...]:
        registers, spilled = resources(binary)
        self.loaded.append(Kernel(name, registers, spilled, shared))
        return 1, 1, 0, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED_MEMORY[self.arch]}

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    @staticmethod
    def launcher_cls(source: Any, metadata: Any) -> Any:
        return lambda *args: None


def resources(binary: bytes) -> tuple[int, int]:
    """Registers and bytes of stack, which is where spilled registers go, of a thread of a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack = (int(re.findall(rf"{name}:(\d+)", report.stdout)[-1]) for name in ("REG", "STACK"))
    return registers, stack


def train_layer(model: str, task: str, precision: str, states: int | None, padded: bool) -> None:
    """Forward and backward pass of one layer of a model in the sizes of its card, or in sizes of one.

    Raises RegistryError if the card has no such task.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    ones = task == "ones" and model == "seqboat-fused"
    sizes = {**(ONES if ones else registry.find(model).hyperparameters(task)), "layers": 1}
    if states is not None:
        sizes["states"] = states
    chunk = sizes.get("chunk") or 1
    for length in (1, 2) if ones else (-(-LENGTH // chunk) * chunk,):
        layer, run = fused_layer(model, sizes, task == "enwik8", length)
        layer.to(HELD_IN[precision])
        x = torch.zeros(1, length, sizes["dim"], dtype=HELD_IN[precision], requires_grad=True)
        mask = torch.arange(length).view(1, -1) >= max(1, length - PADDED) if padded else None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            y = run(layer, x, mask)
        y.sum().backward()


def fused_layer(
    model: str, sizes: dict[str, Any], causal: bool, length: int
) -> tuple[torch.nn.Module, Callable[..., torch.Tensor]]:
    """A layer, and the function that runs it on inputs and their padding mask."""
    if model.startswith("seqboat"):
        from implementations.fused.seqboat_triton import seqboat_layer
        from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer

        return SeqBoatLayer(SeqBoatConfig(**sizes), causal=causal, max_positions=length), seqboat_layer
    from implementations.fused.mega_triton import mega_layer
    from implementations.models.mega import MegaConfig, MovingAverageGatedAttention

    config = MegaConfig(**sizes)
    return MovingAverageGatedAttention(config, causal=causal, max_positions=length), mega_layer


def train_counts(device: Device) -> Iterator[int]:
    """How many kernels each of ten counts of active steps loads: odd, even, multiples of 16."""
    from implementations.fused.seqboat_triton import seqboat_layer
    from implementations.kernels.triton.packing import Packing
    from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer

    sizes = {**registry.find("seqboat-fused").hyperparameters("text"), "layers": 1, "states": 2}
    layer = SeqBoatLayer(SeqBoatConfig(**sizes), max_positions=LENGTH)
    pack = Packing.of
    for count in (1229, 1231, 1230, 1232, 1216, 1, 16, 2047, 1024, 1250):

        def packing(active: torch.Tensor, *args: Any, count: int = count, **kwargs: Any) -> Packing:
            return pack(torch.arange(LENGTH).view(1, -1) < count, *args, **kwargs)

        Packing.of = packing  # type: ignore[assignment, method-assign]
        before = len(device.loaded)
        x = torch.zeros(1, LENGTH, layer.config.dim, requires_grad=True)
        seqboat_layer(layer, x).sum().backward()
        yield len(device.loaded) - before


def check_counts() -> bool:
    device = Device(90)
    driver.set_active(device)
    loaded = list(train_counts(device))
    print("kernels by count of active steps:", *loaded)
    return loaded[0] > 0 and not any(loaded[1:])


def check_resources(options: argparse.Namespace) -> bool:
    from implementations.kernels.triton import launch

    well = True
    for arch, precision in itertools.product(options.arch, options.precision):
        device = Device(arch)
        driver.set_active(device)
        # What fitted the last device says nothing about this one.
        launch._FITTING.clear()
        for task, model, padded in itertools.product(options.task, options.model, (False, True)):
            print(f"sm_{arch} {precision} {task} {model}{' padded' if padded else ''}", flush=True)
            first = len(device.loaded)
            try:
                train_layer(model, task, precision, options.states, padded)
            except registry.RegistryError:
                print("  (the card has no such task)")
            except OutOfResources as error:
                print(f"  FAILS: {error}")
                well = False
            for kernel in device.loaded[first:]:
                spills = kernel.spilled > options.spills
                print(kernel, "  TOO MANY SPILLS" if spills else "", flush=True)
                well &= not spills
    return well


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", type=int, nargs="+", choices=SHARED_MEMORY, default=[90])
    parser.add_argument("--precision", nargs="+", choices=HELD_IN, default=["fp32", "tf32", "bf16"])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--states", type=int, help="states of the moving average, in place of the card's")
    parser.add_argument("--spills", type=int, default=1024, help="most bytes that a thread may spill")
    parser.add_argument("--counts", action="store_true")
    options = parser.parse_args()
    sys.exit(0 if (check_counts() if options.counts else check_resources(options)) else 1)


if __name__ == "__main__":
    main()
