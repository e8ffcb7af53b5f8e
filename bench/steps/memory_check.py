"""Comparison of two figures of a step's memory on a CPU: tensors' bytes and the kernel's pages.

Run as a child, in an environment where freed memory goes back to the kernel at once: it takes a case and
answers with an Agreement.
"""

import gc
import os
import sys

import msgspec

from bench.suites.case import Case
from bench.system import allocator, child, own_models
from bench.system.child import ChildFailed

TOLERANCE = 0.15
"""Share of the resident memory that need not belong to a tensor: packing buffers, pages half filled."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Rise of memory from before a step to its peak, by either figure."""

    tensor_bytes: int = 0
    resident_bytes: int = 0
    unreadable: str | None = None
    """Why the resident memory can't be read."""

    @property
    def difference(self) -> float:
        """Difference of the resident memory from the tensors', as a share of the latter."""
        return self.resident_bytes / self.tensor_bytes - 1 if self.tensor_bytes else float("inf")

    @property
    def agrees(self) -> bool:
        return self.unreadable is None and abs(self.difference) <= TOLERANCE


def check_apart(case: Case) -> Agreement:
    """`check` of a case, in a process of its own."""
    try:
        found = child.ask(
            "bench.steps.memory_check", question=msgspec.json.encode(case), environment=_memory_only()
        )
    except ChildFailed as failure:
        return Agreement(unreadable=str(failure))
    return msgspec.json.decode(found, type=Agreement)


def _memory_only() -> dict[str, str]:
    """The environment without the allocator's settings for timing, which keep what is freed."""
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    return kept | {"MALLOC_TRIM_THRESHOLD_": "0"}


def check(case: Case) -> Agreement:
    """Watch one step of a case on the CPU, after two that fill caches and make the optimiser's state."""
    from bench.probes.memory import high_water_bytes, reset_high_water
    from bench.probes.tensor_bytes import TensorBytes
    from bench.steps.step import Step

    step = Step(case, "cpu")
    step()
    step()
    gc.collect()
    allocator.give_back()
    reason = reset_high_water()
    before = high_water_bytes()
    with TensorBytes(step.live()) as watched:
        step()
    after = high_water_bytes()
    if reason is not None or before is None or after is None:
        return Agreement(unreadable=reason or "no /proc/self/status")
    return Agreement(tensor_bytes=watched.peak - watched.before, resident_bytes=after - before)


if __name__ == "__main__":
    own_models.look_here()
    child.answer(msgspec.json.encode(check(msgspec.json.decode(sys.stdin.buffer.read(), type=Case))))
