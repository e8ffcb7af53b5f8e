"""Check of an implementation against official code: outputs and gradients, per golden case."""

import math
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from bench.correctness.golden import GoldenCase, GoldenError, GoldenFile, find_cases
from bench.steps.tolerance import (
    LOOSE,
    LOOSE_GRADIENT_BOUND,
    ROUNDING_FACTOR,
    ROUNDING_SHARE,
    ZERO_SHARE,
    relative_error,
)

if TYPE_CHECKING:
    from torch import Tensor

GOLDEN_BOUND = 1e-4
"""Largest relative error of an output that passes."""
GRADIENT_BOUND = 1e-3
RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

Status = Literal["passed", "failed", "unsupported", "error"]


class GoldenCheck(msgspec.Struct, frozen=True):
    """Result of one case; max_error is the largest relative error over its tensors."""

    system: str
    case: str
    status: Status
    max_error: float | None = None
    worst_tensor: str | None = None
    detail: str = ""
    required: bool = True

    @property
    def counts_as_failure(self) -> bool:
        """Whether a case that must pass did not; an optional one may be unsupported, but not wrong."""
        return self.status in ("failed", "error") or (self.required and self.status == "unsupported")


def verify(
    golden: Path, systems: Iterable[str] | None = None, variant: str | None = None
) -> Iterator[GoldenCheck]:
    """Check every case below a folder, and yield the results as they come.

    systems: only these; variant: the fused form to compare with the vectors of its system.
    Raises GoldenError if the folder holds no cases, or none of those systems.
    """
    files = list(find_cases(golden))
    if systems is not None:
        wanted = set(systems)
        unknown = wanted - {file.system for file in files}
        if unknown:
            raise GoldenError(f"{golden}: no golden vectors of {', '.join(sorted(unknown))}")
        files = [file for file in files if file.system in wanted]
    return (verify_case(file, variant) for file in files)


def verify_case(file: GoldenFile, variant: str | None = None) -> GoldenCheck:
    """Build our module from the case's own config and parameters, run it forward and backward, compare.

    A gradient that is beyond its bound is looked at once more: see `_zeros`.
    """
    from implementations.official import OfficialError, Unsupported

    def check(status: Status, detail: str = "", worst: tuple[str, float] | None = None) -> GoldenCheck:
        name, error = worst or (None, None)
        return GoldenCheck(file.system, file.name, status, error, name, detail, file.required)

    try:
        case = file.read()
        ours = _compute(case, variant)
        errors = {name: relative_error(value, _recorded(case, name)) for name, value in ours.items()}
        beyond = {name for name, error in errors.items() if not error <= bound(name)}
        if any(map(_is_gradient, beyond)):
            zeros = beyond & _zeros(case, ours)
            errors |= dict.fromkeys(zeros, 0.0)
            beyond -= zeros
    except Unsupported as error:
        return check("unsupported", str(error))
    except (GoldenError, OfficialError) as error:
        return check("error", str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return check("error", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})")
    if not errors:
        return check("error", "the case holds nothing to compare")
    worst = max(errors.items(), key=lambda item: item[1] / bound(item[0]))
    if beyond:
        names = ", ".join([name for name in errors if name in beyond][:4])
        return check("failed", f"{len(beyond)} of {len(errors)} tensors beyond their bound: {names}", worst)
    return check("passed", f"{len(errors)} tensors", worst)


def bound(name: str) -> float:
    """Largest relative error allowed for a tensor, by its key in the file."""
    group, _, tensor = name.partition("/")
    if not _is_gradient(name):
        return GOLDEN_BOUND
    return LOOSE_GRADIENT_BOUND if group == "grad_param" and LOOSE.search(tensor) else GRADIENT_BOUND


def _is_gradient(name: str) -> bool:
    return name.startswith("grad_")


def _recorded(case: GoldenCase, name: str) -> "Tensor":
    group, _, tensor = name.partition("/")
    return case.group(group)[tensor]


def _zeros(case: GoldenCase, ours: "Mapping[str, Tensor]") -> set[str]:
    """Gradients that are analytically zero, and nothing but rounding both as recorded and as we compute them.

    Examples are a bias of keys under a softmax and a bias in front of a batch norm. Our plain form in float64
    tells which ones are zero. Its other gradients say nothing here: if float64 differs from the recording,
    the function may be another one.
    """
    exact = {name: value for name, value in _compute(case, None, exact=True).items() if _is_gradient(name)}
    whole = math.hypot(*(value.norm().item() for value in exact.values()))
    least = ROUNDING_SHARE * whole

    def is_rounding(name: str, value: "Tensor") -> bool:
        official: float = _recorded(case, name).double().norm().item()
        is_zero = value.norm().item() <= ZERO_SHARE * whole
        allowed = ROUNDING_FACTOR * max(official, least)
        return is_zero and official <= ROUNDING_FACTOR * least and ours[name].norm().item() <= allowed

    return {name for name, value in exact.items() if is_rounding(name, value)}


def _initial_state(case: GoldenCase) -> "dict[str, Tensor]":
    """Parameters, and the buffers as they were before the forward pass.

    In training mode the recorded batch-norm statistics are those after it.
    """
    training = case.config.get("mode") != "eval"
    buffers = {
        name: value
        for name, value in case.group("buffer").items()
        if not (training and name.endswith(RUNNING_STATISTICS))
    }
    return {**case.group("param"), **buffers}


def _compute(case: GoldenCase, variant: str | None, *, exact: bool = False) -> "dict[str, Tensor]":
    """Our module's outputs and gradients for a case, by the keys of the recorded ones; exact: in float64."""
    from implementations.official import build_module

    module = build_module(case.system, case.module, case.config, _initial_state(case), variant)
    inputs = {name: value.clone() for name, value in case.group("in").items()}
    if exact:
        module.double()
        inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    for name in case.group("grad_in"):
        inputs[name].requires_grad_()
    outputs = module(**inputs)
    if case.group("cot"):
        sum((outputs[name] * cotangent).sum() for name, cotangent in case.group("cot").items()).backward()
    found = {f"out/{name}": outputs[name] for name in case.group("out") if name in outputs}
    found |= {f"grad_in/{name}": _gradient(inputs[name]) for name in case.group("grad_in")}
    parameters = dict(module.named_parameters())
    found |= {f"grad_param/{name}": _gradient(parameters[name]) for name in case.group("grad_param")}
    if case.config.get("mode") != "eval":
        buffers = dict(module.named_buffers())
        moved = (name for name in case.group("buffer") if name.endswith(("running_mean", "running_var")))
        found |= {f"buffer/{name}": buffers[name] for name in moved if name in buffers}
    return found


def _gradient(tensor: "Tensor") -> "Tensor":
    import torch

    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
