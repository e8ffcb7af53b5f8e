"""The catalogue of implementations, read from the cards in `cards/`: one YAML file per system.

A card is all that can be known of a system without building it: names, citation, complexity class
and published hyper-parameters. It imports no torch. A model of someone else's joins by its import
path (`package.module:build`) or by the entry-point group `seqboat_bench.implementations`.
"""

import difflib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from implementations.errors import RegistryError

if TYPE_CHECKING:
    from torch import nn

    from implementations.task import Task

    Build = Callable[[Task, Mapping[str, Any]], nn.Module]

ENTRY_POINTS = "seqboat_bench.implementations"
CARDS = Path(__file__).parent / "cards"

SIZES: Mapping[str, tuple[int, int]] = {"matched": (4, 128), "small": (4, 32)}
"""Depth and width of every model, by mode of the hyper-parameters."""

Complexity = Literal["quadratic", "sub-quadratic", "linear", "unknown"]


@dataclass(frozen=True)
class Implementation:
    """One row of a table: a system, or a variant of it."""

    name: str
    title: str
    path: str
    """Where its `build(task, hyperparameters)` is: `package.module:function`."""
    complexity: Complexity = "unknown"
    """Inference complexity in the sequence length, as the published table groups it."""
    system: str = ""
    reference: str | None = None
    """The implementation that computes the same function by plain means; None for the plain form."""
    variant: str | None = None
    """Name of this form of its system, as the official views know it; None for the plain one."""
    golden: str = ""
    """Folder of golden vectors that it must reproduce."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that make this variant of the system, whatever the task."""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Published hyper-parameters by task."""
    unpublished: Mapping[str, str] = field(default_factory=dict)
    """Why a task has no published hyper-parameters, and what stands in their place."""
    matched: Mapping[str, float] = field(default_factory=dict)
    """Sizes as multiples of the width, for comparisons at the same depth and width."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """What else becomes smaller with the sequences of the small studies."""
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Optimiser settings by task."""
    training_source: str = ""
    """Where they are from."""
    citation: str = ""
    sparse: bool | None = None
    """Whether a latent configurator decides how much is computed, so that an activation rate can be set;
    None where nobody knows before the model is built."""

    @property
    def plain(self) -> str:
        """Name of the form that computes this function by plain means, which may be this one."""
        return self.reference or self.name

    def hyperparameters(self, task: str, mode: str = "published") -> dict[str, Any]:
        """The hyper-parameters of this implementation for a task.

        mode `published`: those of its authors; `matched`: depth 4 and width 128 for every model, the
        other sizes in the card's proportion; `small`: depth 4 and width 32, and windows and chunks for short
        sequences. Raises RegistryError where there are none.
        """
        if mode not in ("published", *SIZES):
            raise RegistryError(f"hyper-parameters {mode!r}: choose published, {' or '.join(SIZES)}")
        if not self.published:
            return dict(self.options)
        if task not in self.published:
            known = ", ".join(sorted(self.published))
            why = self.unpublished.get(task, f"its card has {known}")
            raise RegistryError(f"{self.name} has no hyper-parameters for the task {task!r}: {why}")
        values = {**self.published[task], **self.options}
        if mode in SIZES:
            layers, dim = SIZES[mode]
            values |= {"layers": layers, "dim": dim}
            values |= {name: int(ratio * dim) for name, ratio in self.matched.items()}
        if mode == "small":
            values |= {name: value for name, value in self.small.items() if values.get(name) is not None}
        return values

    def load(self) -> "Build":
        """Import the function that builds the model. Raises RegistryError where there is none."""
        module, _, name = self.path.partition(":")
        try:
            build: Build = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise RegistryError(f"implementation {self.name}: cannot import {self.path} ({error})") from error
        return build


def catalogue() -> dict[str, Implementation]:
    """Every implementation by name: the cards first, in the order of the published table."""
    found = dict(_from_cards())
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found:
            raise RegistryError(
                f"entry point {point.name!r} ({point.value}) takes a name that is taken; rename it"
            )
        found[point.name] = _plugged_in(point.name, point.value)
    return found


def find(name: str) -> Implementation:
    """The implementation of that name, or at that import path. Raises RegistryError, naming the nearest."""
    if ":" in name:
        return _plugged_in(name, name)
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise RegistryError(f"unknown implementation {name!r}; {hint}")
    return known[name]


def _plugged_in(name: str, path: str) -> Implementation:
    module, _, function = name.partition(":")
    title = module.rpartition(".")[2] if function in ("", "build") else function
    return Implementation(name=name, title=title, path=path, system=name)


@functools.cache
def _from_cards() -> Mapping[str, Implementation]:
    cards = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in CARDS.glob("*.yaml")]
    rows = [(entry.get("order", 1000), item) for card in cards for entry, item in _rows_of(card)]
    return {item.name: item for _, item in sorted(rows, key=lambda row: (row[0], row[1].name))}


def _rows_of(card: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Implementation]]:
    for entry in card["implementations"]:
        yield (
            entry,
            Implementation(
                name=entry["name"],
                title=entry["title"],
                path=entry.get("build", f"implementations.{card['system']}:build"),
                complexity=entry["complexity"],
                system=card["system"],
                reference=entry.get("reference"),
                variant=entry.get("variant"),
                golden=entry.get("golden", card["system"]),
                options=entry.get("options", {}),
                published={
                    task: {**card.get("defaults", {}), **values, **entry.get("by_task", {}).get(task, {})}
                    for task, values in card["published"].items()
                },
                unpublished=card.get("unpublished", {}),
                matched=card.get("matched", {}),
                small=card.get("small", {}),
                training={
                    task: {**card["training"].get("defaults", {}), **values}
                    for task, values in card.get("training", {}).get("tasks", {}).items()
                },
                training_source=card.get("training", {}).get("source", ""),
                citation=card["citation"],
                sparse=card.get("sparse", False),
            ),
        )
