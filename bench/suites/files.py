"""Files of suites and collections, found by name or path, each with what it extends merged in."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.system.shipped import shipped
from implementations.errors import YamlError
from implementations.yaml_files import read_yaml

ENDINGS = (".yaml", ".yml")
EITHER = ("batch", "tokens")
"""Keys that replace each other."""
AUTO = "auto"
"""The batch that is left to what the baseline fits in; the suite's number is then the largest."""


@dataclass(frozen=True)
class SuiteFile:
    """The file of a suite or of a collection: its keys, and those of the suite that it extends."""

    path: Path
    keys: Mapping[str, Any]

    @property
    def is_collection(self) -> bool:
        return "suites" in self.keys


def suite_folder() -> Path:
    """Folder of the package's suites."""
    return shipped("suites")


def suite_files() -> list[SuiteFile]:
    """Every suite and collection of the package, by name."""
    return [_read(path) for path in sorted(suite_folder().glob("*.yaml"), key=lambda path: path.stem)]


def suite_file(name: str, folder: Path = Path()) -> SuiteFile:
    """The file of that name, or at a path that ends in .yaml. Raises UsageError.

    folder: what a relative path starts from.
    """
    return _read(folder / _path_of(name, folder))


def files_of(path: Path) -> list[Path]:
    """The file of a suite or of a collection, and those that it names, as far as they can be read."""
    found: dict[Path, Path] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file.resolve() not in found:
            found[file.resolve()] = file
            waiting += [file.parent / name for name in _names_in(file) if name.endswith(ENDINGS)]
    return list(found.values())


def _names_in(path: Path) -> list[str]:
    """Suites that a file extends, or is made of."""
    try:
        keys = read_yaml(path)
    except YamlError:
        return []
    if not isinstance(keys, dict):
        return []
    suites = keys.get("suites")
    names = [keys.get("extends"), *(suites if isinstance(suites, list) else [])]
    return [name for name in names if isinstance(name, str)]


def suite_of_keys(keys: Mapping[str, Any]) -> SuiteFile:
    """A suite without a file, by its keys; errors call it `suite`. Raises UsageError."""
    path, keys = Path("suite"), {"description": "Given to bench.run by its keys", **keys}
    _refuse_both(path, keys)
    return SuiteFile(path, _extended(path, keys, (path,)) if "extends" in keys else keys)


def _read(path: Path, below: tuple[Path, ...] = ()) -> SuiteFile:
    """Read a file and what it extends. below: the files that extend this one, the first of them last."""
    try:
        keys = read_yaml(path)
    except YamlError as error:
        raise UsageError(str(error)) from None
    if not isinstance(keys, dict):
        raise UsageError(f"{path}: must be a mapping of keys (name, workload, lengths, …)")
    _refuse_both(path, keys)
    return SuiteFile(path, _extended(path, keys, (path, *below)) if "extends" in keys else keys)


def _refuse_both(path: Path, keys: Mapping[str, Any]) -> None:
    """Raises UsageError for two keys that replace each other; null is none."""
    if all(keys.get(key) is not None for key in EITHER):
        raise UsageError(f"{path}: `tokens`: takes the place of `batch`; give one of them")


def _extended(path: Path, keys: dict[str, Any], chain: tuple[Path, ...]) -> dict[str, Any]:
    """Keys of a file over those of the suite that it extends, whose name is not taken over."""
    name = keys["extends"]
    if not isinstance(name, str):
        raise UsageError(f"{path}: `extends`: give one suite's name, or a file that ends in .yaml")
    try:
        base = path.parent / _path_of(name, path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: `extends`: {error}") from None
    if base.resolve() in {each.resolve() for each in chain}:
        circle = " → ".join(each.name for each in (*reversed(chain), base))
        raise UsageError(f"{path}: `extends`: goes round in a circle ({circle})")
    extended = _read(base, chain)
    if extended.is_collection or "suites" in keys:
        raise UsageError(f"{path}: `extends`: suites extend suites, and one of these is a collection")
    own = {key: value for key, value in keys.items() if key != "extends"}
    if own.get("batch") == AUTO:
        own = {**{key: value for key, value in own.items() if key != "batch"}, "fit_batch": True}
    else:
        own = own if own.keys().isdisjoint(EITHER) else {"fit_batch": False, **own}
    given_way = {"name", *(old for old, new in (EITHER, EITHER[::-1]) if own.get(new) is not None)}
    theirs = {key: value for key, value in extended.keys.items() if key not in given_way}
    return merged(theirs, own)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new keys over the old ones; mappings are merged key by key, everything else is replaced."""
    result = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = merged(before, value)
        result[key] = value
    return result


def _path_of(name: str, folder: Path = Path()) -> Path:
    """Path of a suite's file. folder: what a relative path starts from. Raises UsageError."""
    if name.endswith(ENDINGS):
        path = Path(name)
        if not _is_file(folder / path):
            raise UsageError(f"{name}: no such suite file")
        return path
    path = suite_folder() / f"{name}.yaml"
    if "/" in name or not _is_file(path):
        known = sorted(file.stem for file in suite_folder().glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"unknown suite {name!r}; {hint} (a file of your own must end in .yaml)")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is too long for a file, or its folder is not ours to look into.
        return False
