"""What every implementation of the catalogue owes, whatever its system."""

from importlib.metadata import EntryPoint

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.probes.tensor_bytes import TensorBytes
from implementations import activation, registry
from implementations.errors import RegistryError
from implementations.task import Task

TEXT = [item for item in registry.catalogue().values() if "text" in item.published]
LINEAR = [item for item in TEXT if item.complexity == "linear"]
VOCABULARY = 257


def build(item, length: int, seed: int = 0, **changes):
    torch.manual_seed(seed)
    task = Task("text", length=length, classes=2, vocabulary=VOCABULARY)
    hyperparameters = item.hyperparameters("text") | {"layers": 1} | changes
    return item.load()(task, hyperparameters)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def step(model, inputs) -> None:
    F.cross_entropy(model(inputs, None), torch.zeros(len(inputs), dtype=torch.int64)).backward()


@pytest.mark.parametrize("item", TEXT, ids=lambda item: item.name)
def test_the_seed_decides_the_model(item):
    first, again, other = build(item, 128), build(item, 128), build(item, 128, seed=1)
    states = [model.state_dict() for model in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("item", TEXT, ids=lambda item: item.name)
def test_lengths_of_a_full_batch_change_nothing(item):
    model = build(item, 128).double().eval()
    inputs = tokens(2, 128)
    full = model(inputs, torch.tensor([128, 128]))
    torch.testing.assert_close(model(inputs, None), full, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("item", TEXT, ids=lambda item: item.name)
def test_an_unknown_hyperparameter_is_an_error(item):
    with pytest.raises(TypeError, match="colour"):
        build(item, 64, colour="red")


@pytest.mark.parametrize("item", LINEAR, ids=lambda item: item.name)
def test_doubling_the_length_doubles_bytes_and_operations(item):
    """Class `linear` is not just a claim: peak tensor bytes and FLOPs of a training step, +10% at most."""
    small, large = (cost(item, length) for length in (2048, 4096))
    assert large[0] <= 2.2 * small[0]
    assert large[1] <= 2.2 * small[1]


def cost(item, length: int) -> tuple[int, int]:
    model = build(item, length)
    inputs = tokens(1, length)
    if activation.configurators(model):
        activation.calibrate(model, inputs, None, 0.3)
    step(model, inputs)
    with FlopCounterMode(display=False) as counter:
        step(model, inputs)
    with TensorBytes() as watched:
        step(model, inputs)
    return watched.peak - watched.before, counter.get_total_flops()


def test_every_system_has_a_reason_where_it_has_no_hyperparameters():
    for item in registry.catalogue().values():
        for task in ("listops", "text", "retrieval", "image", "pathfinder", "path_x", "speech", "enwik8"):
            if task not in item.published:
                assert item.unpublished.get(task), f"{item.name} says nothing of {task}"
                with pytest.raises(RegistryError, match=task):
                    item.hyperparameters(task)


def test_variants_name_references_of_the_catalogue():
    known = registry.catalogue()
    for item in known.values():
        assert item.reference is None or known[item.reference].reference is None


def test_matched_models_have_the_same_depth_and_width():
    for item in TEXT:
        values = item.hyperparameters("text", "matched")
        assert (values["layers"], values["dim"]) == (4, 128)
        task = Task("text", length=64, classes=2, vocabulary=VOCABULARY)
        item.load()(task, values)


def plug_in(monkeypatch, **paths: str) -> None:
    points = tuple(EntryPoint(name, path, registry.ENTRY_POINTS) for name, path in paths.items())
    monkeypatch.setattr(registry, "_entry_points", lambda: points)


def test_a_name_that_is_taken_stops_only_who_names_it(monkeypatch):
    plug_in(monkeypatch, s4="other:build", mine="mine:build")
    assert registry.find("mine").path == "mine:build"
    assert registry.find("seqboat").system == "seqboat"
    assert registry.catalogue()["s4"].path == "implementations.models.s4:build"
    words = r"the name 's4' is taken by a card and by the entry point other:build: rename or uninstall one"
    with pytest.raises(RegistryError, match=words):
        registry.find("s4")
    assert list(registry.contested()) == ["s4"]


def test_two_plug_ins_never_share_a_title(monkeypatch):
    plug_in(monkeypatch, model="c.model:build", S4="c.s4:build")
    names = [
        "a.model:build",
        "b.model:build",
        "b.model:other",
        "model",
        "model:build",
        "S4",
        "S4:build",
        "s4",
    ]
    assert len({registry.find(name).title for name in names}) == len(names)
