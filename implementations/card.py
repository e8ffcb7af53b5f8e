"""Cards: one YAML file of `cards/` per system, with all that can be known of it without building it."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from implementations.errors import RegistryError, YamlError
from implementations.yaml_files import read_yaml

Complexity = Literal["quadratic", "sub-quadratic", "linear", "unknown"]


class CardEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One implementation on a card: the system, or a variant of it. Fields as in Implementation."""

    name: str
    title: str
    complexity: Complexity
    order: int = 1000
    build: str | None = None
    reference: str | None = None
    variant: str | None = None
    golden: str | None = None
    options: dict[str, Any] = {}
    by_task: dict[str, dict[str, Any]] = {}
    """Changes to a task's published hyper-parameters."""


class CardTraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training of a system: the optimiser, the form of the schedule and groups of parameters, by task.

    Batch, steps, rates and decay are figures of results/published/schedules.yaml.
    """

    defaults: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of `cards/`."""

    system: str
    citation: str
    implementations: list[CardEntry]
    published: dict[str, dict[str, Any]]
    defaults: dict[str, Any] = {}
    """Hyper-parameters of all tasks."""
    unpublished: dict[str, str] = {}
    matched: dict[str, float] = {}
    small: dict[str, Any] = {}
    training: CardTraining = CardTraining()
    sparse: bool = False


def read_card(path: Path, *, ours: bool = False) -> Card:
    """Read a card. Raises RegistryError: file, place and reason in one line.

    ours: whether it comes with this package.
    """
    try:
        return msgspec.convert(read_yaml(path, ours=ours), Card)
    except YamlError as error:
        raise RegistryError(str(error)) from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise RegistryError(f"{path}: {error}") from None
