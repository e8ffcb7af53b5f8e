"""The kernel's account of a timed run: who had the processors meanwhile."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's counters over one timed run; None for each that this kernel lacks."""

    wall_seconds: Seconds
    """From one reading of the counters to the next."""
    processor_seconds: Seconds | None = None
    """On a processor, over all threads of the worker."""
    queued_seconds: Seconds | None = None
    """Its threads could have run and waited for a processor; summed over threads."""
    others_seconds: Seconds | None = None
    """Anything else ran on the processors that it may use; summed over processors."""
    stolen_seconds: Seconds | None = None
    """The host of a virtual machine took those processors; summed over them."""
    throttled_seconds: Seconds | None = None
    """Its control group had used up its quota of processor time."""
    pressure_seconds: Seconds | None = None
    """Something on this machine, whatever it was, waited for a processor."""
    preemptions: Number | None = None
    """Its threads were switched out though they could have run on (involuntary switches)."""
    stops: Number = 0
    """It was stopped and continued (`SIGSTOP`, a job control, a debugger)."""
