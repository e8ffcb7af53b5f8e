"""One `bench profile` from request to profile: which case of a suite, on which device."""

import os
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.probes.environment import probe_environment
from bench.records.profile import Profile
from bench.suites import reading as suites
from bench.system import own_models


def run(
    suite: str,
    overrides: dict[str, Any],
    *,
    device: str,
    threads: int | None,
    steps: int,
    trace: Path | None,
    out: Path | None,
) -> Profile:
    """Profile the first case that the request leaves of a suite. Raises UsageError."""
    # Torch's profiler would log its start and stop into the output; read when torch is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    for path in filter(None, (trace, out)):
        if not path.parent.is_dir():
            raise UsageError(f"{path}: cannot be written (no such folder)")
    loaded = suites.load(suite, overrides)
    if loaded.phase == "decode":
        raise UsageError(f"{suite}: bench profile takes a training or a forward step apart, not decoding")
    environment = probe_environment(device, threads)
    case = loaded.cases(environment.kind)[0]

    own_models.look_here()
    from bench.steps.profiler import profile

    made = profile(case, environment, steps, trace)
    if out is not None:
        try:
            out.write_bytes(msgspec.json.encode(made) + b"\n")
        except OSError as error:
            raise UsageError(f"{out}: cannot be written ({error.strerror})") from None
    return made
