"""A signal ends a run also where Python drops the exception that it raises."""

import os
import signal

import pytest

from bench.records.run import End
from bench.records.writing import ResultFile
from bench.system.signals import termination_interrupts


class Signalled:
    """Is told to stop while it is taken apart."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)


@pytest.fixture
def handled():
    """Gives signals a handler, whatever this process was started with, for the length of a test."""
    previous = {}

    def handle(number: int, handler: signal.Handlers) -> None:
        previous[number] = signal.signal(number, handler)

    yield handle
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_destructor_dropped_comes_with_the_next_record(tmp_path, handled, number):
    handled(number, signal.SIG_DFL)
    record = End(reason="blocks", seconds=1.0)
    with (
        termination_interrupts() as interruption,
        ResultFile(tmp_path / "run.jsonl", interruption.deferred) as store,
    ):
        store.append(record)
        Signalled(number)
        with pytest.raises(KeyboardInterrupt):
            store.append(record)
    assert signal.getsignal(number) is signal.SIG_DFL
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2


def test_a_signal_while_the_first_record_is_written_leaves_it_in_the_file(tmp_path, handled, monkeypatch):
    handled(signal.SIGTERM, signal.SIG_DFL)
    path, fsync = tmp_path / "run.jsonl", os.fsync

    def signalled(file: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        fsync(file)

    monkeypatch.setattr(os, "fsync", signalled)
    with (
        pytest.raises(KeyboardInterrupt),
        termination_interrupts() as interruption,
        ResultFile(path, interruption.deferred) as store,
    ):
        store.append(End(reason="blocks", seconds=1.0))
    assert len(path.read_text().splitlines()) == store.count == 1


def test_a_file_into_which_nothing_came_is_removed_unless_it_was_there_before(tmp_path):
    path = tmp_path / "run.jsonl"
    with ResultFile(path):
        assert path.exists()
    assert not path.exists()
    path.touch()
    with ResultFile(path, resume=True):
        pass
    assert path.exists()


def test_a_signal_that_is_ignored_stays_so(handled):
    handled(signal.SIGHUP, signal.SIG_IGN)
    with termination_interrupts() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
    interruption.check()
