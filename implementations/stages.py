"""Names of the models' parts in a step that is divided into stages."""

MODULES: tuple[tuple[str, str], ...] = (
    (r"(MovingAverage|Fused)GatedAttention", "gated attention unit"),
    (r"DampedEMA", "EMA"),
    (r"LatentConfigurator", "configurator"),
    (r".*Kernel", "kernel"),
    (r"S4Block|S5SSM|StandaloneS4D|H3", "state space"),
    (r".*(Attention|Mixer|AttentionStep)", "attention"),
    (r".*(FeedForward|PositionwiseFF|FeedForwardStep)", "feed-forward"),
    (r".*Norm.*", "norm"),
    (r"Linear|Dense|Conv1d", "projections"),
    (r".*Embedding|.*Sinusoids|LearnedPositions", "embedding"),
    (r".*Head", "head"),
    (r".*(Layer|ResidualBlock)", "layers"),
)
"""Patterns of modules' whole class names, and the names of their parts of a step; the first match counts."""

FUNCTIONS = {
    "compress": "compress",
    "choose_steps": "compress",
    "extract": "extract",
    "local_attention": "attention",
    "full_attention": "attention",
    "chunked_attention": "attention",
    "fft_convolution": "FFT convolution",
    "linear_scan": "scan",
    "fused_ema": "EMA",
    "fused_local_attention": "attention",
    "fused_chunked_attention": "attention",
    "damped_ema": "EMA",
    "gates": "gates",
    "_decided": "configurator",
    "pack": "compress",
    "merge": "extract",
    "_Attention.forward": "attention",
    "_Attention.backward": "attention",
    "_Average.forward": "EMA",
    "_Average.backward": "EMA",
    "_Gates.backward": "gates",
    "_Take.backward": "compress",
    "_Merge.backward": "extract",
    "channel_norm": "norm",
    "row_norm": "norm",
    "CircularKernel.of": "EMA",
    "CircularKernel.forward": "EMA",
    "CircularKernel.mixed": "EMA",
    "KernelBackward.tile": "EMA",
    "ScanKernel.forward": "EMA",
    "ScanKernel.mixed": "EMA",
    "ScanBackward.tile": "EMA",
    "KernelBackward.parameters": "EMA",
    "RowAttention.forward": "attention",
    "RowAttention.backward": "attention",
    "DenseAttention.forward": "attention",
    "DenseAttention.backward": "attention",
    "DenseRow.forward": "attention",
    "DenseRow.backward": "attention",
    "Pass._active": "configurator",
    "Pass._router_backward": "configurator",
    "Pass._take": "compress",
    "Pass._add": "extract",
}
"""Functions and methods of `implementations` that are parts of a step, with the names of the parts."""

FRAMES = ("layers", "gated attention unit")
"""Stages that only hold others: a matrix product right in one of them is a projection."""
PRODUCTS = ("mm", "addmm", "addmm_")
"""Operators that are matrix products."""
