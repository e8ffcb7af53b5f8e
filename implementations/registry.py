"""The catalogue of implementations, read from the cards in `cards/`: one YAML file per system.

A card is all that can be known of a system without building it: names, citation, complexity class
and published hyper-parameters. Reading it needs no torch. Somebody else's model joins by its import
path (`package.module:build`) or by the entry-point group `seqboat_bench.implementations`.
"""

import difflib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implementations import by_configuration, fields, settings
from implementations.card import Card, CardEntry, Complexity, read_card
from implementations.equal_sizes import LAYERS, parameters_wanted
from implementations.errors import RegistryError

if TYPE_CHECKING:
    from torch import nn

    from implementations.task import Task

    Build = Callable[[Task, Mapping[str, Any]], nn.Module]

ENTRY_POINTS = "seqboat_bench.implementations"
PEERS = "peers"
"""The package of others' models that comes with this one; all of them take `layers` and `dim`."""
CARDS = Path(__file__).parent / "cards"

SIZES: Mapping[str, tuple[int, int]] = {"matched": (4, 128), "small": (4, 32)}
"""Depth and width of every model, by mode of the hyper-parameters."""


@dataclass(frozen=True)
class Implementation:
    """One row of a table: a system, or a variant of it."""

    name: str
    title: str
    path: str
    """Path of its `build(task, hyperparameters)`: `package.module:function`."""
    complexity: Complexity = "unknown"
    """Inference complexity in the sequence length, as the published table groups it."""
    system: str = ""
    reference: str | None = None
    """Implementation that computes the same function by plain means; None for the plain form."""
    variant: str | None = None
    """Name of this form of its system, as the official views know it; None for the plain one."""
    golden: str = ""
    """Folder of golden vectors that it must reproduce."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that make this variant of the system, whatever the task."""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Published hyper-parameters by task."""
    unpublished: Mapping[str, str] = field(default_factory=dict)
    """Reason why a task has no published hyper-parameters, and what replaces them."""
    matched: Mapping[str, float] = field(default_factory=dict)
    """Sizes as multiples of the width, for comparisons at the same depth and width."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """Other sizes that shrink with the sequences of the small studies."""
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Optimiser and groups of parameters by task; empty if the published training cannot be followed."""
    citation: str = ""
    plugged_in: bool = False
    """Whether it comes from somebody else's module, which may not even be importable."""
    sparse: bool | None = None
    """Whether a latent configurator decides how much is computed, so that an activation rate can be set;
    None if that is not known before the model is built."""
    sized: bool = False
    """Whether it has no published hyper-parameters, and takes the layers and dim of every mode."""
    setting: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that the user has set, whatever the task and mode."""

    @property
    def plain(self) -> str:
        """Name of the form that computes this function by plain means, which may be this one."""
        return self.reference or settings.parse(self.name).unlabelled

    @property
    def unset(self) -> str:
        """Its name without a setting."""
        return settings.parse(self.name).use

    def hyperparameters(self, task: str, mode: str = "published", width: int | None = None) -> dict[str, Any]:
        """The hyper-parameters of this implementation for a task.

        mode `published`: those of its authors; `matched`: depth 4 and width 128 for every model, the
        other sizes in the card's proportion; `small`: depth 4 and width 32, and windows and chunks for short
        sequences; `params:10M`: as matched at a width that makes as many parameters, which is for the caller
        to find (`implementations/equal_sizes.py`). Raises RegistryError if there are none.
        """
        sizes = _sizes(mode, width if width is None else self.setting.get("dim", width))
        if not self.published:
            layers, dim = sizes or SIZES["matched"]
            if self.sized:
                return {"layers": layers, "dim": dim, **self.options, **self.setting}
            found = {} if width is None else {"dim": width}
            return {**found, **self.options, **self.setting}
        if task not in self.published:
            known = ", ".join(sorted(self.published))
            why = self.unpublished.get(task, f"its card has {known}")
            raise RegistryError(f"{self.name} has no hyper-parameters for the task {task!r}: {why}")
        values = {**self.published[task], **self.options}
        if sizes is not None:
            layers, dim = sizes
            values |= {"layers": layers, "dim": dim}
            values |= {name: int(ratio * dim) for name, ratio in self.matched.items()}
        if mode == "small":
            values |= {name: value for name, value in self.small.items() if values.get(name) is not None}
        replaced = settings.replaced(self.unset, values, self.setting)
        self._check(settings.doubtful(values, self.setting))
        return replaced

    def _check(self, doubtful: Mapping[str, Any]) -> None:
        """Raises RegistryError for a value of none of its field's types.

        Those are in the model's module, which imports torch: that takes seconds, so only doubt asks for them.
        """
        if not doubtful:
            return
        module = importlib.import_module(f"implementations.models.{self.system}")
        try:
            fields.check(fields.config_of(module), doubtful)
        except ValueError as error:
            raise RegistryError(f"{self.unset}: {error}") from None

    def load(self) -> "Build":
        """Import the function that builds the model. Raises RegistryError if that fails."""
        module, _, name = self.path.partition(":")
        try:
            build: Build = getattr(importlib.import_module(module), name)
        except (Exception, SystemExit) as error:
            what = str(error) if isinstance(error, ImportError | AttributeError) else _in_words(error)
            raise RegistryError(f"implementation {self.name}: cannot import {self.path} ({what})") from error
        return settings.checked(self.unset, build, self.setting) if self.setting else build


def _sizes(mode: str, width: int | None) -> tuple[int, int] | None:
    """Depth and width in a mode; None for the published ones. Raises RegistryError for an unknown mode."""
    try:
        if parameters_wanted(mode) is not None:
            return LAYERS, width or SIZES["matched"][1]
    except ValueError as error:
        raise RegistryError(f"hyper-parameters {error}") from None
    if mode not in ("published", *SIZES):
        known = ", ".join(("published", *SIZES))
        raise RegistryError(f"hyper-parameters {mode!r}: choose {known} or params:10M")
    return SIZES.get(mode)


def _in_words(error: BaseException) -> str:
    """An error in one line; a syntax error names its file and line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def catalogue() -> dict[str, Implementation]:
    """Every implementation by name: the cards first, in the order of the published table.

    A name that is taken twice stands for the first owner; `find` refuses it, and `contested` says why.
    """
    found = dict(_from_cards())
    for point in _entry_points():
        found.setdefault(point.name, _plugged_in(point.name, point.value))
    return found


def contested() -> dict[str, str]:
    """Faults of names that entry points take from a card or from each other, by name."""
    cards, paths = _from_cards(), dict[str, list[str]]()
    for point in _entry_points():
        paths.setdefault(point.name, []).append(f"the entry point {point.value}")
    owners = {name: [*(["a card"] if name in cards else []), *found] for name, found in paths.items()}
    return {
        name: f"the name {name!r} is taken by {' and by '.join(found)}: rename or uninstall one, "
        "or name a model by its path"
        for name, found in owners.items()
        if len(found) > 1
    }


def find(name: str) -> Implementation:
    """The implementation of that name, or at that import path; with a setting, `seqboat(window=64)`.

    Raises RegistryError if there is none, which names the nearest, or if there are several.
    """
    if "(" in name or "=" in name:
        return _with_setting(settings.parse(name))
    if name.startswith(by_configuration.PREFIX):
        return _by_configuration(name)
    if ":" in name:
        _refuse_file(name)
        return _plugged_in(name, name)
    if (problem := contested().get(name)) is not None:
        raise RegistryError(problem)
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise RegistryError(f"unknown implementation {name!r}; {hint}")
    return known[name]


def _refuse_file(name: str) -> None:
    """Raises RegistryError if a file's path stands where a module's name belongs."""
    module, _, function = name.partition(":")
    if "/" in module or module.endswith(".py"):
        meant = Path(module).with_suffix("").as_posix().removeprefix("./").strip("/").replace("/", ".")
        raise RegistryError(f"{name}: is a file's path; name its module, as {meant}:{function}")


def _with_setting(setting: settings.Setting) -> Implementation:
    item = find(setting.use)
    reference = item.reference and settings.Setting(item.reference, setting.values).unlabelled
    words = setting.unlabelled.removeprefix(setting.use)
    title = setting.label or " ".join(filter(None, (item.title, words)))
    return replace(item, name=str(setting), title=title, reference=reference, setting=setting.values)


def _by_configuration(name: str) -> Implementation:
    """A model of transformers by its type, or by a file, which has sizes of its own."""
    item = _plugged_in(name, by_configuration.BUILD)
    sized = not by_configuration.is_file(name)
    return replace(item, title=name, options=by_configuration.options_of(name), sized=sized, sparse=False)


def _plugged_in(name: str, path: str) -> Implementation:
    return Implementation(
        name=name,
        title=_title(name, path),
        path=path,
        system=name,
        plugged_in=True,
        sized=path.partition(".")[0] == PEERS,
    )


def _title(name: str, path: str) -> str:
    """Title from the whole name, since many a module is called `model`; unlike any other title."""
    title = name.removesuffix(":build")
    if title in {item.title for item in _from_cards().values()}:
        return f"{title} ({path})"
    return name if title in {point.name for point in _entry_points()} - {name} else title


@functools.cache
def _entry_points() -> tuple[EntryPoint, ...]:
    """Names and paths from the metadata of installed packages; none of them is imported.

    The same name and path twice, as an old and a new installation of a package have them, are one.
    """
    found = entry_points(group=ENTRY_POINTS)
    return tuple({(point.name, point.value): point for point in found}.values())


@functools.cache
def _from_cards() -> Mapping[str, Implementation]:
    cards = (read_card(path, ours=True) for path in CARDS.glob("*.yaml"))
    rows = [(entry.order, item) for card in cards for entry, item in _rows_of(card)]
    return {item.name: item for _, item in sorted(rows, key=lambda row: (row[0], row[1].name))}


def _rows_of(card: Card) -> Iterator[tuple[CardEntry, Implementation]]:
    for entry in card.implementations:
        yield (
            entry,
            Implementation(
                name=entry.name,
                title=entry.title,
                path=entry.build or f"implementations.models.{card.system}:build",
                complexity=entry.complexity,
                system=card.system,
                reference=entry.reference,
                variant=entry.variant,
                golden=entry.golden or card.system,
                options=entry.options,
                published={
                    task: {**card.defaults, **values, **entry.by_task.get(task, {})}
                    for task, values in card.published.items()
                },
                unpublished=card.unpublished,
                matched=card.matched,
                small=card.small,
                training={
                    task: {**card.training.defaults, **card.training.tasks.get(task, {})}
                    for task in card.published
                    if card.training.defaults
                },
                citation=card.citation,
                sparse=card.sparse,
            ),
        )
