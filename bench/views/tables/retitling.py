"""Other titles of models, in a whole picture or page; a table renames its columns too (renaming.py)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_TITLES: ContextVar[Mapping[str, str]] = ContextVar("titles", default=MappingProxyType({}))


def retitled(name: str, title: str) -> str:
    """The title of a model, or the one that stands for it here."""
    new = _TITLES.get()
    return new.get(_plain(name), new.get(_plain(title), title)) if new else title


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
