"""Prediction of a step's peak memory from shapes alone, under FakeTensorMode."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from unittest import mock

import msgspec
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from bench.probes.tensor_bytes import COMPILED, TensorBytes, is_compiled
from bench.records.run import Prediction
from bench.steps import modes
from bench.steps.plugged import optimizer_for
from bench.steps.step import Step
from bench.suites.case import Case
from implementations.encoder import parameter_count
from implementations.kernels.triton.work import counted
from implementations.ops.sizes import SizeUnknown, shapes_only


def predict(case: Case, device: str) -> Prediction:
    """Peak of live tensor bytes of one step of a case; that memory need not be there.

    If a configurator decides how much is computed, the case's activation rate is taken to be that of every
    row and layer. A step is not predictable if its sizes depend on other values or it runs its own kernels.
    Only the first prediction of a process is exact: what a model caches counts in later ones.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        # Autograd has no queue for such a device, and ends the process.
        return _not_predictable("there is no CUDA device; predict for --device cpu")
    if case.phase == "decode":
        return _not_predictable("a step of decoding begins with a state, which shapes alone do not give")
    try:
        return _predict(case, torch.device(device))
    except SizeUnknown as error:
        return _not_predictable(str(error))
    except (DataDependentOutputException, DynamicOutputShapeException):
        return _not_predictable("sizes depend on values")
    except UnsupportedOperatorException as error:
        return _not_predictable(f"{error.func} has no rule for shapes")
    except (AssertionError, RuntimeError, TypeError, NotImplementedError, ValueError) as error:
        return _not_predictable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _not_predictable(reason: str) -> Prediction:
    return Prediction(tensor_bytes=None, reason=reason)


def _predict(case: Case, device: torch.device) -> Prediction:
    if case.mode in ("compile", "graph"):
        return _not_predictable(f"mode {case.mode}: what it keeps is not seen")
    step = _built(case)
    if any(tensor.layout is not torch.strided for tensor in step.live()):
        return _not_predictable("it holds sparse or jagged tensors, whose sizes depend on values")
    with _on_shapes(case, step, device):
        step()
        with TensorBytes(step.live()) as watched:
            step()
    if is_compiled():
        return _not_predictable(COMPILED)
    parameters = parameter_count(step.model)
    return Prediction(tensor_bytes=watched.peak, parameters=parameters, width=step.width)


@contextlib.contextmanager
def on_shapes(case: Case) -> Iterator[Step]:
    """A case's step on the CPU within this context: it computes nothing, on tensors that only have shapes."""
    step = _built(case)
    with _on_shapes(case, step, torch.device("cpu")):
        yield step


def _built(case: Case) -> Step:
    """A step for real: parameters are few, and their starting values may be computed from each other."""
    return Step(msgspec.structs.replace(case, activation=None), "cpu")


@contextlib.contextmanager
def _on_shapes(case: Case, step: Step, device: torch.device) -> Iterator[None]:
    scalars = {id(b): b.item() for b in step.model.buffers() if b.numel() == 1 and not b.is_floating_point()}
    # Adam asks for the value of its count of steps; whatever it is, the shapes are the same.
    count = mock.patch("torch.optim.adam._get_value", return_value=1.0)
    rate = _activation(case, step)
    # Kernels of ours have no values to compute with, nor a device to be tried on.
    launches = counted(lambda *_: None) if device.type == "cuda" else contextlib.nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True), launches, count, shapes_only(rate):
        _shapes_only(step, device, scalars)
        modes.enter(step)
        yield


def _activation(case: Case, step: Step) -> float | None:
    """Active steps of the longest row over the length of the batch."""
    if case.activation is None or step.lengths is None:
        return case.activation
    return case.activation * float(step.lengths.max()) / case.length


def _shapes_only(step: Step, device: torch.device, scalars: Mapping[int, float]) -> None:
    """Replace a step's tensors by fakes on the device; scalars, which a model may read, keep their value."""
    fakes = {
        parameter: nn.Parameter(_like(parameter, device), requires_grad=parameter.requires_grad)
        for parameter in step.model.parameters()
    }
    for module in step.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = fakes[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                value = scalars.get(id(buffer))
                known = None if value is None else torch.tensor(value, dtype=buffer.dtype, device=device)
                module._buffers[name] = _like(buffer, device) if known is None else known
    step.device = device
    step.inputs, step.targets = _like(step.inputs, device), _like(step.targets, device)
    step.lengths = None if step.lengths is None else _like(step.lengths, device)
    step.optimizer = optimizer_for(step.case, step.model)
    gc.collect()


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
