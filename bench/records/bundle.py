"""A run to hand on, as one zip file: the record, what it was made with, and checksums of all of it.

A bundle may come from anybody: its members have fixed names and bounded sizes, are read into memory and never
unpacked, and nothing in it is run.
"""

import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.errors import ResultError, UsageError
from bench.records.reading import Results, parse

T = TypeVar("T")

SCHEMA = 1
MANIFEST, RECORD, SUITE = "manifest.json", "record.jsonl", "suite.yaml"
PACKAGES, DATA = "packages.txt", "data.json"
REQUIRED = (MANIFEST, RECORD, SUITE, PACKAGES, DATA)
CHANGES = re.compile(r"changes-[0-9]\.diff")
MOST_BYTES: Mapping[str, int] = {RECORD: 1 << 28, MANIFEST: 1 << 20, SUITE: 1 << 20, PACKAGES: 1 << 22}
MOST_OTHER_BYTES = 1 << 26
MOST_MEMBERS = 32
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Uncommitted changes in a repository whose code took part."""

    member: str
    of: list[str]
    """Models, workloads and metrics whose code it is; `bench`, what measured."""
    commit: str
    """Commit that the diff is against."""
    left_out: int = 0
    """New files that are not Python's, which are not in the diff."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the bundle, as it was put in."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of the bundle, and all that differs from when the run was made."""

    schema: int
    created: str
    """ISO 8601, UTC."""
    harness: str
    members: dict[str, Member]
    changes: list[Changes] = []
    since: list[str] = []
    """Changes between the run and the bundle: packages and sources are those of the bundle."""


class DataSums(msgspec.Struct, frozen=True, kw_only=True):
    """Checksums of the data."""

    data: str
    """As the record states it."""
    files: dict[str, str] = {}
    """Checksums of the files that batches are made of, by name."""
    batches: dict[str, str] = {}
    """Checksum of each case's batch, as it was measured."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and checked."""

    path: Path
    manifest: Manifest
    results: Results
    suite: bytes
    packages: list[str]
    data: DataSums


def write(path: Path, members: Mapping[str, bytes], manifest: Manifest) -> Manifest:
    """Write a bundle of some members, and return the manifest with their checksums.

    Raises UsageError if it can't be written, or if nobody could read it.
    """
    _refuse_too_much(path, members)
    sums = {name: Member(sha256=_sum(content), bytes=len(content)) for name, content in members.items()}
    manifest = msgspec.structs.replace(manifest, members=sums)
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        for name, content in members.items():
            archive.writestr(name, content)
    try:
        path.write_bytes(text.getvalue())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    return manifest


def _refuse_too_much(path: Path, members: Mapping[str, bytes]) -> None:
    """Raise UsageError for what `read` would refuse."""
    for name, content in members.items():
        if name not in REQUIRED and not CHANGES.fullmatch(name):
            raise UsageError(f"{path}: a bundle has the changes of ten repositories at most; commit some")
        if len(content) > (most := MOST_BYTES.get(name, MOST_OTHER_BYTES)):
            raise UsageError(f"{path}: {name} would be larger than {most >> 20} MiB, which no bundle holds")


def read(path: Path) -> Bundle:
    """A bundle. Raises UsageError: the file and what is wrong with it, in one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            contents = _contents(archive, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UsageError(f"{path}: is not a whole zip file ({error})") from None
    manifest = _decoded(contents[MANIFEST], Manifest, path, MANIFEST)
    if manifest.schema != SCHEMA:
        raise UsageError(f"{path}: is a bundle of schema {manifest.schema}; this version reads {SCHEMA}")
    for name, content in contents.items():
        stated = manifest.members.get(name)
        if name != MANIFEST and (stated is None or stated.sha256 != _sum(content)):
            raise UsageError(f"{path}: {name} is not what the manifest says: it is damaged, or was changed")
    return Bundle(
        path=path,
        manifest=manifest,
        results=_one_kind(contents[RECORD], path),
        suite=contents[SUITE],
        packages=contents[PACKAGES].decode(errors="replace").split("\n"),
        data=_decoded(contents[DATA], DataSums, path, DATA),
    )


def _contents(archive: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
    """Every member. Nothing is believed of what the archive says of itself."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise UsageError(f"{path}: has {len(infos)} members; a bundle has {MOST_MEMBERS} at most")
    found: dict[str, bytes] = {}
    for info in infos:
        name = info.filename
        if name not in REQUIRED and not CHANGES.fullmatch(name):
            raise UsageError(f"{path}: holds {name!r}, which is not part of a bundle")
        if name in found:
            raise UsageError(f"{path}: holds {name} twice")
        found[name] = _content(archive, info, path)
    for name in REQUIRED:
        if name not in found:
            raise UsageError(f"{path}: has no {name}: it is not a bundle of `bench bundle`")
    return found


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    most = MOST_BYTES.get(info.filename, MOST_OTHER_BYTES)
    if info.flag_bits & 1 or info.compress_type not in METHODS or stat.S_ISLNK(info.external_attr >> 16):
        raise UsageError(f"{path}: {info.filename} is encrypted, a link, or packed in an unusual way")
    content = b""
    if info.file_size <= most:
        with archive.open(info) as file:
            content = file.read(most + 1)
    if info.file_size > most or len(content) > most:
        raise UsageError(f"{path}: {info.filename} is larger than {most >> 20} MiB")
    return content


def _one_kind(content: bytes, path: Path) -> Results:
    kinds = parse(content, path)
    if len(kinds) > 1:
        raise ResultError(f"{path}: holds {len(kinds)} kinds of device, which one machine can't reproduce")
    return kinds[0]


def _decoded(content: bytes, kind: type[T], path: Path, name: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: {name} is not as a bundle has it ({error})") from None


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
