"""Tries the installed package in an environment that has nothing else, from an empty folder.

`python -I try_installed.py CHECKOUT`: tox builds and installs it (`tox -e package-wheel,package-sdist`).
"""

import json
import subprocess
import sys
from importlib.metadata import files, version
from pathlib import Path

CHECKOUT = Path(sys.argv[1])


def bench(*words: str) -> str:
    command = Path(sys.executable).with_name("bench")
    finished = subprocess.run([command, *words], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"bench {' '.join(words)}: {finished.stderr}"
    return finished.stdout


def it_is_the_package_and_not_the_checkout() -> None:
    import bench as package

    assert Path(sys.prefix) in Path(package.__file__).parents
    assert list(Path.cwd().iterdir()) == []


def it_is_typed() -> None:
    installed = {str(file) for file in files("seqboat-bench") or ()}
    assert {"bench/py.typed", "implementations/py.typed", "peers/py.typed"} <= installed


def it_has_no_more_than_its_packages() -> None:
    tops = {file.parts[0] for file in files("seqboat-bench") or () if ".." not in file.parts}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bench", "implementations", "peers"}


def its_version_is_one() -> None:
    import bench as package

    assert version("seqboat-bench") == package.__version__
    assert bench("--version") == f"seqboat-bench {package.__version__}\n"


def it_knows_what_the_checkout_has() -> None:
    assert "Usage: " in bench("--help")
    suites = [row["name"] for row in json.loads(bench("list", "suites", "--json"))]
    assert sorted(suites) == sorted(path.stem for path in (CHECKOUT / "suites").glob("*.yaml"))
    assert "seqboat" in bench("list", "implementations")


def it_verifies_a_model() -> None:
    golden = CHECKOUT / "tests" / "golden"
    verdicts = json.loads(bench("verify", "--golden", str(golden), "--impl", "transformer", "--json"))
    assert verdicts
    assert {verdict["status"] for verdict in verdicts} == {"passed"}


def it_plans_from_the_baselines() -> None:
    plan = json.loads(bench("plan", "--suite", "lra", "--device", "cpu", "--json"))
    assert any(one["hours"] for one in plan["estimates"])


def it_measures_and_shows() -> None:
    words = ["--suite", "ci", "--quick", "--device", "cpu", "--impl", "transformer", "--length", "64"]
    (row,) = json.loads(bench("run", *words, "--out", "run.jsonl", "--format", "json"))
    assert row["status"] == "ok"
    assert row["step_seconds"] > 0
    assert "Published" in bench("table", "run.jsonl", "--published")


CHECKS = [
    it_is_the_package_and_not_the_checkout,
    it_is_typed,
    it_has_no_more_than_its_packages,
    its_version_is_one,
    it_knows_what_the_checkout_has,
    it_verifies_a_model,
    it_plans_from_the_baselines,
    it_measures_and_shows,
]

for check in CHECKS:
    check()
    print(check.__name__.replace("_", " "))
