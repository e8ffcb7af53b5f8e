"""The fork server: a process that has loaded torch and the data, and forks one worker after the other.

Importing takes seconds, and a block starts a dozen workers. Each worker is still a process of its own, with
memory of its own; the layout of memory is drawn afresh with every fork server, and each block has its own.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from bench.suites.case import Case
from bench.system import allocator
from bench.workers.handle import WorkerFailed, WorkerProcess, last_words
from bench.workers.source import CodeSource
from bench.workloads import WORKLOADS


class ForkServer:
    """Starts workers. Revisions share a template unless what it loads is theirs, as an environment is."""

    def __init__(self, threads: int, sources: Mapping[str, CodeSource]) -> None:
        """threads: of cases that have no number of their own.

        sources: by revision, where its code is imported from; without one it is what is at hand.
        """
        self._threads = threads
        self._sources = sources
        self._templates: dict[tuple[_Loaded | None, int, str | None], _TemplateProcess] = {}

    def load(self, cases: Iterable[Case]) -> None:
        """Begin to load what these cases need, side by side, and wait for none."""
        for case in cases:
            self._template(case)

    def wait(self) -> None:
        """Wait until all that was begun has been loaded, or has failed: who starts a worker is told why."""
        for template in self._templates.values():
            template.wait()

    def start(self, case: Case) -> WorkerProcess:
        """A worker for a case. Raises WorkerFailed if none can be started."""
        source = self._source(case)
        return self._template(case).fork(case, None if source is None else source.paths)

    def _source(self, case: Case) -> CodeSource | None:
        return self._sources.get(case.revision or "")

    def _template(self, case: Case) -> "_TemplateProcess":
        """A template loads libraries, which read the number of threads once, and the data of a workload of
        ours: code of others runs in workers only."""
        source, threads = self._source(case), case.threads or self._threads
        loaded = None if source is None else _Loaded(source.python, tuple(source.python_path))
        workload = case.workload if case.workload in WORKLOADS else None
        if (loaded, threads, workload) not in self._templates:
            self._templates[loaded, threads, workload] = _TemplateProcess(threads, loaded, workload)
        return self._templates[loaded, threads, workload]

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for template in self._templates.values():
            template.kill()


class _Loaded(NamedTuple):
    """Key of a template: an interpreter, and the place where it looks for the harness."""

    python: str
    path: tuple[str, ...]


class _TemplateProcess:
    """`python -m bench.workers.template`, seen from the parent. Orders go over a Unix socket, a line each.

    An answer repeats its order: if Ctrl-C comes between the two, the next to ask does not get the old answer.
    """

    def __init__(self, threads: int, loaded: _Loaded | None, workload: str | None) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by kill)
        self._orders, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                _command(loaded, workload),
                stdin=theirs.fileno(),
                stdout=self._stderr,
                stderr=self._stderr,
                env=_environment(threads, loaded),
                # Its own session: a Ctrl-C in the terminal reaches the parent alone, which then decides.
                start_new_session=True,
            )
        self._answers = self._orders.makefile("rb")

    def fork(self, case: Case, paths: tuple[Path, ...] | None) -> WorkerProcess:
        """A worker, ready for questions. Raises WorkerFailed.

        paths: where its models come from, before everything else; None for the current folder, after all.
        """
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the worker's kill)
        (their_questions, questions), (answers, their_answers) = os.pipe(), os.pipe()
        theirs = [their_questions, their_answers, stderr.fileno()]
        try:
            with contextlib.suppress(ConnectionError):
                socket.send_fds(self._orders, [b"fork\n"], theirs)
            pid = self._answer(b"fork")
        except WorkerFailed:
            for handle in (questions, answers):
                os.close(handle)
            stderr.close()
            raise
        finally:
            for handle in theirs[:2]:
                os.close(handle)
        with contextlib.suppress(BrokenPipeError):  # A worker that is dead says so when it is asked.
            os.write(questions, msgspec.json.encode(paths and [str(path) for path in paths]) + b"\n")
        return WorkerProcess(case, pid, self.exit_code, questions, answers, stderr)

    def wait(self) -> None:
        with contextlib.suppress(ConnectionError, WorkerFailed):
            self._orders.sendall(b"ready\n")
            self._answer(b"ready")

    def exit_code(self, pid: int) -> int:
        """Wait for the end of a worker: its exit code, or minus the signal that ended it."""
        order = str(pid).encode()
        try:
            self._orders.sendall(order + b"\n")
            return self._answer(order)
        except (ConnectionError, WorkerFailed):
            # If the template dies, its workers die by the same signal.
            return -signal.SIGKILL

    def kill(self) -> None:
        self._answers.close()
        self._orders.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def _answer(self, order: bytes) -> int:
        with contextlib.suppress(ConnectionResetError):
            for line in self._answers:
                answered, _, value = line.partition(b" ")
                if answered == order:
                    return int(value)
        code = self._process.wait()
        how = last_words(self._stderr, code)
        raise WorkerFailed("crashed", f"no worker could be started: the process that loads torch {how}")


def _environment(threads: int, loaded: _Loaded | None) -> dict[str, str]:
    environment = {
        **os.environ,
        **allocator.worker_variables(),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # numpy computes nothing that is timed, and its threads would be there before the fork.
        "OPENBLAS_NUM_THREADS": "1",
        # torch may ask whether there is a GPU without touching it: a process that touched it can't fork.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }
    return environment if loaded is None else environment | {"PYTHONPATH": os.pathsep.join(loaded.path)}


def _command(loaded: _Loaded | None, workload: str | None) -> list[str]:
    python = sys.executable if loaded is None else loaded.python
    # Safe path: no module is imported from the current folder.
    return [python, "-P", "-m", "bench.workers.template", *([workload] if workload else [])]
