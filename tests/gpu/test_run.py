"""The prepared run on a GPU, dry: every part of it runs on a CPU, in small sizes."""

import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "run"
ROOT = RUN.parents[2]


def test_every_part_of_the_probe_runs_without_a_gpu() -> None:
    variables = {
        "PROBE_DEVICE": "cpu",
        "PROBE_MODELS": "transformer,seqboat-fused",
        "PROBE_PRECISIONS": "fp32",
        "PYTHONPATH": str(ROOT),
    }
    parts = ["steps", "spikes", "ema", "graph", "faults"]
    run = subprocess.run(
        [sys.executable, str(RUN / "probe.py"), *parts],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = dict(line.rsplit(": ", 1) for line in run.stdout.splitlines() if not line.startswith("--"))
    no_graphs = "GRAPH: fp32: unsupported: mode graph"
    assert said.pop(no_graphs) == "CUDA graphs need a CUDA device, and this is cpu"
    assert {name.split(":")[0] for name in said} == {"STEPS", "SPIKES", "EMA", "FAULTS"}
    assert not [line for line in run.stdout.splitlines() if "error" in line.lower()]


def test_the_script_names_what_is_there() -> None:
    script = (RUN / "run.sh").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(RUN / "run.sh")], check=False).returncode == 0
    for word in script.split():
        path = word.strip("\"'`").replace("$here", "tests/gpu/run")
        if path.startswith("tests/"):
            assert (ROOT / path.rstrip("`.:")).exists(), path
