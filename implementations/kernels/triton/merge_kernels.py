# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The end of a SeqBoat layer: the kernels.

`y = norm(silu(linear + confidence·h + x))`, h only at active steps, the norm only if NORMED. hx holds
linear or, if ROUTED, the two logits and then linear; the confidence is the logistic function of their scaled
margin. Dropout acts on `linear + confidence·h` if JOINT, else on h. Grid: blocks of steps.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.norm_kernels import moments, norm_gradient
from implementations.kernels.triton.pointwise_kernels import keep, sigmoid, silu_slope


@triton.jit
def _sum(
    hx, h, x, slot, router, seed, row, channel, rows, dim,
    ROUTED: tl.constexpr, JOINT: tl.constexpr, DROPOUT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sum under silu for a tile of steps, and the values that its gradient needs."""
    real = row < rows
    inside = real[:, None] & (channel < dim)[None, :]
    at = row[:, None] * dim + channel[None, :]
    kept = keep(seed, at, DROPOUT, ACC)
    packed = tl.load(slot + row, mask=real, other=-1)
    of_h = packed[:, None] * dim + channel[None, :]
    attended = tl.load(h + of_h, mask=(packed >= 0)[:, None] & (channel < dim)[None, :], other=0.0).to(ACC)
    width = dim + 2 * ROUTED
    linear = tl.load(hx + row[:, None] * width + (2 * ROUTED + channel)[None, :], mask=inside, other=0.0).to(
        ACC
    )
    if not JOINT:
        attended *= kept
    margin = (row * 0).to(ACC)
    confidence = margin + 1.0
    if ROUTED:
        temp, act_bias = router
        inactive = tl.load(hx + row * width, mask=real, other=0.0).to(ACC)
        active = tl.load(hx + row * width + 1, mask=real, other=0.0).to(ACC)
        margin = (active - inactive - tl.load(act_bias).to(ACC)) * tl.exp(-tl.load(temp).to(ACC))
        confidence = sigmoid(margin)
    branches = linear + attended * confidence[:, None]
    if JOINT:
        branches *= kept
    total = branches + tl.load(x + at, mask=inside, other=0.0).to(ACC)
    return total, attended, margin, confidence, kept, packed


@triton.jit
def merge_kernel(
    hx, h, x, slot, router, gain, shift, y, seed, rows, dim,
    ROUTED: tl.constexpr,
    JOINT: tl.constexpr,
    NORMED: tl.constexpr,
    CENTRED: tl.constexpr,
    DROPOUT: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row < rows)[:, None] & (channel < dim)[None, :]
    total, _, _, _, _, _ = _sum(
        hx, h, x, slot, router, seed, row, channel, rows, dim, ROUTED, JOINT, DROPOUT, ACC
    )
    result = total * sigmoid(total)
    if NORMED:
        mean, rstd = moments(result, inside, dim, CENTRED)
        gains = tl.load(gain + channel, mask=channel < dim, other=0.0)
        shifts = tl.load(shift + channel, mask=channel < dim, other=0.0)
        result = (result - mean[:, None]) * rstd[:, None] * gains[None, :] + shifts[None, :]
    tl.store(y + row[:, None] * dim + channel[None, :], result, mask=inside)


@triton.jit
def merge_backward_kernel(
    hx, h, x, slot, router, gain, grad, grad_hx, grad_h, grad_x, grad_temp, grad_norm, seed, rows, dim,
    ROUTED: tl.constexpr,
    JOINT: tl.constexpr,
    NORMED: tl.constexpr,
    CENTRED: tl.constexpr,
    DROPOUT: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of hx, h and x, and each program's sums for temp `(programs,)` and for the norm's gain and
    shift `(programs, 2, dim)`. Only active steps are written to grad_h."""
    program = tl.program_id(0).to(tl.int64)
    row = program * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    real = row < rows
    inside = real[:, None] & (channel < dim)[None, :]
    at = row[:, None] * dim + channel[None, :]
    total, attended, margin, confidence, kept, packed = _sum(
        hx, h, x, slot, router, seed, row, channel, rows, dim, ROUTED, JOINT, DROPOUT, ACC
    )
    g = tl.load(grad + at, mask=inside, other=0.0).to(ACC)
    if NORMED:
        result = tl.where(inside, total * sigmoid(total), 0.0)
        mean, rstd = moments(result, inside, dim, CENTRED)
        unit = tl.where(inside, (result - mean[:, None]) * rstd[:, None], 0.0)
        out = grad_norm + program * 2 * dim + channel
        tl.store(out, tl.sum(g * unit, axis=0), mask=channel < dim)
        tl.store(out + dim, tl.sum(g, axis=0), mask=channel < dim)
        gains = tl.load(gain + channel, mask=channel < dim, other=0.0)
        g = norm_gradient(g * gains[None, :], unit, rstd, dim, CENTRED)
    g *= silu_slope(total)
    tl.store(grad_x + at, g, mask=inside)
    if JOINT:
        g *= kept
    width = dim + 2 * ROUTED
    tl.store(grad_hx + row[:, None] * width + (2 * ROUTED + channel)[None, :], g, mask=inside)
    if ROUTED:
        # 1 − confidence as the logistic function of −margin: the difference has no digits left near 1.
        slope = confidence * sigmoid(-margin)
        grad_margin = tl.where(real, tl.sum(g * attended, axis=1) * slope, 0.0)
        tl.store(grad_temp + program, -tl.sum(grad_margin * margin, axis=0))
        grad_logit = grad_margin * tl.exp(-tl.load(router[0]).to(ACC))
        tl.store(grad_hx + row * width, -grad_logit, mask=real)
        tl.store(grad_hx + row * width + 1, grad_logit, mask=real)
    g *= confidence[:, None]
    if not JOINT:
        g *= kept
    of_h = packed[:, None] * dim + channel[None, :]
    tl.store(grad_h + of_h, g, mask=(packed >= 0)[:, None] & (channel < dim)[None, :])
