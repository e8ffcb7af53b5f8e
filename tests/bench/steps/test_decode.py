"""The phase decode: a step is a stretch of tokens after a context, the same one every time."""

import sys
from dataclasses import dataclass
from types import ModuleType

import msgspec
import pytest
import torch
from torch import nn

from bench.errors import UsageError
from bench.measure.solo import _disagreement
from bench.probes.memory import peak_of
from bench.records.reading import Results
from bench.records.solo import Decoding
from bench.steps.decoding import DecodeStep, open_step
from bench.steps.step import Step
from bench.suites import reading as suites
from bench.suites.case import Case
from bench.suites.suite import STRETCH
from bench.views.tables.table import build_table
from bench.workers.messages import Checked
from implementations.decoding import Generation, NoRecurrentForm

from .. import made_up

CASE = Case(
    implementation="seqboat", workload="lm", length=40, batch=2, fill="full", precision="fp32",
    phase="decode", hyperparameters="matched", activation=0.3, backend="torch", seed=0,
)  # fmt: skip


def step_of(implementation: str = "seqboat", **changes) -> DecodeStep:
    rate = 0.3 if implementation == "seqboat" else None
    case = msgspec.structs.replace(CASE, implementation=implementation, activation=rate, **changes)
    step = open_step(case, "cpu")
    assert isinstance(step, DecodeStep)
    step.calibrate()
    return step


@pytest.mark.parametrize("implementation", ["seqboat", "transformer-xl", "s4"])
def test_every_step_is_the_same_step(implementation):
    step = step_of(implementation)
    step._rewind()
    before = [tensor.clone() for tensor in step.generation.state.tensors()]
    step()
    loss = step.loss.clone()
    assert step.generation.time == CASE.length + STRETCH
    assert step.timed(2).seconds > 0
    assert torch.equal(step.loss, loss)
    step._rewind()
    assert step.generation.time == CASE.length
    assert all(map(torch.equal, step.generation.state.tensors(), before))


def test_what_it_says_of_the_state():
    step = step_of()
    found = step.decoding()
    assert found.tokens == STRETCH
    assert found.state_bytes == step.generation.bytes == 2 * step_of(batch=1).decoding().state_bytes
    assert found.prefill_seconds > 0
    assert found.parallel_error < 1e-4
    assert found.agrees
    assert step.tokens == step.real_tokens == 2 * STRETCH
    assert 0.1 < sum(step.activation_rates()) / len(step.activation_rates()) < 0.6


def test_one_that_decodes_something_else_is_wrong():
    step = step_of("transformer")
    forget = step.model.encoder.layers[0].self_attn
    forget.mixer.recall = lambda q, k, v: v[:, :, -1:]
    found = step.decoding()
    assert not found.agrees
    assert "decodes something else" in (_disagreement(Checked(None), found) or "")
    assert _disagreement(Checked(None), msgspec.structs.replace(found, agrees=True)) is None


def test_half_precision_goes_back_to_its_state():
    step = step_of("transformer", precision="bf16")
    assert {tensor.dtype for tensor in step.generation.state.tensors()} == {torch.bfloat16}
    step()
    loss = step.loss.clone()
    step()
    assert torch.equal(step.loss, loss)
    assert step.decoding().agrees


def test_the_copy_of_the_state_is_not_the_models_memory():
    step = step_of("transformer", length=400)
    figures, _ = peak_of(step, step.device, step.live())
    (peak,) = [figure.bytes for figure in figures if figure.kind == "tensor_bytes"]
    parameters = sum(p.numel() * p.element_size() for p in step.model.parameters())
    state = step.generation.bytes
    assert parameters + state <= peak < parameters + 1.9 * state


def test_other_phases_are_plain_steps():
    assert type(open_step(msgspec.structs.replace(CASE, phase="forward"), "cpu")) is Step


def test_a_model_without_steps_says_so(monkeypatch):
    def build(task, hyperparameters):
        return nn.Embedding(task.vocabulary, task.vocabulary)

    monkeypatch.setattr("bench.steps.step.build_model", lambda case, task, device: build(task, {}))
    with pytest.raises(NoRecurrentForm, match="no recurrent form: Embedding has no prefill"):
        open_step(CASE, "cpu")


def test_only_language_models_decode(tmp_path):
    with pytest.raises(UsageError, match="--phase: decode is for language models, and text has none"):
        suites.load("ci", {"phase": "decode"})
    suite = suites.load("enwik8-decode")
    assert suite.phase == "decode"
    with pytest.raises(UsageError, match="at most"):
        suites.load("enwik8-decode", {"lengths": [1 << 18]})


def decoded() -> Results:
    results = made_up.results(("mega-chunk", "seqboat"), (1024,), workload="lm")
    suite = msgspec.structs.replace(results.header.suite, phase="decode")
    cases = {case.id.replace("decode-", "train-"): case for case in suite.cases("cpu")}
    facts = Decoding(tokens=32, state_bytes=3 << 20, prefill_seconds=1.0, parallel_error=1e-6, agrees=True)
    solos = {
        cases[key].id: msgspec.structs.replace(solo, case=cases[key], decoding=facts, tokens=32)
        for key, solo in results.solos.items()
    }
    samples = [msgspec.structs.replace(one, case_id=cases[one.case_id].id) for one in results.samples]
    header = msgspec.structs.replace(results.header, suite=suite)
    return msgspec.structs.replace(results, header=header, solos=solos, samples=samples)


def test_the_table_has_milliseconds_a_token_and_bytes_of_state():
    table = build_table(decoded())
    row = table.rows[0]
    assert row.step_seconds == pytest.approx(0.2 / 32, rel=0.05)
    assert row.tokens_per_second == pytest.approx(1 / row.step_seconds)
    assert row.state_bytes == 3 << 20
    headers = [column.header for column in table.columns if not column.on_demand]
    assert "ms/token" in headers
    assert "State" in headers
    assert "ms/step" not in headers
    assert any(line.startswith("decode: a step is one token") for line in table.footer)
    train = build_table(made_up.results(("mega-chunk", "seqboat"), (1024,)))
    assert "State" not in [column.header for column in train.columns if not column.on_demand]
    assert train.rows[0].state_bytes is None


class Undecorated(torch.nn.Module):
    """A language model of somebody else's, with gradients wherever nobody turns them off."""

    def __init__(self, task, last_only=False):
        super().__init__()
        self.embedding = torch.nn.Embedding(task.vocabulary, 4)
        self.out = torch.nn.Linear(4, task.classes)
        self.last_only = last_only

    def forward(self, inputs, lengths=None):
        return self.out(self.embedding(inputs).cumsum(dim=1))

    def prefill(self, prompt, room):
        state = self.embedding(prompt).sum(dim=1)
        logits = self(prompt)
        return logits[:, -1] if self.last_only else logits, Generation(prompt.shape[1], Sum(state))

    def step(self, tokens, generation):
        generation.state.sum += self.embedding(tokens)
        generation.time += 1
        return self.out(generation.state.sum)


@dataclass
class Sum:
    sum: torch.Tensor

    def tensors(self):
        yield self.sum


@pytest.fixture
def own(monkeypatch):
    module = ModuleType("decodes_of_mine")
    module.build = lambda task, hyperparameters: Undecorated(task)
    module.last_only = lambda task, hyperparameters: Undecorated(task, last_only=True)
    monkeypatch.setitem(sys.modules, "decodes_of_mine", module)


def test_a_model_of_somebody_elses_decodes_without_gradients(own):
    step = step_of("decodes_of_mine:build")
    step()
    assert step.decoding().agrees
    assert not step.generation.state.sum.requires_grad


def test_logits_of_another_shape_are_refused(own):
    with pytest.raises(ValueError, match=r"prefill gives logits .* not \(batch, length, vocabulary\)"):
        step_of("decodes_of_mine:last_only")
