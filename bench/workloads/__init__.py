"""Workloads by name; one file each."""

import difflib
import importlib

from bench.errors import UsageError
from bench.workloads.base import Batch, Workload

__all__ = ["WORKLOADS", "Batch", "Workload", "load"]

WORKLOADS = ("listops", "text", "retrieval", "image", "pathfinder", "path-x", "speech", "lm")


def load(name: str) -> Workload:
    """The workload of that name. Raises UsageError, naming the nearest."""
    if name not in WORKLOADS:
        near = difflib.get_close_matches(name, WORKLOADS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(WORKLOADS)}"
        raise UsageError(f"unknown workload {name!r}; {hint}")
    workload: Workload = importlib.import_module(f"bench.workloads.{name.replace('-', '_')}").WORKLOAD
    return workload
