"""Several suites under one name, from a file of the package or of the user."""

from typing import Annotated, Any

import msgspec

from bench.errors import UsageError
from bench.suites import reading
from bench.suites.files import SuiteFile, suite_file
from bench.text.escape import as_text


class CollectionKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Suites that make one comparison over several workloads."""

    name: str
    """Name in records and tables."""
    description: str
    """One sentence for `bench list suites`."""
    suites: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Suites by name, or by path from the folder of this file."""
    baseline: str
    """Implementation that every ratio of every suite is against."""


class Collection(CollectionKeys, frozen=True, kw_only=True):
    """A collection whose suites' files have been read."""

    files: tuple[SuiteFile, ...]
    """Files of its suites, in the same order."""

    @property
    def resolved(self) -> dict[str, Any]:
        """Its keys."""
        return {key: getattr(self, key) for key in CollectionKeys.__struct_fields__}


def load(of: str | SuiteFile) -> Collection | None:
    """The collection of that name, path or source; None if it is a single suite.

    Raises UsageError if there is no such file, or if it is not valid.
    """
    read = suite_file(of) if isinstance(of, str) else of
    if not read.is_collection:
        return None
    try:
        found = msgspec.convert({"name": as_text(read.path.stem), **read.keys}, CollectionKeys)
    except msgspec.ValidationError as error:
        raise UsageError(f"{read.path}: {error}") from None
    try:
        files = tuple(suite_file(name, read.path.parent) for name in found.suites)
    except UsageError as error:
        raise UsageError(f"{read.path}: `suites`: {error}") from None
    stems = [file.path.stem for file in files]
    for name, file in zip(found.suites, files, strict=True):
        if stems.count(file.path.stem) > 1:
            raise UsageError(
                f"{read.path}: `suites`: {name}: another one is called {file.path.stem}, too; "
                "rename one, since their results have these names"
            )
        if found.baseline not in reading.load(file).implementations:
            raise UsageError(f"{read.path}: `baseline`: {found.baseline!r} is not a model of {name}")
    return Collection(**msgspec.structs.asdict(found), files=files)
