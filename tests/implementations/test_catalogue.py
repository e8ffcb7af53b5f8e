"""The catalogue: reasons for what is unpublished, references, names that are taken twice."""

from importlib.metadata import EntryPoint

import pytest

from implementations import registry
from implementations.errors import RegistryError


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
