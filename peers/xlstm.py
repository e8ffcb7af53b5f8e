"""xlstm's stack of mLSTM blocks (that of xLSTM 7B) between our embedding and classifier.

It is causal under every head. None of ours is an xLSTM; the nearest is Gated DeltaNet. Sequences are padded
to whole chunks before the stack: the package's own mode for that returns no states, which its stack unpacks.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.heads import with_head
from implementations.settings import configured
from implementations.task import Task
from peers.frame import Adapter, Shape, package

CHUNK = 64
"""Time steps that are computed at once; a sequence has at least as many."""


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """An xLSTM for a task, chunk by chunk in plain PyTorch. Raises NotInstalled."""
    return _build(task, configured(Shape, hyperparameters), "native_autograd", cuda=False)


def xlstm_triton(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """An xLSTM for a task on the package's Triton kernels, which run on CUDA devices. Raises NotInstalled."""
    package("xlstm.xlstm_large.model", "xlstm")
    package("triton", "triton", extra="fused")  # Without it the package knows none of these kernels.
    return _build(task, configured(Shape, hyperparameters), "triton_xl_chunk", cuda=True)


def _build(task: Task, config: Shape, kernel: str, cuda: bool) -> nn.Module:
    library = package("xlstm.xlstm_large.model", "xlstm")
    theirs = library.xLSTMLargeConfig(
        embedding_dim=config.dim,
        num_heads=config.heads,
        num_blocks=config.layers,
        vocab_size=1,
        chunkwise_kernel=f"chunkwise--{kernel}",
        sequence_kernel="native_sequence__native",
        step_kernel="native",
        return_last_states=True,
        chunk_size=CHUNK,
    )
    # The package finds this out in the first step, which is too late for a search of widths.
    factors = (theirs.qk_dim_factor, theirs.v_dim_factor)
    if any(int(config.dim * factor) % config.heads for factor in factors):
        raise ValueError(
            f"dim {config.dim}: its queries or values can't be shared out among {config.heads} heads"
        )
    stack = Adapter(library.xLSTMLargeBlockStack(theirs), cuda=cuda)
    encoder = Encoder(embed(task, config.dim), [stack], pad_to=CHUNK)
    return with_head(task, encoder, config.dim, config.ffn, config.pooling)
