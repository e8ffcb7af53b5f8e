"""Several suites under one name, from a file of the package or of the user."""

from typing import Annotated

import msgspec

from bench.errors import UsageError
from bench.suites import reading
from bench.suites.files import SuiteFile, suite_file


class Collection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Suites that make one comparison over several workloads."""

    name: str
    """Name in records and tables."""
    description: str
    """One sentence for `bench list suites`."""
    suites: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Suites by name, or by path from the folder of this file."""
    baseline: str
    """Implementation that every ratio of every suite is against."""


def load(of: str | SuiteFile) -> Collection | None:
    """The collection of that name, path or source; None if it is a single suite.

    Raises UsageError if there is no such file, or if it is not valid.
    """
    read = suite_file(of) if isinstance(of, str) else of
    if not read.is_collection:
        return None
    try:
        found = msgspec.convert({"name": read.path.stem, **read.keys}, Collection)
    except msgspec.ValidationError as error:
        raise UsageError(f"{read.path}: {error}") from None
    for part in found.suites:
        if found.baseline not in reading.load(part).implementations:
            raise UsageError(f"{read.path}: `baseline`: {found.baseline!r} is not a model of {part}")
    return found
