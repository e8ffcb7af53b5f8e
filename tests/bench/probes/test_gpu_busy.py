"""What the device's profiler is asked, without a device."""

from types import SimpleNamespace

import pytest
import torch

from bench.probes import gpu_busy

CUDA, CPU = torch.autograd.DeviceType.CUDA, torch.autograd.DeviceType.CPU


def event(kind, begin, end, annotation=False):
    return SimpleNamespace(
        device_type=kind,
        is_user_annotation=annotation,
        time_range=SimpleNamespace(start=begin, end=end),
    )


def test_ranges_of_the_host_are_no_kernels():
    events = [event(CPU, 0, 9), event(CUDA, 1, 2), event(CUDA, 0, 9, annotation=True), event(CUDA, 5, 7)]
    assert list(gpu_busy._spans(events)) == [(1, 2), (5, 7)]


@pytest.mark.parametrize(
    ("spans", "total"),
    [([], 0), ([(1, 3), (5, 6)], 3), ([(5, 6), (1, 3), (2, 4)], 4), ([(0, 9), (1, 2), (8, 10)], 10)],
)
def test_kernels_that_run_side_by_side_count_once(spans, total):
    assert gpu_busy.covered(spans) == total


def test_a_profiler_that_shows_nothing_gives_no_figure(monkeypatch):
    monkeypatch.setattr(gpu_busy, "kernels_of", lambda step, device: [])
    assert gpu_busy.busy_of(lambda: None, torch.device("cuda")) is None
