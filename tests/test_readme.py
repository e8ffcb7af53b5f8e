"""The README's own-model example works as printed."""

import json
import re
from pathlib import Path

from .bench.in_process import bench

OPTIONS = [
    "--suite",
    "ci",
    "--quick",
    "--device",
    "cpu",
    "--impl",
    "my_model:build",
    "--length",
    "64",
    "--format",
    "json",
]
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_model_joins_a_run(tmp_path):
    (block,) = re.findall(r"```python\n# (my_model\.py)\n(.*?)```", README, flags=re.DOTALL)
    name, code = block
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15
    (tmp_path / name).write_text(code)
    finished = bench("run", *OPTIONS, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    baseline, mine = json.loads(finished.stdout)
    assert (baseline["model"], mine["model"]) == ("transformer", "my_model:build")
    assert mine["status"] == "ok"
    assert mine["speed_ratio"] > 0
    assert mine["parameters"] == 257 * 64 + 64 * 64 * 7 + 64 + 64 * 2 + 2
