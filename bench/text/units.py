"""Durations, bytes and counts, read and written the way people write them."""

import math
import re

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h)?\s*")
_LENGTH = re.compile(r"\s*([+-]?\d+)\s*([kKM])?\s*")
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kKMGT])(i)?)?B?\s*")
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, None: 1.0}


def parse_duration(text: str | float) -> float:
    """Seconds in `90`, `90s`, `5m` or `5min`, `1.5h` or `200ms`. Raises ValueError."""
    if isinstance(text, int | float):
        seconds = float(text)
    else:
        match = _DURATION.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a duration; write it as 90s, 5m or 1h")
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds < math.inf:
        raise ValueError(f"a duration of {text!r} leaves no time to measure, or no end")
    return seconds


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
    count = int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper()))
    if count <= 0:
        raise ValueError(f"{text!r} leaves no memory at all")
    return count


def format_duration(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4m 05s`, `2h 03m`."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def format_bytes(count: float) -> str:
    """Binary units with three digits: `512 B`, `1.50 KiB`, `108 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} TiB"


def format_count(count: float) -> str:
    """`950`, `12.3K`, `4.56M`, `1.20B`."""
    value = float(count)
    for unit in ("", "K", "M"):
        if value < 1000:
            return f"{value:.0f}" if not unit else f"{_three_digits(value)}{unit}"
        value /= 1000
    return f"{_three_digits(value)}B"


def format_ratio(value: float) -> str:
    """`123`, `10.4`, `2.45`, `0.053`: as published tables have them."""
    if value >= 0.1:
        return _three_digits(value)
    return f"{value:.3f}"


def format_interval(low: float | None, high: float | None) -> str | None:
    """`1.20 to 1.34`; None if there is no interval."""
    return None if low is None or high is None else f"{format_ratio(low)} to {format_ratio(high)}"


def format_error(value: float | None) -> str:
    """`3.2e-05`, or in words what is infinite: an error against NaN, or another shape."""
    return "more than any number" if value is None else f"{value:.1e}"


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
