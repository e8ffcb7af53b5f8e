"""Suites from YAML, with what a user changes in them, strictly checked.

A file is read once: whoever reads it first (is it a suite, or a collection?) passes its `SuiteFile` on.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.suites import metrics, rows
from bench.suites.files import AUTO, SuiteFile, suite_file
from bench.suites.suite import STRETCH, Allowed, BatchSizes, Suite, Timing, Training, several
from bench.system import own_models
from bench.text.units import parse_duration, parse_percentage
from bench.workloads.others import Others
from implementations import registry
from implementations.equal_sizes import parameters_wanted
from implementations.errors import RegistryError

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
        parts = ", ".join(map(str, read.keys["suites"] or ()))
        raise UsageError(f"{path.stem} is a collection of suites; name one: {parts}")
    try:
        suite = msgspec.convert(
            rows.with_rows_named(_on_every_device({"name": path.stem, **read.keys})), Suite
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
    for key, problem in _problems(suite):
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


def _problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """Faults that types can't express: the key, and what is wrong with it."""
    if not suite.lengths:
        yield "lengths", "give at least one sequence length"
    yield from _repeated("lengths", suite.lengths)
    yield from _repeated("implementations", suite.implementations)
    yield from (("implementations", problem) for problem in rows.label_problems(suite.implementations))
    yield from _repeated("activation", suite.activation)
    yield from _axis_problems(suite)
    yield from _mode_problems(suite.hyperparameters)
    for timing, place in ((suite.timing, "timing"), (suite.quick, "quick")):
        yield from _timing_problems(timing, place)
    yield from _repeated("metrics", suite.metrics)
    yield from _import_problems(suite)
    try:
        workload = workloads.load(suite.workload)
        if isinstance(workload, Others) and suite.lengths:
            workload.same_again(min(suite.lengths), suite.fills[0], suite.seed)
    except UsageError as error:
        yield "workload", str(error)
        return
    after = STRETCH if suite.phase == "decode" else 0
    too_long = [length for length in suite.lengths if length + after > workload.max_length]
    if too_long:
        yield "lengths", f"{suite.workload} has at most {workload.max_length} time steps, not {too_long[0]}"
    if suite.phase == "decode" and workload.task(suite.lengths[0]).head != "language-model":
        yield "phase", f"decode is for language models, and {suite.workload} has none (the workload lm has)"
    yield from _name_problems(suite)
    if suite.baseline not in suite.implementations:
        near = difflib.get_close_matches(suite.baseline, suite.implementations, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose {', '.join(suite.implementations)}"
        yield "baseline", f"{suite.baseline!r} is not among the implementations; {hint}"
    for name in suite.implementations:
        try:
            registry.find(name).hyperparameters(workload.task(suite.lengths[0]).name, suite.hyperparameters)
        except RegistryError as error:
            yield "implementations", str(error)


def _import_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """Metrics that can't be imported; from here on, modules of the current folder can be."""
    if any(":" in name for name in (suite.workload, *suite.metrics)):
        own_models.look_here()
    for name in suite.metrics:
        try:
            metrics.load(name)
        except UsageError as error:
            yield "metrics", str(error)


def _axis_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    axes: dict[str, tuple[object, ...]] = {
        "batch": several(suite.batch.cpu),
        "precision": suite.precisions,
        "fill": suite.fills,
        "threads": several(suite.threads),
        "modes": suite.each_mode,
    }
    for key, values in (*axes.items(), ("batch", several(suite.batch.cuda))):
        if not values:
            yield key, "give at least one"
        yield from _repeated(key, values)
    if suite.fit_batch and suite.tokens is not None:
        yield "batch", f"auto makes a batch smaller, and here `tokens: {suite.tokens}` sets it; give a number"
    for length in suite.lengths:
        if suite.tokens is not None and suite.tokens % length:
            yield "tokens", f"{suite.tokens} is not a multiple of the length {length}"


def _mode_problems(mode: str) -> Iterator[tuple[str, str]]:
    try:
        if parameters_wanted(mode) is None and mode not in ("published", *registry.SIZES):
            known = ", ".join(("published", *registry.SIZES))
            yield "hyperparameters", f"choose {known} or params:N (as params:10M), not {mode!r}"
    except ValueError as error:
        yield "hyperparameters", str(error)


def _timing_problems(timing: Timing, place: str) -> Iterator[tuple[str, str]]:
    try:
        parse_duration(timing.budget)
        parse_duration(timing.deadline)
        if timing.min_run is not None:
            parse_duration(timing.min_run)
        parse_percentage(timing.target)
    except ValueError as error:
        yield place, str(error)
    if timing.max_blocks < timing.min_blocks:
        yield f"{place}.max_blocks", f"{timing.max_blocks} is below min_blocks ({timing.min_blocks})"


def _name_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """Limits, rates and checkpoints may name models that are not measured (`--impl`), but each must exist."""
    for key, models in (("limits", suite.limits), ("ignore", suite.ignored)):
        for model in models:
            try:
                if key != "limits" or model != "default":
                    registry.find(model)
            except RegistryError as error:
                yield key, str(error)
    for key, named in (("training", suite.training.learning_rate), ("checkpoints", suite.checkpoints)):
        for model in named:
            try:
                registry.find(model)
            except RegistryError as error:
                yield key, str(error)
    for model, allowed in suite.limits.items():
        for value in (allowed.margin, allowed.tolerance):
            try:
                if value is not None:
                    parse_percentage(value)
            except ValueError as error:
                yield "limits", f"{model}: {error}"


def _repeated(key: str, values: Iterable[object]) -> Iterator[tuple[str, str]]:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            yield key, f"{value} is given twice"
        seen.add(value)
