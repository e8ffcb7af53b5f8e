"""S4: a state space of HiPPO-LegS form, diagonal plus low rank, as one long convolution per layer.

Gu, Goel and Ré, ICLR 2022, arXiv 2111.00396; as in version 3 of the paper, whose figures the Long Range
Arena tables give.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import NoRecurrentForm, State
from implementations.models.state_space import BackboneConfig, backbone
from implementations.ops.fft_conv import fft_convolution
from implementations.ops.ssm import (
    TiedDropout,
    as_complex,
    as_pairs,
    at_least_float32,
    log_uniform,
    nplr_legs,
)
from implementations.ops.ssm_kernels import dplr_discretise, dplr_kernel, dplr_restore, dplr_truncate
from implementations.task import Task

StepTransform = Literal["softplus", "exp"]

BLOCK = 64
"""Time steps of a prompt that are taken in at once; a power of 2."""


@dataclass(frozen=True, kw_only=True)
class S4Config(BackboneConfig):
    """Hyper-parameters of S4."""

    state_dim: int = 64
    """Real states per channel; half as many complex ones are kept."""
    n_ssm: int | None = None
    """Independent state matrices, each shared by `dim / n_ssm` channels; by default one per channel."""


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """S4 for a task; see S4Config. Raises TypeError on unknown hyper-parameters."""
    config = S4Config(**hyperparameters)
    return build_around(
        task,
        config,
        lambda kernels: DPLRKernel(
            config.dim,
            config.state_dim,
            kernels,
            n_ssm=config.n_ssm,
            max_length=task.length,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
        ),
    )


def build_around(task: Task, config: S4Config, make_kernel: Callable[[int], "SSMKernel"]) -> nn.Module:
    """The whole model around a kernel; make_kernel takes the kernels per channel, 2 for both ways."""
    bidirectional = not task.causal

    def layer() -> nn.Module:
        kernel = make_kernel(2 if bidirectional else 1)
        return S4Block(config.dim, kernel, bidirectional=bidirectional, dropout=config.dropout)

    return backbone(task, config, [layer() for _ in range(config.layers)])


def clip_imaginary(B: Tensor) -> Tensor:
    """B with its imaginary part within ±2, the start of the official code."""
    return torch.complex(B.real, B.imag.clamp(-2, 2))


def _inverse_softplus(x: Tensor) -> Tensor:
    return x + (-torch.expm1(-x)).log()


class SSMKernel(nn.Module):
    """Parameters of S4's and S4D's kernels; a subclass's forward gives the kernels.

    A, B: complex `(n_ssm, states)`, of which channel h takes the one at h mod n_ssm; kernels: number of C,
    and so of kernels, per channel. Raises ValueError if n_ssm does not divide dim.
    """

    def __init__(
        self,
        A: Tensor,
        B: Tensor,
        dim: int,
        kernels: int,
        *,
        dt_min: float,
        dt_max: float,
        dt_transform: StepTransform,
    ) -> None:
        super().__init__()
        ssms, states = A.shape
        if dim % ssms:
            raise ValueError(f"n_ssm is {ssms}: it must divide the width, {dim}")
        log_dt = log_uniform(dim, dt_min, dt_max)
        inverse = log_dt if dt_transform == "exp" else _inverse_softplus(log_dt.exp())
        self.dt_transform = dt_transform
        self.inv_dt = nn.Parameter(inverse.unsqueeze(1))
        self.C = nn.Parameter(as_pairs(torch.randn(kernels, dim, states, dtype=torch.cdouble)))
        self.B = nn.Parameter(as_pairs(B.unsqueeze(0)))
        self.A_real = nn.Parameter((-A.real).log().to(inverse.dtype))
        self.A_imag = nn.Parameter((-A.imag).to(inverse.dtype))

    def dt(self) -> Tensor:
        """`(dim,)` step sizes."""
        inverse = at_least_float32(self.inv_dt).squeeze(1)
        return inverse.exp() if self.dt_transform == "exp" else F.softplus(inverse)

    def A(self) -> Tensor:
        """`(dim, states)` eigenvalues."""
        return self._spread(
            torch.complex(-at_least_float32(self.A_real).exp(), -at_least_float32(self.A_imag))
        )

    def _spread(self, x: Tensor) -> Tensor:
        """Give channel h the state space h mod n_ssm."""
        return x.repeat(self.inv_dt.shape[0] // x.shape[0], 1)


class TruncatedKernel(nn.Module):
    """A kernel whose C is stored truncated at a length, `C̃ = C(I − Ā^length)`.

    The first forward rewrites C in place, at max_length, or at its own length if max_length is None. From
    then on C̃ is trained, and a buffer holds the length.
    """

    C: nn.Parameter
    max_length: int | None
    _length = 0

    @torch.no_grad()
    def _truncated_at(
        self, buffer: Tensor, length: int, system: Callable[[], tuple[Tensor, Tensor, Tensor]]
    ) -> int:
        """The length as a number. The first call reads it from the device, and rewrites C if it is 0.

        system: A, P `(dim, states)` and dt `(dim,)`.
        """
        if self._length == 0:
            self._length = int(buffer)
        if self._length == 0:
            self._length = self.max_length or length
            A, P, dt = system()
            self.C.copy_(torch.view_as_real(dplr_truncate(A, as_complex(self.C), P, dt, self._length)))
            buffer.fill_(self._length)
        return self._length

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._length = 0


class DPLRKernel(SSMKernel, TruncatedKernel):
    """`A_full = diag(A, A*) − [P; P*][P; P*]ᴴ`, bilinear; `forward(length)` gives `(kernels, dim, length)`.

    C is stored truncated at l_kernel.
    """

    l_kernel: Tensor

    def __init__(
        self,
        dim: int,
        state_dim: int,
        kernels: int = 1,
        *,
        n_ssm: int | None = None,
        max_length: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_transform: StepTransform = "softplus",
    ) -> None:
        legs = nplr_legs(state_dim)
        A, B, P = (x.expand(n_ssm or dim, -1) for x in (legs.A, legs.B, legs.P))
        super().__init__(
            A, clip_imaginary(B), dim, kernels, dt_min=dt_min, dt_max=dt_max, dt_transform=dt_transform
        )
        self.P = nn.Parameter(as_pairs(P.unsqueeze(0)))
        self.max_length = max_length
        self.register_buffer("l_kernel", torch.tensor(0))

    def forward(self, length: int, rate: float = 1.0) -> Tensor:
        """Kernels of that length; rate: time steps of the l_kernel's unit that one step here takes.

        Raises ValueError if `length·rate` is beyond l_kernel.
        """
        with torch.autocast(self.C.device.type, enabled=False):
            full = self._prepare(round(length * rate))
            if round(length * rate) > full:
                raise ValueError(
                    f"length {length} is beyond the {full} steps that this S4 kernel was built for"
                )
            dt, A, C = self.dt() * rate, self.A(), as_complex(self.C)
            B, P = (self._spread(as_complex(x[0])) for x in (self.B, self.P))
            return dplr_kernel(A, B, C, P, dt, round(full / rate))[..., :length]

    def state_after(self, u: Tensor) -> State:
        """States, complex `(batch, dim, states)`, after `(batch, length, dim)`, which may be empty."""
        with torch.autocast(self.C.device.type, enabled=False):
            A, dt = self.A(), self.dt()
            B, P = (self._spread(as_complex(x[0])) for x in (self.B, self.P))
            full = self._prepare(u.shape[1])
            states = _final_state(*dplr_discretise(A, B, P, dt), u).to(A.dtype)
            C = dplr_restore(A, as_complex(self.C), P, dt, full)
            half = dt.unsqueeze(1) / 2
            backward = 1 / (1 - half * A)
            overlap = 2 * (P.conj() * backward * P).sum(dim=1, keepdim=True).real * half + 1
            constants = (
                backward * (1 + half * A),
                backward * half * P,
                backward * 2 * half * B,
                backward * half * P / overlap,
                P.conj(),
                C,
            )
        return State((states,), constants)

    def step(self, u: Tensor, state: State) -> Tensor:
        """The response `(batch, kernels, dim)` at one step `(batch, dim)`, linear in the states.

        `(I − Δ/2 A) x' = (I + Δ/2 A) x + Δ B u` with A diagonal plus low rank, solved by Woodbury's identity.
        """
        (states,) = state.memory
        forward, low_rank, gain, correction, conjugate, C = state.constants
        moved = forward * states - low_rank * _real_product(conjugate, states) + gain * u.unsqueeze(-1)
        states.copy_(moved - correction * _real_product(conjugate, moved))
        return _real_product(C, states.unsqueeze(1)).squeeze(-1)

    def _prepare(self, length: int) -> int:
        """l_kernel as a number."""
        return self._truncated_at(
            self.l_kernel, length, lambda: (self.A(), self._spread(as_complex(self.P[0])), self.dt())
        )


def _real_product(x: Tensor, y: Tensor) -> Tensor:
    """`2·Re Σ_n x_n y_n` over the last dimension, which is kept: the sum counts the conjugates of both."""
    return 2 * (x * y).sum(dim=-1, keepdim=True).real


def _final_state(transition: Tensor, inputs: Tensor, u: Tensor) -> Tensor:
    """`x_t = Ā x_{t−1} + B̄ u_t` from zero after the last step, complex `(batch, dim, states)`.

    transition `(dim, 2·states, 2·states)` and inputs `(dim, 2·states)` as of dplr_discretise; u
    `(batch, length, dim)`. Goes in blocks, by powers of the transition.
    """
    columns = inputs.unsqueeze(2)
    while columns.shape[2] < BLOCK:
        columns = torch.cat([transition @ columns, columns], dim=2)
        transition = transition @ transition
    state = inputs.new_zeros(u.shape[0], *inputs.shape)
    # Zeros before the sequence leave the state at zero.
    steps = F.pad(u.to(inputs.dtype), (0, 0, -u.shape[1] % BLOCK, 0))
    for block in torch.split(steps, BLOCK, dim=1) if u.shape[1] else ():
        state = torch.einsum("dmn,bdn->bdm", transition, state)
        state = state + torch.einsum("dnl,bld->bdn", columns, block)
    return torch.complex(*state.chunk(2, dim=2))


class S4Block(nn.Module):
    """`GLU(Linear(dropout(gelu(kernel * u + D·u))))` over `(batch, length, dim)`, padding zeroed first.

    kernel: `forward(length)` gives `(channels, dim, length)`, twice as many if bidirectional: the second half
    runs over the future, without the current step.
    """

    def __init__(
        self,
        dim: int,
        kernel: nn.Module,
        *,
        channels: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        gated: bool = True,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.D = nn.Parameter(torch.randn(channels, dim))
        self.bidirectional = bidirectional
        self.dropout = TiedDropout(dropout)
        self.activation = activation
        self.output_linear = nn.Linear(channels * dim, (2 if gated else 1) * dim)
        self.gated = gated

    def forward(self, u: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if padding_mask is not None:
            u = u.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        return self._project(self.dropout(self.activation(self.convolve(u))))

    def state_after(self, u: Tensor, room: int) -> State:
        """State of the kernel. Raises NoRecurrentForm if it runs both ways."""
        if self.bidirectional:
            raise NoRecurrentForm("no recurrent form: the state space runs over the future too")
        state: State = self.kernel.state_after(at_least_float32(u))  # type: ignore[operator]
        return state

    def step(self, u: Tensor, state: State, time: int) -> Tensor:
        """u `(batch, dim)` at a time step, to the same shape."""
        wide = at_least_float32(u)
        response = self.kernel.step(wide, state) + self.D * wide.unsqueeze(1)  # type: ignore[operator]
        return self._project(self.activation(response.flatten(1)))

    def _project(self, y: Tensor) -> Tensor:
        # Weights held in half precision take what the state space computed in float32.
        y = self.output_linear(y.to(self.output_linear.weight.dtype))
        return F.glu(y, dim=-1) if self.gated else y

    def convolve(self, u: Tensor) -> Tensor:
        """The state space's response with the feed-through: `(batch, length, dim)` to `(…, channels·dim)`."""
        u = at_least_float32(u)
        kernels = self.kernel(u.shape[1])
        causal, anticausal = kernels.chunk(2) if self.bidirectional else (kernels, [None] * len(kernels))
        responses = [
            torch.addcmul(_respond(u, *pair), u, D)
            for *pair, D in zip(causal, anticausal, self.D, strict=True)
        ]
        return responses[0] if len(responses) == 1 else torch.cat(responses, dim=-1)


def _respond(u: Tensor, causal: Tensor, anticausal: Tensor | None) -> Tensor:
    if anticausal is None:
        return fft_convolution(u, causal)
    # The anti-causal kernel's first tap is for the next step, not for this one.
    return fft_convolution(u, F.pad(causal, (0, 1)), F.pad(anticausal, (1, 0)))
