"""Duties of every model: gradients under every head, no view of padding or the future, its size and costs."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench import workloads
from bench.probes.tensor_bytes import TensorBytes
from implementations import activation, registry
from implementations.embeddings import GreyEmbedding
from implementations.encoder import parameter_count
from implementations.registry import Implementation
from implementations.task import PADDING, Task

from . import parameters

CATALOGUE = registry.catalogue()
LENGTH = 64
VOCABULARY = 20
HEADS = {
    "text": Task("text", LENGTH, classes=3, vocabulary=VOCABULARY),
    "image": Task("image", LENGTH, classes=3, input="reals"),
    "retrieval": Task("retrieval", LENGTH, classes=2, head="two-tower", vocabulary=VOCABULARY),
    "enwik8": Task("enwik8", LENGTH, classes=VOCABULARY, head="language-model", vocabulary=VOCABULARY),
}
CLASSIFIERS = [item for item in CATALOGUE.values() if "text" in item.published]
LANGUAGE_MODELS = [item for item in CATALOGUE.values() if "enwik8" in item.published]
LINEAR = [item for item in CLASSIFIERS if item.complexity == "linear"]

SMALLER = {"bigbird": {"block": 4, "random_blocks": 1}}
"""Options that make a short sequence long enough for what the system does to long ones."""

UNREAD = {"luna": ("self_atten_proj_layer_norm.weight", "self_atten_proj_layer_norm.bias")}
"""Parameters without a gradient, by the ends of their names: nobody reads the state of Luna's last layer, nor
therefore its norm; so in the official code."""

MOVED_BY_PADDING = {
    "bigbird": "its last global block is the last of the padded sequence",
    "linformer": "its projection runs along the length, padding included",
    "liquid_s4": "its liquid term reads the sequence from its end",
    "performer": "padded keys count in its denominator",
    "reformer": "padding is sorted along with the rest",
    "s5": "padding runs through its backward scan",
}
"""Systems whose logits depend on how far a sequence is padded, and why; so in the official code."""

EMBEDS_PADDING = {"s4", "s4d", "s5", "liquid_s4", "h3"}
"""Systems whose batch statistics hold padded steps, each as the padding token's own learned embedding; so in
the official code. H3 has S4's frame here."""


ARENA_FRAME = {"transformer", "luna", "reformer", "bigbird", "linformer", "performer"}
"""Systems that read a pixel as a token and the first position's state, but on Pathfinder the mean."""

LAST_ON_PATHFINDER = {"s4", "s4d", "liquid_s4", "h3"}


def named(items: list[Implementation]) -> Any:
    return pytest.mark.parametrize("item", items, ids=lambda item: item.name)


def small(item: Implementation, task: Task, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    values = item.hyperparameters(task.name, "small") | {"layers": 2} | SMALLER.get(item.system, {})
    return item.load()(task, values)


def inputs_of(task: Task, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 2, LENGTH) if task.head == "two-tower" else (batch, LENGTH)
    if task.input == "reals":
        return torch.randn(shape, generator=generator)
    return torch.randint(1, VOCABULARY, shape, generator=generator)


@named(CLASSIFIERS)
def test_the_seed_decides_the_model(item: Implementation) -> None:
    first, again, other = (small(item, HEADS["text"], seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@named(CLASSIFIERS)
def test_an_unknown_hyperparameter_is_an_error(item: Implementation) -> None:
    with pytest.raises(TypeError, match="colour"):
        item.load()(HEADS["text"], item.hyperparameters("text", "small") | {"colour": "red"})


@pytest.mark.parametrize("head", HEADS)
@named(CLASSIFIERS)
def test_every_head_learns(item: Implementation, head: str) -> None:
    task = HEADS[head]
    if head not in item.published:
        text = item.hyperparameters("text", "small")
        with pytest.raises(ValueError, match="no causal form"):
            item.load()(task, text)
        return
    model, inputs = small(item, task), inputs_of(task)
    lengths = torch.full(inputs.shape[:-1], LENGTH)
    if activation.configurators(model):
        activation.calibrate(model, inputs, lengths, 0.5)
    logits = model(inputs, lengths)
    assert logits.shape == ((2, LENGTH, VOCABULARY) if task.causal else (2, task.classes))
    assert logits.isfinite().all()
    logits.square().sum().backward()
    unread = () if task.causal else UNREAD.get(item.system, ())
    silent = [
        name
        for name, parameter in model.named_parameters()
        if (parameter.grad is None or not parameter.grad.isfinite().all()) and not name.endswith(unread)
    ]
    assert silent == []


@named(CLASSIFIERS)
def test_padding_changes_nothing(item: Implementation) -> None:
    """A model that is evaluated is meant, except where the official code says otherwise."""
    model = small(item, HEADS["text"]).double().eval()
    inputs, lengths = inputs_of(HEADS["text"]), torch.tensor([LENGTH, 30])
    inputs[1, 30:] = PADDING
    if activation.configurators(model):
        activation.calibrate(model, inputs, lengths, 0.5)
        model.eval()
    with torch.no_grad():
        error = (model(inputs, lengths)[1] - model(inputs[1:, :30], lengths[1:])[0]).abs().max()
    assert (error > 1e-9) == (item.system in MOVED_BY_PADDING)


@named(CLASSIFIERS)
def test_lengths_of_a_full_batch_change_nothing(item: Implementation) -> None:
    model, inputs = small(item, HEADS["text"]).double().eval(), inputs_of(HEADS["text"])
    full = model(inputs, torch.tensor([LENGTH, LENGTH]))
    torch.testing.assert_close(model(inputs, None), full, rtol=1e-9, atol=1e-9)


@named(LANGUAGE_MODELS)
def test_a_language_model_does_not_see_the_future(item: Implementation) -> None:
    model, inputs = small(item, HEADS["enwik8"]).double().eval(), inputs_of(HEADS["enwik8"])
    if activation.configurators(model):
        activation.calibrate(model, inputs, None, 0.5)
        model.eval()
    embedded: list[Tensor] = []
    model.get_submodule("encoder.embedding").register_forward_hook(lambda *call: embedded.append(call[-1]))
    logits = model(inputs)
    (gradient,) = torch.autograd.grad(logits[:, 30].square().sum(), embedded)
    by_step = gradient.abs().amax(dim=-1)
    # A convolution by FFT rounds across time.
    assert (by_step[:, 31:] < 1e-12 * by_step.max()).all()
    assert (by_step[:, 29:31] > 1e-9 * by_step.max()).all()


@named(LINEAR)
def test_doubling_the_length_doubles_bytes_and_operations(item: Implementation) -> None:
    """Class `linear` is not just a claim: peak tensor bytes and FLOPs of a training step, +10% at most."""
    (small_bytes, small_flops), (bytes_, flops) = (cost(item, length) for length in (2048, 4096))
    assert bytes_ <= 2.2 * small_bytes
    assert flops <= 2.2 * small_flops


def cost(item: Implementation, length: int) -> tuple[int, int]:
    torch.manual_seed(0)
    task = Task("text", length, classes=2, vocabulary=VOCABULARY)
    model = item.load()(task, item.hyperparameters("text") | {"layers": 1})
    inputs = torch.randint(1, VOCABULARY, (1, length))
    if activation.configurators(model):
        activation.calibrate(model, inputs, None, 0.3)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with FlopCounterMode(display=False) as counter, TensorBytes() as watched:
        model(inputs).square().sum().backward()
    return watched.peak - watched.before, counter.get_total_flops()


@named([item for item in CLASSIFIERS if item.variant is None])
def test_padding_enters_training_where_it_does_officially(item: Implementation) -> None:
    """The padding token's row learns where padded steps are in the batch statistics, and nowhere else."""
    model = small(item, HEADS["text"])
    inputs, lengths = inputs_of(HEADS["text"]), torch.tensor([LENGTH, 30])
    inputs[1, 30:] = PADDING
    model(inputs, lengths).square().sum().backward()
    (rows,) = (p.grad for p in model.pool.encoder.embedding.parameters() if p.shape[0] == VOCABULARY)
    assert bool(rows[PADDING].any()) == (item.system in EMBEDS_PADDING)


@named(CLASSIFIERS)
def test_the_published_model_reads_pixels_and_pools_as_published(item: Implementation) -> None:
    pooled = {}
    for name in ("text", "image", "pathfinder"):
        with torch.device("meta"):
            model = item.load()(HEADS.get(name, HEADS["image"]), item.hyperparameters(name))
        pooled[name] = model.pool.kind
        if name != "text":
            assert isinstance(model.pool.encoder.embedding, GreyEmbedding) == (item.system in ARENA_FRAME)
    usual = "first" if item.system in ARENA_FRAME else "mean"
    pathfinder = "last" if item.system in LAST_ON_PATHFINDER else "mean"
    assert pooled == {"text": usual, "image": usual, "pathfinder": pathfinder}


@functools.cache
def published_parameters(name: str, task: str) -> int:
    """Those of the published model, built without its weights' memory."""
    item = CATALOGUE[name]
    with torch.device("meta"):
        return parameter_count(item.load()(parameters.task(task), item.hyperparameters(task)))


@named(list(CATALOGUE.values()))
def test_published_hyperparameters_build(item: Implementation) -> None:
    """Variants with the parameters of their plain form, and the other modes at their depth and width."""
    for task in item.published:
        assert published_parameters(item.name, task) == published_parameters(item.plain, task)
        for mode, (layers, dim) in registry.SIZES.items():
            values = item.hyperparameters(task, mode)
            assert (values["layers"], values["dim"]) == (layers, dim)


@pytest.mark.parametrize(
    ("name", "task", "count"),
    [
        pytest.param(name, task, count, id=f"{name}-{task}")
        for name, counts in parameters.OFFICIAL.items()
        for task, count in counts.items()
    ],
)
def test_parameters_are_the_official_ones_but_where_said(
    name: str, task: str, count: parameters.Count
) -> None:
    assert published_parameters(name, task) == count.ours
    assert (count.ours == count.official) == (count.because == ""), (
        "a difference has its reason, and only that"
    )


def test_the_table_in_the_docs_is_current() -> None:
    """`python -m tests.implementations.parameters` prints it anew."""
    assert parameters.table() in (parameters.ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_published_task_has_a_workload() -> None:
    known = {
        workloads.load(name).task(workloads.load(name).published_length).name for name in workloads.WORKLOADS
    }
    assert {task for item in CATALOGUE.values() for task in item.published} <= known
