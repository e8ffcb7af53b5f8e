"""The C files of this folder, compiled by the machine's own compiler when they are first needed, and loaded.

The compiled library lies in the user's cache folder, under a name that tells the sources, the compiler and
the processor. If there is no compiler, or nowhere to write, torch's operators compute the same.
`SEQBOAT_NATIVE=off` asks for that.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from implementations.folders import NoHome, cache_folder

SETTING = "SEQBOAT_NATIVE"
SOURCES = Path(__file__).parent
OPTIONS = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"),
    # Neither of them touches a digit, or NaN and infinity.
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
SECONDS_TO_COMPILE = 60
POOLS = re.compile(r"/(libgomp|libiomp5|libomp)[^/]*\.so[^/]*$")
"""Libraries of OpenMP with GOMP_parallel."""


class Unavailable(RuntimeError):
    """Why the kernels can't run here, in one line."""


def library() -> ctypes.CDLL | None:
    """The kernels, or None if they can't run here or are turned off."""
    return None if is_off() else _loaded()[0]


def kernel(name: str) -> Callable[..., None]:
    """A kernel of the library, which is there: `library` has been asked."""
    found: Callable[..., None] = getattr(_loaded()[0], name)
    return found


def is_off() -> bool:
    """Whether the user wants torch's operators instead."""
    return os.environ.get(SETTING, "").lower() in ("0", "off", "false", "no")


def cannot_build() -> str | None:
    """Build the library, unless it is there. Why it can't be built, in one line; None if it can.

    Nothing is loaded: a process that workers are forked from may call this.
    """
    try:
        build()
    except (Unavailable, OSError) as error:
        return _one_line(error)
    return None


def computed_by(called: bool) -> str:
    """Kernels that have computed fused layers on the CPU. called: whether a kernel has been."""
    if called:
        return f"kernels in C ({compiler_version()})"
    reason = f"{SETTING}={os.environ[SETTING]}" if is_off() else _loaded()[1]
    return "torch's operators" if reason is None else f"torch's operators ({reason})"


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    try:
        found = ctypes.CDLL(str(build()))
    except (Unavailable, OSError) as error:
        return None, _one_line(error)
    _share_threads(found)
    return found, None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def build() -> Path:
    """The compiled library. Raises Unavailable, and OSError if it can't be written."""
    path = _cache() / f"kernels-{_fingerprint()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(path)
    return path


def _cache() -> Path:
    """Folder of the compiled libraries. Raises Unavailable."""
    try:
        return cache_folder() / "native"
    except NoHome as error:
        raise Unavailable(str(error)) from None


def _compile(path: Path) -> None:
    """Compile to a file of our own, and rename it: others see the whole library or none."""
    handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        _run(*_compiler(), *OPTIONS, "-o", name, str(SOURCES / "kernels.c"), "-lm")
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _compiler() -> list[str]:
    """The command of the C compiler. Raises Unavailable without one."""
    named = os.environ.get("CC", "").split()
    if named:
        return named
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise Unavailable("no C compiler: install gcc or clang, or name one in $CC")


@functools.cache
def compiler_version() -> str:
    """First line of what the compiler says of itself. Raises Unavailable."""
    return _run(*_compiler(), "--version").partition("\n")[0].strip()


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS_TO_COMPILE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the C compiler {command[0]} can't be run: {error}") from None
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise Unavailable(f"the C compiler {command[0]} failed: {' '.join(said.split())[:200]}")
    return done.stdout


@functools.cache
def _fingerprint() -> str:
    """Digest of all that the library is made of: sources, options, compiler and processor."""
    digest = hashlib.sha256(repr((OPTIONS, _compiler(), compiler_version(), _processor())).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """Instructions that the processor has, as far as the system says."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    chosen = re.findall(r"(?m)^(?:model name|flags|Features)\s*:.*$", described)
    return "\n".join(sorted(set(chosen)))


@functools.cache
def is_alone() -> bool:
    """Whether the kernels compute on one thread, whatever their number, for want of torch's OpenMP."""
    return _pool() is None


def _share_threads(found: ctypes.CDLL) -> None:
    """Let the kernels compute on torch's own threads; without its OpenMP they compute on one."""
    pool = _pool()
    if pool is not None:
        functions = (pool.GOMP_parallel, pool.omp_get_thread_num, pool.omp_get_num_threads)
        found.use_pool(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))


def _pool() -> ctypes.CDLL | None:
    """The OpenMP that torch has loaded."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[-1] for line in mapped.splitlines() if POOLS.search(line)}
    for path in sorted(paths, key=lambda path: ("/torch/" not in path, path)):
        # One that was replaced under this process is `… (deleted)`, which can't be loaded again.
        with contextlib.suppress(OSError):
            found = ctypes.CDLL(path)
            if hasattr(found, "GOMP_parallel"):
                return found
    return None
