"""`kill -9` of whole runs at random moments: what was announced is in the file, and a resumed run ends."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

from bench.errors import ResultError
from bench.records.reading import Results, read
from bench.views.tables.table import build_table

KILLS = 50
LONGEST_SECONDS = 0.6


def test_kill_9_at_random_moments_loses_nothing_that_was_announced(start_runs, tmp_path):
    runs = start_runs()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it when the test fails
    chance = random.Random(seed)
    paths = [tmp_path / "0.jsonl"]
    killed = 0
    while killed < KILLS:
        pid = runs.begin("resume" if paths[-1].exists() else "out", paths[-1])
        time.sleep(chance.uniform(0, LONGEST_SECONDS))
        with contextlib.suppress(ProcessLookupError):  # It may have come to its end.
            os.kill(pid, signal.SIGKILL)
        code = runs.end()
        assert code in (0, -signal.SIGKILL)
        assert_kept(paths[-1], *runs.told())
        killed += code == -signal.SIGKILL
        if code == 0:
            paths.append(tmp_path / f"{len(paths)}.jsonl")
    for path in paths:
        if not path.exists() or read_if_begun(path) is None or read(path).end is None:
            code, printed = runs.make("resume" if path.exists() else "out", path)
            assert code == 0, printed
        assert_whole(read(path))


def assert_kept(path: Path, announced: list[dict], workers: list[int]) -> None:
    results = read_if_begun(path)
    assert results is not None or not announced
    kept = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if results else []
    assert all(record in kept for record in announced)
    end = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < end, "a worker outlived its parent"
        time.sleep(0.01)


def read_if_begun(path: Path) -> Results | None:
    """None where not even the header is whole."""
    try:
        return read(path)
    except ResultError:
        assert not path.exists() or b"\n" not in path.read_bytes()
        return None


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_whole(results: Results) -> None:
    """As a run that nobody disturbed: every case, timed in three whole blocks at least, each sample once."""
    rows = build_table(results).rows
    assert [row.model for row in rows] == ["quick:one", "quick:two", "quick:three"]
    assert [row.status for row in rows] == ["ok"] * 3
    assert all(row.blocks >= 3 and row.speed_low is not None for row in rows)
    assert results.end.reason == "blocks"
    places = [(s.case_id, s.block, s.round, s.position, s.attempt) for s in results.samples]
    assert len(places) == len(set(places))
    lines = Path(results.path).read_bytes().splitlines()
    assert sum(b'"type":"solo"' in line for line in lines) == 3
