"""Decoding as a step: after a context of the case's length, a stretch of tokens, one after another.

The context is taken in once, by the parallel form; every step starts from the same state, so that it is the
same step. The tokens of the stretch are the text's own, not the model's: an untrained model would soon
repeat one token, and the cost of a sparse one depends on its tokens.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.probes.clock import Elapsed, time_steps
from bench.records.solo import Decoding
from bench.steps.step import Step
from bench.steps.tolerance import OUTPUT_BOUND, relative_error
from bench.suites.case import Case
from bench.suites.suite import STRETCH
from implementations import activation
from implementations.decoding import Generation, NoRecurrentForm


def open_step(case: Case, device: str) -> Step:
    """The step of a case of any phase."""
    return DecodeStep(case, device) if case.phase == "decode" else Step(case, device)


class DecodeStep(Step):
    """A case of the phase `decode`: `step()` takes in STRETCH tokens of each sequence.

    Raises NoRecurrentForm for a model that cannot.
    """

    generation: Generation

    def __init__(self, case: Case, device: str) -> None:
        super().__init__(msgspec.structs.replace(case, length=case.length + STRETCH), device)
        for method in ("prefill", "step"):
            if not hasattr(self.model, method):
                raise NoRecurrentForm(f"no recurrent form: {type(self.model).__name__} has no {method}")
        self.context = case.length
        self.run = self._generate

    def __call__(self) -> None:
        self._rewind()
        super().__call__()

    def calibrate(self) -> None:
        """Set the activation rate over context and stretch, then take the context in."""
        super().calibrate()
        if self.device.type == "cuda":
            # The first one loads libraries.
            self._prefill()
        self._prefill_seconds = time_steps(self._prefill, 1, self.device).seconds
        self._saved = [_saved(tensor) for tensor in self.generation.state.tensors()]
        self._rates = self._activation_of_the_stretch()

    def _prefill(self) -> None:
        context = self.inputs[:, : self.context]
        with torch.no_grad(), self._autocast():
            logits, self.generation = self.model.prefill(  # type: ignore[operator]
                context, self.context + STRETCH
            )
        wanted = (*context.shape, self.task.classes)
        if logits.shape != wanted:
            raise ValueError(
                f"prefill gives logits {tuple(logits.shape)}, not (batch, length, vocabulary) {wanted}"
            )

    @property
    def own_bytes(self) -> int:
        """The saved state lies beside the model's on a GPU, where going back to it takes no transfer."""
        return sum(one.nbytes for one in self._saved if isinstance(one, Tensor))

    @property
    def tokens(self) -> int:
        return len(self.inputs) * STRETCH

    @property
    def real_tokens(self) -> int:
        return self.tokens

    @property
    def backend(self) -> str:
        """Always `torch`: the fused layers have no form for one token."""
        return "torch"

    @property
    def why_plain(self) -> None:
        """Always None: for one token the plain form is expected."""

    def timed(self, steps: int) -> Elapsed:
        """Time the tokens alone, without going back to the context."""
        seconds, aside, waited = 0.0, 0.0, 0.0 if self.device.type == "cpu" else None
        for _ in range(steps):
            self._rewind()
            once = time_steps(super().__call__, 1, self.device)
            seconds, aside = seconds + once.seconds, aside + once.aside
            if waited is not None and once.waited is not None:
                waited += once.waited
        return Elapsed(seconds, waited, aside)

    def live(self) -> Iterator[Tensor]:
        yield from super().live()
        yield from self.generation.state.tensors()

    def activation_rates(self) -> list[float]:
        """Rates over the tokens of the stretch, which are the same in every step."""
        return self._rates

    def decoding(self) -> Decoding:
        """Size of the state, and difference of the stretch from the parallel form."""
        self._rewind()
        with torch.no_grad():
            expected = self.logits(self.model)[:, self.context :]
        error = relative_error(torch.stack(list(self._logits()), dim=1), expected)
        return Decoding(
            tokens=STRETCH,
            state_bytes=self.generation.bytes,
            prefill_seconds=self._prefill_seconds,
            parallel_error=error,
            agrees=error <= OUTPUT_BOUND[self.case.precision],
        )

    def _generate(self) -> Tensor:
        last = torch.zeros(())
        for logits in self._logits():
            last = logits
        return last.sum()

    def _logits(self) -> Iterator[Tensor]:
        with torch.no_grad(), self._autocast():
            for tokens in self.inputs[:, self.context :].unbind(dim=1):
                yield self.model.step(tokens, self.generation)  # type: ignore[operator]

    def _rewind(self) -> None:
        self.generation.rewind(self.context)
        with _disable_current_modes():  # What watches the step must not see the harness's copy.
            for tensor, saved in zip(self.generation.state.tensors(), self._saved, strict=True):
                source = saved if isinstance(saved, Tensor) else torch.from_numpy(saved)
                _as_numpy_has_it(tensor).copy_(source)

    def _activation_of_the_stretch(self) -> list[float]:
        if not activation.configurators(self.model):
            return []
        by_token = [activation.activation_rates(self.model) for _ in self._logits()]
        return [sum(rates) / len(rates) for rates in zip(*by_token, strict=True)]


def _saved(tensor: Tensor) -> npt.NDArray[Any] | Tensor:
    """A copy that is the harness's, and must not count as the model's memory: on a CPU it is not a tensor."""
    if tensor.is_cuda:
        return _as_numpy_has_it(tensor).clone()
    saved: npt.NDArray[Any] = _as_numpy_has_it(tensor).numpy().copy()
    return saved


def _as_numpy_has_it(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor
