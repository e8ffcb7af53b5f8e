"""Published figures, to stand beside measured ones: never mixed into them."""

import functools
from collections.abc import Iterable, Mapping
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
    """Papers that the published figures of these models come from, and their hardware."""
    protocols = _content()["protocols"]
    rows = [row for name in models if (row := long_range_arena().get(name))]
    used = dict.fromkeys(row["protocol"] for row in rows)
    return [f"{protocols[name]['source']}: {protocols[name]['hardware']}" for name in used]


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
    """Keys that the file must have; it may have more."""

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
