"""Fused against plain: every benchmark group prints the ratio of its medians at the end."""

import os
from collections import defaultdict

import pytest
import torch

THREADS = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def threads(one_thread):
    """All of them in every test: the fixture of all tests leaves one after each."""
    torch.set_num_threads(THREADS)


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    for result in session.benchmarks if session else []:
        medians[result.group][result.extra_info["form"]] = result.stats.median
    terminalreporter.section(f"plain over fused, {THREADS} threads")
    for group, forms in medians.items():
        if {"plain", "fused"} <= forms.keys():
            plain, fused = forms["plain"] * 1e3, forms["fused"] * 1e3
            terminalreporter.write_line(
                f"{group:<44} {plain:9.1f} ms  {fused:9.1f} ms  {plain / fused:6.2f}×"
            )
