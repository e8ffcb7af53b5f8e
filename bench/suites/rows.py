"""Rows of a suite that are a model with a setting, and the names that they are known by."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from bench.suites.suite import Suite
from implementations import registry, settings
from implementations.errors import RegistryError


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of a file's `implementations`: a model with hyper-parameters set."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{settings.LABEL.pattern}$")]
    use: str
    set: dict[str, Any] = {}


def named(suite: Suite, name: str) -> str:
    """The suite's implementation of that name, or its row with that label; else the canonical name."""
    return _of(suite.implementations, name)


def with_rows_named(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A file's keys with rows such as `{name: w64, use: seqboat, set: {window: 64}}` as names with a setting,
    `w64=seqboat(window=64)`, also in keys that name a row by its label. Raises msgspec.ValidationError."""
    entries = keys.get("implementations")
    if not isinstance(entries, list):
        return dict(keys)
    names = [canonical(_text(entry)) for entry in entries]
    result = {**keys, "implementations": names}
    if isinstance(baseline := keys.get("baseline"), str):
        result["baseline"] = _of(names, baseline)
    for key in ("limits", "ignore", "checkpoints"):
        if key in keys:
            result[key] = _by_name(names, keys[key])
    training = keys.get("training")
    if isinstance(training, dict) and "learning_rate" in training:
        result["training"] = {**training, "learning_rate": _by_name(names, training["learning_rate"])}
    return result


def canonical(name: str) -> str:
    """One text for one setting, however it is written; what can't be read is left for a later check."""
    try:
        return str(settings.parse(name))
    except RegistryError:
        return name


def label_problems(names: tuple[str, ...]) -> Iterator[str]:
    """Rows whose labels are taken by an implementation, its title included, or by another row."""
    seen: dict[str, str] = {}
    ours = {word.casefold() for name, item in registry.catalogue().items() for word in (name, item.title)}
    others = {_title(name).casefold(): name for name in names if _label(name) is None}
    for name in names:
        label = _label(name)
        if label is None:
            continue
        if label.casefold() in ours:
            yield f"{name}: {label} is the name of an implementation; give the row another"
        elif label.casefold() in others:
            yield f"{name}: {label} is what {others[label.casefold()]} is called; give the row another name"
        if label in seen:
            yield f"{name}: {seen[label]} has that name, too"
        seen[label] = name


def _by_name(names: list[str], of: Any) -> Any:
    """Entries of a file by row, of a mapping or a list of such; others are left for a later check."""
    if isinstance(of, list):
        return [_by_name(names, entry) for entry in of]
    return {_of(names, str(name)): value for name, value in of.items()} if isinstance(of, dict) else of


def _of(names: list[str] | tuple[str, ...], name: str) -> str:
    text = canonical(name)
    return next((each for each in names if text in (each, _label(each))), text)


def _text(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    row = msgspec.convert(entry, Row)
    for key, value in row.set.items():
        if not settings.is_plain(value):
            raise msgspec.ValidationError(f"{row.name}: {key} cannot be {value!r} - at `$.implementations`")
    return str(settings.Setting(row.use, row.set, row.name))


def _title(name: str) -> str:
    try:
        return registry.find(name).title
    except RegistryError:
        return name


def _label(name: str) -> str | None:
    try:
        return settings.parse(name).label
    except RegistryError:
        return None
