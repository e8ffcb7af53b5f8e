"""The process that workers are forked from: it has loaded torch and the data, and forks one for every order.

Run as `python -m bench.workers.template [WORKLOAD]`. Each worker has pipes of its own for questions and
answers; before the first question it is told the folders that its models come from.
"""

import contextlib
import ctypes
import gc
import io
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec
import psutil

from bench.system import own_models
from bench.workers.messages import Question
from bench.workers.worker import Worker

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
OUT_OF_MEMORY_SCORE = "1000"
"""Highest score: the kernel kills a worker before anything else, so that the parent can report it."""


def _die_with_parent() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(OUT_OF_MEMORY_SCORE)
        except OSError:
            pass  # A container may forbid it; the kernel then chooses by size, and mostly hits the worker.
    if os.getppid() != parent:
        sys.exit(1)


def _adopt_strays() -> None:
    """Become the parent of what a worker leaves behind, such as a process in a session of its own."""
    if sys.platform == "linux":
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _end_strays() -> None:
    """End every process below this one: no worker is left, and what workers started must not outlive them."""
    while strays := psutil.Process().children(recursive=True):
        for stray in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                stray.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def _load_libraries() -> None:
    """Load what every case needs; torch's optimisers import its compiler."""
    import torch._dynamo  # noqa: F401

    import bench.steps.step  # noqa: F401
    from implementations.kernels import backend

    build = getattr(backend, "build_cpu_kernels", None)  # An older revision has none.
    if build is not None:
        build()


def _load_data(workloads: Sequence[str]) -> None:
    """Read what workers would read one by one; if it can't be read, they say why."""
    from bench import workloads as known

    for name in workloads:
        with contextlib.suppress(Exception):
            known.load(name).data()


def main() -> None:
    """Fork a worker for every order on the socket that is standard input, until it is closed."""
    _die_with_parent()
    _adopt_strays()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load_libraries()
    _load_data(sys.argv[1:])
    gc.collect()
    gc.freeze()
    workers: set[int] = set()
    with socket.socket(fileno=os.dup(0)) as orders:
        while _obey(orders, workers):
            pass


def _obey(orders: socket.socket, workers: set[int]) -> bool:
    """Carry out one order: three handles to give a worker as streams, workers' numbers to wait for, or to say
    that everything is loaded."""
    order, handles, _, _ = socket.recv_fds(orders, 64, 3)
    if not order:
        return False
    if order == b"ready\n":
        orders.sendall(b"ready 0\n")
        return True
    if not handles:
        for number in map(int, order.split()):
            _, status = os.waitpid(number, 0)
            workers.discard(number)
            if not workers:
                _end_strays()
            orders.sendall(b"%d %d\n" % (number, os.waitstatus_to_exitcode(status)))
        return True
    pid = os.fork()
    if pid == 0:
        orders.close()
        _become_worker(handles)
    workers.add(pid)
    # Here and in the worker: whichever comes first, the group exists when the parent hears of the worker.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)
    for handle in handles:
        os.close(handle)
    orders.sendall(b"fork %d\n" % pid)
    return True


def _become_worker(handles: list[int]) -> NoReturn:
    """Answer questions until there are no more; what a model prints goes to standard error."""
    os.setpgid(0, 0)
    _die_with_parent()
    answers = os.fdopen(handles[1], "wb")
    os.dup2(handles[0], 0)
    for stream in (1, 2):
        os.dup2(handles[2], stream)
    # A worker is killed in the end, and what waits in a buffer would be lost.
    for text in (sys.stdout, sys.stderr):
        if isinstance(text, io.TextIOWrapper):
            text.reconfigure(line_buffering=True, write_through=True)
    worker = Worker()
    worker.watcher.notice_stops()
    with os.fdopen(0, "rb", closefd=False) as questions:
        _look_in(msgspec.json.decode(questions.readline(), type=list[str] | None))
        for line in questions:
            answer = worker.answer(msgspec.json.decode(line, type=Question))
            answers.write(msgspec.json.encode(answer) + b"\n")
            answers.flush()
            worker.go_on(lambda: bool(select.select([questions], [], [], 0)[0]))
    os._exit(0)


def _look_in(folders: list[str] | None) -> None:
    """Let models come from these folders, which the loaded harness is safe from; or from the current one."""
    if folders is None:
        own_models.look_here()
    else:
        sys.path[:0] = folders


if __name__ == "__main__":
    main()
