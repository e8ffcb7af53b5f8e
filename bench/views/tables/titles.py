"""Titles of models: their own, or those that a user gives them in a picture or page.

A table renames its columns too (renaming.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from implementations import registry
from implementations.errors import RegistryError

_TITLES: ContextVar[Mapping[str, str]] = ContextVar("titles", default=MappingProxyType({}))


def title_of(name: str) -> str:
    """Title of a model: its own, or the one that a user gives it."""
    own, new = own_title(name), _TITLES.get()
    return new.get(_plain(name), new.get(_plain(own), own)) if new else own


def own_title(name: str) -> str:
    try:
        return registry.find(name).title
    except RegistryError:
        return name


@contextmanager
def titles(new: Mapping[str, str]) -> Iterator[None]:
    """Within it, models have these titles, by their names or their own titles, in whichever case."""
    token = _TITLES.set({_plain(old): title for old, title in new.items()})
    try:
        yield
    finally:
        _TITLES.reset(token)


def _plain(name: str) -> str:
    return name.strip().lower()
