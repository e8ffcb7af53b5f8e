"""Samples to compare two forms of a model on: the suite's own batch, and a pair of padded sequences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.steps.decoding import DecodeStep
from bench.steps.step import Step, cross_entropy, to_device
from bench.workloads.splits import Split
from implementations import activation
from implementations.encoder import padding_mask_of
from implementations.task import PADDING

PAIR_LENGTH = 500
"""Most time steps of a pair: several windows, cheap, and not a multiple of a kernel's block."""
PAIR_STRETCH = 16
"""Tokens after the context of a pair that is decoded."""
PAIR_ACTIVATION = 0.5
"""Activation rate on a pair if the case does not set one of LEAST_ACTIVATION or more."""
LEAST_ACTIVATION = 0.05
"""Below it a row of a pair has so few active steps that attention between them may not be seen."""
SPREAD = 0.5
"""Standard deviation of the noise that moves parameters."""


@dataclass(frozen=True)
class Sequences:
    """Sequences that a model is run on, and the scalar that is differentiated."""

    words: str
    """Name of the sample in a message."""
    inputs: Tensor
    """Inputs, as in `Batch.inputs`."""
    lengths: Tensor | None
    loss: Callable[[Tensor], Tensor]
    """The scalar, as a function of the logits."""
    context: int | None = None
    """Time steps that are taken in at once in the phase `decode`; the others follow one by one."""

    def double(self) -> "Sequences":
        """The same in float64."""
        return replace(self, inputs=self.inputs.double()) if self.inputs.is_floating_point() else self


def own_sample(step: Step) -> Sequences:
    """The batch that is timed; two sequences in place of one for a model with batch norms.

    A batch norm over one sequence, followed by a mean over time, gives the norm's bias whatever was computed.
    """
    if isinstance(step, DecodeStep):
        return Sequences("on its own batch", step.inputs, step.lengths, step.loss_of, step.context)
    case = step.case
    if case.batch > 1 or not any(map(is_batch_norm, step.model.modules())):
        return Sequences("on its own batch", step.inputs, step.lengths, step.loss_of)
    return _drawn(step, 2, case.length, "on two sequences of its own")


def smaller_samples(step: Step) -> Iterator[Sequences]:
    """Samples of fewer, then of shorter sequences than the batch that is timed, the largest first.

    For a reference that takes more memory than there is. There are none of decoding.
    """
    if isinstance(step, DecodeStep):
        return
    fewest = 2 if any(map(is_batch_norm, step.model.modules())) else 1
    batch, length = max(step.case.batch, fewest), step.case.length
    while batch > fewest or length // 2 >= PAIR_LENGTH:
        batch, length = (max(fewest, batch // 2), length) if batch > fewest else (batch, length // 2)
        yield _drawn(step, batch, length, f"on {batch} × {length} time steps")


def _drawn(step: Step, count: int, length: int, words: str) -> Sequences:
    """As many sequences of the case's data."""
    case = step.case
    split: Split = "validation" if case.held_out else "all"
    batch = step.workload.batch(length, count, case.fill, case.seed, split=split)
    inputs, lengths, targets = to_device(batch, step.device, case.precision)
    return Sequences(words, inputs, lengths, lambda logits: cross_entropy(logits, targets))


def pair_sample(step: Step) -> Sequences:
    """Two of the workload's sequences, shortened; of different true lengths, padded, unless they are decoded.

    The loss is a sum of logits with random weights, so that no position counts for little.
    """
    case = step.case
    whole = step.inputs.shape[-1]
    inputs, _, _ = to_device(step.workload.batch(whole, 2, "full", case.seed), step.device, case.precision)
    if isinstance(step, DecodeStep):
        context = min(step.context, PAIR_LENGTH)
        inputs = inputs[..., : context + PAIR_STRETCH]
        return Sequences(f"at other weights, on two sequences of {context}", inputs, None, _weighed, context)
    long = min(whole, PAIR_LENGTH)
    short = max(1, 2 * long // 3 - 1)
    lengths = torch.tensor([long, short], device=step.device)
    if inputs.dim() == 3:  # two towers
        lengths = torch.stack([lengths, lengths.flip(0)], dim=1)
    inputs = inputs[..., :long].masked_fill(_padding(lengths, long), PADDING)
    words = f"at other weights, on sequences of {long} and {short}"
    return Sequences(words, inputs, lengths, lambda logits: _weighed(logits, lengths))


def _padding(lengths: Tensor, length: int) -> Tensor:
    mask = padding_mask_of(lengths.flatten(), length)
    assert mask is not None
    return mask.view(*lengths.shape, length)


def _weighed(logits: Tensor, lengths: Tensor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(logits.shape, generator=generator).to(logits)
    if lengths is not None and logits.dim() == 3:
        weights = weights.masked_fill(_padding(lengths, logits.shape[1]).unsqueeze(-1), 0.0)
    return (logits * weights).sum()


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


@torch.no_grad()
def move(model: nn.Module) -> None:
    """Move parameters away from where they start, so that no path of the model counts for little.

    At initialisation a model hides much of what it computes: scales of queries and keys near 0 make attention
    uniform whatever they are, and biases of 0 are as good as none. Linear maps and convolutions are drawn
    anew, `N(0, 1/fan-in)`; every other parameter but embeddings moves by `N(0, SPREAD²)`.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            if name == "weight" and isinstance(module, nn.Linear | nn.Conv1d):
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(noise, alpha=SPREAD)


@torch.no_grad()
def settle(model: nn.Module, sample: Sequences) -> None:
    """Move each configurator's threshold into a wide gap between two steps nearby, at about the same rate.

    Otherwise rounding would decide, now and then, which side of a threshold a step is on. For a configurator
    that runs twice, its first run counts.
    """
    seen: set[nn.Module] = set()

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module not in seen:
            seen.add(module)
            margins = module.margins(*args, **kwargs)
            rate = float((margins > module.act_bias).double().mean())
            module.act_bias.copy_(activation.threshold(margins, rate))

    hooks = [
        configurator.register_forward_pre_hook(hook, with_kwargs=True)
        for configurator in activation.configurators(model)
    ]
    try:
        if hooks:
            model(sample.inputs, sample.lengths)
    finally:
        for handle in hooks:
            handle.remove()
