"""One step of one case: model, batch, optimiser and precision, ready to run."""

import contextlib
from collections.abc import Iterator, Mapping
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
from implementations.kernels import backend as backends
from implementations.task import Task

AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
HELD_IN: Mapping[Precision, torch.dtype] = {"fp64": torch.float64, "bf16-pure": torch.bfloat16}
"""Precisions that weights, their gradients and the optimiser's state are held in, if that is not float32."""

MOST_HALVINGS = 24
"""Most halvings of the scale of a loss in fp16, which begins at 2^16."""
NEVER = 2**31 - 1
"""Steps that no run has."""


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
        self.optimizer = self.new_optimizer()
        self.scaler = scaler_of(case, self.device)
        self.run = self.plain_run
        """One step, which gives its loss; a mode may put another one in its place."""
        self.loss = torch.zeros(())

    def plain_run(self) -> Tensor:
        """One step op by op, whatever takes its place."""
        return self._train() if self.case.phase == "train" else self._forward()

    def __call__(self) -> None:
        self.loss = self.run()

    def calibrate(self) -> None:
        """Set the activation rate that the case asks for. Raises ValueError if the model has none."""
        if self.case.activation is not None and (
            registry.find(self.case.implementation).sparse or activation.configurators(self.model)
        ):
            with self._autocast():
                activation.calibrate(self.model, self.inputs, self.lengths, self.case.activation)
        if self.scaler is not None:
            self._settle_scale(self.scaler)

    def new_optimizer(self, *, capturable: bool = False) -> torch.optim.Optimizer:
        """An optimiser for the model, which moves nothing. capturable: all its state is on the device."""
        return optimizer_for(self.case, self.model, capturable=capturable)

    @property
    def backend(self) -> str:
        """Backend whose kernels compute: `torch` for a model without fused layers.

        Raises BackendUnavailable if the case asks for one that cannot run here.
        """
        with self._autocast():
            return backends.backend_of(self.model, self.case.backend, self.device)

    @property
    def why_plain(self) -> str | None:
        """Why fused layers that could run on kernels here do not; None if they do, or there are none."""
        explain = getattr(backends, "why_plain", None)
        if explain is None:  # The revision that a gate compares with may be older than the explanation.
            return None
        with self._autocast():
            words: str | None = explain(self.model, self.case.backend, self.device)
        return words

    @property
    def cpu_kernels(self) -> str | None:
        """Kernels that have computed fused layers on the CPU; None if none have."""
        said = getattr(backends, "cpu_kernels", None)  # An older revision does not say.
        if said is None or self.backend != "cpu":
            return None
        words: str = said()
        return words

    @property
    def width(self) -> int | None:
        """Width of the model, if it was searched for a number of parameters."""
        return width_for(self.case, self.task)

    @property
    def tokens(self) -> int:
        """Positions that a step computes, padding included."""
        return self.batch.tokens

    @property
    def real_tokens(self) -> int:
        """Positions of a step that hold data."""
        return self.batch.real_tokens

    @property
    def own_bytes(self) -> int:
        """Bytes on a GPU that are the harness's, not the model's."""
        return 0

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
        if self.scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return loss.detach()

    def _settle_scale(self, scaler: torch.amp.GradScaler) -> None:
        """Step until the scale of the loss is one at which no gradient overflows."""
        for _ in range(MOST_HALVINGS):
            scale = scaler.get_scale()
            self()
            if scaler.get_scale() >= scale:
                return

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
    """Build the model of a case: seeded, so that two runs build the same, or with a checkpoint's weights.

    Raises NoEqualSize if the case wants a number of parameters that the model can't have.
    """
    implementation = registry.find(case.implementation)
    build = own_models.load(implementation)
    width = width_for(case, task)
    searched = () if width is None else (width,)
    hyperparameters = implementation.hyperparameters(task.name, case.hyperparameters, *searched)
    torch.manual_seed(case.seed)
    model = backends.use_backend(build(task, hyperparameters), case.backend).to(device)
    if case.checkpoint is not None:
        model.load_state_dict(checkpoints.tensors_of(Path(case.checkpoint), checkpoints.MODEL))
    if case.precision in HELD_IN:
        model = hold_in(model, HELD_IN[case.precision])
    return model.train(case.phase == "train")


def width_for(case: Case, task: Task) -> int | None:
    """The width that gives a case's model the number of parameters that it wants; None if it wants none.

    Raises NoEqualSize.
    """
    if not case.hyperparameters.startswith("params:"):
        return None
    from bench.steps.equal_size import width_of
    from implementations.equal_sizes import parameters_wanted

    target = parameters_wanted(case.hyperparameters)
    assert target is not None, "a suite is checked before it is run"
    implementation = registry.find(case.implementation)
    build = own_models.load(implementation)
    return width_of(implementation, build, task, case.hyperparameters, target)


def hold_in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its real parameters and buffers in a type; complex ones, which it may lack, stay."""
    return {torch.float32: model.float, torch.float64: model.double, torch.bfloat16: model.bfloat16}[dtype]()


def scaler_of(case: Case, device: torch.device) -> torch.amp.GradScaler | None:
    """Scaler that keeps small gradients from vanishing in float16; None in other precisions and phases.

    It settles before anything is timed. If it grew again, a timed step would overflow by design.
    """
    if case.precision != "fp16" or case.phase != "train":
        return None
    return torch.amp.GradScaler(device.type, growth_interval=NEVER)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits `(batch, …, classes)` against targets `(batch, …)`.

    Raises ValueError if the logits are not one for each target, as those of a classifier on a language task.
    """
    if logits.shape[:-1] != targets.shape:
        wanted = ", ".join(map(str, (*targets.shape, "classes")))
        raise ValueError(f"the model gives logits of shape {tuple(logits.shape)}; this task wants ({wanted})")
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
    if precision in HELD_IN and inputs.is_floating_point():
        inputs = inputs.to(HELD_IN[precision])
    lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths).to(device)
    return inputs, lengths, torch.from_numpy(batch.targets).to(device)


def set_matmul_precision(precision: Precision) -> None:
    """Let CUDA use TF32 for the precision tf32 only: by torch's newer setting if there is one."""
    allowed = precision == "tf32"
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = "tf32" if allowed else "ieee"
    else:
        matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
