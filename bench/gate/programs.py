"""Other tools' programs and the gate on one repository, at the same time each: false alarms, slowdowns found.

Run as `python -m bench.gate.programs`, with hyperfine, asv and pytest-benchmark installed. The repository has
one model and three revisions: `base`, `same`, which differs by a comment, and `slower`, in which a step takes
longer by a planted share. Each tool is asked as its own manual does, is given the same time for a pair of
revisions, and its own word, by exit code or output, is what counts.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.errors import UsageError
from bench.gate.planted import SLOWED
from bench.text.text_table import text_table
from bench.text.units import format_duration

REVISIONS = ("base", "same", "slower")
PROGRAMS = ("hyperfine", "asv", "git")
HARNESS = Path(__file__).resolve().parents[2]
START = 4.0
"""Seconds in which a process imports torch and warms up, about."""

MODEL = (
    SLOWED
    + '''

def build(task, hyperparameters):
    """{model} of this project, its step longer by {share:.0%}."""  # {revision}
    from implementations import registry

    original = registry.find("{model}")
    return slowed(original.load()(task, original.hyperparameters(task.name, "matched")), {share})
'''
)
STEP = '''"""The step that all tools time."""

import sys

from bench.steps.step import Step
from bench.suites import reading


def ready():
    suite = reading.load("ci", {"implementations": ["model:build"], "baseline": "model:build"})
    step = Step(suite.cases("cpu")[0], "cpu")
    step.calibrate()
    for _ in range(20):
        step()
    return step


if __name__ == "__main__":
    step = ready()
    for _ in range(int(sys.argv[1])):
        step()
'''
TEST = """from step import ready


def test_step(benchmark):
    benchmark(ready())
"""
ASV_BENCHMARK = """from step import ready


class Steps:
    timeout = 600
    rounds = 2
    repeat = (5, 100_000, {seconds})

    def setup(self):
        self.step = ready()

    def time_step(self):
        self.step()
"""
INTO_THE_ENVIRONMENT = (
    "import pathlib, shutil, sysconfig; to = pathlib.Path(sysconfig.get_path('purelib')); "
    "[shutil.copy(pathlib.Path(r'{build_dir}') / name, to) for name in ('model.py', 'step.py')]; "
    "(to / 'given.pth').write_text(PATHS)"
)


@dataclass(frozen=True)
class Trial:
    """A repository with the three revisions, and a folder with each of them."""

    folder: Path
    seconds: float
    """Time of a tool for a pair of revisions."""
    steps: int
    """Steps of one command that hyperfine times."""

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def of(self, revision: str) -> Path:
        return self.folder / revision


def environment(folder: Path) -> dict[str, str]:
    """Variables under which a folder's model is what is imported, and settings of a tool are kept there."""
    return {**os.environ, "HOME": str(folder), "PYTHONPATH": os.pathsep.join([str(folder), str(HARNESS)])}


def hyperfine(trial: Trial, head: str) -> bool:
    """`hyperfine BASE HEAD`: its ratio is above 1 by more than its ±."""
    command = 3.0 + START
    runs = max(2, int(trial.seconds / 2 / command) - 1)
    out = trial.folder / "hyperfine.json"
    commands = [
        f"env PYTHONPATH={trial.of(each)}:{HARNESS} {sys.executable} {trial.of(each)}/step.py {trial.steps}"
        for each in ("base", head)
    ]
    _run(["hyperfine", "-N", "--warmup=1", f"--runs={runs}", f"--export-json={out}", *commands], trial.folder)
    base, other = json.loads(out.read_text())["results"]
    ratio = other["mean"] / base["mean"]
    error = ratio * sum((each["stddev"] / each["mean"]) ** 2 for each in (base, other)) ** 0.5
    return bool(ratio - error > 1)


def pytest_benchmark(trial: Trial, head: str) -> bool:
    """`--benchmark-save` of base, then `--benchmark-compare-fail=mean:3%` of head: its exit code."""
    storage = trial.folder / "saved"
    shutil.rmtree(storage, ignore_errors=True)
    each = ["pytest", "-q", "-p", "no:cacheprovider", "test_step.py", f"--benchmark-storage=file://{storage}"]
    each += [f"--benchmark-max-time={trial.seconds / 2 - START}", "--benchmark-warmup=off"]
    python = [sys.executable, "-m"]
    _run([*python, *each, "--benchmark-save=base"], trial.of("base"))
    compared = [*python, *each, "--benchmark-compare=0001", "--benchmark-compare-fail=mean:3%"]
    code, words = _run(compared, trial.of(head), allowed=(0, 1))
    if code == 1 and "Performance has regressed" not in words:
        raise UsageError(f"pytest-benchmark failed: {words[-300:]}")
    return code == 1


def asv(trial: Trial, head: str) -> bool:
    """`asv continuous --factor 1.03 --interleave-rounds`: whether it says that performance decreased."""
    shutil.rmtree(trial.repository / ".asv" / "results", ignore_errors=True)
    arguments = ["--factor=1.03", "--interleave-rounds", "--no-only-changed", "base", head]
    _, words = _run(["asv", "continuous", *arguments], trial.repository, allowed=(0, 1))
    if "PERFORMANCE" not in words and "BENCHMARKS NOT SIGNIFICANTLY" not in words:
        raise UsageError(f"asv gave no verdict: {words[-300:]}")
    return bool(re.search("PERFORMANCE DECREASED", words))


def regress(trial: Trial, head: str) -> bool:
    """`bench regress`: whether its exit code says REGRESSED."""
    arguments = ["--base=base", f"--head={head}", "--impl=model:build", f"--budget={trial.seconds:.0f}s"]
    code, _ = _run(
        [sys.executable, "-m", "bench", "regress", *arguments], trial.repository, allowed=(0, 1, 3)
    )
    return code == 1


TOOLS: Mapping[str, Callable[[Trial, str], bool]] = {
    "hyperfine, its ± excludes 1": hyperfine,
    "pytest-benchmark, `compare-fail=mean:3%`": pytest_benchmark,
    "asv continuous, `--factor 1.03 --interleave-rounds`": asv,
    "`bench regress`": regress,
}


def _run(command: list[str], folder: Path, allowed: tuple[int, ...] = (0,)) -> tuple[int, str]:
    """Exit code and output. Raises UsageError if the code is none of those allowed."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), text=True, capture_output=True)
    if done.returncode not in allowed:
        raise UsageError(f"{shlex.join(command)[:200]}: {(done.stderr or done.stdout)[-500:]}")
    return done.returncode, done.stdout + done.stderr


def repository(folder: Path, model: str, share: float, seconds: float) -> Trial:
    """Make the three revisions. share: by which a step of `slower` takes longer."""
    trial = Trial(folder, seconds, _steps(folder, model))
    trial.repository.mkdir()
    (trial.repository / "benchmarks").mkdir()
    (trial.repository / "benchmarks" / "__init__.py").touch()
    (trial.repository / "benchmarks" / "steps.py").write_text(
        ASV_BENCHMARK.format(seconds=seconds / 4 - START)
    )
    (trial.repository / "asv.conf.json").write_text(json.dumps(_asv_configuration(), indent=2))
    _git(trial, "init", "-q", "-b", "main")
    _run(["asv", "machine", "--yes"], trial.repository)
    for revision in REVISIONS:
        for place in (trial.repository, trial.of(revision)):
            place.mkdir(exist_ok=True)
            text = MODEL.format(model=model, share=share if revision == "slower" else 0.0, revision=revision)
            (place / "model.py").write_text(text)
            (place / "step.py").write_text(STEP)
            (place / "test_step.py").write_text(TEST)
        _git(trial, "add", "-A")
        _git(trial, "commit", "-qm", revision)
        _git(trial, "branch", revision)
    return trial


def _steps(folder: Path, model: str) -> int:
    """Steps that take about three seconds."""
    place = folder / "tried"
    place.mkdir()
    (place / "model.py").write_text(MODEL.format(model=model, share=0.0, revision="tried"))
    (place / "step.py").write_text(STEP)
    timed = (
        "import time; from step import ready; s = ready(); b = time.perf_counter(); [s() for _ in range(20)]"
    )
    _, words = _run([sys.executable, "-c", f"{timed}; print((time.perf_counter() - b) / 20)"], place)
    return max(10, int(3.0 / float(words.split()[-1])))


def _asv_configuration() -> dict[str, object]:
    """An environment per revision that holds its two modules, and finds all others where they are."""
    paths = "\n".join(dict.fromkeys([*(path for path in sys.path if "site-packages" in path), str(HARNESS)]))
    copy = INTO_THE_ENVIRONMENT.replace("PATHS", repr(paths))
    return {
        "version": 1,
        "project": "trial",
        "repo": ".",
        "branches": ["main"],
        "environment_type": "virtualenv",
        "benchmark_dir": "benchmarks",
        "env_dir": ".asv/env",
        "results_dir": ".asv/results",
        "build_command": [],
        "install_command": [f"python -c {shlex.quote(copy)}"],
        "uninstall_command": [],
    }


def _git(trial: Trial, *arguments: str) -> None:
    who = ["-c", "user.name=trial", "-c", "user.email=trial@localhost"]
    _run(["git", *who, *arguments], trial.repository)


def table(found: Mapping[str, Mapping[str, list[bool]]], seconds: Mapping[str, float], share: float) -> str:
    """A row per tool. found: alarms by tool and head. seconds: of a pair of revisions, by tool."""
    rows = [
        [name, *(f"{sum(alarms[head])} of {len(alarms[head])}" for head in REVISIONS[1:]),
         format_duration(seconds[name])]
        for name, alarms in found.items()
    ]  # fmt: skip
    headers = ["Tool and rule", "A/A: alarm", f"{share:.0%} slower: found", "time per pair"]
    return text_table(rows, headers, ["left", "right", "right", "right"], "pipe")


def measure(model: str, share: float, seconds: float, times: int) -> str:
    """Ask every tool about both heads, by turns; the table. Raises UsageError if a tool fails."""
    with TemporaryDirectory(prefix="bench-programs-") as folder:
        trial = repository(Path(folder), model, share, seconds)
        found: dict[str, dict[str, list[bool]]] = {
            tool: {head: [] for head in REVISIONS[1:]} for tool in TOOLS
        }
        taken = dict.fromkeys(TOOLS, 0.0)
        for number in range(times):
            for head in REVISIONS[1:]:
                for tool, ask in TOOLS.items():
                    begin = time.monotonic()
                    found[tool][head].append(ask(trial, head))
                    taken[tool] += time.monotonic() - begin
                    print(f"{number + 1}/{times} {head}: {tool}: {found[tool][head][-1]}", file=sys.stderr)
        count = times * len(REVISIONS[1:])
        return table(found, {tool: total / count for tool, total in taken.items()}, share)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate.programs", description=__doc__)
    parser.add_argument("--model", default="seqboat-fused")
    parser.add_argument("--slowdown", type=float, default=0.05, help="planted share of a step")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for a pair of revisions, per tool")
    parser.add_argument("--times", type=int, default=5, help="pairs of each kind, per tool")
    options = parser.parse_args()
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        parser.error(f"{', '.join(missing)}: not installed, or not on the PATH")
    try:
        print(measure(options.model, options.slowdown, options.seconds, options.times))
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
