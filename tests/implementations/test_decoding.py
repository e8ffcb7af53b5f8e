"""Language models step by step: equal to the parallel form, from nothing and from a prompt, and causal."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implementations.activation import calibrate
from implementations.decoding import NoRecurrentForm, State, cache, distances, push, window
from implementations.encoder import Encoder
from implementations.heads import LanguageModel
from implementations.ops.scan import final_state
from implementations.ops.sma import latest
from implementations.ops.ssm import nplr_legs
from implementations.ops.ssm_kernels import dplr_restore, dplr_truncate
from implementations.registry import catalogue, find

from .models.efficient_attention import VOCABULARY, random, seeded, task, tokens

LENGTH, PROMPT = 37, 21
"""Multiples of no chunk, segment or window below."""
HEADS = {"layers": 2, "dim": 16, "heads": 2, "ffn": 24}
XL = {**HEADS, "segment": 8, "memory": 8}
SPAN = {**HEADS, "ramp": 4, "segment": 10}
MEGA = {"layers": 2, "dim": 16, "hidden": 24, "attention_dim": 8, "ffn": 24, "states": 4}
SEQBOAT = {"layers": 2, "dim": 16, "hidden": 24, "attention_dim": 8, "states": 4, "window": 3}
SSM = {"layers": 2, "dim": 16, "state_dim": 8}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("transformer", HEADS),
    ("transformer", {**HEADS, "prenorm": True, "positions": "learned"}),
    ("transformer-sdpa", {**HEADS, "sdpa": True}),
    ("transformer-xl", XL),
    ("transformer-xl", {**XL, "prenorm": True, "memory": 3}),
    ("transformer-xl", {**XL, "memory": 0}),
    ("transformer-xl", {**XL, "same_length": True}),
    ("transformer-xl", {**XL, "memory": 20, "clamp_length": 4}),
    ("transformer-xl", {**XL, "segment": 64}),
    ("adaptive-span", {**SPAN, "span": 128, "initial_span": 0.05}),
    ("adaptive-span", {**SPAN, "span": 96, "initial_span": 1.0}),
    ("adaptive-span", {**SPAN, "span": 8, "adaptive": False}),
    ("mega", MEGA),
    ("mega", {**MEGA, "attention": "laplace", "prenorm": True, "truncation": 9}),
    ("mega-chunk", {**MEGA, "chunk": 8, "norm": "scalenorm"}),
    ("mega-chunk", {**MEGA, "chunk": 8, "attention": "relu2", "relative_bias": "rotary"}),
    ("mega-chunk", {**MEGA, "chunk": 64, "norm": "batchnorm"}),
    ("mega-chunk-fused", {**MEGA, "chunk": 8}),
    ("seqboat", SEQBOAT),
    ("seqboat", {**SEQBOAT, "relative_bias": "local", "attention": "relu2", "truncation": 7}),
    ("seqboat", {**SEQBOAT, "relative_bias": "rotary", "prenorm": False, "window": 64}),
    ("seqboat", {**SEQBOAT, "absolute_positions": True, "attention": "laplace"}),
    ("seqboat", {**SEQBOAT, "always_active": True}),
    ("seqboat-full", {**SEQBOAT, "window": None}),
    ("seqboat-full", {**SEQBOAT, "window": None, "attention": "relu2"}),
    ("seqboat-fused", SEQBOAT),
    ("luna-256", {**HEADS, "projection": 5}),
    ("luna-256", {**HEADS, "projection": 5, "tie_kv": True, "prenorm": True}),
    ("s4", SSM),
    ("s4", {**SSM, "n_ssm": 4, "norm": "layernorm", "prenorm": False}),
    ("s4d-legs", {**SSM, "n_ssm": 2}),
    ("s5", {"layers": 2, "dim": 16, "state": 8}),
    ("s5", {"layers": 2, "dim": 16, "state": 8, "activation": "full_glu", "prenorm": False}),
    ("h3", {**SSM, "ffn": 24}),
    ("h3", {**SSM, "ffn": 24, "head_dim": 4, "norm": "layernorm", "prenorm": False}),
    ("mamba2", {"layers": 2, "dim": 16, "head_dim": 8, "state_dim": 6, "chunk": 8}),
    ("gated-deltanet", {"layers": 2, "dim": 16, "heads": 2, "head_dim": 8, "ffn": 24, "chunk": 8}),
]
IDS = [f"{name}-{number}" for number, (name, _) in enumerate(MODELS)]


def language_model(name: str, hyperparameters: dict[str, Any], length: int = LENGTH) -> Any:
    """In float64, its vectors moved away from 0 and 1, a third of its steps active where it is sparse."""
    model = seeded(find(name).load(), task("enwik8", length), hyperparameters).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    if find(name).sparse and not hyperparameters.get("always_active"):
        calibrate(model, tokens(3, length), None, 0.35)
    return model


def steps(model: Any, inputs: Tensor, generation: Any) -> Tensor:
    return torch.stack([model.step(column, generation) for column in inputs.unbind(dim=1)], dim=1)


@pytest.mark.parametrize(("name", "hyperparameters"), MODELS, ids=IDS)
def test_steps_are_the_parallel_form(name: str, hyperparameters: dict[str, Any]) -> None:
    model, inputs = language_model(name, hyperparameters), tokens(3, LENGTH)
    with torch.no_grad():
        logits = model(inputs)
    generation = model.begin(3, LENGTH)
    torch.testing.assert_close(steps(model, inputs, generation), logits)
    assert generation.time == LENGTH


@pytest.mark.parametrize(("name", "hyperparameters"), MODELS, ids=IDS)
def test_a_prompt_leaves_the_state_that_its_steps_do(name: str, hyperparameters: dict[str, Any]) -> None:
    model, inputs = language_model(name, hyperparameters), tokens(3, LENGTH)
    with torch.no_grad():
        logits = model(inputs)
    begun = model.begin(3, LENGTH)
    steps(model, inputs[:, :PROMPT], begun)
    of_prompt, generation = model.prefill(inputs[:, :PROMPT], LENGTH)
    assert generation.time == PROMPT
    assert generation.bytes == begun.bytes > 0
    for ours, theirs in zip(generation.state.tensors(), begun.state.tensors(), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(of_prompt, logits[:, :PROMPT])
    torch.testing.assert_close(steps(model, inputs[:, PROMPT:], generation), logits[:, PROMPT:])


@pytest.mark.parametrize(("name", "hyperparameters"), MODELS, ids=IDS)
def test_no_step_depends_on_a_later_token(name: str, hyperparameters: dict[str, Any]) -> None:
    """The parallel form is tried; the steps are equal to it."""
    model, inputs = language_model(name, hyperparameters), tokens(3, LENGTH)
    changed = inputs.clone()
    changed[:, PROMPT:] = (changed[:, PROMPT:] + 3) % VOCABULARY
    _, generation = model.prefill(inputs[:, :PROMPT], LENGTH)
    _, of_changed = model.prefill(changed[:, :PROMPT], LENGTH)
    once, other = steps(model, inputs[:, PROMPT:], generation), steps(model, changed[:, PROMPT:], of_changed)
    assert not torch.allclose(once[:, -1], other[:, -1])
    with torch.no_grad():
        before = model(inputs)[:, :PROMPT], model(changed)[:, :PROMPT]
    if not find(name).sparse:  # which steps a row's density shifts is the documented edge of SeqBoat
        torch.testing.assert_close(*before)


@pytest.mark.parametrize("name", ["mega-chunk", "seqboat", "s4", "s5", "h3", "mamba2", "gated-deltanet"])
def test_float32_stays_close_over_many_steps(name: str) -> None:
    length = 300
    hyperparameters = next(values for known, values in MODELS if known == name)
    model = language_model(name, hyperparameters, length).float()
    inputs = tokens(1, length)
    with torch.no_grad():
        logits = model(inputs)
    _, generation = model.prefill(inputs[:, :200], length)
    torch.testing.assert_close(
        steps(model, inputs[:, 200:], generation), logits[:, 200:], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "grows"),
    [("transformer", True), ("mega", True), ("seqboat-full", True)]
    + [
        (name, False) for name in ("transformer-xl", "adaptive-span", "mega-chunk", "seqboat", "s4", "mamba2")
    ],
)
def test_bytes_of_the_state_against_the_context(name: str, grows: bool) -> None:
    hyperparameters = next(values for known, values in MODELS if known == name)
    short, long = (language_model(name, hyperparameters, n).begin(2, n).bytes for n in (64, 128))
    assert (long > short) is grows
    one = language_model(name, hyperparameters, 64).begin(1, 64).bytes
    assert short == 2 * one


def test_models_that_cannot_say_why() -> None:
    for name, reason in {"performer": "maximum", "reformer": "sorted"}.items():
        model: Any = seeded(
            find(name).load(), task("enwik8"), find(name).hyperparameters("enwik8", "matched")
        )
        with pytest.raises(NoRecurrentForm, match=f"^no recurrent form: .*{reason}"):
            model.begin(1, 8)


def test_a_layer_without_a_step_is_named() -> None:
    model = LanguageModel(Encoder(nn.Embedding(VOCABULARY, 4), [nn.LSTM(4, 4)]), 4, VOCABULARY)
    with pytest.raises(NoRecurrentForm, match="LSTM has no step"):
        model.begin(1, 8)


def test_models_that_run_both_ways_refuse() -> None:
    for name in ("mega", "s4", "s5"):
        hyperparameters = next(values for known, values in MODELS if known == name)
        model: Any = seeded(find(name).load(), task("text"), hyperparameters).eval()
        with pytest.raises(NoRecurrentForm):
            model.pool.encoder.initial_state(1, 8)


def test_every_language_model_of_the_catalogue_steps_or_says_why() -> None:
    """Plain forms are tried; the fused ones have the same layers."""
    for item in catalogue().values():
        if "enwik8" not in item.published or item.reference is not None or item.system == "":
            continue
        hyperparameters = item.hyperparameters("enwik8", "matched") | {"layers": 1}
        model: Any = seeded(item.load(), task("enwik8", 16), hyperparameters).eval()
        try:
            generation = model.begin(1, 16)
        except NoRecurrentForm:
            continue
        assert model.step(tokens(1), generation).shape == (1, VOCABULARY)


@given(st.integers(0, 30), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_cache_holds_the_latest_steps(length: int, reach: int, room: int) -> None:
    x = random(2, length, 3)
    held = cache(x, max(room, length), reach)
    size = min(reach, max(room, length))
    assert held.shape == (2, size, 3)
    for age, place in enumerate(distances(length - 1, size, x.device).argsort().tolist()):
        expected = x[:, length - 1 - age] if age < length else torch.zeros(2, 3, dtype=x.dtype)
        assert torch.equal(held[:, place], expected)


def test_windows_move_on() -> None:
    x = random(2, 9, 3)
    steps = window(x[:, :2], 4)
    assert steps[:, :2].eq(0).all()
    for t in range(2, 9):
        push(steps, x[:, t])
    assert torch.equal(steps, window(x, 4))


def test_the_latest_active_steps_of_each_row() -> None:
    active = torch.tensor([[1, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0]]).bool()
    held = latest(torch.arange(7).expand(2, 7), active, 3)
    # Row 0: steps 0, 2, 3, 5, 6 are numbers 0 to 4 of its working memory; 3 lies at 0, 4 at 1, 2 at 2.
    assert held.tolist() == [[5, 6, 3], [3, 0, 0]]


@pytest.mark.parametrize("length", [0, 1, 256, 700])
def test_the_final_state_is_the_recurrence(length: int) -> None:
    log_decay = torch.complex(-random(3, 2).square() / 10, random(3, 2, seed=1))
    inputs = random(2, length, 3)
    state = torch.zeros(2, 3, 2, dtype=torch.cdouble)
    for t in range(length):
        state = state * log_decay.exp() + inputs[:, t].unsqueeze(-1)
    torch.testing.assert_close(final_state(log_decay, inputs), state)


def test_restoring_undoes_truncating() -> None:
    legs = nplr_legs(8)
    A, P = (x.expand(3, -1) for x in (legs.A, legs.P))
    C, dt = torch.complex(random(2, 3, 4), random(2, 3, 4, seed=1)), torch.tensor([1e-3, 1e-2, 1e-1]).double()
    for length in (1, 37, 512):
        torch.testing.assert_close(dplr_restore(A, dplr_truncate(A, C, P, dt, length), P, dt, length), C)


def test_constants_are_no_state() -> None:
    state = State((torch.zeros(2, 3),), (torch.zeros(9),), (State((torch.zeros(1, dtype=torch.float64),)),))
    assert [tensor.numel() for tensor in state.tensors()] == [6, 1]
