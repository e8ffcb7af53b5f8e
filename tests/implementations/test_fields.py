"""A value that a model's field may not be is refused, by whatever way it comes."""

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import pytest

from implementations import fields, registry
from implementations.errors import RegistryError
from implementations.task import Task

CATALOGUE = registry.catalogue()
TASKS = {
    "text": Task("text", 64, classes=3, vocabulary=20),
    "image": Task("image", 64, classes=3, input="reals"),
    "enwik8": Task("enwik8", 64, classes=20, head="language-model", vocabulary=20),
}
REFUSED = {
    "transformer(pooling=max)": "unknown pooling 'max': choose mean, first or last",
    "transformer(positions=learnt)": (
        "unknown positions 'learnt': choose sinusoidal, fairseq, learned or none"
    ),
    "transformer(initialisation=brt)": "unknown initialisation 'brt': choose xavier or bert",
    "transformer(layers=0)": "layers can't be 0: give a whole number from 1",
    "transformer(layers=-1)": "layers can't be -1: give a whole number from 1",
    "transformer(layers=2.5)": "layers can't be 2.5: give a whole number from 1",
    "transformer(interactions=1)": "interactions can't be 1: give true or false",
    "transformer(interactions=null)": "interactions can't be None: give true or false",
    "transformer(pooling=null)": "unknown pooling None: choose mean, first or last",
    "transformer-sdpa(pooling=max)": "unknown pooling 'max': choose mean, first or last",
    "s4d-legs(init=leg)": "unknown init 'leg': choose legs or lin",
    "s4(norm=layer)": "unknown norm 'layer': choose batchnorm or layernorm",
    "s5(activation=glu)": "unknown activation 'glu': choose half_glu1, half_glu2, full_glu or gelu",
    "performer(kernel=exp)": "unknown kernel 'exp': choose softmax, relu or none",
    "performer(features=-1)": "features can't be -1: give a whole number from 0 or null",
    "mega(attention=relu)": "unknown attention 'relu': choose softmax, relu2 or laplace",
    "mega(chunk=0)": "chunk can't be 0: give a whole number from 1 or null",
    "mega(chunk=none)": "chunk can't be 'none': give a whole number from 1 or null",
    "mega-chunk(chunk=0)": "chunk can't be 0: give a whole number from 1 or null",
    "mega-chunk-fused(truncation=0)": "truncation can't be 0: give a whole number from 1 or null",
    "seqboat(window=0)": "window can't be 0: give a whole number from 1 or null",
    "seqboat-fused(norm=group)": "unknown norm 'group': choose layernorm, batchnorm, scalenorm or rmsnorm",
}
"""Settings and why they can't be, on the task text."""
ELSEWHERE = {
    ("mega-chunk(relative_bias=rotery)", "enwik8"): "unknown relative_bias 'rotery': choose simple or rotary",
    ("transformer-xl(memory=-1)", "enwik8"): "memory can't be -1: give a whole number from 0",
    ("transformer(pixels=real)", "image"): "unknown pixels 'real': choose reals or tokens",
}
CASES = {**{(name, "text"): words for name, words in REFUSED.items()}, **ELSEWHERE}
WRONG: Mapping[Any, Any] = {int: 0, fields.Count: -1, float: "1", bool: 1}
"""A value that a field of each type can't have; of words, there are many."""
ZERO = ("performer(features=0)", "transformer-xl(memory=0)", "bigbird(random_blocks=0)")


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_setting_is_refused_before_anything_is_built(name: str, task: str) -> None:
    """One line with the model, the setting and its choices."""
    item = registry.find(name)
    for mode in ("published", "matched", "small", "params:1M"):
        with pytest.raises(RegistryError) as caught:
            item.hyperparameters(task, mode)
        assert str(caught.value) == f"{item.unset}: {CASES[name, task]}"


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_model_with_it_is_not_built(name: str, task: str) -> None:
    item = registry.find(name)
    values = {**CATALOGUE[item.unset].hyperparameters(task, "small"), **item.setting}
    with pytest.raises(ValueError, match=r"choose|give") as caught:
        CATALOGUE[item.unset].load()(TASKS[task], values)
    assert str(caught.value) == CASES[name, task]


@pytest.mark.parametrize("name", ZERO)
def test_what_may_be_0_stays(name: str) -> None:
    (key,) = registry.find(name).setting
    assert registry.find(name).hyperparameters("text")[key] == 0


def configurations() -> Iterator[tuple[type[fields.Config], dict[str, Any]]]:
    """The configuration of every system, with the published values of each of its rows."""
    for item in CATALOGUE.values():
        if item.published:
            config = fields.config_of(importlib.import_module(f"implementations.models.{item.system}"))
            for task in item.published:
                for mode in ("published", "matched", "small"):
                    yield config, item.hyperparameters(task, mode)


def test_every_card_fits_its_configuration() -> None:
    for config, values in configurations():
        assert config(**values)


def test_every_field_of_every_configuration_is_held_against_its_type() -> None:
    seen = set()
    for config, values in dict(configurations()).items():
        for field in dataclasses.fields(config):  # type: ignore[arg-type]
            (kind,) = (kind for kind in fields._kinds(config)[field.name] if kind is not NoneType)
            with pytest.raises(ValueError, match=f"(unknown {field.name} .*: choose|^{field.name} can't be)"):
                config(**{**values, field.name: WRONG.get(kind, "nonsense")})
            seen.add(kind)
    assert set(WRONG) < seen


def test_torch_is_loaded_only_for_a_value_in_doubt() -> None:
    setting = "window=64, prenorm=true, dropout=0.5, attention=softmax"
    words = (
        "import sys; from implementations import registry;"
        f"registry.find('seqboat({setting})').hyperparameters('text');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
