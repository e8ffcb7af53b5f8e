"""Runs that can be had by the dozen: `python quick_runs.py SUITE ANNOUNCED`, told what to do line by line.

Each line `out FILE` or `resume FILE` forks a child that is `bench run` with that option, prints its pid, and
once it has ended its exit status; what that child prints goes to standard error. Command line, session,
scheduler, store and the talk with workers are the real ones; only what takes seconds is played: workers are
forked from a process that loads nothing, and have no model. What the user is told, and the pid of every
worker, goes to ANNOUNCED too, a line of JSON each.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from typing import NoReturn

import made_up
import msgspec
import numpy as np
from typer.testing import CliRunner

from bench import cli, workloads
from bench.measure import session
from bench.measure.display import PlainDisplay
from bench.measure.pairing import Cores
from bench.probes import packages
from bench.records.run import Lost, Sample
from bench.records.solo import MemoryFigure, Solo
from bench.text.terminal import patient_console
from bench.views.tables.formats import render
from bench.views.tables.table import build_table
from bench.workers import forkserver, messages, template, worker

ANNOUNCED = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
WORDS = os.environ.get("WORDS", "--threads 2").split()
STEP_SECONDS = {"one": 0.1, "two": 0.2, "three": 0.05}


def announce(fact: object) -> None:
    os.write(ANNOUNCED, msgspec.json.encode(fact) + b"\n")


class Announcer(PlainDisplay):
    """Tells what the scheduler tells a person."""

    def solo_ends(self, solo: Solo) -> None:
        super().solo_ends(solo)
        announce(solo)

    def sampled(self, sample: Sample) -> None:
        announce(sample)

    def case_lost(self, lost: Lost) -> None:
        announce(lost)


class ModellessWorker(worker.Worker):
    """Answers as a worker of a model would whose steps take about as long as its name says."""

    def _answer(self, question: messages.Question) -> messages.Answer:
        match question:
            case messages.Prepare():
                self.name = question.case.implementation.partition(":")[2]
                self.seconds = STEP_SECONDS[self.name]
                return messages.Prepared(parameters=7, tokens=32, real_tokens=32, backend="torch")
            case messages.Import():
                return messages.Imported()
            case messages.Warm():
                return messages.Warmed(step_seconds=[self.seconds] * 3, stationary=True)
            case messages.MeasureMemory():
                return messages.MemoryMeasured([MemoryFigure(kind="tensor_bytes", bytes=1 << 20)], None)
            case messages.KeepTo():
                return messages.KeptTo()
            case messages.Time():
                time.sleep(0.002)
                seconds = question.steps * self.seconds * np.random.default_rng().uniform(0.9, 1.1)
                return messages.Timed(seconds, None, began=(question.moment or 0.0) + self._delay())
        raise AssertionError(question)

    def _delay(self):
        """Seconds that a planted worker begins too late: its first two runs."""
        self.runs = getattr(self, "runs", 0) + 1
        return 0.3 if self.name == os.environ.get("BEGINS_LATE") and self.runs <= 2 else 0.0


class ForkedTemplate:
    """What `subprocess.Popen` is to a fork server, at a hundredth of the time: it loads nothing."""

    def __init__(self, words, stdin, stdout, stderr, env, start_new_session):
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for number, end in enumerate((stdin, stdout.fileno(), stderr.fileno())):
                os.dup2(end, number)
            os.closerange(3, 256)
            template.Worker = ModellessWorker
            template._load_libraries = lambda: None
            template._load_data = lambda workloads: None
            template.main()
            os._exit(0)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        with contextlib.suppress(ChildProcessError):  # waited for already, when an interrupt came
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return -signal.SIGKILL


def announcing(fork):
    def announced(*words):
        started = fork(*words)
        announce({"worker": started.pid})
        return started

    return announced


def make(suite: str, how: str, path: str) -> NoReturn:
    os.dup2(2, 1)
    sys.argv = ["bench", "run", "--suite", suite, *WORDS, f"--{how}", path]
    try:
        cli.main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def load_once() -> None:
    """What each run would load anew, before anything is forked."""
    workloads.load("text").data()
    packages.plug_in("quick:one")
    CliRunner().invoke(cli.app, ["run", "--suite", "no-such-suite"])
    render(build_table(made_up.results(["transformer"])), "terminal")


def main() -> None:
    load_once()
    forkserver.subprocess.Popen = ForkedTemplate
    forkserver._TemplateProcess.fork = announcing(forkserver._TemplateProcess.fork)
    session.probe_environment = lambda device, threads: made_up.CPU
    Cores.of_this_process = staticmethod(lambda: Cores((0, 1)))
    session.open_display = lambda quiet: Announcer(patient_console())
    for line in sys.stdin:
        how, path = line.split()
        pid = os.fork()
        if pid == 0:
            make(sys.argv[1], how, path)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
