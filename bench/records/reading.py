"""Reading of result files: every record, by kind of device, without what is void.

A torn last line, as a crash or a full disk leaves it, is dropped with a notice.
"""

import inspect
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.errors import ResultError, UsageError
from bench.records.environment import DeviceKind, Environment, Machine
from bench.records.plan import Plan
from bench.records.run import SCHEMA, Device, End, Finding, Header, Lost, Record, Sample, Void
from bench.records.solo import MEMORY_KIND, Solo

T = TypeVar("T")
_RECORD: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class _Version(msgspec.Struct, frozen=True, tag="header", tag_field="type"):
    """The part of a header that every version has."""

    schema: int


@dataclass
class Findings:
    """Records by kind, without what is void."""

    solos: dict[str, Solo] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    lost: dict[str, Lost] = field(default_factory=dict)

    def add(self, record: Finding) -> None:
        match record:
            case Solo():
                self.solos[record.case.id] = record
            case Sample():
                self.samples.append(record)
            case Lost():
                self.lost[record.case_id] = record

    def drop(self, void: Void) -> None:
        self.solos = {name: solo for name, solo in self.solos.items() if not void.covers(solo)}
        self.samples = [sample for sample in self.samples if not void.covers(sample)]
        self.lost = {name: lost for name, lost in self.lost.items() if not void.covers(lost)}


class Results(msgspec.Struct, frozen=True):
    """Contents of a result file."""

    path: str
    header: Header
    solos: dict[str, Solo]
    samples: list[Sample]
    lost: dict[str, Lost]
    end: End | None
    notice: str | None = None
    """Notice that a torn last line was dropped."""
    devices: list[Device] = []
    """Devices of a cluster, in the order in which they joined."""
    voids: list[Void] = []
    plans: list[Plan] = []
    """In the order that they were made."""

    @property
    def kind(self) -> DeviceKind:
        """Kind of device that the run was measured on."""
        return self.header.environment.kind

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to measure."""
        return self.end is not None and self.end.reason not in ("interrupted", "devices")

    @property
    def complete(self) -> bool:
        """Whether every case ran and was timed to the end."""
        return self.ended and not self.lost and all(solo.status == "ok" for solo in self.solos.values())

    def peak_memory(self, case_id: str) -> int | None:
        """Bytes of the figure that tables show of a case; None if it was not measured."""
        solo = self.solos.get(case_id)
        return solo.memory_bytes(MEMORY_KIND[self.kind]) if solo else None


def read(path: Path) -> Results:
    """Read a result file. Raises ResultError, which says what is wrong, and in which line.

    A file of several kinds of device is refused, since no ratio may be formed across them.
    """
    kinds = read_kinds(path)
    if len(kinds) > 1:
        names = "; ".join(run.header.environment.words for run in kinds)
        raise ResultError(
            f"{path}: holds {len(kinds)} kinds of device ({names}), which can't be taken for one; "
            "bench table, plot and report show each"
        )
    return kinds[0]


def read_kinds(path: Path) -> list[Results]:
    """Read a result file by kind of device. Raises ResultError, which says what is wrong, and in which line.

    Each kind is like a run of its own; its header has the environment of its first device.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> list[Results]:
    """Parse the content of a result file, by kind of device; a path to name it by. Raises ResultError."""
    lines = content.split(b"\n")
    torn = lines.pop()
    notice = f"{path}: its torn last line was dropped" if torn else None
    _check_schema(lines, path)
    records = [_decode(line, number, path) for number, line in enumerate(lines, 1)]
    header = _header(records, path)
    end = _end(records)
    # In another locale, or in bytes that are not text, a path's own string can't be printed.
    name = os.fsencode(path).decode(errors="replace")
    return [
        _results(name, msgspec.structs.replace(header, environment=environment), part, end, notice)
        for environment, part in _by_kind(header, records, path)
    ]


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Result files; a folder stands for those in it. Raises UsageError if a folder has none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path}: holds no result files (.jsonl)")
        found += inside
    return found


def _end(records: list[Record]) -> End | None:
    """End of the run, with the seconds of all its parts; None if the last part has no end."""
    last = records[-1]
    if not isinstance(last, End):
        return None
    return msgspec.structs.replace(last, seconds=sum(end.seconds for end in of_kind(records, End)))


def _by_kind(
    header: Header, records: list[Record], path: Path
) -> list[tuple[Environment, list[Device | Plan | Finding | Void]]]:
    """Records by kind of device: all devices of a kind have the same `Environment.machine`."""
    environments: dict[tuple[str | None, str | None], Environment] = {(None, None): header.environment}
    kinds: dict[Machine, tuple[Environment, list[Device | Plan | Finding | Void]]] = {}
    kinds[header.environment.machine] = (header.environment, [])
    for number, record in enumerate(records, 1):
        if isinstance(record, Header | End):
            continue
        if isinstance(record, Plan):
            planned = (part for machine, (_, part) in kinds.items() if machine.words == record.machine)
            next(planned, []).append(record)
            continue
        if isinstance(record, Device):
            environments[record.node, record.device] = record.environment
        environment = environments.get((record.node, record.device))
        if environment is None:
            raise ResultError(
                f"{path}: line {number} is of {record.device} on {record.node}, "
                "which no line before it describes"
            )
        kinds.setdefault(environment.machine, (environment, []))[1].append(record)
    return list(kinds.values())


def _results(
    path: str,
    header: Header,
    records: list[Device | Plan | Finding | Void],
    end: End | None,
    notice: str | None,
) -> Results:
    findings = Findings()
    for record in records:
        if isinstance(record, Void):
            findings.drop(record)
        elif not isinstance(record, Device | Plan):
            findings.add(record)
    return Results(
        path=path,
        header=header,
        solos=findings.solos,
        samples=findings.samples,
        lost=findings.lost,
        end=end,
        notice=notice,
        devices=of_kind(records, Device),
        voids=of_kind(records, Void),
        plans=of_kind(records, Plan),
    )


def _check_schema(lines: list[bytes], path: Path) -> None:
    """Refuse a file of another version before its records are taken for broken ones of this."""
    try:
        found = msgspec.json.decode(lines[0] if lines else b"", type=_Version).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # Not a header at all: decoding it says what is wrong.
    if found != SCHEMA:
        newer = "; it comes from a newer version: pip install --upgrade seqboat-bench"
        raise ResultError(
            f"{path}: has schema {found}, this version reads {SCHEMA}{newer if found > SCHEMA else ''}"
        )


def _header(records: list[Record], path: Path) -> Header:
    if not records or not isinstance(records[0], Header):
        raise ResultError(
            f"{path}: does not begin with a header; it is not a result file, or was cut off at once"
        )
    for number, record in enumerate(records[1:], 2):
        if isinstance(record, Header):
            raise ResultError(f"{path}: line {number} is a second header; a file holds one run")
    suite = records[0].suite
    if not suite.lengths or suite.baseline not in suite.implementations:
        raise ResultError(f"{path}: line 1 has a suite without lengths, or without its baseline")
    return records[0]


def json_schema() -> dict[str, Any]:
    """JSON Schema of one line of a result file."""
    schema: dict[str, Any] = _cleaned(msgspec.json.schema(Record))
    return schema


def _cleaned(schema: Any) -> Any:
    """The schema with docstrings dedented, which not every version of msgspec does."""
    match schema:
        case dict():
            return {
                key: inspect.cleandoc(value)
                if key == "description" and isinstance(value, str)
                else _cleaned(value)
                for key, value in schema.items()
            }
        case list():
            return [_cleaned(value) for value in schema]
    return schema


def of_kind(records: Iterable[Any], kind: type[T]) -> list[T]:
    """Records of one type, in their order."""
    return [record for record in records if isinstance(record, kind)]


def _decode(line: bytes, number: int, path: Path) -> Record:
    try:
        return _RECORD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ResultError(f"{path}: line {number} is not a record of a result file ({error})") from None


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
