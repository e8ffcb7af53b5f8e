"""Which processors are cores of their own, and that a process keeps to those it was told."""

import os
import threading
from pathlib import Path

import pytest

from bench.system import processors


def machine(folder: Path, siblings: dict[int, str]) -> Path:
    """The kernel's folder of processors, each with the list of its core."""
    for number, text in siblings.items():
        place = folder / f"cpu{number}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text + "\n")
    return folder


def test_hyperthreads_of_a_core_are_together(tmp_path):
    system = machine(tmp_path, {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6"})
    assert processors.cores(range(7), system) == [(0, 4), (1, 5), (2, 6), (3,)]
    assert processors.cores([4, 1], system) == [(1,), (4,)]


def test_neighbours_may_be_one_core(tmp_path):
    system = machine(tmp_path, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    assert processors.cores(range(4), system) == [(0, 1), (2, 3)]


@pytest.mark.parametrize("text", ["", "all of them"])
def test_without_a_list_each_processor_is_a_core(tmp_path, text):
    assert processors.cores([0, 1], machine(tmp_path, {0: text})) == [(0,), (1,)]


def test_processors_in_words():
    assert processors.as_text([3, 0, 1, 2, 8]) == "0-3, 8"
    assert processors.as_text([1]) == "1"


@pytest.mark.skipif(len(processors.allowed()) < 2, reason="needs two processors")
def test_every_thread_keeps_to_what_was_told():
    everything = processors.allowed()
    first, second = everything[:2]
    done, ready = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        done.wait()

    other = threading.Thread(target=wait)
    other.start()
    ready.wait()
    try:
        processors.keep_to([second])
        assert processors.reached() == (second,)
        os.sched_setaffinity(other.native_id, {first})
        assert processors.reached() == (first, second)
    finally:
        processors.keep_to(everything)
        done.set()
        other.join()
