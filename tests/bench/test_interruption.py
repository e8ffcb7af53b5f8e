"""A signal ends a run also where Python drops the exception that it raises."""

import os
import signal

import pytest

from bench.interruption import termination_interrupts
from bench.record import End
from bench.result_file import Store


class Signalled:
    """Is told to stop while it is taken apart."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_destructor_dropped_comes_with_the_next_record(tmp_path, number):
    record = End(reason="blocks", seconds=1.0)
    before = signal.getsignal(number)
    with termination_interrupts() as interruption, Store(tmp_path / "run.jsonl", interruption.check) as store:
        store.append(record)
        Signalled(number)
        with pytest.raises(KeyboardInterrupt):
            store.append(record)
    assert signal.getsignal(number) is before
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2


def test_a_signal_that_is_ignored_stays_so():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_interrupts() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        interruption.check()
    finally:
        signal.signal(signal.SIGHUP, previous)
