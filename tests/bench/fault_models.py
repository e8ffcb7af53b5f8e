"""Models that go wrong in the ways that models do, as plug-ins: `fault_models:hanging` and so on."""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Tiny(nn.Module):
    """Mean of embeddings, one linear layer, and a fault before each forward pass."""

    def __init__(self, task, fault: Callable[[], object]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, 4)
        self.out = nn.Linear(4, task.classes)
        self.fault = fault

    def forward(self, inputs, lengths=None):
        self.fault()
        return self.out(self.embedding(inputs).mean(dim=1))


def tiny(task, hyperparameters):
    return Tiny(task, lambda: None)


def slow(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(0.02))


def steady(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(0.05))


def half_as_fast(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(0.1))


def steady_with_a_burst(task, hyperparameters):
    """Its fifth step takes eight times as long: in a short block one visit, whatever the warm-up took."""
    steps = []

    def fault():
        steps.append(1)
        time.sleep(0.4 if len(steps) == 5 else 0.05)

    return Tiny(task, fault)


def spinning(task, hyperparameters):
    """Needs 20 ms of processor time a step, however long that takes."""

    def spin():
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    return Tiny(task, spin)


def stopped_in_a_step(task, hyperparameters):
    """From its fifth step on, stops itself in each, and is continued by a process that it has started."""
    code = (
        "import os, signal, sys, time\n"
        "def state(): return open(f'/proc/{sys.argv[1]}/stat').read().rpartition(')')[2].split()[0]\n"
        "while state() != 'T': time.sleep(0.01)\n"
        "os.kill(int(sys.argv[1]), signal.SIGCONT)"
    )
    steps = []

    def fault():
        steps.append(1)
        if len(steps) >= 5:
            with subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], start_new_session=True):
                os.kill(os.getpid(), signal.SIGSTOP)

    return Tiny(task, fault)


def noisy(task, hyperparameters):
    return Tiny(task, lambda: print('{"type": "ran"}'))


def raising(task, hyperparameters):
    def fault():
        raise RuntimeError("the third\nlayer is upside down")

    return Tiny(task, fault)


def killed(task, hyperparameters):
    return Tiny(task, lambda: os.kill(os.getpid(), signal.SIGKILL))


def segfaulting(task, hyperparameters):
    return Tiny(task, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def exiting(task, hyperparameters):
    def fault():
        os.write(2, b"lost the licence server\n")
        os._exit(7)

    return Tiny(task, fault)


def hanging(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(1000))


def greedy(task, hyperparameters):
    return Tiny(task, lambda: torch.ones(1 << 45))


def nan(task, hyperparameters):
    model = Tiny(task, lambda: None)
    nn.init.constant_(model.out.weight, float("nan"))
    return model


def dies_in_a_block(task, hyperparameters):
    """Its first process (the solo pass) goes well, any later one dies at its first step."""
    marker = Path(os.environ["FAULT_MARKER"])
    if marker.exists():
        return killed(task, hyperparameters)
    marker.touch()
    return tiny(task, hyperparameters)


def raises_in_a_block(task, hyperparameters):
    """The same, but any later process raises, and says so first."""
    marker = Path(os.environ["FAULT_MARKER"])
    if marker.exists():
        print("here it ends")
        return raising(task, hyperparameters)
    marker.touch()
    return tiny(task, hyperparameters)


def wants_a_key(task, hyperparameters):
    return Tiny(task, hyperparameters["missing"])


def hungry(task, hyperparameters):
    """Takes memory without touching it, until it gets no more."""
    taken = []
    return Tiny(task, lambda: taken.extend(torch.empty(1 << 26) for _ in range(1 << 20)))


def hungry_for_bytes(task, hyperparameters):
    """The same without torch."""
    taken = []
    return Tiny(task, lambda: taken.extend(bytearray(1 << 28) for _ in range(1 << 20)))


def hungry_in_earnest(task, hyperparameters):
    """Takes memory and fills it, until somebody kills it."""
    taken = []
    return Tiny(task, lambda: taken.extend(torch.ones(1 << 24) for _ in range(1 << 20)))


def hungry_for_shared_memory(task, hyperparameters):
    """Takes memory that no limit on a process's data counts, and fills it, until somebody kills it."""
    taken = []

    def fault():
        while True:
            taken.append(mmap.mmap(-1, 1 << 26))
            taken[-1].write(b"1" * (1 << 26))

    return Tiny(task, fault)


class NextByte(nn.Module):
    """The next byte from this one alone."""

    def __init__(self, task) -> None:
        super().__init__()
        self.table = nn.Embedding(task.vocabulary, task.classes)

    def forward(self, inputs, lengths=None):
        return self.table(inputs)


def next_byte(task, hyperparameters):
    return NextByte(task)


def compiled(task, hyperparameters):
    """Runs as a graph; the backend that needs no compiler of C++ will do."""
    return torch.compile(tiny(task, hyperparameters), backend="aot_eager")


def nan_gradients(task, hyperparameters):
    """Its loss is finite; the slope of a square root at zero is not."""
    model = Tiny(task, lambda: None)
    model.embedding.register_forward_hook(lambda module, args, out: out + (module.weight * 0).sqrt().sum())
    return model


def nan_from_the_fifth_step(task, hyperparameters):
    model = Tiny(task, lambda: steps.append(1))
    steps = []
    model.out.register_forward_hook(lambda module, args, out: out / 0 if len(steps) >= 5 else out)
    return model


def leaking(task, hyperparameters):
    """Keeps 4 MiB more with every step."""
    kept = []
    return Tiny(task, lambda: kept.append(torch.ones(1 << 20)))


def busy_in_the_background(task, hyperparameters):
    def spin():
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return tiny(task, hyperparameters)


def leaves_a_process(task, hyperparameters):
    """One that has left the worker's process group and session; its number goes into a file."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    Path(os.environ["FAULT_MARKER"]).write_text(str(child.pid))
    return tiny(task, hyperparameters)


def leaves_its_processors(task, hyperparameters):
    everywhere = range(os.cpu_count())
    return Tiny(task, lambda: os.sched_setaffinity(0, everywhere))


def sets_threads_when_built(task, hyperparameters):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return Tiny(task, lambda: print(f"threads: {torch.get_num_threads()}", flush=True))


def sets_threads_in_a_step(task, hyperparameters):
    return Tiny(task, lambda: torch.set_num_threads(3))


def sparse(task, hyperparameters):
    """Holds 20 bytes for each of 100,000 values, in a buffer of the layout `sparse_coo`."""
    model = Tiny(task, lambda: model.graph @ torch.ones(100_000, 1))
    indices = torch.arange(100_000).expand(2, -1).contiguous()
    values = torch.sparse_coo_tensor(indices, torch.ones(100_000), check_invariants=False)
    model.register_buffer("graph", values, persistent=False)
    return model


class Jagged(Tiny):
    """Each sequence as long as it is, without padding."""

    def forward(self, inputs, lengths=None):
        offsets = torch.arange(0, inputs.numel() + 1, inputs.shape[1])
        rows = torch.nested.nested_tensor_from_jagged(self.embedding(inputs.flatten()), offsets)
        return self.out(rows).values().unflatten(0, inputs.shape).mean(dim=1)


def jagged(task, hyperparameters):
    return Jagged(task, lambda: None)
