"""Suites from YAML, with what a user changes in them, strictly checked.

A file is read once: whoever reads it first (is it a suite, or a collection?) passes its `SuiteFile` on.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from bench.errors import UsageError
from bench.suites import rows
from bench.suites.files import AUTO, SuiteFile, suite_file
from bench.suites.problems import problems
from bench.suites.suite import Allowed, BatchSizes, Suite, Timing, Training
from bench.text.escape import as_text
from bench.text.units import parse_duration

OPTIONS: Mapping[str, str] = {
    "implementations": "--impl",
    "lengths": "--length",
    "checkpoints": "--checkpoint",
    "lock_clocks": "--lock-clocks",
    "metrics": "--metric",
    "modes": "--mode",
}
"""Options whose names are not those of the fields that they replace."""

AXES = ("batch", "precision", "fill", "threads", "modes")
"""Fields that take one value or several; a list of one is that one."""

_FORMS = {"limits": "`model: {margin: 2%, tolerance: 5%}`", "ignore": "`- model: reason`"}
"""Forms of keys whose entries are named by the user."""

PARTS = (Suite, rows.Row, Timing, Training, BatchSizes, Allowed)
FIELDS: Mapping[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Suite)}


def load(
    of: str | SuiteFile,
    overrides: Mapping[str, Any] | None = None,
    *,
    budget: str | None = None,
    quick: bool = False,
) -> Suite:
    """A suite by name, path or source, with some of its fields replaced.

    budget: time for the whole run. quick: the suite's short timing.
    Raises UsageError: file or option, and reason, in one line.
    """
    read = suite_file(of) if isinstance(of, str) else of
    path = read.path
    if read.is_collection:
        suites = read.keys["suites"]
        parts = f": {', '.join(map(str, suites))}" if isinstance(suites, list) else ""
        raise UsageError(f"{path.stem} is a collection of suites; name one{parts}")
    try:
        suite = msgspec.convert(
            rows.with_rows_named(_on_every_device({"name": as_text(path.stem), **read.keys})), Suite
        )
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path}: {_with_hint(str(error))}") from None
    changes = dict(overrides or {})
    if {"batch", "tokens"} <= changes.keys():
        raise UsageError("--tokens and --batch: give one of them")
    if changes.get("batch") == AUTO:
        changes = {**changes, "batch": suite.batch, "fit_batch": True}
    elif "batch" in changes:
        changes |= {"fit_batch": False, "tokens": None}
    elif "tokens" in changes:
        changes["fit_batch"] = False
    if quick or budget is not None:
        changes["timing"] = _timing(suite.quick if quick else suite.timing, budget)
    if "implementations" in changes:
        changes["implementations"] = [rows.named(suite, name) for name in changes["implementations"]]
    if "baseline" in changes:
        changes["baseline"] = rows.named(suite, changes["baseline"])
    chosen, baseline = changes.get("implementations"), suite.baseline
    if chosen is not None and "baseline" not in changes and baseline not in chosen:
        # Ratios need their baseline, even if the user named only her own models.
        changes["implementations"] = [baseline, *chosen]
    for key, model in _strangers(suite, changes.get("implementations", ())):
        raise UsageError(f"{path}: `{key}`: {model} is not among its implementations")
    return changed(suite, changes, path)


def _strangers(suite: Suite, named: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Users' models with limits that are neither the file's nor named: words without effect."""
    known = {*suite.implementations, *named}
    for key, models in (("limits", suite.limits), ("ignore", suite.ignored)):
        yield from ((key, model) for model in models if ":" in model and model not in known)


def changed(suite: Suite, changes: Mapping[str, Any], path: Path | None = None) -> Suite:
    """A suite with some of its fields replaced, checked as a whole.

    path: its file, which is named in an error that no change is to blame for. Raises UsageError.
    """
    values = {name: _value(name, value) for name, value in changes.items()}
    suite = msgspec.structs.replace(suite, **values)
    for key, problem in problems(suite):
        where = option(key) if key in changes and key != "timing" else f"{path or suite.name}: `{key}`"
        raise UsageError(f"{where}: {problem}")
    return suite


def _value(name: str, value: object) -> Any:
    kind = FIELDS[name]
    given = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if isinstance(value, list | tuple) and len(value) == 1 and name in AXES:
        (value,) = value
    try:
        return msgspec.convert(_on_every_device({name: value})[name], kind)
    except msgspec.ValidationError as error:
        choices = _choices(kind)
        reason = f"choose {_words(choices)}" if choices else _plain(str(error))
        raise UsageError(f"{option(name)} {given}: {reason}") from None


def _on_every_device(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys, with a batch size that is given for all devices at once given for each."""
    batch = keys.get("batch")
    if batch == AUTO:
        return {key: value for key, value in keys.items() if key != "batch"} | {"fit_batch": True}
    return keys | {"batch": {"cpu": batch, "cuda": batch}} if isinstance(batch, int | list | tuple) else keys


def _plain(message: str) -> str:
    """A decoder's message about one value of an option, in plain words."""
    bound = re.match(r"Expected `(int|float)` (>=|<=) ([\d.]+)", message)
    if not bound:
        return message
    most = "at least" if bound[2] == ">=" else "at most"
    return f"must be {most} {float(bound[3]):g}" if float(bound[3]) < 1e6 else f"must be {most} {bound[3]}"


def _choices(kind: Any) -> tuple[str, ...]:
    """Words that a field takes, alone or in a list."""
    kinds = (kind, *get_args(kind))
    return next((get_args(each) for each in kinds if get_origin(each) is Literal), ())


def option(name: str) -> str:
    return OPTIONS.get(name, f"--{name}")


def _words(values: Iterable[str]) -> str:
    *most, last = values
    return f"{', '.join(most)} or {last}"


def _timing(timing: Timing, budget: str | None) -> Timing:
    if budget is None:
        return timing
    try:
        parse_duration(budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    return msgspec.structs.replace(timing, budget=budget)


def _with_hint(message: str) -> str:
    """A decoder's message, with the words that the wrong one could be."""
    unknown = re.search(r"unknown field `(\w+)`", message)
    if unknown:
        fields = {name for part in PARTS for name in part.__struct_fields__}
        near = difflib.get_close_matches(unknown[1], fields, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(sorted(fields))}"
        return f"{message}; {hint}"
    for key, form in _FORMS.items():
        if f"`$.{key}" in message:
            return f"{message}; write {form}"
    choice = re.search(r"Invalid enum value .* at `\$\.(\w+)", message)
    return f"{message}: choose {_words(_choices(FIELDS[choice[1]]))}" if choice else message
