"""Durations, bytes and counts, read and written the way people write them."""

import itertools
import math
import re

_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h)?\s*")
_LENGTH = re.compile(r"\s*([+-]?\d+)\s*([kKM])?\s*")
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kKMGT])(i)?)?B?\s*")
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, None: 1.0}


def parse_duration(text: str | float) -> float:
    """Seconds in `90`, `90s`, `5m` or `5min`, `3m30s`, `1.5h` or `200ms`. Raises ValueError."""
    seconds = float(text) if isinstance(text, int | float) else _seconds(text)
    if not 0 < seconds < math.inf:
        raise ValueError(f"a duration of {text!r} leaves no time to measure, or no end")
    return seconds


def _seconds(text: str) -> float:
    """The sum of parts, each with a smaller unit than the one before it; only a single one has none."""
    parts = list(_PART.finditer(text))
    units = [_SECONDS[part[2]] for part in parts]
    whole = "".join(part[0] for part in parts) == text
    falling = all(one > other for one, other in itertools.pairwise(units))
    named = len(parts) == 1 or all(part[2] for part in parts)
    if not parts or not (whole and falling and named):
        raise ValueError(f"{text!r} is not a duration; write it as 90s, 5m, 3m30s or 1h")
    return sum(float(part[1]) * unit for part, unit in zip(parts, units, strict=True))


def parse_length(text: str) -> int:
    """Time steps in `1000`, `4k` or `4K` (4096, as in the names of suites) or `1M` (1048576).

    Raises ValueError.
    """
    match = _LENGTH.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a length; write it as 1000 or 4k")
    return int(match[1]) * {"k": 1 << 10, "M": 1 << 20, None: 1}[match[2] and match[2].replace("K", "k")]


def parse_percentage(text: str | float) -> float:
    """A fraction from `3%` or `0.03`. Raises ValueError."""
    try:
        value = float(text[:-1]) / 100 if isinstance(text, str) and text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a percentage; write it as 3% or 0.03") from None
    if not 0 < value < 1:
        raise ValueError(f"{text!r} must lie between 0% and 100%")
    return value


def parse_bytes(text: str) -> int:
    """Bytes in `8GiB`, `512 MiB`, `8GB` (10⁹ each) or `1000000`. Raises ValueError."""
    match = _BYTES.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory; write it as 8GiB or 512MiB")
    count = float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper())
    if not math.isfinite(count):
        raise ValueError(f"{text!r} is more memory than there can be")
    if count < 1:
        raise ValueError(f"{text!r} leaves no memory at all")
    return int(count)


def format_duration(seconds: float, digits: int | None = None) -> str:
    """`850 ms`, `4.12 ms`, `12.3 s`, `4m 05s`, `2h 03m`. digits: of what is below a minute."""
    if seconds < 1:
        return f"{format_milliseconds(seconds, digits)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if digits is None else f"{significant(seconds, digits)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def format_milliseconds(seconds: float, digits: int | None = None) -> str:
    """Milliseconds without their unit: `850`, `4.12`."""
    value = seconds * 1e3
    if digits is not None:
        return significant(value, digits)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def format_bytes(count: float, digits: int | None = None) -> str:
    """Binary units, by default with three digits: `512 B`, `1.50 KiB`, `108 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{_digits(value, digits)} {unit}"
        value /= 1024
    return f"{_digits(value, digits)} TiB"


def format_count(count: float, digits: int | None = None) -> str:
    """Format a count, by default with three digits: `950`, `12.3K`, `4.56M`, `1.20B`."""
    value = float(count)
    for unit in ("", "K", "M"):
        if value < 1000:
            return f"{value:.0f}" if not unit else f"{_digits(value, digits)}{unit}"
        value /= 1000
    return f"{_digits(value, digits)}B"


def format_ratio(value: float, digits: int | None = None) -> str:
    """`123`, `10.4`, `2.45`, `0.053`: as published tables have them, or with so many digits."""
    if value >= 0.1 or digits is not None:
        return _digits(value, digits)
    return f"{value:.3f}"


def format_interval(low: float | None, high: float | None, digits: int | None = None) -> str | None:
    """`1.20 to 1.34`; None if there is no interval."""
    if low is None or high is None:
        return None
    return f"{format_ratio(low, digits)} to {format_ratio(high, digits)}"


def format_percent(value: float, digits: int | None = None) -> str:
    """`31.4%` of 0.3141."""
    return f"{value:.1%}" if digits is None else f"{significant(value * 100, digits)}%"


def significant(value: float, digits: int) -> str:
    """`1235`, `12.3`, `0.0123`: so many significant digits, never an exponent; whole digits all stand."""
    if not math.isfinite(value) or value == 0:
        return f"{value:.0f}"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def format_error(value: float | None) -> str:
    """`3.2e-05`, or in words what is infinite: an error against NaN, or another shape."""
    return "more than any number" if value is None else f"{value:.1e}"


def _digits(value: float, digits: int | None) -> str:
    if digits is not None:
        return significant(value, digits)
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
