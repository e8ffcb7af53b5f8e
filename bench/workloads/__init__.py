"""Workloads by name: our own, one file each; the user's files; and workloads that others have written."""

import importlib

from bench.system.plugins import Door
from bench.workloads import own_files
from bench.workloads.base import Batch, Workload
from bench.workloads.others import Others

__all__ = ["DOOR", "WORKLOADS", "Batch", "Workload", "load"]

WORKLOADS = ("listops", "text", "retrieval", "image", "pathfinder", "path-x", "speech", "lm")
DOOR = Door("workload", "seqboat_bench.workloads", WORKLOADS)


def load(name: str) -> Workload:
    """The workload of that name, `tokens:file.npy`, `text:file.txt`, or the one at an import path.

    Raises UsageError, which names the nearest name, or what is wrong with the file or the object.
    """
    if name in WORKLOADS and name not in DOOR.contested():
        workload: Workload = importlib.import_module(f"bench.workloads.{name.replace('-', '_')}").WORKLOAD
        return workload
    return own_files.load(name) if own_files.is_own_file(name) else Others(name, DOOR.load(name))
