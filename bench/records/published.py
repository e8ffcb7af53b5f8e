"""Published figures, to stand beside measured ones: never mixed into them."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.system.shipped import shipped
from implementations.errors import YamlError
from implementations.yaml_files import read_yaml

TASKS: Mapping[str, str] = {
    "listops": "ListOps",
    "text": "Text",
    "retrieval": "Retrieval",
    "image": "Image",
    "pathfinder": "Pathfinder",
    "path_x": "Path-X",
    "average": "Average",
}
"""Columns of the published table as they are written; the average is over the tasks that were learned."""


@functools.cache
def long_range_arena() -> Mapping[str, Mapping[str, Any]]:
    """The published Long Range Arena table by implementation name: accuracies, speed, memory, protocol.

    Speed and memory are ratios to the Transformer, training on Text at 4K.
    """
    return {row["name"]: row for row in _content()["models"]}


def sources(models: Iterable[str]) -> list[str]:
    """Which papers the published figures of these models come from, and what they were measured on."""
    protocols = _content()["protocols"]
    rows = [row for name in models if (row := long_range_arena().get(name))]
    used = dict.fromkeys(row["protocol"] for row in rows)
    return [f"{protocols[name]['source']}: {protocols[name]['hardware']}" for name in used]


@dataclass(frozen=True)
class Schedule:
    """How long a published model trains on a task."""

    batch: int
    """Sequences a step."""
    steps: int
    source: str


def schedule_of(system: str, task: str) -> Schedule | None:
    """The published schedule of a system on a task of the arena; None where there is none."""
    content = _schedules()
    found = content["systems"].get(system, {})
    values = found.get("tasks", {}).get(task)
    if values is None:
        return None
    steps = values.get("steps") or math.ceil(content["sequences"][task] / values["batch"]) * values["epochs"]
    return Schedule(batch=values["batch"], steps=steps, source=found["source"])


@functools.cache
def _schedules() -> Mapping[str, Any]:
    content: Mapping[str, Any] = read_yaml(figures_folder() / "schedules.yaml")
    return content


def figures_folder() -> Path:
    return shipped("results/published")


class _Protocol(msgspec.Struct):
    source: str
    hardware: str


class _Model(msgspec.Struct, kw_only=True):
    name: str
    protocol: str
    speed: float | None
    memory: float | None
    listops: float | None
    text: float | None
    retrieval: float | None
    image: float | None
    pathfinder: float | None
    path_x: float | None
    average: float | None


class _Published(msgspec.Struct):
    """What the file must have; it may have more."""

    protocols: dict[str, _Protocol]
    models: list[_Model]


@functools.cache
def _content() -> Mapping[str, Any]:
    return read(figures_folder() / "lra.yaml")


def read(path: Path) -> Mapping[str, Any]:
    """A file of published figures. Raises UsageError: file, place and reason in one line."""
    try:
        content: Mapping[str, Any] = read_yaml(path)
        checked = msgspec.convert(content, _Published)
    except YamlError as error:
        raise UsageError(str(error)) from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from None
    for model in checked.models:
        if model.protocol not in checked.protocols:
            raise UsageError(f"{path}: {model.name} has the unknown protocol {model.protocol!r}")
    return content
