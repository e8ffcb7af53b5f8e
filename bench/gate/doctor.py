"""`bench doctor`: can this machine measure, what stands in the way, and how fine are its measurements?"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.gate.check_up import CheckUp
from bench.gate.gpu_checks import gpu_checks, variables_check
from bench.gate.noise import Noise, measure_noise, recommended
from bench.measure.pairing import pair
from bench.probes import health, limits
from bench.probes.environment import probe_environment
from bench.probes.health import GpuHealth
from bench.probes.surroundings import read_surroundings
from bench.records.environment import Environment, threads_in_words
from bench.records.surroundings import Surroundings, remarks
from bench.steps.memory_check import TOLERANCE, Agreement, check_apart
from bench.suites import reading as suites
from bench.suites.case import Case
from bench.system import child
from bench.system.child import ChildFailed
from bench.text.units import format_bytes, format_duration, parse_percentage
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import Cell, Head
from bench.views.tables.plain import Plain
from implementations.kernels.cpu.native import library as native

PAIRINGS = ("both", "duet", "turns")
LOW_MEMORY_SHARE = 0.25
MEMORY_LENGTH = 1024
"""Time steps of the step whose memory figures are compared; it takes some 200 MiB."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    environment: Environment
    checks: list[CheckUp]
    noise: Noise | None = None
    """Noise of the recommended pairing."""
    noises: list[Noise] = []
    """Noise of each pairing that was tried."""
    recommended: str = ""
    """The recommended pairing, and why."""

    @property
    def sound(self) -> bool:
        return all(check.status != "problem" for check in self.checks)


@dataclass(frozen=True)
class DoctorRequest:
    """A user's request for a diagnosis."""

    out: Path
    device: str = "auto"
    threads: int | None = None
    aa: bool = False
    suite: str = "ci"
    blocks: int = 5
    budget: str = "10m"
    tolerance: str = "3%"
    pairing: str = "both"
    """The pairings that `aa` tries: both, duet or turns."""
    overrides: dict[str, Any] = field(default_factory=dict)


def diagnose(request: DoctorRequest) -> Diagnosis:
    """Examine the machine, and with `aa` measure its noise. Raises UsageError if there is no device."""
    try:
        tolerance = parse_percentage(request.tolerance)
    except ValueError as error:
        raise UsageError(f"--tolerance: {error}") from None
    if request.pairing not in PAIRINGS:
        raise UsageError(f"--pairing {request.pairing}: choose {', '.join(PAIRINGS)}")
    environment = probe_environment(request.device, request.threads, tolerant=True)
    gpu = _gpu_health(environment.device) if environment.device.startswith("cuda") else None
    checks = list(_checks(environment, gpu))
    if not request.aa:
        return Diagnosis(environment=environment, checks=checks)
    files = _files(request, environment, checks)
    noises = measure_noise(request.suite, request.overrides, request.budget, request.blocks, files)
    noise, words = recommended(noises)
    checks.append(_resolution(noise, tolerance))
    return Diagnosis(environment=environment, checks=checks, noise=noise, noises=noises, recommended=words)


def _files(
    request: DoctorRequest, environment: Environment, checks: list[CheckUp]
) -> dict[Path, Environment]:
    """A result file for each pairing to try: the one asked for, or one beside it if a duet is possible."""
    files = {request.out: environment}
    if request.pairing == "turns":
        return files
    try:
        paired = pair(environment, "duet", request.threads)
    except UsageError as error:
        if request.pairing == "duet":
            raise
        checks.append(CheckUp("pairing", "ok", f"turns alone: {error}"))
        return files
    if request.pairing == "duet":
        return {request.out: paired.environment}
    return files | {request.out.with_stem(f"{request.out.stem}-duet"): paired.environment}


def _resolution(noise: Noise, tolerance: float) -> CheckUp:
    found = f"{noise.blocks} blocks tell a slowdown of the margin and {noise.smallest_difference:.1%}"
    if noise.smallest_tolerance < tolerance:
        return CheckUp("resolution", "ok", found)
    advice = (
        f"a gate with --tolerance {tolerance:.1%} would not pass identical code here: quiet the machine, "
        f"give it more --blocks or a --tolerance above {noise.smallest_tolerance:.1%}"
    )
    return CheckUp("resolution", "problem", found, advice)


def _gpu_health(device: str) -> GpuHealth:
    try:
        return msgspec.json.decode(child.ask("bench.probes.health", device), type=GpuHealth)
    except ChildFailed as failure:
        return GpuHealth(unreachable=str(failure), cannot_compile=f"not tried: {failure}")


def _checks(environment: Environment, gpu: GpuHealth | None) -> Iterator[CheckUp]:
    yield CheckUp("device", "ok", f"{environment.device}, {environment.hardware}, torch {environment.torch}")
    yield variables_check(environment.variables, gpu=gpu is not None)
    if gpu is not None:
        yield from gpu_checks(environment, gpu)
    surroundings = read_surroundings()
    yield from load_checks(surroundings)
    yield governor_check(health.governor())
    yield threads_check(environment.threads, surroundings.cores, limits.cpu_quota())
    yield memory_check(limits.free_memory(), limits.total_memory())
    if gpu is None:
        yield native_check(native.is_off(), native.cannot_build())
        yield figures_check(check_apart(_memory_case()))


def native_check(off: bool, failure: str | None) -> CheckUp:
    """Whether the C kernels of fused models can be built. off: the user wants torch's operators."""
    if off:
        return CheckUp("C kernels", "ok", f"turned off: {native.SETTING}={os.environ[native.SETTING]}")
    if failure is None:
        return CheckUp("C kernels", "ok", f"built by {native.compiler_version()}")
    return CheckUp("C kernels", "warning", failure, "fused models compute by torch's operators until it can")


def load_checks(surroundings: Surroundings) -> list[CheckUp]:
    """The load, and whatever else stands in the way."""
    found = [CheckUp(remark.name, "warning", remark.found, remark.advice) for remark in remarks(surroundings)]
    if any(check.name == "load" for check in found):
        return found
    return [
        CheckUp("load", "ok", f"load {surroundings.load_average:.1f} on {surroundings.cores} cores"),
        *found,
    ]


def governor_check(governor: str | None) -> CheckUp:
    if governor is None:
        return CheckUp("governor", "ok", "not shown here (a virtual machine, most likely)")
    if governor == "performance":
        return CheckUp("governor", "ok", governor)
    advice = "frequency follows load: sudo cpupower frequency-set -g performance"
    return CheckUp("governor", "warning", governor, advice)


def threads_check(threads: int, cores: int, quota: float | None) -> CheckUp:
    granted = cores if quota is None else min(cores, quota)
    found = f"{threads} threads on {granted:g} cores"
    if threads <= granted:
        return CheckUp("threads", "ok", found)
    return CheckUp(
        "threads", "problem", found, f"threads wait for each other: --threads {max(1, int(granted))}"
    )


def memory_check(available: int, total: int) -> CheckUp:
    found = f"{format_bytes(available)} of {format_bytes(total)} free"
    if available >= LOW_MEMORY_SHARE * total:
        return CheckUp("memory", "ok", found)
    return CheckUp("memory", "warning", found, "models will take turns, which is slower: free some")


def figures_check(found: Agreement) -> CheckUp:
    """Check whether the CPU's two memory figures agree on one step."""
    name = "memory figures"
    if found.unreadable is not None:
        advice = "resident memory can't be read; the table shows tensor bytes, which need no kernel"
        return CheckUp(name, "warning", found.unreadable, advice)
    tensors, resident = format_bytes(found.tensor_bytes), format_bytes(found.resident_bytes)
    text = f"a step's tensors take {tensors}, its pages {resident} ({found.difference:+.1%})"
    if found.agrees:
        return CheckUp(name, "ok", text)
    return CheckUp(
        name, "warning", text, f"more than {TOLERANCE:.0%} apart: trust neither without bench profile"
    )


def _memory_case() -> Case:
    case = suites.load("ci").cases("cpu")[0]
    return msgspec.structs.replace(case, length=MEMORY_LENGTH)


def as_table(diagnosis: Diagnosis, wanted: Sequence[str] | None = None) -> Plain[CheckUp]:
    """One row per check, or of those that are named; the noise below. Raises UsageError."""
    heads = [
        Head("Check", "left", label=True, fields=("name",)),
        Head("Status", "left", fields=("status",)),
        Head("Found", "left", words=True, fields=("found",)),
        Head("What to do", "left", words=True, fields=("advice",)),
    ]
    noise = [line for noise in diagnosis.noises for line in _noise_lines(noise)]
    recommended = [f"recommended: {diagnosis.recommended}"] if diagnosis.recommended else []
    return Plain(
        heads=heads,
        rows=chosen_rows(diagnosis.checks, wanted, lambda check: [check.name]),
        cells=lambda check, digits: list(map(Cell, (check.name, check.status, check.found, check.advice))),
        whole=diagnosis,
        field="checks",
        lines_below=[*noise, *recommended],
    )


def _noise_lines(noise: Noise) -> list[str]:
    how = "side by side" if noise.pairing == "duet" else "in turns"
    threads = threads_in_words(noise.threads, noise.pairing)
    return [
        f"{how}, {threads.removeprefix('side by side, ')}, {noise.blocks} blocks in "
        f"{format_duration(noise.seconds)}:",
        *(
            f"{case.model} at {case.length} against itself: {case.ratio:.4f}"
            + (f" ({case.low:.4f} to {case.high:.4f})" if case.low and case.high else "")
            for case in noise.cases
        ),
        f"noise floor: {noise.floor:.2%} between two processes of the same code",
        f"smallest slowdown that {noise.blocks} blocks tell: the margin and {noise.smallest_difference:.2%}",
        f"smallest tolerance that identical code passes: {max(0.0, noise.smallest_tolerance):.2%}",
        *noise.caveats,
    ]
