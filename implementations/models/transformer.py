"""The Transformer of the Long Range Arena tables, and the frame that its efficient relatives share.

Vaswani et al., NeurIPS 2017, arXiv 1706.03762; as the baseline of MEGA (arXiv 2209.10655, table 2).
`transformer` materialises the attention matrix: the published 1×. `transformer-sdpa` is the same model
on `scaled_dot_product_attention`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, recurrent
from implementations.embeddings import FairseqSinusoids, LearnedPositions, Pixels, Sinusoids, embed
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import Pooling, with_head
from implementations.ops.attention import MultiHeadAttention, SDPAMixer, SoftmaxMixer
from implementations.task import Task

Activation = Literal["gelu", "gelu_tanh", "relu"]

ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, kw_only=True)
class FrameConfig(Config):
    """Hyper-parameters of the frame around a model's attention; a system's own config extends them."""

    layers: int
    dim: int
    heads: int
    ffn: int
    """Width of the feed-forward network."""
    tied: bool = False
    """Whether all layers are one layer, which runs repeatedly."""
    prenorm: bool = False
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-5
    positions: Literal["sinusoidal", "fairseq", "learned", "none"] = "sinusoidal"
    embedding_norm: bool = False
    """Whether a LayerNorm follows the sum of embedding and position."""
    pixels: Pixels = "reals"
    initialisation: Literal["xavier", "bert"] = "xavier"
    """Initialisation of linear layers and embeddings; `bert`: N(0, 0.02), and biases of 0."""
    pooling: Pooling = "mean"
    classifier: int | None = None
    """Width of the classifier's hidden layer; that of the feed-forward network unless given."""
    interactions: bool = True
    """Whether the head of two documents reads their product and difference too."""
    dropout: float = 0.1
    """Dropout of the embedding, and of the output of each sub-layer."""
    classifier_dropout: bool = False
    """Whether the classifier's hidden layer has this dropout too."""
    activation_dropout: float = 0.0
    """Dropout of the feed-forward network's hidden units."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(FrameConfig):
    """Hyper-parameters of the Transformer."""

    attention_dropout: float = 0.1
    sdpa: bool = False


class Sublayers(nn.Module):
    """An attention and a feed-forward network, each with a residual and a LayerNorm; a subclass runs them.

    The norm comes after each sum, or with `prenorm` before each sub-layer.
    """

    def __init__(
        self,
        attention: nn.Module,
        dim: int,
        ffn: int,
        *,
        prenorm: bool = False,
        activation: Activation = "gelu",
        norm_epsilon: float = 1e-5,
        dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.prenorm = prenorm
        self.activation = ACTIVATIONS[activation]
        self.self_attn = attention
        self.self_attn_layer_norm = nn.LayerNorm(dim, eps=norm_epsilon)
        self.fc1 = nn.Linear(dim, ffn)
        self.fc2 = nn.Linear(ffn, dim)
        self.final_layer_norm = nn.LayerNorm(dim, eps=norm_epsilon)
        self.dropout = nn.Dropout(dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """`fc2(activation(fc1(x)))`, without norm and residual."""
        y: Tensor = self.fc2(self.activation_dropout(self.activation(self.fc1(x))))
        return y

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.prenorm else x

    def _after(self, norm: nn.Module, x: Tensor) -> Tensor:
        return x if self.prenorm else norm(x)

    def _sublayer(self, x: Tensor, norm: nn.Module, function: Callable[[Tensor], Tensor]) -> Tensor:
        return self._after(norm, x + self.dropout(function(self._before(norm, x))))


class TransformerLayer(Sublayers):
    """Sub-layers over `(batch, length, dim)`.

    attention: any module `forward(x, padding_mask)` from states to states of the same shape.
    """

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        x = self._sublayer(x, self.self_attn_layer_norm, lambda u: self.self_attn(u, padding_mask))
        return self._sublayer(x, self.final_layer_norm, self.feed_forward)

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the attention."""
        return recurrent(self.self_attn).state_after(self._before(self.self_attn_layer_norm, x), room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        attention = recurrent(self.self_attn)
        x = self._sublayer(x, self.self_attn_layer_norm, lambda u: attention.step(u, state, time))
        return self._sublayer(x, self.final_layer_norm, self.feed_forward)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The Transformer for a task; see TransformerConfig. Raises TypeError on unknown hyper-parameters."""
    config = TransformerConfig(**hyperparameters)
    mixer = SDPAMixer if config.sdpa else SoftmaxMixer
    return build_around(
        task,
        config,
        lambda: MultiHeadAttention(
            config.dim, config.heads, mixer(causal=task.causal, dropout=config.attention_dropout)
        ),
    )


Layer = TypeVar("Layer", bound=Sublayers)


def build_around(task: Task, config: FrameConfig, attention: Callable[[], nn.Module]) -> nn.Module:
    """The whole model around an attention, which is called once per layer to make the layer's module."""
    return frame(task, config, stack(config, lambda: layer_of(TransformerLayer, config, attention())))


def stack(config: FrameConfig, layer: Callable[[], Layer]) -> list[Layer]:
    """Layers of a model, each from a call of its own, or one layer repeated if they are tied."""
    return [layer()] * config.layers if config.tied else [layer() for _ in range(config.layers)]


def layer_of(kind: type[Layer], config: FrameConfig, attention: nn.Module) -> Layer:
    """One layer of the config's shape; kind: a class of Sublayers."""
    return kind(
        attention,
        config.dim,
        config.ffn,
        prenorm=config.prenorm,
        activation=config.activation,
        norm_epsilon=config.norm_epsilon,
        dropout=config.dropout,
        activation_dropout=config.activation_dropout,
    )


def frame(
    task: Task, config: FrameConfig, layers: Iterable[nn.Module], encoder: type[Encoder] = Encoder
) -> nn.Module:
    """Embedding (times √dim), positions and the task's head around layers `forward(x, padding_mask)`.

    encoder: a subclass of Encoder if layers pass on more than their states.
    """
    body = encoder(
        embed(task, config.dim, config.pixels),
        layers,
        positions=_positions(task, config),
        embedding_norm=nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.embedding_norm else None,
        final_norm=nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.prenorm else None,
        embedding_scale=math.sqrt(config.dim),
        dropout=config.dropout,
    )
    hidden = config.classifier or config.ffn
    dropout = config.dropout if config.classifier_dropout else 0.0
    model = with_head(task, body, config.dim, hidden, config.pooling, config.interactions, dropout)
    return model.apply(_as_bert) if config.initialisation == "bert" else model


@torch.no_grad()
def _as_bert(module: nn.Module) -> None:
    """fairseq's `init_bert_params` of one module."""
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.normal_(std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        module.bias.zero_()


def _positions(task: Task, config: FrameConfig) -> nn.Module | None:
    if config.positions == "none":
        return None
    if config.positions == "learned":
        return LearnedPositions(task.length, config.dim)
    return FairseqSinusoids(config.dim) if config.positions == "fairseq" else Sinusoids(config.dim)
