"""Does an implementation compute what the official code computes? Outputs and gradients, per golden case."""

import math
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from bench.correctness.golden import GoldenCase, GoldenError, GoldenFile, find_cases

if TYPE_CHECKING:
    from torch import Tensor, nn

OUTPUT_BOUND = 1e-4
GRADIENT_BOUND = 1e-3
LOOSE_GRADIENT_BOUND = 1e-2
LOOSE = re.compile(r"temp|rel_pos_bias")
"""Gradients that lose digits in any float32 form, the official one too."""
ZERO_NORM = 1e-5
"""A reference below this norm is analytically zero: its elements are compared absolutely, by this figure."""
KEY_BIAS = re.compile(r"k_proj\.bias$")
KEY_BIAS_NORM = 1e-4
"""Softmax does not see a key bias: its gradient is rounding noise, which may reach this norm."""
RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

Status = Literal["passed", "failed", "unsupported", "error"]


class Verdict(msgspec.Struct, frozen=True):
    """What one case came to; max_error is the largest relative error over its tensors."""

    system: str
    case: str
    status: Status
    max_error: float | None = None
    worst_tensor: str | None = None
    detail: str = ""
    required: bool = True

    @property
    def counts_as_failure(self) -> bool:
        """A case that must pass and did not; an optional one may be unsupported, but not wrong."""
        return self.status in ("failed", "error") or (self.required and self.status == "unsupported")


def verify(
    golden: Path, systems: Iterable[str] | None = None, variant: str | None = None
) -> Iterator[Verdict]:
    """Verdicts on every case below a folder, as they come.

    systems: only these; variant: hold this fused form against the vectors of its system.
    Raises GoldenError where the folder holds no cases, or none of those systems.
    """
    files = list(find_cases(golden))
    if systems is not None:
        wanted = set(systems)
        unknown = wanted - {file.system for file in files}
        if unknown:
            raise GoldenError(f"{golden}: no golden vectors of {', '.join(sorted(unknown))}")
        files = [file for file in files if file.system in wanted]
    return (verify_case(file, variant) for file in files)


def verify_case(file: GoldenFile, variant: str | None = None) -> Verdict:
    """Build our module from the case's own config and parameters, run it forward and backward, compare."""
    from implementations.official import OfficialError, Unsupported, build_module

    def verdict(status: Status, detail: str = "", worst: tuple[str, float] | None = None) -> Verdict:
        name, error = worst or (None, None)
        return Verdict(file.system, file.name, status, error, name, detail, file.required)

    try:
        case = file.read()
        module = build_module(case.system, case.module, case.config, _initial_state(case), variant)
        errors = dict(_errors(case, module))
    except Unsupported as error:
        return verdict("unsupported", str(error))
    except (GoldenError, OfficialError) as error:
        return verdict("error", str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return verdict(
            "error", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        )
    if not errors:
        return verdict("error", "the case holds nothing to compare")
    worst = max(errors.items(), key=lambda item: item[1] / bound(item[0]))
    failing = [name for name, error in errors.items() if not error <= bound(name)]
    if failing:
        return verdict(
            "failed",
            f"{len(failing)} of {len(errors)} tensors beyond their bound: {', '.join(failing[:4])}",
            worst,
        )
    return verdict("passed", f"{len(errors)} tensors", worst)


def bound(name: str) -> float:
    """The largest relative error allowed for a tensor, by its key in the file."""
    group, _, tensor = name.partition("/")
    if not group.startswith("grad"):
        return OUTPUT_BOUND
    return LOOSE_GRADIENT_BOUND if LOOSE.search(tensor) else GRADIENT_BOUND


def relative_error(ours: "Tensor", reference: "Tensor", zero_norm: float = ZERO_NORM) -> float:
    """`‖a − b‖ / ‖b‖`; where the reference is analytically zero (its norm below zero_norm), 0 if no element
    is further than ZERO_NORM from it. Infinity for another shape, a NaN, or a zero that is none.
    """
    a, b = ours.detach().double(), reference.double()
    if a.shape != b.shape:
        return float("inf")
    difference, norm = a - b, b.norm().item()
    if norm < zero_norm:
        return 0.0 if difference.numel() == 0 or difference.abs().max().item() <= ZERO_NORM else float("inf")
    error = difference.norm().item() / norm
    return float("inf") if math.isnan(error) else error


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


def _errors(case: GoldenCase, module: "nn.Module") -> "Iterator[tuple[str, float]]":
    inputs = {name: _as_input(name, value, case) for name, value in case.group("in").items()}
    outputs = module(**inputs)
    for name, reference in case.group("out").items():
        if name in outputs:
            yield f"out/{name}", relative_error(outputs[name], reference)
        elif name in case.group("cot"):
            yield f"out/{name}", float("inf")
    loss = sum((outputs[name] * cotangent).sum() for name, cotangent in case.group("cot").items())
    if case.group("cot"):
        loss.backward()
    for name, reference in case.group("grad_in").items():
        yield f"grad_in/{name}", relative_error(_gradient(inputs[name]), reference)
    parameters = dict(module.named_parameters())
    for name, reference in case.group("grad_param").items():
        zero_norm = KEY_BIAS_NORM if KEY_BIAS.search(name) else ZERO_NORM
        yield f"grad_param/{name}", relative_error(_gradient(parameters[name]), reference, zero_norm)
    if case.config.get("mode") != "eval":
        buffers = dict(module.named_buffers())
        for name, reference in case.group("buffer").items():
            if name.endswith(("running_mean", "running_var")) and name in buffers:
                yield f"buffer/{name}", relative_error(buffers[name], reference)


def _as_input(name: str, value: "Tensor", case: GoldenCase) -> "Tensor":
    return value.requires_grad_() if name in case.group("grad_in") else value


def _gradient(tensor: "Tensor") -> "Tensor":
    import torch

    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
