"""Fused SeqBoat layers against the official one in one process, in turn: forward, backward and Adam.

Run as `python tests/throughput/official.py PATH`, with the path of `standalone_seqboat.py` out of a checkout
of https://github.com/renll/SeqBoat, which needs einops. Both layers have random weights and an activation
rate that a shift of one logit sets. That file has no scale norm, so on Text both have a layer norm. Printed
last is the official time over the floor of `floor.py`: a layer of nothing but products and scans, at the rate
of large products, would be so much faster.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from floor import Flops, matrix_product_rate
from torch import Tensor, nn

from implementations.fused.seqboat import FusedSeqBoatLayer
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer

THREADS = 2
SECONDS = 4.0
"""Time of a setting, about."""

TEXT = SeqBoatConfig(
    layers=1, dim=128, hidden=256, attention_dim=64, window=128, truncation=1024, norm="layernorm",
    prenorm=False, relative_bias="local", temperature_scale=0.3, dropout=0.1,
)  # fmt: skip
SPEECH = SeqBoatConfig(
    layers=1, dim=60, hidden=120, attention_dim=30, window=128, truncation=4000, attention="relu2",
    norm="batchnorm", relative_bias="local",
)  # fmt: skip
CAUSAL = SeqBoatConfig(
    layers=1, dim=256, hidden=512, attention_dim=64, window=128, truncation=1024, norm="layernorm",
    relative_bias="rotary", dropout=0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Shapes, and the speed-ups at each rate that are aimed at."""

    name: str
    config: SeqBoatConfig
    batch: int
    length: int
    targets: dict[float, float]


SETTINGS = [
    Setting("Text, 1,024", TEXT, 1, 1024, {0.1: 8, 0.3: 8, 0.5: 7, 1.0: 5}),
    Setting("Text, 4,096", TEXT, 1, 4096, {0.1: 8, 0.3: 6, 0.5: 5, 1.0: 3.5}),
    Setting("Text, 16,384", TEXT, 1, 16_384, {0.1: 7, 0.3: 5.5, 0.5: 4.3, 1.0: 3.2}),
    Setting("Text, 4,096, batch 4", TEXT, 4, 4096, {0.3: 4.5, 1.0: 2.8}),
    Setting("speech, 16,000, relu²", SPEECH, 1, 16_000, {0.1: 10, 0.3: 7, 1.0: 4}),
    Setting("causal, rotary, width 256, 4,096", CAUSAL, 1, 4096, {0.1: 8, 0.3: 7, 0.5: 6, 1.0: 4}),
]


def official_layer(path: Path, setting: Setting) -> nn.Module:
    """A layer of the official file, of a setting's sizes."""
    spec = importlib.util.spec_from_file_location("standalone_seqboat", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = setting.config
    layer: nn.Module = module.SeqBoatLayer(
        config.dim, config.attention_dim, config.hidden, config.states, dropout=config.dropout,
        attention_activation=config.attention, bidirectional=setting.config is not CAUSAL,
        window_size=config.window, truncation=config.truncation, norm_type=config.norm,
        prenorm=config.prenorm,
        rel_pos_bias="rotary" if config.relative_bias == "rotary" else "simple", max_positions=setting.length,
        init_temp_scale=config.temperature_scale, local_pos=config.relative_bias == "local",
    )  # fmt: skip
    return layer


@torch.no_grad()
def set_rate(layer: Any, x: Tensor, rate: float) -> None:
    """Shift the first logit of the router by the bias, so that this share of x's steps is active."""
    layer.hx_proj.bias.zero_()
    seen: list[Tensor] = []
    hook = layer.hx_proj.register_forward_hook(lambda module, inputs, output: seen.append(output))
    plain = SeqBoatLayer.forward if isinstance(layer, SeqBoatLayer) else type(layer).forward
    plain(layer.eval(), x)
    hook.remove()
    layer.train()
    margins = (seen[0][..., 1] - seen[0][..., 0]).flatten().sort().values
    layer.hx_proj.bias[0] = margins[0] - 1 if rate == 1.0 else margins[round(len(margins) * (1 - rate))]


def training_step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward, backward with the gradient of x, and Adam; the weights, and so the rate, stay as they are."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-12)
    x, grad = x.requires_grad_(), torch.randn_like(x)

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        layer(x).backward(grad)
        optimizer.step()

    return step


def in_turn(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float, float]:
    """Median ratio of palindromes, and the median seconds of ours and of theirs."""
    for step in (ours, theirs, ours):
        step()
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < SECONDS:
        a, b, c, d = (_seconds(step) for step in (ours, theirs, theirs, ours))
        times.append(((a + d) / 2, (b + c) / 2))
    ratio = statistics.median(other / own for own, other in times)
    return ratio, *(statistics.median(column) for column in zip(*times, strict=True))  # type: ignore[return-value]


def _seconds(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def main() -> None:
    """Print a line per setting and rate: official over fused, the time of both, and the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="standalone_seqboat.py")
    path = parser.parse_args().path
    torch.set_num_threads(THREADS)
    for setting in SETTINGS:
        torch.manual_seed(0)
        causal = setting.config is CAUSAL
        ours = FusedSeqBoatLayer(setting.config, causal=causal, max_positions=setting.length)
        theirs = official_layer(path, setting)
        x = torch.randn(setting.batch, setting.length, setting.config.dim)
        outermost = x.transpose(0, 1).contiguous()
        for rate, target in setting.targets.items():
            set_rate(ours, x, rate)
            set_rate(theirs, outermost, rate)
            ratio, own, other = in_turn(
                training_step(ours, x.clone()), training_step(theirs, outermost.clone())
            )
            steps = setting.batch * setting.length
            least = sum(Flops.of(setting.config, steps, rate * steps, causal)) / matrix_product_rate()
            print(
                f"{setting.name:<36}{rate:4} {ratio:6.2f}× (aimed at {target:g}) "
                f"{own * 1e3:7.1f} and {other * 1e3:7.1f} ms; over the floor {other / least:5.1f}×",
                flush=True,
            )


if __name__ == "__main__":
    main()
