"""The rule by which a run is disturbed: planted counters of the kernel, never a clock."""

import math

import pytest

from bench.records.conditions import Conditions
from bench.stats.disturbance import disturbance


def conditions(**seconds) -> Conditions:
    """Half a second on one processor that nothing else wanted."""
    return Conditions(**{"wall_seconds": 0.5, "processor_seconds": 0.5, "queued_seconds": 0.0,
                         "others_seconds": 0.0, "stolen_seconds": 0.0, "throttled_seconds": 0.0,
                         "pressure_seconds": 0.0, "preemptions": 0} | seconds)  # fmt: skip


DISTURBED = {
    "a busy loop on the same processor": (
        {"processor_seconds": 0.25, "queued_seconds": 0.25, "others_seconds": 0.25, "preemptions": 60},
        "waited for a processor that other work had for 0.24 s of 0.5 s",
    ),
    "a busy loop beside one of two threads": (
        {"processor_seconds": 0.8, "queued_seconds": 0.2, "others_seconds": 0.2},
        "waited for a processor",
    ),
    "a host that runs other machines": (
        {"processor_seconds": 0.4, "stolen_seconds": 0.1},
        "was not run by the host of this machine for 0.09 s of 0.5 s",
    ),
    "a quota that was used up": (
        {"processor_seconds": 0.3, "throttled_seconds": 0.2},
        "had used up its quota of processor time",
    ),
    "a little of each": (
        {"queued_seconds": 0.015, "others_seconds": 0.2, "stolen_seconds": 0.03},
        "waited for a processor",
    ),
    "a stop": ({"processor_seconds": 0.2, "stops": 1}, "was stopped and continued"),
    "a kernel that counts no queue, only pressure": (
        {"queued_seconds": None, "pressure_seconds": 0.2, "others_seconds": 0.2},
        "waited for a processor",
    ),
}


@pytest.mark.parametrize("name", DISTURBED)
def test_what_the_kernel_took_from_a_run_disturbs_it(name):
    planted, words = DISTURBED[name]
    assert words in disturbance(conditions(**planted))


UNDISTURBED = {
    "nothing": {},
    "a slow model": {"wall_seconds": 80.0, "processor_seconds": 80.0, "queued_seconds": 0.4,
                     "others_seconds": 0.4, "preemptions": 3000},
    "a model that sleeps in its step": {"processor_seconds": 0.05},
    "a model that sleeps while the machine is busy elsewhere": {"processor_seconds": 0.05,
                                                                "others_seconds": 0.9},
    "a model of eight threads on two processors, which wait for each other": {
        "processor_seconds": 1.0, "queued_seconds": 3.0, "others_seconds": 0.0, "preemptions": 900},
    "other work on another processor": {"others_seconds": 0.5, "pressure_seconds": 0.3},
    "preemptions that cost nothing": {"preemptions": 400, "queued_seconds": 0.002, "others_seconds": 0.02},
    "a tick of stolen time that began before the run": {"stolen_seconds": 0.01},
    "a host that takes from processors which it hardly used": {
        "processor_seconds": 0.02, "stolen_seconds": 0.2, "others_seconds": 0.8},
    "a kernel that says nothing": dict.fromkeys(
        ("processor_seconds", "queued_seconds", "others_seconds", "stolen_seconds", "throttled_seconds",
         "pressure_seconds", "preemptions")),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDISTURBED)
def test_what_a_model_does_itself_does_not(name):
    assert disturbance(conditions(**UNDISTURBED[name])) is None


def test_the_time_that_a_run_takes_is_no_part_of_the_rule():
    """A thousand times slower, everything else in proportion: the same answer."""
    for factor in (1e-3, 1.0, 1e3):
        calm = conditions(wall_seconds=0.5 * factor, processor_seconds=0.5 * factor)
        assert disturbance(calm) is None
        taken = conditions(
            wall_seconds=10 * factor, processor_seconds=5 * factor, queued_seconds=5 * factor,
            others_seconds=math.inf,
        )  # fmt: skip
        assert disturbance(taken) is not None


def test_a_throttled_gpu_disturbs_and_unknown_conditions_do_not():
    assert disturbance(conditions(), "thermal") == "the GPU was throttled (thermal)"
    assert disturbance(None) is None
