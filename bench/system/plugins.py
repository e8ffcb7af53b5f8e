"""Plug-ins other than models: workloads and metrics, by entry point or by import path.

As for models, a module of the current folder is found after all others.
"""

import contextlib
import difflib
import functools
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bench.errors import UsageError
from bench.system.own_models import refuse_collision
from implementations.errors import RegistryError


@dataclass(frozen=True)
class Door:
    """Access to one kind of plug-in."""

    kind: str
    """Name of the kind in a message: `workload`."""
    group: str
    """Group of its entry points."""
    own: tuple[str, ...] = ()
    """Names that this package itself has."""

    def names(self) -> list[str]:
        """Names of entry points, without those that something else has; nothing is imported."""
        taken = self.contested()
        found = dict.fromkeys(point.name for point in _points(self.group))
        return [name for name in found if name not in taken]

    def contested(self) -> dict[str, str]:
        """Faults of names that entry points take from this package or from each other, by name."""
        paths: dict[str, list[str]] = {}
        for point in _points(self.group):
            paths.setdefault(point.name, []).append(f"the entry point {point.value}")
        owners = {name: [*(["seqboat-bench"] if name in self.own else []), *paths[name]] for name in paths}
        return {
            name: f"the {self.kind} {name!r} is taken by {' and by '.join(found)}: rename or uninstall one, "
            f"or name a {self.kind} by its path"
            for name, found in owners.items()
            if len(found) > 1
        }

    def path_of(self, name: str) -> str:
        """Import path of a name, `package.module:OBJECT`. Raises UsageError, which names the nearest one."""
        if ":" in name:
            return name
        if (problem := self.contested().get(name)) is not None:
            raise UsageError(problem)
        paths = {point.name: point.value for point in _points(self.group)}
        if name not in paths:
            raise UsageError(f"unknown {self.kind} {name!r}; {hint(name, [*self.own, *paths])}")
        return paths[name]

    def load(self, name: str) -> Any:
        """Import what a name stands for. Raises UsageError: path and reason in one line."""
        path = self.path_of(name)
        found, failure = None, None
        try:
            found = _imported(f"{self.kind} {name}", path)
        except UsageError as error:
            failure = error
        # What is known by a name is installed, whatever lies in the current folder.
        if path == name:
            self._refuse_collision(path)
        if failure is not None:
            raise failure
        return found

    def _refuse_collision(self, path: str) -> None:
        try:
            refuse_collision(path)
        except RegistryError as error:
            raise UsageError(f"{self.kind} {error}") from None


def hint(name: str, known: Iterable[str]) -> str:
    """Names that a mistyped one could be, in words."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is installed; name one as package.module:object"


@functools.cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of installed packages, from their metadata; the same name and path twice count once."""
    return tuple({(point.name, point.value): point for point in entry_points(group=group)}.values())


def _imported(what: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise UsageError(f"{what}: write its path as package.module:object")
    try:
        # What a module prints while it is imported must not get into a table, or into JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        plain = isinstance(error, ImportError | AttributeError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        raise UsageError(f"{what}: cannot import {path} ({' '.join(reason.split())})") from error
