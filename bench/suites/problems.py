"""Faults of a suite that the types of its fields can't express."""

import difflib
import math
from collections.abc import Iterable, Iterator

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.suites import metrics, rows
from bench.suites.suite import EVERY, STRETCH, Suite, Timing, several
from bench.system import own_models
from bench.text.units import parse_duration, parse_percentage
from bench.workloads.others import Others
from implementations import registry
from implementations.equal_sizes import parameters_wanted
from implementations.errors import RegistryError


def problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """Every fault: the key, and what is wrong with it."""
    yield from _text_problems(suite)
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


def _text_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """Names of files that are not text, which no record can hold."""
    for key in suite.__struct_fields__:
        try:
            msgspec.json.encode(getattr(suite, key))
        except UnicodeEncodeError:
            yield key, "holds bytes that are not text; rename the file"


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
    named = (
        ("limits", [model for model in suite.limits if model != EVERY]),
        ("ignore", suite.ignored),
        ("training", suite.training.learning_rate),
        ("checkpoints", suite.checkpoints),
    )
    for key, models in named:
        for model in models:
            try:
                registry.find(model)
            except RegistryError as error:
                yield key, str(error)
    for model, rate in suite.training.learning_rate.items():
        if not math.isfinite(rate):
            yield "training", f"{model}: a learning rate of {rate} is not a finite number"
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
