"""The latent configurator of SeqBoat (Ren et al., NeurIPS 2023, section 3.2): which steps are active."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.exact_buffers import kept_wide


class Routing(NamedTuple):
    """A configurator's decision at every step."""

    active: Tensor
    """`(batch, length)` boolean, False at padding."""
    confidence: Tensor
    """`(batch, length)`, the probability p₁ of being active; the only path of a gradient to the router."""


class LatentConfigurator(nn.Module):
    """Activates a step if option 1 is likelier than option 0, by `p = softmax(logits / exp(temp))`.

    A tie is inactive. act_bias, added to logit 0, moves the activation rate; this class follows the
    protocol of implementations/activation.py.
    Parameter temp `(1,)`, initially `ln(temperature_scale·√dim)`; buffer act_bias, a scalar, initially 0.
    """

    act_bias: Tensor

    def __init__(self, dim: int, temperature_scale: float = 1.0) -> None:
        super().__init__()
        self.temp = nn.Parameter(torch.tensor([math.log(temperature_scale * math.sqrt(dim))]))
        self.register_buffer("act_bias", torch.zeros(()))
        self._active: Tensor | None = None
        self._real: Tensor | int = 0

    def forward(self, logits: Tensor, padding_mask: Tensor | None = None) -> Routing:
        """logits `(batch, length, 2)`; padding_mask `(batch, length)`, True at padding, or None."""
        active = self.decide(logits, padding_mask)
        return Routing(active, self.probabilities(logits)[..., 1].to(logits.dtype))

    def decide(self, logits: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Active steps alone, `(batch, length)` boolean; activation_rate then reports this call."""
        active = _margin(logits) > self.act_bias
        if padding_mask is not None:
            active = active & ~padding_mask
        self._active = active.sum(dim=-1)
        self._real = active.shape[-1] if padding_mask is None else (~padding_mask).sum(dim=-1)
        return active

    def probabilities(self, logits: Tensor) -> Tensor:
        """`(batch, length, 2)`: p₀ and p₁ at every step, in at least float32."""
        biased = _wide(logits) + F.pad(self.act_bias.view(1), (0, 1))
        return torch.softmax(biased / self.temp.exp(), dim=-1)

    def margins(self, logits: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """`(steps,)`: logit 1 − logit 0 at the real steps; a step is active if it exceeds act_bias."""
        margin = _margin(logits)
        return margin.flatten() if padding_mask is None else margin[~padding_mask]

    def activation_rate(self) -> float:
        """Active steps over real steps in the last forward pass. Raises RuntimeError before the first one."""
        active, real = self._counts()
        return float(active.sum() / real.sum().clamp(min=1))

    def activation_rates_by_sample(self) -> list[float]:
        """The same for each row of that batch."""
        active, real = self._counts()
        rates: list[float] = (active / real.clamp(min=1)).tolist()
        return rates

    def _counts(self) -> tuple[Tensor, Tensor]:
        """Active and real steps of each row, `(batch,)` each, in double precision."""
        if self._active is None:
            raise RuntimeError("no activation rate yet: run the model once")
        active = self._active.double()
        return active, torch.as_tensor(self._real, dtype=active.dtype, device=active.device).expand_as(active)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LatentConfigurator":
        exact = self.act_bias
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Half precision would round the threshold to another activation rate.
        self.act_bias = kept_wide(exact, self.act_bias)
        return self


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _margin(logits: Tensor) -> Tensor:
    inactive, active = _wide(logits).unbind(dim=-1)
    return active - inactive
