"""A profile, as one JSON file: where a step's time and memory go. Needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bench.errors import UsageError
from bench.records.environment import AboveZero, Count, Environment, Quantity
from bench.records.surroundings import Surroundings
from bench.suites.case import Case

SCHEMA = 1

Phase = Literal["forward", "backward"]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one phase of a stage per step, without the stages inside it."""

    seconds: Quantity = 0.0
    flops: Count = 0
    bytes: Count = 0
    """Bytes that its operators read and write, as if nothing stayed in a cache between two of them."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A named part of a step; the same part of all layers is one stage."""

    path: tuple[str, ...]
    """Names from the outermost stage to this one; empty for what is in no stage."""
    calls: Count
    """Calls in the forward pass of one step."""
    forward: Cost
    backward: Cost
    peak_bytes: Count
    """Most tensor bytes that were live while it ran."""


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """The best that this device was measured to do, in the precision of the case."""

    flops_per_second: AboveZero
    """Rate of a large matrix product."""
    bytes_per_second: AboveZero
    """Rate of a large copy, reads and writes together."""
    matrix: str
    copy: str


class Profile(msgspec.Struct, frozen=True, kw_only=True, tag="profile", tag_field="type"):
    """One case, profiled."""

    schema: int
    created: str
    command: list[str]
    case: Case
    environment: Environment
    surroundings: Surroundings | None = None
    """Other work on the machine; None in files that do not say."""
    steps: Count
    plain_seconds: AboveZero
    """Median seconds of a step without any of this."""
    named_seconds: AboveZero
    """Seconds of a step with stages named, without the profiler."""
    profiled_seconds: AboveZero
    """Seconds of a step under the profiler, as the stages' times are."""
    stages: list[Stage]
    timeline: list[tuple[Quantity, Count, str]]
    """Live tensor bytes after operators: how far through the step (by operator), bytes, stage."""
    ceilings: Ceilings
    flops_from: str
    """Implementation whose operators were counted: the plain form if the fused one hides them."""

    def ideal_seconds(self, cost: Cost) -> float:
        """The least time that a cost could take under the ceilings."""
        ceilings = self.ceilings
        return max(cost.flops / ceilings.flops_per_second, cost.bytes / ceilings.bytes_per_second)


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises UsageError, which says what is wrong with the file."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path}: is not a profile ({error}); make one with: bench profile --out FILE"
        ) from None
    if profile.schema != SCHEMA:
        raise UsageError(f"{path}: has schema {profile.schema}, this version reads {SCHEMA}")
    return profile


def is_profile(path: Path) -> bool:
    """Whether a file is a profile of any version, not a result file."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bytes(found.get("type", b"")) == b'"profile"'


class Node(msgspec.Struct):
    """A stage with all that is inside it."""

    name: str
    depth: int
    calls: int
    forward: Cost
    backward: Cost
    peak_bytes: int

    @property
    def total(self) -> Cost:
        return add(self.forward, self.backward)


def add(one: Cost, other: Cost) -> Cost:
    return Cost(
        seconds=one.seconds + other.seconds, flops=one.flops + other.flops, bytes=one.bytes + other.bytes
    )


def tree(profile: Profile) -> Iterator[Node]:
    """Stages from the outermost inwards, each with the sum of what is inside it; the longest first."""
    yield _sum_below(profile, (), "step")
    yield from _below(profile, ())


def _below(profile: Profile, path: tuple[str, ...]) -> Iterator[Node]:
    depth = len(path)
    names = {s.path[depth] for s in profile.stages if len(s.path) > depth and s.path[:depth] == path}
    nodes = [(name, _sum_below(profile, (*path, name), name)) for name in names]
    for name, node in sorted(nodes, key=lambda pair: -pair[1].total.seconds):
        yield node
        yield from _below(profile, (*path, name))
    own = next((stage for stage in profile.stages if stage.path == path), None)
    if names and own is not None and own.forward.seconds + own.backward.seconds > 0:
        yield Node("(other)", depth + 1, own.calls, own.forward, own.backward, own.peak_bytes)


def _sum_below(profile: Profile, path: tuple[str, ...], name: str) -> Node:
    node = Node(name, len(path), 0, Cost(), Cost(), 0)
    for stage in profile.stages:
        if stage.path[: len(path)] == path:
            node.forward = add(node.forward, stage.forward)
            node.backward = add(node.backward, stage.backward)
            node.peak_bytes = max(node.peak_bytes, stage.peak_bytes)
            if stage.path == path:
                node.calls = stage.calls
    return node
