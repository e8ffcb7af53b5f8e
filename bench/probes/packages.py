"""Whose code a plug-in is: its package and version, and the commit of the repository that it lies in.

Nothing is imported.
"""

import functools
import inspect
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from bench.probes.code import is_installed, place_of
from bench.records.run import PlugIn
from bench.system.repository import commit_around


class _DirectUrl(msgspec.Struct, frozen=True):
    """An installer's note on a distribution that does not come from an index."""

    url: str = ""
    vcs_info: dict[str, str] = {}


def plug_in(path: str, top: str | None = None) -> PlugIn:
    """Everything known of an import path's code.

    top: the top-level module that computes, if the path's own is only an adapter.
    """
    top = top or path.partition(":")[0].partition(".")[0]
    place = place_of(top)
    found = _distribution_of(top, place)
    commit, dirty = None, None
    if place is not None and not is_installed(place):
        commit, dirty = commit_around(place.parent, place)
    elif found is not None and "commit_id" in (source := _direct_url(found).vcs_info):
        commit, dirty = source["commit_id"], False
    return PlugIn(
        path=path,
        package=None if found is None else found.name,
        version=None if found is None else found.version,
        commit=commit,
        dirty=dirty,
    )


def _distribution_of(top: str, place: Path | None) -> metadata.Distribution | None:
    """The distribution that has the module, or whose source folder it lies in."""
    found = _by_module().get(top)
    if found is not None or place is None:
        return found
    return next((one for one in metadata.distributions() if _is_below(place, _direct_url(one))), None)


@functools.cache
def _by_module() -> dict[str, metadata.Distribution]:
    """The first distribution that has each top-level module.

    As `metadata.packages_distributions`, which makes an object of every installed file and so takes half a
    second.
    """
    found: dict[str, metadata.Distribution] = {}
    for one in metadata.distributions():
        for top in _top_level_modules(one):
            found.setdefault(top, one)
    return found


def _top_level_modules(one: metadata.Distribution) -> Iterable[str]:
    declared = (one.read_text("top_level.txt") or "").split()
    if declared:
        return declared
    record = one.read_text("RECORD")
    if record is None:
        files = [file.as_posix() for file in one.files or []]
    else:
        files = [line.lstrip('"').partition(",")[0] for line in record.splitlines()]
    tops = {
        folder if slash else inspect.getmodulename(folder)
        for folder, slash, _ in (file.partition("/") for file in files)
    }
    return [top for top in tops if top and "." not in top]


def _direct_url(found: metadata.Distribution) -> _DirectUrl:
    try:
        return msgspec.json.decode(found.read_text("direct_url.json") or "{}", type=_DirectUrl)
    except (msgspec.DecodeError, OSError):
        return _DirectUrl()


def _is_below(place: Path, source: _DirectUrl) -> bool:
    folder = urlsplit(source.url)
    return folder.scheme == "file" and place.is_relative_to(Path(unquote(folder.path)).resolve())


def installed() -> list[str]:
    """Every installed package with its version, as `name==version`, sorted."""
    return sorted({f"{name}=={version}" for name, version in _names(metadata.distributions())}, key=str.lower)


def version_of(name: str) -> str | None:
    """Version of an installed distribution; None if there is none of that name."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _names(found: Iterable[metadata.Distribution]) -> Iterable[tuple[str, str]]:
    """A broken distribution has no name, or no version."""
    for one in found:
        name = one.metadata["Name"] if one.metadata is not None else None
        if name:
            yield name, one.version or "unknown"
