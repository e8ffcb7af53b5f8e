"""Rules of a gate: limits by default, and for single models as the suite says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from bench.errors import UsageError
from bench.gate.verdicts import CaseVerdict, Limits
from bench.suites.suite import EVERY, Allowed
from bench.text.units import parse_percentage

MARGIN, TOLERANCE = "1%", "3%"


@dataclass(frozen=True)
class Rules:
    """Limits by model, and why some models may regress."""

    default: Limits
    own: Mapping[str, Limits] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    def of(self, model: str) -> Limits:
        return self.own.get(model, self.default)

    def applied(self, case: CaseVerdict) -> CaseVerdict:
        """The verdict, together with this model's own limits and whether it is ignored."""
        own, ignored = self.own.get(case.model), self.ignored.get(case.model)
        return msgspec.structs.replace(case, limits=own, ignored=ignored)


class _Chosen(NamedTuple):
    """A limit, and what an error calls it."""

    name: str
    value: str | float


def rules_of(
    limits: Mapping[str, Allowed], ignored: Mapping[str, str], margin: str | None, tolerance: str | None
) -> Rules:
    """A suite's rules. margin and tolerance, if given, replace those of its default. Raises UsageError."""
    suites = limits.get(EVERY, Allowed())
    least = _chosen("margin", margin, suites.margin, MARGIN)
    most = _chosen("tolerance", tolerance, suites.tolerance, TOLERANCE)
    own = {
        model: _limits(
            _Chosen(f"`limits`: {model}: margin", least.value if given.margin is None else given.margin),
            _Chosen(
                f"`limits`: {model}: tolerance", most.value if given.tolerance is None else given.tolerance
            ),
        )
        for model, given in limits.items()
        if model != EVERY
    }
    return Rules(_limits(least, most), own, ignored)


def limits_of(margin: str | None, tolerance: str | None) -> Limits:
    """Limits of two options, as long as no suite is read: one that is not given never contradicts the other.

    Raises UsageError.
    """
    least = _chosen("margin", margin, None, MARGIN)
    most = _chosen("tolerance", tolerance, None, TOLERANCE)
    if margin is not None and tolerance is not None:
        return _limits(least, most)
    low, high = _share(least), _share(most)
    if margin is None:
        return Limits(margin=min(low, high), tolerance=high)
    return Limits(margin=low, tolerance=max(low, high))


def _chosen(name: str, option: str | None, suites: str | float | None, default: str) -> _Chosen:
    """The option, else the suite's, else the gate's own; an empty option is given, too, and then refused."""
    if option is not None:
        return _Chosen(f"--{name}", option)
    return _Chosen(f"the {name}", default if suites is None else suites)


def _share(limit: _Chosen) -> float:
    try:
        return parse_percentage(limit.value)
    except ValueError as error:
        raise UsageError(f"{limit.name}: {error}") from None


def _limits(margin: _Chosen, tolerance: _Chosen) -> Limits:
    limits = Limits(margin=_share(margin), tolerance=_share(tolerance))
    if limits.tolerance < limits.margin:
        raise UsageError(f"{tolerance.name} {tolerance.value} lies below {margin.name} {margin.value}")
    return limits
