"""`--executor ray` on a real cluster of three nodes on this machine: one of them dies, as does the driver."""

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from bench.errors import UsageError
from bench.measure import cluster as cluster_module
from bench.measure.cluster import device_bundles
from bench.measure.request import Request
from bench.measure.session import run
from bench.records.reading import read
from bench.views.tables.table import build_table

from .test_run import bench, wait_for

pytestmark = pytest.mark.usefixtures("plug_ins")

HARNESS = Path(cluster_module.__file__).parents[2]
SUITE = {
    "lengths": [16, 32],
    "timing": {"min_blocks": 2, "max_blocks": 2, "max_rounds": 8, "target": "0.01%", "min_run": "100ms"},
}
MODELS = ("fault_models:tiny", "fault_models:slow")

PATIENT = {
    "health_check_timeout_ms": 300_000,
    "gcs_rpc_server_reconnect_timeout_s": 300,
    "gcs_server_request_timeout_seconds": 300,
    "worker_register_timeout_seconds": 300,
}
"""Settings for a busy machine: a node that answers late is not dead; one that is gone refuses at once."""
PATIENCE = 600.0
"""Seconds."""


@pytest.fixture(scope="module")
def nodes():
    """Three nodes of one core each; all that they say to each other stays on this machine."""
    pytest.importorskip("ray", reason="needs ray: pip install 'seqboat-bench[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    head = {"node_ip_address": "127.0.0.2", "include_dashboard": False, "_system_config": PATIENT}
    with pytest.MonkeyPatch.context() as patch:
        # The tests of others must not starve it.
        patch.setenv("RAY_worker_niceness", "0")
        made = Cluster(initialize_head=True, head_node_args=node | head)
        # Nor may Ray take 127.0.0.1 for another interface.
        for address in ("127.0.0.3", "127.0.0.4"):
            made.add_node(wait=False, node_ip_address=address, **node)
        made.wait_for_nodes(timeout=PATIENCE)
    yield made
    made.shutdown()


@pytest.fixture
def cluster(nodes, monkeypatch):
    """The nodes that are left, as a driver finds them."""
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return nodes


def run_suite(suite: str, out: Path, **options):
    return run(Request(suite=suite, out=out, **{"device": "cpu", "threads": 1, **options}))


def has_samples(path: Path) -> bool:
    return path.exists() and b'"sample"' in path.read_bytes()


def kill_driver(suite: str, out: Path) -> None:
    """Begin a run, and end its driver without a warning once it has timed something."""
    words = ("--suite", suite, "--device", "cpu", "--threads", "1", "--out", str(out), "--executor", "ray")
    said = out.with_suffix(".txt")
    with said.open("w") as file:
        driver = subprocess.Popen(bench("run", *words), stdout=file, stderr=file)
        try:
            wait_for(lambda: has_samples(out) or driver.poll() is not None, PATIENCE)
            assert driver.poll() is None, said.read_text()
        finally:
            driver.kill()
            driver.wait()


def kill_node_at_work(cluster, out: Path, since: int) -> None:
    """End a node, not the head, in the middle of one of its blocks."""
    workers = {node.node_id[:8]: node for node in cluster.worker_nodes}

    def at_work() -> str | None:
        samples = Counter((s.node, s.block, s.case_id) for s in read(out).samples[since:])
        rounds = 2 * SUITE["timing"]["max_rounds"]
        names = (node.partition("/")[2] for (node, _, _), visits in samples.items() if visits < rounds)
        return next((name for name in names if name in workers), None)

    cluster.remove_node(workers[wait_for(at_work, PATIENCE)], allow_graceful=False)


@pytest.mark.slow
def test_a_run_outlives_its_driver_and_a_node_and_has_the_rows_of_a_local_one(cluster, write_suite, tmp_path):
    suite, out = write_suite(*MODELS, **SUITE), tmp_path / "ray.jsonl"
    kill_driver(suite, out)
    before = read(out)
    assert before.end is None
    assert before.samples

    killing = (cluster, out, len(before.samples))
    killer = threading.Thread(target=kill_node_at_work, args=killing, daemon=True)
    killer.start()
    there = run_suite(suite, out, resume=out, executor="ray")
    killer.join()
    assert there.complete
    results = there.results
    assert results.end.reason == "blocks"
    assert before.solos.items() <= results.solos.items()
    assert results.samples[: len(before.samples)] == before.samples

    (void,) = results.voids
    assert void.block is not None
    assert not any(void.covers(sample) for sample in results.samples)
    devices = {(device.node, device.device) for device in results.devices}
    assert len(devices) == 3
    assert {(sample.node, sample.device) for sample in results.samples} <= devices
    assert one_node_for_each_block(results.samples)

    here = run_suite(suite, tmp_path / "local.jsonl")
    assert [what(row) for row in rows(there)] == [what(row) for row in rows(here)]


@pytest.mark.slow
def test_a_checkpoint_travels_to_a_node_that_has_no_such_file(cluster, write_suite, tmp_path, monkeypatch):
    suite = write_suite("seqboat", fill="real", hyperparameters="small")
    # The driver's folder, which no task has: its own name of the file leads nowhere there.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HARNESS), os.environ["PYTHONPATH"]]))
    words = ("--suite", suite, "--steps", "2", "--batch", "2", "--validation", "2", "--out", "trained")
    subprocess.run(bench("train", *words, "--device", "cpu", "--threads", "1"), check=True)
    options = {"quick": True, "checkpoints": (Path("trained/seqboat.safetensors"),)}
    there = run_suite(suite, Path("ray.jsonl"), executor="ray", **options)
    here = run_suite(suite, Path("local.jsonl"), **options)
    assert there.complete
    assert [what(row) for row in rows(there)] == [what(row) for row in rows(here)]
    (found,), (expected,) = (outcome.results.solos.values() for outcome in (there, here))
    assert found.case == expected.case
    assert found.case.checkpoint == "trained/seqboat.safetensors"
    assert found.activation == expected.activation


def rows(outcome):
    return build_table(*outcome.runs).rows


def what(row):
    """All of a row but its times."""
    return (
        row.case_id,
        row.status,
        row.peak_memory_bytes,
        row.memory_ratio,
        row.parameters,
        row.blocks,
        row.panel,
    )


def one_node_for_each_block(samples) -> bool:
    places = {}
    for sample in samples:
        place = places.setdefault((sample.case_id.split("/")[1], sample.block), sample.node)
        if place != sample.node:
            return False
    return True


def test_without_ray_it_says_how_to_get_it(write_suite, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'needs ray: pip install "seqboat-bench\[ray\]"'):
        run_suite(write_suite(*MODELS), tmp_path / "run.jsonl", executor="ray")
    assert not (tmp_path / "run.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "slurm"}, "--executor slurm: choose local or ray"),
        ({"executor": "ray", "device": "cuda:1"}, "--device cuda:1: with --executor ray choose"),
    ],
)
def test_what_it_does_not_know_is_one_line(write_suite, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        run_suite(write_suite(*MODELS), tmp_path / "run.jsonl", **options)


def test_a_ray_client_is_refused(write_suite, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with pytest.raises(UsageError, match="on a node of the cluster"):
        run_suite(write_suite(*MODELS), tmp_path / "run.jsonl", executor="ray")


RESOURCES = {
    "a GPU node": ({"CPU": 64.0, "GPU": 8.0}, "cuda", 8 * [{"GPU": 1, "CPU": 8}]),
    "more GPUs than cores": ({"CPU": 1.0, "GPU": 2.0}, "cuda", 2 * [{"GPU": 1}]),
    "all cores of a node": ({"CPU": 64.0, "GPU": 8.0}, "cpu", [{"CPU": 64}]),
    "a head that computes nothing": ({"memory": 1e9}, "cpu", []),
    "no GPU": ({"CPU": 4.0}, "cuda", []),
}


@pytest.mark.parametrize("name", RESOURCES)
def test_what_a_device_is(name):
    resources, kind, bundles = RESOURCES[name]
    assert device_bundles(resources, kind) == bundles
