"""Workers are forked from one process that has loaded torch: each apart, and its end told."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import msgspec
import psutil
import pytest

from bench.measure.procedure import Procedure
from bench.suites import reading as suites
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import Prepared
from bench.workers.source import CodeSource

from ..made_up import CPU

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("plug_ins")


@pytest.fixture
def plan(write_suite):
    return Procedure(suites.load(write_suite("fault_models:tiny", "fault_models:slow")), CPU)


def test_each_worker_is_a_process_and_a_group_of_its_own(plan):
    with ForkServer(plan.threads, plan.sources) as server:
        workers = [server.start(case) for case in plan.suite.cases("cpu")]
        pids = [worker.pid for worker in workers]
        assert len(set(pids)) == 2
        assert [os.getpgid(pid) for pid in pids] == pids
        for worker in workers:
            assert worker.ask(plan.prepare(worker.case), Prepared, 60).parameters > 0
            worker.kill()
        assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(
    ("end", "status", "words"), [(signal.SIGKILL, "oom", "killed"), (signal.SIGABRT, "crashed", "SIGABRT")]
)
def test_how_a_worker_ended_is_told(plan, end, status, words):
    case = plan.suite.cases("cpu")[0]
    with ForkServer(plan.threads, plan.sources) as server, server.start(case) as worker:
        os.kill(worker.pid, end)
        with pytest.raises(WorkerFailed, match=words) as failure:
            worker.receive(Prepared, 60)
        assert failure.value.status == status
        with server.start(case) as another:
            assert another.ask(plan.prepare(case), Prepared, 60).parameters > 0


def test_an_interrupt_between_order_and_answer_leaves_no_answer_to_others(plan, monkeypatch):
    case = plan.suite.cases("cpu")[0]
    with ForkServer(plan.threads, plan.sources) as server, server.start(case) as worker:
        (template,) = server._templates.values()
        with monkeypatch.context() as patch:
            patch.setattr(template, "_answer", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                server.start(case)
        os.kill(worker.pid, signal.SIGABRT)
        assert template.exit_code(worker.pid) == -signal.SIGABRT


def test_revisions_share_a_template_unless_what_it_loads_is_theirs(plan, tmp_path):
    """Their models come from their own folders all the same."""
    case = plan.suite.cases("cpu")[0]
    sources = {}
    for name in ("base", "head", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"raise ImportError('this is {name}')\n")
        own = ROOT if name == "own" else None
        sources[name] = CodeSource((tmp_path / name,), tmp_path, own)
    parents, words = {}, {}
    with ForkServer(plan.threads, sources) as server:
        for name in sources:
            revision = msgspec.structs.replace(case, revision=name, implementation="mine:build")
            with server.start(revision) as worker:
                parents[name] = psutil.Process(worker.pid).ppid()
                with pytest.raises(WorkerFailed) as failure:
                    worker.ask(plan.prepare(revision), Prepared, 60)
                words[name] = failure.value.reason
    assert parents["base"] == parents["head"] != parents["own"]
    assert all(f"this is {name}" in words[name] for name in sources)


def test_a_torch_that_does_not_load_is_one_line(plan, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    with ForkServer(plan.threads, plan.sources) as server, pytest.raises(WorkerFailed) as failure:
        server.start(plan.suite.cases("cpu")[0])
    assert failure.value.status == "crashed"
    assert failure.value.reason == (
        "no worker could be started: the process that loads torch ended with exit code 1: "
        "ImportError: libgomp.so.1: cannot open shared object file"
    )


def test_loading_neither_starts_threads_nor_asks_for_a_gpu():
    """A process that did either can't be forked safely."""
    program = (
        "import os, torch, bench.workers.template\n"
        "def asked(*_): raise AssertionError('asked for a GPU')\n"
        "torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = asked\n"
        "bench.workers.template._load_libraries()\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "1\n"


def test_templates_read_the_data_of_our_workloads_and_leave_others_to_workers(plan, monkeypatch):
    made = []
    monkeypatch.setattr(
        "bench.workers.forkserver._TemplateProcess", lambda *words: made.append(words) or Mock()
    )
    case = plan.suite.cases("cpu")[0]
    with ForkServer(plan.threads, plan.sources) as server:
        server.load([case, msgspec.structs.replace(case, workload="mine:WORKLOAD")])
    assert [workload for _, _, workload in made] == ["text", None]
