"""Slowdowns planted into copies of the models, and timed as a gate times a revision.

Run as `python -m bench.gate.planted --out NOISE.jsonl`; `python -m bench.gate.false_alarms` then tells what
gates find of them. Identical code is timed along, so the files are those of `bench doctor --aa` too.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import implementations
from bench.errors import UsageError
from bench.gate.machine_study import SLOWDOWNS, planted_name
from bench.gate.noise import measure_noise
from bench.measure.pairing import pair
from bench.probes.environment import probe_environment
from bench.suites import reading
from bench.workers.source import CodeSource
from implementations import registry

SLOWED = '''"""A model that takes longer by a share of its own step; planted by bench.gate.planted."""

import statistics
import time
from collections import deque

_planted = []


def slowed(model, share, clock=time.perf_counter):
    """Spin before each forward pass; the outermost model that is built is meant, and its parts are not."""
    if _planted:
        return model
    _planted.append(model)
    steps, last, spun = deque(maxlen=9), None, 0.0

    def spin(module, inputs):
        nonlocal last, spun
        now = clock()
        if last is not None:
            steps.append(now - last - spun)
        last, spun = now, share * statistics.median(steps) if steps else 0.0
        while clock() < now + spun:
            pass

    model.register_forward_pre_hook(spin)
    return model
'''
PLANT = """

from implementations.planted import slowed as _slowed

_as_it_was = {function}


def {function}(*arguments, **keywords):
    return _slowed(_as_it_was(*arguments, **keywords), {share})
"""


def plant(folder: Path, share: float, names: Iterable[str]) -> CodeSource:
    """A copy of `implementations` below a folder in which models take longer by a share of their step."""
    copy = folder / "implementations"
    ours = Path(implementations.__file__).parent
    shutil.copytree(ours, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "planted.py").write_text(SLOWED, encoding="utf-8")
    for path in dict.fromkeys(registry.find(name).path for name in names):
        module, _, function = path.partition(":")
        with (folder / f"{module.replace('.', '/')}.py").open("a", encoding="utf-8") as file:
            file.write(PLANT.format(function=function, share=share))
    return CodeSource((), implementations=folder)


def measure(suite: str, blocks: int, budget: str, out: Path, pairing: str) -> list[Path]:
    """Time identical code and every planted slowdown in each pairing; the result files. Raises UsageError."""
    names = reading.load(suite).implementations
    environment = probe_environment("cpu", None)
    files = {out: environment}
    if pairing != "turns":
        duet = pair(environment, "duet", None).environment
        files = {out: duet} if pairing == "duet" else files | {out.with_stem(f"{out.stem}-duet"): duet}
    with ExitStack() as stack:
        sources = {}
        for share in SLOWDOWNS:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-planted-")))
            sources[planted_name(share)] = plant(folder, share, names)
        measure_noise(suite, {}, budget, blocks, files, sources)
    return list(files)


def main() -> None:
    """Measure, and name the files."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate.planted", description=__doc__)
    parser.add_argument("--suite", default="ci")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--budget", default="60m")
    parser.add_argument("--pairing", default="both", choices=["both", "duet", "turns"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        files = measure(options.suite, options.blocks, options.budget, options.out, options.pairing)
    except UsageError as error:
        parser.error(str(error))
    print(*files, file=sys.stderr)


if __name__ == "__main__":
    main()
