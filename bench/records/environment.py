"""The machine, software and code that a run was made with."""

from typing import Annotated, Literal, NamedTuple

import msgspec

from bench.records.gpu import GpuSettings
from bench.suites.suite import LARGEST, Positive

DeviceKind = Literal["cpu", "cuda"]
Pairing = Literal["turns", "duet"]
"""Pairs are timed one after the other, or at the same time on a half of the cores each."""


WHERE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "_DIR", "_DIRECTORY", "_HOME", "_PATH")
"""Ends of the names of variables that say where something is, not how it computes."""


class Machine(NamedTuple):
    """Identity of a machine: figures may be compared only if it is the same for both."""

    device: str
    hardware: str
    threads: int
    torch: str
    allocator: str | None
    pairing: Pairing = "turns"
    variables: str | None = None
    """Environment variables that change how a step is computed, as `NAME=value`; None without any."""

    @property
    def words(self) -> str:
        """The machine, in a message."""
        threads = threads_in_words(self.threads, self.pairing)
        settings = filter(None, (self.allocator, self.variables))
        return ", ".join([self.hardware, threads, f"torch {self.torch}", *settings])


def threads_in_words(threads: int, pairing: Pairing) -> str:
    """`2 threads`, or `side by side, 1 thread each`."""
    words = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"side by side, {words} each" if pairing == "duet" else words


Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, software and code that a run was made with."""

    device: str
    """`cpu` or `cuda:0`."""
    hardware: str
    """Name of the processor or GPU that computed."""
    processor: str
    threads: Positive
    memory_bytes: Count
    """Memory of the machine, or of the GPU."""
    driver: str | None
    cuda: str | None
    torch: str
    python: str
    platform: str
    libraries: dict[str, str]
    commit: str | None
    """Commit of the code that was measured: of the repository around a user's model, else of the harness."""
    dirty: bool | None
    """Whether that code had uncommitted changes."""
    load_average: Quantity
    allocator: str | None = None
    """Allocator of a worker's memory on the host; None in files that do not say."""
    clocks: dict[str, Count] | None = None
    free_bytes: Count | None = None
    """Bytes free on a GPU when the run began."""
    gpu: GpuSettings | None = None
    """Settings of the GPU; None on a CPU, and if the driver tells nothing."""
    variables: dict[str, str] = {}
    """Environment variables that change what is measured, if they were set."""
    harness: str | None = None
    """Version of the harness, and its commit if it runs from a checkout; None in files that do not say."""
    pairing: Pairing = "turns"
    """The pairing; in a duet `threads` are those of each side."""

    @property
    def kind(self) -> DeviceKind:
        return "cuda" if self.device.startswith("cuda") else "cpu"

    @property
    def machine(self) -> Machine:
        computing = (self.device, self.hardware, self.threads, self.torch, self.allocator, self.pairing)
        return Machine(*computing, self.set_by_variables)

    @property
    def set_by_variables(self) -> str | None:
        """The variables that change how a step is computed, as `NAME=value`; None without any."""
        told = [f"{name}={value}" for name, value in self.variables.items() if not name.endswith(WHERE)]
        return " ".join(told) or None

    @property
    def words(self) -> str:
        """The machine, in a message."""
        return self.machine.words
