"""A signal ends a run also where Python drops the exception that it raises."""

import os
import signal

import pytest

from bench.records.reading import Store
from bench.records.run import End
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
    with termination_interrupts() as interruption, Store(tmp_path / "run.jsonl", interruption.check) as store:
        store.append(record)
        Signalled(number)
        with pytest.raises(KeyboardInterrupt):
            store.append(record)
    assert signal.getsignal(number) is signal.SIG_DFL
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2


def test_a_signal_that_is_ignored_stays_so(handled):
    handled(signal.SIGHUP, signal.SIG_IGN)
    with termination_interrupts() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
    interruption.check()
