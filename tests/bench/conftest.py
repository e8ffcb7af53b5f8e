"""A suite of tiny models, so that whole runs take seconds; and runs without any, that take less than one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from bench.system import child
from bench.workers import forkserver

from .kept_templates import Answers, Templates


@pytest.fixture(scope="session", autouse=True)
def kept_templates():
    """Runs in this process fork their workers from templates that earlier tests have loaded."""
    templates = Templates()
    own, forkserver._TemplateProcess = forkserver._TemplateProcess, templates
    yield
    forkserver._TemplateProcess = own
    templates.close()


@pytest.fixture(scope="session", autouse=True)
def kept_answers():
    """Runs in this process ask once what machine this is."""
    answers = child.ask = Answers()
    yield
    child.ask = answers.own


@pytest.fixture(scope="session")
def fault_marker(tmp_path_factory):
    """The file by which models know that they ran before; always the same, for templates that are kept."""
    return tmp_path_factory.mktemp("faults") / "marker"


@pytest.fixture
def plug_ins(monkeypatch, fault_marker):
    """Workers can import the models beside this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("FAULT_MARKER", str(fault_marker))
    fault_marker.unlink(missing_ok=True)


@pytest.fixture
def write_suite(tmp_path):
    """A suite file for some implementations, the first one its baseline."""

    def write(*implementations: str, **changes) -> str:
        path = tmp_path / "tiny.yaml"
        content = {
            "description": "tiny models",
            "workload": "text",
            "lengths": [32],
            "implementations": list(implementations),
            "baseline": implementations[0],
            "timing": {
                "max_blocks": 3,
                "max_rounds": 2,
                "target": "99%",
                "deadline": "60s",
                "budget": "5m",
                "min_run": "100ms",
            },
            "quick": {"min_blocks": 1, "max_blocks": 1, "max_rounds": 1},
            **changes,
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal():
    """Signals that end a process, where the tests were started with some ignored (nohup, a script's &)."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


class Runs:
    """The other side of quick_runs.py."""

    def __init__(self, suite: str, folder: Path, around: Sequence[str] = (), **options) -> None:
        here = Path(__file__).parent
        self.announced = folder / "announced.jsonl"
        self.errors = folder / "errors.txt"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*around, sys.executable, here / "quick_runs.py", suite, self.announced],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=options.pop("stderr", errors),
                encoding="utf-8",
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
                | options.pop("env", {}),
                **options,
            )

    def begin(self, how: str, path: Path) -> int:
        """Begin `bench run --how path`; its pid."""
        self.announced.write_text("")
        self.errors.write_text("")
        print(how, path, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for its end; its exit code, or the signal that killed it, negative."""
        return int(self.process.stdout.readline())

    def make(self, how: str, path: Path) -> tuple[int, str]:
        """A whole run: its exit code, and what it printed."""
        self.begin(how, path)
        code = self.end()
        return code, self.errors.read_text(encoding="utf-8")

    def told(self) -> tuple[list[dict], list[int]]:
        """Records that the last run announced, and pids of its workers."""
        facts = [json.loads(line) for line in self.announced.read_text().splitlines()]
        return [f for f in facts if "type" in f], [f["worker"] for f in facts if "worker" in f]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start_runs(write_suite, tmp_path):
    """Starts quick_runs.py with a suite of three models that are never built."""
    started = []

    def start(around: Sequence[str] = (), timing=None, **options) -> Runs:
        timing = {"min_blocks": 3, "max_blocks": 3, "max_rounds": 2, "target": "0.01%"} | (timing or {})
        suite = write_suite("quick:one", "quick:two", "quick:three", timing=timing)
        started.append(Runs(suite, tmp_path, around, **options))
        return started[-1]

    yield start
    for runs in started:
        runs.close()
