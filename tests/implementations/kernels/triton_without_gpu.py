"""Compile every Triton kernel for an H100 on a machine that has none.

`python triton_without_gpu.py [EMA STATES [CASE …]]`.

A driver that launches nothing stands in the place of CUDA's. Triton compiles as it would on the device, down
to machine code, and this prints what each kernel takes: registers, bytes of the stack (spilled registers) and
of shared memory. The interpreter cannot say so: it knows no types of branches, no layouts and no resources.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

SHARED_MEMORY = 227 * 1024


class Utilities:
    def load_binary(self, *args: Any) -> tuple[int, ...]:
        return 1, 1, 0, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED_MEMORY}


class Hopper:
    """What Triton asks of a driver."""

    utils = Utilities()

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    @staticmethod
    def launcher_cls(source: Any, metadata: Any) -> Any:
        return lambda *args: None


def resources(kernel: Any) -> str:
    """Registers, stack and shared memory of a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack = (re.findall(rf"{name}:(\d+)", report.stdout)[-1] for name in ("REG", "STACK"))
    return f"{registers:>4} registers {stack:>5} bytes of stack {kernel.metadata.shared:>7} shared"


def report_compilations() -> None:
    """Print one line for each kernel that is compiled from here on."""
    from triton.compiler import CompiledKernel

    create = CompiledKernel.__init__

    def announce(self: Any, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        print(f"  {self.name:<28}{resources(self)}", flush=True)

    CompiledKernel.__init__ = announce


TEXT = {"dim": 128, "hidden": 256, "attention_dim": 64, "truncation": 1024}
SCALED = {"norm": "scalenorm", "prenorm": False, "relative_bias": "local", "dropout": 0.1}
SC10 = {
    "dim": 60,
    "hidden": 120,
    "attention_dim": 30,
    "truncation": 900,
    "attention": "relu2",
    "norm": "batchnorm",
}
ENWIK8 = {"dim": 616, "hidden": 1232, "attention_dim": 128, "window": 1024, "relative_bias": "rotary"}
ONES = {"dim": 1, "hidden": 1, "attention_dim": 1, "window": 1, "truncation": 1}
CASES: dict[str, tuple[torch.dtype, bool, int, dict[str, Any]]] = {
    "Text float32": (torch.float32, False, 2000, {**TEXT, **SCALED}),
    "Text TF32": (torch.float32, False, 2000, {**TEXT, **SCALED}),
    "Text bfloat16": (torch.bfloat16, False, 2000, {**TEXT, **SCALED}),
    "SC10 float32": (torch.float32, False, 2000, SC10),
    "enwik8 float32": (torch.float32, True, 2000, {**ENWIK8, "dropout": 0.15}),
    "full float64": (torch.float64, True, 2000, {**TEXT, "window": None, "attention": "laplace"}),
    # Triton makes a constant of every size that is 1.
    "ones": (torch.float32, False, 1, ONES),
    "ones and twos": (torch.float32, False, 2, ONES),
}
"""Precision, causality, length and hyper-parameters of a SeqBoat layer."""


def seqboat(name: str, states: int) -> None:
    """Forward and backward of one of the CASES."""
    from implementations.fused.seqboat_triton import seqboat_layer
    from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer

    dtype, causal, length, options = CASES[name]
    torch.backends.cuda.matmul.allow_tf32 = "TF32" in name
    config = SeqBoatConfig(layers=1, states=states, **options)
    layer = SeqBoatLayer(config, causal=causal, max_positions=length).to(dtype)
    x = torch.zeros(1, length, config.dim, dtype=dtype, requires_grad=True)
    padding = torch.zeros(1, length, dtype=torch.bool)
    seqboat_layer(layer, x, padding if causal else None, capacity=1.0).sum().backward()


def mega_chunk(states: int) -> None:
    """Forward and backward of a layer of MEGA-chunk."""
    from implementations.fused.mega_triton import mega_layer
    from implementations.models.mega import MegaConfig, MovingAverageGatedAttention

    config = MegaConfig(layers=1, dim=128, hidden=256, attention_dim=64, ffn=256, chunk=128, states=states)
    mega_layer(
        MovingAverageGatedAttention(config), torch.zeros(2, 2048, 128, requires_grad=True)
    ).sum().backward()


def main(states: int = 16, *wanted: str) -> None:
    """Compile the kernels of the cases that are wanted, or of all, and print what they take."""
    driver.set_active(Hopper())
    report_compilations()
    for name in wanted or (*CASES, "MEGA-chunk"):
        print(name, flush=True)
        if name == "MEGA-chunk":
            mega_chunk(states)
        else:
            seqboat(name, states)


if __name__ == "__main__":
    main(*(int(argument) if argument.isdigit() else argument for argument in sys.argv[1:]))  # type: ignore[arg-type]
