"""The multi-dimensional damped EMA of MEGA (Ma et al., ICLR 2023, section 3.1) and SeqBoat."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from implementations.decoding import NoRecurrentForm, State, cache
from implementations.ops.cut_normal import cut_normal_
from implementations.ops.fft_conv import fft_convolution
from implementations.ops.scan import final_state


class DampedEMA(nn.Module):
    """Each channel runs `states` damped averages and mixes them, as one long convolution, plus `ω·x`.

    With `p = σ(delta)` and `q = 1 − p·σ(alpha)`, the kernel of a channel is
    `k[t] = Σ_n p_n β_n γ_n √(1/N) q_n^t` for the N states. A bidirectional average has a second set of
    kernels (the upper half of each parameter) that look ahead in time; both directions hold lag 0.

    dim: channels; states: N; truncation: longest kernel in time steps, None for the whole sequence.
    Parameters: delta, alpha, beta `(directions·dim, states, 1)`, gamma `(directions·dim, states)`,
    omega `(dim,)`; `cut`: their initial values lie within two deviations, as SeqBoat's do.
    Raises ValueError for a kernel of no steps.
    """

    def __init__(
        self,
        dim: int,
        states: int,
        bidirectional: bool = True,
        truncation: int | None = None,
        cut: bool = False,
    ) -> None:
        super().__init__()
        if truncation is not None and truncation < 1:
            raise ValueError(f"truncation can't be {truncation}: a kernel has one step at least")
        self.dim = dim
        self.states = states
        self.bidirectional = bidirectional
        self.truncation = truncation
        kernels = 2 * dim if bidirectional else dim
        self.delta = nn.Parameter(torch.empty(kernels, states, 1))
        self.alpha = nn.Parameter(torch.empty(kernels, states, 1))
        self.beta = nn.Parameter(torch.empty(kernels, states, 1))
        self.gamma = nn.Parameter(torch.empty(kernels, states))
        self.omega = nn.Parameter(torch.empty(dim))
        self.reset_parameters(cut_normal_ if cut else nn.init.normal_)

    def reset_parameters(self, normal_: Callable[..., Tensor]) -> None:
        """delta, alpha `N(0, 0.2)`; beta `±1 + N(0, 0.02)`, signs alternating; gamma, omega `N(0, 1)`."""
        normal_(self.delta, std=0.2)
        normal_(self.alpha, std=0.2)
        normal_(self.gamma, std=1.0)
        normal_(self.omega, std=1.0)
        signs = torch.ones(self.states, 1)
        signs[1::2] = -1.0
        with torch.no_grad():
            normal_(self.beta, std=0.02).add_(signs)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """x `(batch, length, dim)`, padding_mask `(batch, length)` True at padding; the shape of x again.

        Padded steps add nothing to the average of others, but keep their own `ω·x`. Computed in at least
        float32, whatever the precision of x, parameters or autocast; the result has the precision of x.
        """
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            residual = wide * self.omega
            if padding_mask is not None:
                wide = wide.masked_fill(padding_mask.unsqueeze(-1), 0.0)
            average = fft_convolution(wide, *self.kernels(x.shape[1], wide.dtype))
            return (average + residual).to(x.dtype)

    def kernels(self, length: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """Causal kernel, and the anti-causal one of a bidirectional average: `(dim, taps)` each.

        `taps = min(truncation, length)`.
        """
        taps = length if self.truncation is None else min(self.truncation, length)
        weight, log_decay = self.coefficients(dtype)
        time = torch.arange(taps, device=weight.device, dtype=dtype)
        powers = torch.exp(log_decay.unsqueeze(-1) * time)
        # No matrix product: TF32 would take digits from it.
        return torch.chunk((weight.unsqueeze(-1) * powers).sum(dim=1), 2 if self.bidirectional else 1)

    def coefficients(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """`p β γ √(1/N)` and `ln q`, each `(directions·dim, states)`: the kernel is `Σ_n weight·q^t`."""
        p = torch.sigmoid(self.delta.to(dtype)).squeeze(-1)
        log_decay = torch.log1p(-p * torch.sigmoid(self.alpha.to(dtype)).squeeze(-1))
        weight = p * self.beta.to(dtype).squeeze(-1) * self.gamma.to(dtype) * math.sqrt(1.0 / self.states)
        return weight, log_decay

    def state_after(self, x: Tensor, room: int) -> State:
        """Averages `(batch, dim, states)` and, if the kernel is shorter than the room, inputs in its reach.

        x `(batch, length, dim)`. Raises NoRecurrentForm for a bidirectional average.
        """
        if self.bidirectional:
            raise NoRecurrentForm("no recurrent form: the moving average looks ahead")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight, log_decay = self.coefficients(wide.dtype)
        if self.truncation is None or self.truncation >= room:
            return State((final_state(log_decay, wide),), (weight, log_decay.exp()))
        taps = self.truncation
        averages = final_state(log_decay, wide[:, max(0, x.shape[1] - taps) :])
        return State((averages, cache(wide, taps)), (weight, log_decay.exp(), torch.exp(log_decay * taps)))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        averages, *inputs = state.memory
        weight, decay, *last_tap = state.constants
        wide = x.to(averages.dtype)
        averages.mul_(decay).add_(wide.unsqueeze(-1))
        if inputs:
            place = time % inputs[0].shape[1]
            averages.sub_(last_tap[0] * inputs[0][:, place].unsqueeze(-1))
            inputs[0][:, place] = wide
        return ((averages * weight).sum(dim=-1) + wide * self.omega).to(x.dtype)
