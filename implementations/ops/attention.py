"""Multi-head attention: projections shared by the Transformer family, around any way to mix heads.

A mixer is a module `forward(q, k, v, padding_mask)` on heads `(batch, heads, length, d_head)`, with the
padding mask `(batch, length)` or None, that gives the mixed values of the same shape as q.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import NoRecurrentForm, State, cache


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(batch, length, heads·d_head)` to `(batch, heads, length, d_head)`."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`(batch, heads, length, d_head)` to `(batch, length, heads·d_head)`."""
    return x.transpose(1, 2).flatten(2)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """`(length, length)` boolean, True where key j comes after query i and so must not be seen."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class MultiHeadAttention(nn.Module):
    """Projections to heads, a mixer, and the projection back: states `(batch, length, dim)` to the same.

    inner: width of all heads together, `dim` unless given; bias: whether the four projections have biases;
    qkv_bias: the same for queries, keys and values, if it differs. Weights are Xavier uniform.
    Raises ValueError if the heads do not divide the width.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mixer: nn.Module,
        *,
        inner: int | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
    ) -> None:
        super().__init__()
        inner = inner or dim
        qkv_bias = bias if qkv_bias is None else qkv_bias
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the attention width {inner}")
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner, bias=qkv_bias)
        self.k_proj = nn.Linear(dim, inner, bias=qkv_bias)
        self.v_proj = nn.Linear(dim, inner, bias=qkv_bias)
        self.out_proj = nn.Linear(inner, dim, bias=bias)
        self.mixer = mixer
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `(batch, heads, length, d_head)`."""
        q, k, v = (split_heads(linear(x), self.heads) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return q, k, v

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        mixed: Tensor = self.out_proj(merge_heads(self.mixer(*self.project(x), padding_mask)))
        return mixed

    def state_after(self, x: Tensor, room: int) -> State:
        """Caches of keys and values, each `(batch, heads, room, d_head)`."""
        if not hasattr(self.mixer, "recall"):
            reason = getattr(self.mixer, "no_recurrent_form", f"{type(self.mixer).__name__} has no recall")
            raise NoRecurrentForm(f"no recurrent form: {reason}")
        _, k, v = self.project(x)
        return State((cache(k, room), cache(v, room)))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        keys, values = state.memory
        q, k, v = self.project(x.unsqueeze(1))
        keys[:, :, time], values[:, :, time] = k.squeeze(2), v.squeeze(2)
        mixed = self.mixer.recall(q, keys[:, :, : time + 1], values[:, :, : time + 1])  # type: ignore[operator]
        y: Tensor = self.out_proj(merge_heads(mixed)).squeeze(1)
        return y


class SoftmaxMixer(nn.Module):
    """`softmax(q kᵀ / √d_head) v` with the attention matrix materialised, and dropout on it."""

    def __init__(self, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = nn.Dropout(dropout)

    def weights(self, q: Tensor, k: Tensor, padding_mask: Tensor | None) -> Tensor:
        """`(batch, heads, length, length)`: rows sum to 1, 0 at padded and (causal) later keys."""
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        hidden = _hidden_keys(q, padding_mask, self.causal)
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(dim=-1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        mixed: Tensor = self.dropout(self.weights(q, k, padding_mask)) @ v
        return mixed

    def recall(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One query `(batch, heads, 1, d_head)` that sees every key."""
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.softmax(dim=-1) @ v


class SDPAMixer(nn.Module):
    """The same function through `scaled_dot_product_attention`."""

    def __init__(self, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        # The kernels know the causal triangle without a mask; only padding needs one.
        if padding_mask is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=self.causal)
        hidden = _hidden_keys(q, padding_mask, self.causal)
        assert hidden is not None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden, dropout_p=dropout)

    def recall(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One query `(batch, heads, 1, d_head)` that sees every key."""
        return F.scaled_dot_product_attention(q, k, v)


def _hidden_keys(q: Tensor, padding_mask: Tensor | None, causal: bool) -> Tensor | None:
    """Broadcast to `(batch, heads, length, length)`: True where a key is padding or (causal) later."""
    hidden = None if padding_mask is None else padding_mask[:, None, None, :]
    if not causal:
        return hidden
    later = causal_mask(q.shape[-2], q.device)
    return later if hidden is None else later | hidden
