"""One cell of the grid: what is measured, with an id that names it in every record and table."""

from typing import Literal

import msgspec

from bench.workloads.base import Fill

Precision = Literal["fp32", "tf32", "bf16", "bf16-pure", "fp16", "fp64"]
"""`bf16` and `fp16`: under autocast; `bf16-pure`: weights, gradients and the optimiser's state too."""
Mode = Literal["eager", "compile", "checkpoint", "graph"]
Phase = Literal["train", "forward", "decode"]
HyperparameterMode = str
"""`published`, `matched` or `small`, or `params:10M`: as many parameters for every model."""
Backend = Literal["auto", "torch", "cpu", "triton"]


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One implementation on one workload, at one length, batch size, precision and phase."""

    implementation: str
    workload: str
    length: int
    """Sequence length in time steps."""
    batch: int
    """Sequences per step."""
    fill: Fill
    """`full`: every position is real; `real`: true lengths, right-padded."""
    precision: Precision
    phase: Phase
    hyperparameters: HyperparameterMode
    activation: float | None
    """Activation rate that is set before measuring; None leaves the model as it was initialised."""
    backend: Backend
    seed: int
    revision: str | None = None
    """The gate's revision that is measured; None for the code at hand."""

    checkpoint: str | None = None
    """File that the weights come from; None for those that the model was initialised with."""
    held_out: bool = False
    """Whether its batch has sequences that no training sees."""
    mode: Mode = "eager"
    """Way of carrying out a step: op by op, compiled, with layers computed again, or as one CUDA graph."""
    threads: int | None = None
    """CPU threads of its own; None for the run's."""

    @property
    def cell(self) -> "Case":
        """Place in the grid, without the model: ratios are formed only between cases of one cell.

        A model's activation rate, its checkpoint and its mode are not part of the cell.
        """
        return msgspec.structs.replace(
            self, implementation="", activation=None, checkpoint=None, mode="eager"
        )

    @property
    def id(self) -> str:
        parts = [
            self.implementation,
            f"{self.workload}-{self.length}x{self.batch}-{self.fill}",
            f"{self.phase}-{self.precision}",
        ]
        if self.hyperparameters != "published":
            parts.append(self.hyperparameters)
        if self.activation is not None:
            parts.append(f"activation-{self.activation:g}")
        if self.held_out:
            parts.append("held-out")
        if self.checkpoint is not None:
            parts.append("trained")
        if self.mode != "eager":
            parts.append(self.mode)
        if self.threads is not None:
            parts.append(f"{self.threads}-threads")
        if self.revision is not None:
            parts.append(f"@{self.revision}")
        return "/".join(parts)
