"""Rules of a gate: limits by default, and for single models as the suite says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from bench.errors import UsageError
from bench.gate.verdicts import CaseVerdict, Limits
from bench.suites.suite import Allowed
from bench.text.units import parse_percentage

EVERY = "default"
"""Key of the limits of every model without limits of its own."""
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


def rules_of(
    limits: Mapping[str, Allowed], ignored: Mapping[str, str], margin: str | None, tolerance: str | None
) -> Rules:
    """A suite's rules. margin and tolerance, if given, replace those of its default. Raises UsageError."""
    suites = limits.get(EVERY, Allowed())
    default = Allowed(
        margin=margin or suites.margin or MARGIN, tolerance=tolerance or suites.tolerance or TOLERANCE
    )
    own = {
        model: _limits(
            f"limits: {model}: ",
            Allowed(margin=given.margin or default.margin, tolerance=given.tolerance or default.tolerance),
        )
        for model, given in limits.items()
        if model != EVERY
    }
    return Rules(_limits("", default), own, ignored)


def limits_of(margin: str | None, tolerance: str | None) -> Limits:
    """Limits of two options, as long as no suite is read: one that is not given never contradicts the other.

    Raises UsageError.
    """
    if margin is not None and tolerance is not None:
        return _limits("", Allowed(margin=margin, tolerance=tolerance))
    least, most = _share(margin or MARGIN), _share(tolerance or TOLERANCE)
    if margin is None:
        return Limits(margin=min(least, most), tolerance=most)
    return Limits(margin=least, tolerance=max(least, most))


def _share(percentage: str) -> float:
    try:
        return parse_percentage(percentage)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _limits(where: str, allowed: Allowed) -> Limits:
    try:
        limits = Limits(
            margin=parse_percentage(allowed.margin or 0), tolerance=parse_percentage(allowed.tolerance or 0)
        )
    except ValueError as error:
        raise UsageError(f"{where}{error}") from None
    if limits.tolerance < limits.margin:
        raise UsageError(f"{where}--tolerance {allowed.tolerance} lies below --margin {allowed.margin}")
    return limits
