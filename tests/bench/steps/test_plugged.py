"""What a plug-in brings with its model: an optimiser, stages, words about itself."""

import functools
import sys
from types import ModuleType

import msgspec
import pytest
import torch
from torch import nn

from bench.correctness.reference import compare_with_reference
from bench.errors import UsageError
from bench.steps import plugged
from bench.steps.stages import named, role_of
from bench.steps.step import Step
from bench.suites.case import Case

CASE = Case(
    implementation="brings_of_mine:build",
    workload="text",
    length=16,
    batch=2,
    fill="full",
    precision="fp32",
    phase="train",
    hyperparameters="published",
    activation=None,
    backend="auto",
    seed=0,
)


class Waves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, tokens, lengths=None):
        return self.out(self.embedding(tokens).mean(dim=1))


@pytest.fixture
def module(monkeypatch):
    """The plug-in's module, which a test may put more into."""
    found = ModuleType("brings_of_mine")
    found.build = lambda task, hyperparameters: Waves()
    monkeypatch.setitem(sys.modules, "brings_of_mine", found)
    return found


def test_without_an_optimiser_of_its_own_it_has_adam(module):
    step = Step(CASE, "cpu")
    assert isinstance(step.optimizer, torch.optim.Adam)
    assert plugged.own_optimizer(CASE, step.optimizer) is None


def test_its_own_optimiser_steps_and_moves_nothing(module):
    def optimizer(model):
        return torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.5, momentum=0.9)

    module.optimizer = optimizer
    step = Step(CASE, "cpu")
    assert plugged.own_optimizer(CASE, step.optimizer) == "SGD"
    before = plugged.weights_of(step.model)
    step()
    step()
    assert plugged.weights_of(step.model) == before
    assert len(step.optimizer.state) == 3  # momentum: it did its work


def test_an_optimiser_that_moves_weights_at_no_rate_is_seen(module):
    class Stubborn(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.add_(1e-3)

    def optimizer(model):
        return Stubborn(model.parameters(), lr=0.5)

    module.optimizer = optimizer
    step = Step(CASE, "cpu")
    before = plugged.weights_of(step.model)
    step()
    assert plugged.weights_of(step.model) != before


def test_what_is_no_optimiser_is_refused(module):
    def optimizer(model):
        return model.parameters()

    module.optimizer = optimizer
    with pytest.raises(
        TypeError, match=r"optimizer\(model\) gives generator, which is not an optimiser of torch"
    ):
        Step(CASE, "cpu")


def test_whatever_can_be_called_makes_the_optimiser(module):
    def make(model, lr):
        return torch.optim.SGD(model.parameters(), lr)

    module.optimizer = functools.partial(make, lr=0.5)
    assert plugged.own_optimizer(CASE, Step(CASE, "cpu").optimizer) == "SGD"


def test_a_pattern_of_stages_may_hold_a_colon(module):
    module.STAGES = {"(?:Waves|Winds)": "waves"}
    with named(Step(CASE, "cpu")):
        pass


def test_something_else_of_that_name_is_left_alone(module):
    module.optimizer = "adam"
    assert isinstance(Step(CASE, "cpu").optimizer, torch.optim.Adam)


def test_its_stages_come_first(module):
    module.STAGES = {"Waves": "waves", "Linear": "readout"}
    step = Step(CASE, "cpu")
    own = plugged.stages_of(CASE)
    assert [role_of(part, own) for part in step.model.modules()] == ["waves", "embedding", "readout"]
    with named(step) as stages:
        step()
    assert {("waves",), ("waves", "embedding"), ("waves", "readout")} <= set(stages.calls)


def test_a_function_can_be_a_stage(module):
    def mix(x):
        return x * 2

    module.mix = mix
    module.STAGES = {"brings_of_mine:mix": "mixing"}
    with named(Step(CASE, "cpu")) as stages:
        module.mix(1)
    assert stages.calls[("mixing",)] == 1
    assert module.mix is mix


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["Waves"], "give names of stages by classes of modules"),
        ({"Waves": 3}, "give names of stages by classes of modules"),
        ({"Waves(": "waves"}, "'Waves\\(' is not a pattern"),
        ({"brings_of_mine:absent": "x"}, "there is no such function"),
    ],
)
def test_stages_that_cannot_be_read_are_one_line(module, stages, words):
    module.STAGES = stages
    step = Step(CASE, "cpu")
    with pytest.raises(UsageError, match=words), named(step):
        pass


def test_a_model_says_what_computed_and_more():
    model = Waves()
    assert plugged.computed_by(model) is None
    assert plugged.remarks(model) == []
    model.computed_by, model.remarks = lambda: "kernels\nof mine", ("one", 2, "a\nb")
    assert plugged.computed_by(model) == "kernels of mine"
    assert plugged.remarks(model) == ["one", "a b"]
    model.computed_by = nn.Linear(1, 1)
    assert plugged.computed_by(model) is None


def test_models_of_this_package_bring_nothing():
    case = Case(
        **{name: getattr(CASE, name) for name in CASE.__struct_fields__} | {"implementation": "seqboat"}
    )
    assert plugged.stages_of(case) == {}


def of(function: str) -> Case:
    return msgspec.structs.replace(CASE, implementation=f"brings_of_mine:{function}")


@pytest.fixture
def fast(module):
    """A faster form of the module's model, that says so."""
    module.fast = lambda task, hyperparameters: Waves()
    module.REFERENCES = {"fast": "build"}
    return module


def test_a_variant_names_the_form_that_it_is_held_against(fast):
    assert plugged.reference_of(of("fast")) == "brings_of_mine:build"
    assert plugged.reference_of(of("build")) is None
    assert plugged.reference_of(of("fast(dim=4)")) == "brings_of_mine:build(dim=4)"
    fast.REFERENCES = {"fast": "seqboat"}
    assert plugged.reference_of(of("fast")) == "seqboat"


@pytest.mark.parametrize("references", [{"fast": "sequence-boat"}, {"fast": 3}, "build", ["build"]])
def test_a_reference_that_is_none_is_refused(fast, references):
    fast.REFERENCES = references
    with pytest.raises(UsageError, match="REFERENCES: "):
        plugged.reference_of(of("fast"))


class Wrong(Waves):
    def forward(self, tokens, lengths=None):
        return 1.001 * super().forward(tokens, lengths)


@pytest.mark.parametrize(("model", "agrees"), [(Waves, True), (Wrong, False)])
def test_a_variant_of_a_plug_in_is_held_against_its_reference(fast, model, agrees):
    fast.fast = lambda task, hyperparameters: model()
    found = compare_with_reference(Step(of("fast"), "cpu"))
    assert (found.reference, found.agrees) == ("brings_of_mine:build", agrees)
