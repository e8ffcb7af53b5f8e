"""Which commit is measured: that of the repository around a user's model."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from bench.system.git import commit_around
from implementations import registry
from implementations.errors import RegistryError

State = tuple[str | None, bool | None]
"""A commit, and whether anything is uncommitted; None if there is no repository."""

HARNESS = ("implementations", "peers")
"""Packages that come with the harness: their commit is the harness's."""


def measured_commit(implementations: Sequence[str], harness: State) -> State:
    """The state of the repository that the first user's model is imported from; the harness's without one.

    Nothing is imported. A package that is installed, rather than lying in a repository, has no commit.
    """
    tops = (top for top in map(_top_level, implementations) if top is not None and top not in HARNESS)
    top = next(tops, None)
    if top is None:
        return harness
    place = _place(top)
    if place is None or {"site-packages", "dist-packages"} & set(place.parts):
        return None, None
    return commit_around(place.parent, place)


def _top_level(name: str) -> str | None:
    try:
        return registry.find(name).path.partition(":")[0].partition(".")[0]
    except RegistryError:
        return None


def _place(module: str) -> Path | None:
    """The module file or package folder that a worker would import: first from where we are."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        spec = PathFinder.find_spec(module, [os.getcwd(), *filter(None, given), *sys.path])
        spec = spec or importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folder = next(iter(spec.submodule_search_locations or ()), None)
    place = folder or (spec.origin if spec.has_location else None)
    return None if place is None else Path(place).resolve()
