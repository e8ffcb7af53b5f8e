"""One step of one case: model, batch, optimiser and precision, ready to run."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from bench import workloads
from bench.probes.clock import Elapsed, time_steps
from bench.probes.tensor_bytes import parts_of
from bench.records import checkpoint as checkpoints
from bench.steps.plugged import optimizer_for
from bench.suites.case import Case, Precision
from bench.system import own_models
from bench.workloads import Batch
from bench.workloads.splits import Split
from implementations import activation, registry
from implementations.kernels.backend import backend_of, use_backend, why_plain
from implementations.task import Task

AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """A case as something to call: `step()` runs it once; `loss` is that step's, or its logits' sum."""

    def __init__(self, case: Case, device: str) -> None:
        self.case = case
        self.device = torch.device(device)
        self.workload = workloads.load(case.workload)
        self.task = self.workload.task(case.length)
        split: Split = "validation" if case.held_out else "all"
        self.batch = self.workload.batch(case.length, case.batch, case.fill, case.seed, split=split)
        self.inputs, self.lengths, self.targets = to_device(self.batch, self.device, case.precision)
        set_matmul_precision(case.precision)
        self.model = build_model(case, self.task, self.device)
        self.optimizer = optimizer_for(case, self.model)
        self._run: Callable[[], Tensor] = self._train if case.phase == "train" else self._forward
        self.loss = torch.zeros(())

    def __call__(self) -> None:
        self.loss = self._run()

    def calibrate(self) -> None:
        """Set the activation rate that the case asks for. Raises ValueError if the model has none."""
        if self.case.activation is not None and (
            registry.find(self.case.implementation).sparse or activation.configurators(self.model)
        ):
            with self._autocast():
                activation.calibrate(self.model, self.inputs, self.lengths, self.case.activation)

    @property
    def backend(self) -> str:
        """Backend whose kernels compute: `torch` for a model without fused layers.

        Raises BackendUnavailable if the case asks for one that cannot run here.
        """
        with self._autocast():
            return backend_of(self.model, self.case.backend, self.device)

    @property
    def why_plain(self) -> str | None:
        """Why fused layers that could run on kernels here do not; None if they do, or there are none."""
        with self._autocast():
            return why_plain(self.model, self.case.backend, self.device)

    @property
    def tokens(self) -> int:
        """Positions that a step computes, padding included."""
        return self.batch.tokens

    @property
    def real_tokens(self) -> int:
        """Positions of a step that hold data."""
        return self.batch.real_tokens

    def live(self) -> Iterator[Tensor]:
        """Every tensor that is live between steps: of model, gradients, optimiser and batch."""
        for module in self.model.modules():
            # Parameters and buffers, and what a module keeps without a name for it.
            yield from _tensors_in(vars(module))
        yield from (p.grad for p in self.model.parameters() if p.grad is not None)
        yield from _tensors_in(list(self.optimizer.state.values()))
        yield from _tensors_in((self.inputs, self.lengths, self.targets, self.loss))

    def timed(self, steps: int) -> Elapsed:
        """Run steps, and time them."""
        return time_steps(self, steps, self.device)

    def not_finite(self) -> str | None:
        """Name of what is NaN or infinite after the last step: its loss or a gradient; None if nothing is."""
        if not _is_finite(self.loss):
            return "the loss"
        if self.case.phase == "train":
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None and not _is_finite(parameter.grad):
                    return f"the gradient of {name}"
        return None

    def activation_rates(self) -> list[float]:
        """Rates by layer of the last step; empty for a model that always computes everything."""
        return activation.activation_rates(self.model)

    def _train(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(self.logits(self.model))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def _forward(self) -> Tensor:
        return self.logits(self.model).sum()

    def logits(self, model: nn.Module) -> Tensor:
        """A model's logits on this batch, at this case's precision."""
        with self._autocast():
            logits: Tensor = model(self.inputs, self.lengths)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def loss_of(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy against this batch's targets."""
        return cross_entropy(logits, self.targets)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.device, self.case.precision)


def build_model(case: Case, task: Task, device: torch.device) -> nn.Module:
    """Build the model of a case: seeded, so that two runs build the same, or with a checkpoint's weights."""
    implementation = registry.find(case.implementation)
    torch.manual_seed(case.seed)
    hyperparameters = implementation.hyperparameters(task.name, case.hyperparameters)
    model = use_backend(own_models.load(implementation)(task, hyperparameters), case.backend).to(device)
    if case.checkpoint is not None:
        model.load_state_dict(checkpoints.tensors_of(Path(case.checkpoint), checkpoints.MODEL))
    if case.precision == "fp64":
        model = model.double()
    return model.train(case.phase == "train")


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits `(batch, …, classes)` against targets `(batch, …)`."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Context of a forward pass of that precision."""
    dtype = AUTOCAST.get(precision)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _is_finite(tensor: Tensor) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in parts_of(tensor))


def _tensors_in(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def to_device(
    batch: Batch, device: torch.device, precision: Precision
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Inputs, lengths and targets of a batch as tensors."""
    inputs = torch.from_numpy(batch.inputs).to(device)
    if precision == "fp64" and inputs.is_floating_point():
        inputs = inputs.double()
    lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths).to(device)
    return inputs, lengths, torch.from_numpy(batch.targets).to(device)


def set_matmul_precision(precision: Precision) -> None:
    """Let CUDA use TF32 for the precision tf32, and for no other."""
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
