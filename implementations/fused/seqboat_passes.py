"""Passes of a fused SeqBoat layer over a batch, forward and backward: one tile of rows at a time.

A tile, a long row or many short ones, stays in the cache from the EMA to the sum of the branches. The active
steps of its rows lie one after another, in matrix products and in attention; steps of different rows do not
see each other. What is cheap is computed again in the backward pass, and nothing has the size of the sequence
times the window.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from implementations.fused.dropout_rates import rate_of
from implementations.fused.working_memory import Memory, unit_of
from implementations.kernels.cpu.dropout import draw
from implementations.kernels.cpu.ema import Kernel, kernel_of
from implementations.kernels.cpu.gated_attention import Saved, Unit
from implementations.kernels.cpu.steps import Dropout, add_, dropped, dropped_sum, take
from implementations.kernels.cpu.tiles import places
from implementations.ops.configurator import Routing
from implementations.ops.sizes import active_steps, most_active

if TYPE_CHECKING:
    from implementations.models.seqboat import SeqBoatLayer


class Weights(NamedTuple):
    """Parameters of the layer, or their gradients; those of the EMA as its coefficients."""

    ema_weight: Tensor
    ema_log_decay: Tensor
    omega: Tensor
    hx_weight: Tensor
    hx_bias: Tensor
    mx_weight: Tensor
    mx_bias: Tensor
    h_weight: Tensor
    h_bias: Tensor
    gamma: Tensor
    beta: Tensor
    table: Tensor | None
    temp: Tensor | None

    @property
    def unit(self) -> Unit:
        return Unit(*self[5:12])


class Steps(NamedTuple):
    """A tile on its way through the forward pass."""

    x: Tensor
    """`(dim, steps)`: its rows one after another."""
    m: Tensor
    """`(dim, steps)`: the average after silu."""
    logits: Tensor
    """`(2, steps)`: logits of the router; empty without one."""
    active: Tensor
    """`(steps,)` boolean."""


class ActiveSteps(NamedTuple):
    """A tile's active steps, and what the backward pass needs of them."""

    memory: Memory
    scaled_margin: Tensor | None
    """`(active,)`: (logit 1 − logit 0) over the temperature; None if the layer has no router."""
    saved: Saved
    dropped_values: Tensor | None
    dropout: Dropout
    """Dropout of the unit's output `(dim, active)`."""


class Tape(NamedTuple):
    """Tensors that the backward pass needs."""

    weights: Weights
    kernel: Kernel
    tiles: list[Any]
    """Tensors that the kernel keeps of each tile."""
    active: list[ActiveSteps | None]
    dropouts: list[Dropout | None]
    """Dropout of each tile's sum of the branches, in a causal layer."""


class Pass:
    """A forward pass of a layer over a batch of rows of some length, and its backward pass."""

    def __init__(self, layer: "SeqBoatLayer", length: int) -> None:
        self.layer = layer
        self.config = layer.config
        self.causal = layer.causal
        self.length = length
        self.dropout = rate_of(layer.dropout)
        self.hidden_dropout = rate_of(layer.hidden_dropout)
        self.router = 0 if layer.configurator is None else 2
        """Rows of hx_proj that belong to the router."""

    def forward(
        self, x: Tensor, u: Tensor, padding_mask: Tensor | None, weights: Weights
    ) -> tuple[Tensor, Tape]:
        coefficients = weights.ema_weight, weights.ema_log_decay, weights.omega
        kernel = kernel_of(u, *coefficients, self.config.truncation)
        tape, sums = Tape(weights, kernel, [], [], []), torch.empty_like(x)
        mixed, routed = [], []
        bias, weight = weights.hx_bias[: self.router, None], weights.hx_weight[: self.router]
        for number, place in enumerate(places(x)):
            padding = None if padding_mask is None else padding_mask[place.batch]
            m, tile = kernel.forward(place.of(u), padding, activated=True, dropout=self.dropout)
            tape.tiles.append(tile)
            mixed.append(m.flatten(1))
            routed.append(torch.addmm(bias, weight, mixed[number]))
        active = self._active(torch.cat(routed, dim=1), padding_mask)
        # Rows that are always active have their whole length as working memory.
        most = self.length if self.config.always_active else most_active(active)
        for number, place in enumerate(places(x)):
            steps = Steps(place.flat(x), mixed[number], routed[number], active[place.batch].flatten())
            self._add_branches(tape, place.flat(sums), steps, most)
        return sums, tape._replace(kernel=kernel.for_backward())

    def _add_branches(self, tape: Tape, total: Tensor, steps: Steps, most: int) -> None:
        """Write `linear + gated + x` of a tile to total `(dim, steps)`."""
        weights, (x, m, _, _) = tape.weights, steps
        weight, bias = weights.hx_weight[self.router :], weights.hx_bias[self.router :, None]
        if not self.causal or not self.dropout:
            torch.add(x, bias, out=total).addmm_(weight, m)
            tape.active.append(self._add_gated(total, steps, most, weights))
            tape.dropouts.append(None)
            return
        branches, dropout = torch.addmm(bias, weight, m), Dropout.of(x, total.numel(), self.dropout)
        tape.active.append(self._add_gated(branches, steps, most, weights))
        dropped_sum(x, branches, dropout, out=total)
        tape.dropouts.append(dropout)

    def backward(self, grad_x: Tensor, grad_u: Tensor, tape: Tape) -> Weights:
        """Gradients of the weights from that of the sums, which grad_x holds.

        Writes the gradient of u to grad_u or, if that is grad_x itself, adds it.
        """
        weights = tape.weights
        total = Weights(*(None if w is None else torch.zeros_like(w) for w in weights))  # type: ignore[arg-type]
        kernel = tape.kernel.gradients()
        for number, place in enumerate(places(grad_x)):
            grad, dropout, active = place.flat(grad_x), tape.dropouts[number], tape.active[number]
            if dropout is not None:
                grad = dropped(grad, dropout)
            m = tape.kernel.mixed(tape.tiles[number], self.dropout).flatten(1)
            packed = self._linear_backward(grad, m, active, total)
            del m
            # While scores are in memory, no other tensor but this gradient is as long as the sequence.
            if active is not None and packed is not None:
                packed = self._gated_backward(grad, packed, active, weights, total)
            grad_m = torch.mm(weights.hx_weight[self.router :].t(), grad)
            if active is not None and packed is not None:
                add_(grad_m, active.memory.steps, packed)
            of_rows = grad_m.view(place.of(grad_x).shape)
            kernel.tile(of_rows, tape.tiles[number], self.dropout, place.of(grad_u), add=grad_u is grad_x)
        return total._replace(**dict(zip(Weights._fields, kernel.parameters(), strict=False)))

    def _active(self, logits: Tensor, padding_mask: Tensor | None) -> Tensor:
        """`(batch, length)` boolean, of logits `(·, steps)` of all rows one after another."""
        configurator, batch = self.layer.configurator, logits.shape[1] // self.length
        by_step = logits.t().view(batch, self.length, self.router)
        if configurator is not None:
            # A call would also compute the confidence of every step, which only hooks on the module need.
            if configurator._forward_hooks or configurator._forward_pre_hooks:
                routing: Routing = configurator(by_step, padding_mask)
                return routing.active
            return configurator.decide(by_step, padding_mask)
        if padding_mask is not None:
            return ~padding_mask
        return logits.new_ones(by_step.shape[:2], dtype=torch.bool)

    def _add_gated(self, total: Tensor, tile: Steps, most: int, weights: Weights) -> ActiveSteps | None:
        """Add the gated attention of a tile's active steps to `total` `(dim, steps)`, in their places.

        most: active steps of the batch's densest row; many, and the working memory is the whole sequence.
        """
        _, m, logits, active = tile
        in_place = self.config.always_active or most >= self.layer.dense * self.length
        steps, hidden = active_steps(active), None
        if in_place and (self.config.always_active or self.config.window is not None):
            hidden = None if len(steps) == len(active) else ~active
        if self.config.always_active:
            steps = torch.arange(len(active), device=active.device)
        if len(steps) == 0:
            return None
        dropped_values = draw(len(steps) * self.config.hidden, self.hidden_dropout)
        memory = Memory(steps, in_place, hidden, len(active), self.length, most)
        unit = unit_of(self.layer, memory, weights.unit, dropped_values, self.hidden_dropout)
        margin, confidence = None, None
        if self.layer.configurator is not None and weights.temp is not None:
            at = take(logits, steps)
            margin = (at[1] - at[0] - self.layer.configurator.act_bias) / weights.temp.exp()
            confidence = margin.sigmoid()
        h, saved = unit.forward(take(m, steps), confidence)
        dropout = Dropout.of(h, h.numel(), 0.0 if self.causal else self.dropout)
        add_(total, steps, h, dropout)
        return ActiveSteps(memory, margin, saved, dropped_values, dropout)

    def _linear_backward(
        self, grad: Tensor, m: Tensor, active: ActiveSteps | None, total: Weights
    ) -> Tensor | None:
        """Add to the gradients of the linear branch's weights; returns m at the active steps."""
        total.hx_bias[self.router :].add_(grad.sum(dim=1))
        total.hx_weight[self.router :].addmm_(grad, m.t())
        return None if active is None else take(m, active.memory.steps)

    def _gated_backward(
        self, grad: Tensor, m: Tensor, active: ActiveSteps, weights: Weights, total: Weights
    ) -> Tensor:
        """The gradient of m `(dim, active)` from that of the sum `(dim, steps)`; adds to the weights'."""
        values = active.dropped_values
        unit = unit_of(self.layer, active.memory, weights.unit, values, self.hidden_dropout)
        grad_h = take(grad, active.memory.steps, active.dropout)
        margin = active.scaled_margin
        confidence = None if margin is None else margin.sigmoid()
        grad_packed, grad_log_confidence = unit.backward(grad_h, m, confidence, active.saved, total.unit)
        if margin is not None and grad_log_confidence is not None:
            # The slope of ln σ(x) is 1 − σ(x), which keeps its digits as σ(−x).
            grad_margin = grad_log_confidence.mul_(margin.neg().sigmoid_())
            self._router_backward(grad_margin, margin, m, weights, total, grad_packed)
        return grad_packed

    def _router_backward(
        self, grad: Tensor, margin: Tensor, m: Tensor, weights: Weights, total: Weights, grad_m: Tensor
    ) -> None:
        """Add to the gradients of m `(dim, active)` and of the weights what comes by the scaled margin."""
        assert weights.temp is not None
        assert total.temp is not None
        total.temp.sub_(torch.dot(grad, margin))
        grad = grad / weights.temp.exp()
        grad_m.addr_(weights.hx_weight[1] - weights.hx_weight[0], grad)
        signs = torch.stack([-grad, grad])
        total.hx_weight[:2].addmm_(signs, m.t())
        total.hx_bias[:2].add_(signs.sum(dim=1))
