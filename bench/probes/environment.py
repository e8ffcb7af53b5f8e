"""The environment of a run: hardware, driver, clocks, library versions, commit."""

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import Any

import msgspec
import psutil

from bench.errors import UsageError
from bench.probes import limits, variables
from bench.probes.packages import version_of
from bench.records.environment import Environment
from bench.records.gpu import GpuSettings
from bench.system import allocator, child, processors
from bench.system.child import ChildFailed
from bench.system.repository import commit_around
from bench.text.escape import as_text
from bench.version import __version__

MOST_THREADS = 16
"""Threads for each core of which nobody means more."""

LIBRARIES = (
    *("numpy", "safetensors", "triton", "numba", "flash-linear-attention", "mamba-ssm", "performer-pytorch"),
    *("linformer", "reformer-pytorch", "local-attention", "x-transformers", "s5-pytorch", "transformers"),
    "xlstm",
)
"""Libraries that compute in a model of ours or of a peer; a run states the versions of those installed."""


def probe_environment(device: str, threads: int | None = None, *, tolerant: bool = False) -> Environment:
    """The environment, read in a process of its own, since a GPU's context stays.

    threads: by default one per physical core. tolerant: whether variables that make timings on a GPU
    worthless may be set. Raises UsageError if they are, or the device is not there.
    """
    if not _is_device(device):
        raise UsageError(f"--device {device}: choose auto, cpu, cuda or cuda:i")
    cores = os.cpu_count() or 1
    if threads is not None and threads > MOST_THREADS * cores:
        raise UsageError(f"--threads {threads}: this machine has {cores} cores")
    if not tolerant:
        variables.refuse(device)
    try:
        read = child.ask("bench.probes.environment", device, str(threads or default_threads()))
    except ChildFailed as failure:
        raise UsageError(str(failure)) from None
    environment = msgspec.json.decode(read, type=Environment)
    if not tolerant:
        variables.refuse(environment.device)
    return environment


def _is_device(name: str) -> bool:
    kind, _, index = name.partition(":")
    return name in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdecimal())


def read_environment(device: str, threads: int) -> Environment:
    """The environment as it is now. Imports torch, and asks CUDA and NVML, only for a CUDA device."""
    processor = processor_name()
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.get_device_properties(device)
    revision, dirty = commit()
    return Environment(
        device=device,
        hardware=gpu.name if gpu else processor,
        processor=processor,
        threads=threads,
        memory_bytes=gpu.total_memory if gpu else limits.total_memory(),
        driver=_driver() if gpu else None,
        cuda=torch.version.cuda if gpu else None,
        torch=str(_of_torch()["__version__"]),
        python=platform.python_version(),
        platform=platform.platform(),
        libraries={name: version for name in LIBRARIES if (version := version_of(name))},
        commit=revision,
        dirty=dirty,
        harness=harness(),
        allocator=allocator.description(),
        load_average=os.getloadavg()[0],
        clocks=_clocks(device) if gpu else None,
        gpu=_settings(device) if gpu else None,
        variables=variables.recorded(),
        free_bytes=torch.cuda.mem_get_info(device)[0] if gpu else None,
    )


def _of_torch() -> dict[str, Any]:
    """Version and build of torch, by the file that states them: to import it takes seconds."""
    found = find_spec("torch")
    stated = Path(found.origin).with_name("version.py") if found is not None and found.origin else None
    if stated is not None and stated.is_file():
        return run_path(str(stated))
    import torch

    return vars(torch.version)


def processor_name() -> str:
    """The processor's model, as the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def default_threads() -> int:
    """One thread per physical core that this process may use, no more than a control group grants."""
    allowed = processors.count()
    quota = limits.cpu_quota()
    granted = allowed if quota is None else int(quota)
    return max(1, min(allowed, granted, psutil.cpu_count(logical=False) or allowed))


def _driver() -> str | None:
    from bench.probes import nvml

    return nvml.driver_version()


def _clocks(device: str) -> dict[str, int] | None:
    from bench.probes import nvml

    return nvml.clocks(device)


def _settings(device: str) -> GpuSettings | None:
    from bench.probes import gpu_state, nvml

    driver, _ = nvml.open_device(device)
    return None if driver is None else gpu_state.settings_of(driver)


def harness() -> str:
    """Version of this package, and the commit of the checkout that it runs from, if any."""
    revision, dirty = commit()
    return f"{__version__} ({revision}{' with changes' if dirty else ''})" if revision else __version__


def commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether it has uncommitted changes."""
    root = Path(__file__).resolve().parents[2]
    return commit_around(root) if (root / ".git").exists() else (None, None)


def command_line() -> list[str]:
    """Command line of this run, without the folder of the executable; file names as text."""
    program = Path(sys.argv[0]).name
    return [as_text(word) for word in ("bench" if program == "__main__.py" else program, *sys.argv[1:])]


def main() -> None:
    """Answer `probe_environment`."""
    environment = read_environment(resolve_device(sys.argv[1]), int(sys.argv[2]))
    child.answer(msgspec.json.encode(environment))


def resolve_device(wanted: str) -> str:
    """`cpu` or `cuda:i` for `auto`, `cpu`, `cuda` or `cuda:i`. Exits with one line if there is none."""
    if wanted == "cpu":
        return "cpu"
    stated, count = _of_torch(), 0
    if stated.get("cuda") or stated.get("hip"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if index < count:
        return f"cuda:{index}"
    built = "" if stated.get("cuda") else "; this torch is a build without CUDA"
    sys.exit(f"--device {wanted}: this machine has {count} CUDA devices{built}; use --device cpu")


if __name__ == "__main__":
    main()
