"""`--executor ray`: a suite's grid over the devices of a Ray cluster.

A device is a GPU, or on CPUs all cores of a node. One placement group holds each from beginning to end, so
nothing else that Ray runs comes near it, and every job is a task in such a group: on one node, on one GPU.
Records stream back as they are made. Whatever Ray reports of a task that did not end by itself is a job
that was cut off.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from bench.errors import UsageError
from bench.measure.cluster_tasks import carry_out, probe, software_of
from bench.measure.jobs import Job
from bench.measure.procedure import Procedure
from bench.measure.scheduler import Scheduler
from bench.records.environment import Environment
from bench.records.run import Device
from bench.suites.suite import Suite
from bench.system.extras import require

WAIT_SECONDS = 60.0
"""For a device that other work of the cluster holds; then the run continues without it."""


@dataclass(frozen=True, eq=False)
class Slot:
    """One device and the placement group that holds it."""

    node: str
    bundle: dict[str, float]
    group: Any

    @property
    def options(self) -> dict[str, Any]:
        """Ray's options for a task that has all of the device."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return {
            "num_cpus": self.bundle.get("CPU", 0),
            "num_gpus": self.bundle.get("GPU", 0),
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self.group, 0),
            "max_retries": 0,
        }


class Cluster:
    """The free devices of a cluster, held for one run."""

    def __init__(self, suite: Suite, device: str, threads: int | None) -> None:
        """Raises UsageError if there is no Ray, no cluster, or no device that can take part."""
        _check(device)
        self.ray = _connect()
        self.notices: list[str] = []
        self.slots: dict[Slot, Device] = {}
        try:
            self._probe(self._hold(device), threads, suite.workload)
            self.checkpoints = {
                file: self.ray.put(Path(file).read_bytes()) for file in suite.checkpoints.values()
            }
        except BaseException:
            self.ray.shutdown()
            raise

    @property
    def devices(self) -> Sequence[Device]:
        return list(self.slots.values())

    @property
    def kinds(self) -> list[Environment]:
        return list({device.environment.machine: device.environment for device in self.devices}.values())

    def count(self, kind: Environment) -> int:
        return sum(device.environment.machine == kind.machine for device in self.devices)

    def carry_out(self, schedulers: Sequence[Scheduler]) -> None:
        """Keep every device busy until no scheduler has a job, or no device is left."""
        by_kind = {kind.machine: scheduler for kind, scheduler in zip(self.kinds, schedulers, strict=True)}
        running: dict[Any, tuple[Slot, Scheduler, Job]] = {}
        idle = list(self.slots)
        while True:
            for slot in list(idle):
                scheduler = by_kind[self.slots[slot].environment.machine]
                job = scheduler.next_job()
                if job is not None:
                    running[self._submit(slot, job, scheduler.procedure)] = (slot, scheduler, job)
                    idle.remove(slot)
            if not running:
                return
            ended = None
            while ended is None:
                ended = self._receive(running)
            slot, still_there = ended
            if still_there:
                idle.append(slot)

    def _receive(self, running: dict[Any, tuple[Slot, Scheduler, Job]]) -> tuple[Slot, bool] | None:
        """Take one record; or the end of a job, and then whether its device can have another."""
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        (stream, *_), _ = self.ray.wait(list(running), num_returns=1)
        slot, scheduler, job = running[stream]
        try:
            record = self.ray.get(next(stream))
        except StopIteration:
            del running[stream]
            scheduler.finished(job)
            return slot, True
        except RayError as error:
            del running[stream]
            device = self.slots[slot]
            scheduler.cut_off(job, device.node, device.device, _in_one_line(error))
            # What fails in Python or for want of memory leaves its node alive; anything else may not.
            still_there = isinstance(error, RayTaskError | OutOfMemoryError)
            if not still_there:
                self.ray.util.remove_placement_group(slot.group)
            return slot, still_there
        scheduler.take(record)
        return None

    def _submit(self, slot: Slot, job: Job, procedure: Procedure) -> Any:
        device = self.slots[slot]
        task = self.ray.remote(carry_out).options(**slot.options, num_returns="streaming")
        return task.remote(job, procedure, self.checkpoints, device.node, device.device)

    def _hold(self, wanted: str) -> list[Slot]:
        """A placement group for every device that is free, or becomes so soon."""
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        kind = wanted
        if wanted == "auto":
            kind = "cuda" if any(node["Resources"].get("GPU", 0) for node in nodes) else "cpu"
        names = _names(nodes)
        slots = [
            Slot(names[node["NodeID"]], bundle, self._group(node, bundle))
            for node in nodes
            for bundle in device_bundles(node["Resources"], kind)
        ]
        if not slots:
            what = "GPU" if kind == "cuda" else "CPU"
            raise UsageError(f"--executor ray: none of the cluster's {len(nodes)} nodes has a {what}")
        end = time.monotonic() + WAIT_SECONDS
        held = [slot for slot in slots if slot.group.wait(max(0.0, end - time.monotonic()))]
        for slot in slots:
            if slot not in held:
                self._leave_out(slot, f"other work holds it for more than {WAIT_SECONDS:.0f} s")
        return held

    def _group(self, node: dict[str, Any], bundle: dict[str, float]) -> Any:
        here = [{"ray.io/node-id": node["NodeID"]}]
        return self.ray.util.placement_group([bundle], strategy="STRICT_PACK", bundle_label_selector=here)

    def _probe(self, slots: Sequence[Slot], threads: int | None, workload: str) -> None:
        """Ask every device what it is; those with other code or data than the driver's are left out."""
        from ray.exceptions import RayError

        ours = software_of(workload)
        task = self.ray.remote(probe)
        asked = [task.options(**slot.options).remote(slot.bundle, threads, workload) for slot in slots]
        for slot, answer in zip(slots, asked, strict=True):
            try:
                probed = self.ray.get(answer)
            except RayError as error:
                self._leave_out(slot, _in_one_line(error))
                continue
            if probed.software != ours:
                self._leave_out(slot, f"it has {probed.software.words}, the driver {ours.words}")
                continue
            if probed.niceness > 0:
                self.notices.append(
                    f"{slot.node} gives way to other work (niceness {probed.niceness}): start its Ray with "
                    "RAY_worker_niceness=0 in the environment"
                )
            self.slots[slot] = Device(node=slot.node, device=probed.device, environment=probed.environment)
        if not self.slots:
            raise UsageError(f"--executor ray: no device can take part: {'; '.join(self.notices)}")

    def _leave_out(self, slot: Slot, reason: str) -> None:
        self.ray.util.remove_placement_group(slot.group)
        self.notices.append(f"{slot.node} takes no part: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ends every task of this driver, and with them the workers that they started.
        self.ray.shutdown()


def _connect() -> ModuleType:
    ray = require("ray", "ray")
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address.startswith("ray://"):
        raise UsageError(
            f"RAY_ADDRESS={address}: records can't stream through a Ray client; run bench on a node of the "
            "cluster (for example as a Ray job)"
        )
    paths = [os.getcwd(), os.environ.get("PYTHONPATH", "")]
    # Models of one's own are found on nodes that see this folder too.
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}}
    try:
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--executor ray: no cluster at {address} ({_in_one_line(error)}); start one with "
            "`ray start --head`, or set RAY_ADDRESS"
        ) from None
    return ray


def _check(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: with --executor ray choose auto, cpu or cuda")


def device_bundles(resources: dict[str, float], kind: str) -> list[dict[str, float]]:
    """One bundle per device of a node: a GPU with its share of the cores, or all cores."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if kind == "cpu":
        return [{"CPU": cpus}] if cpus else []
    share = {"CPU": cpus // gpus} if gpus and cpus >= gpus else {}
    return [{"GPU": 1, **share} for _ in range(gpus)]


def _names(nodes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Names by node id: the host's, with the id if several nodes have the same host."""
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    return {
        node["NodeID"]: host if hosts[host] == 1 else f"{host}/{node['NodeID'][:8]}"
        for node in nodes
        for host in [node["NodeManagerHostname"]]
    }


def _in_one_line(error: Exception) -> str:
    """The error without the trace that Ray puts before it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {_in_one_line(cause)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(". ")[0][:200] if lines else type(error).__name__
