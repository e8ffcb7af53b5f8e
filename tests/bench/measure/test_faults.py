"""What a machine does to runs: full disks, changed files, signals, pipes, locales, clocks, memory."""

import ast
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bench.errors import ResultError, UsageError
from bench.measure import session
from bench.measure.procedure import Procedure
from bench.measure.request import Request, load_suite
from bench.probes.environment import probe_environment
from bench.records.reading import read
from bench.records.run import SCHEMA
from bench.records.writing import ResultFile
from bench.system import child
from bench.views.tables.table import build_table

from ..made_up import results, write

ROOT = Path(__file__).parents[3]
LONG = {"max_blocks": 1000, "budget": "10m"}


def one_line(printed: str) -> str:
    """The last line, which is about the fault, and no traceback before it."""
    assert "Traceback" not in printed
    return printed.rstrip("\n").splitlines()[-1]


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# Disks


def in_a_mount(options: str, folder: Path, first: str = "true") -> list[str]:
    """Words before a command that give it a file system of its own; skips where that is forbidden."""
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}"'
    if subprocess.run([*words, mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs leave to mount (unshare --map-root-user --mount)")
    return [*words, f'{mount} && {first} && exec "$@"', "sh"]


def test_a_disk_that_fills_costs_the_record_in_flight_and_the_run_can_be_resumed(start_runs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    runs = start_runs(in_a_mount("size=12k", disk), LONG)
    out = Path(f"/proc/{runs.process.pid}/root{disk}/run.jsonl")
    code, printed = runs.make("out", disk / "run.jsonl")
    found = re.fullmatch(
        r"bench: (\S+): record (\d+) could not be written \(No space left on device\); "
        r"the (\d+) before it are kept; "
        r"make room, and resume with: bench run --suite \S+ --threads 2 --resume \1",
        one_line(printed),
    )
    assert found, printed
    assert (code, int(found[2])) == (2, int(found[3]) + 1)
    kept = read(out)
    announced, _ = runs.told()
    assert int(found[3]) == 1 + len(announced) == 1 + len(kept.solos) + len(kept.samples)

    again, printed = runs.make("resume", disk / "run.jsonl")
    assert again == 2
    assert "No space left" in one_line(printed)
    subprocess.run(
        ["nsenter", "-t", str(runs.process.pid), "-m", "-U", "mount", "-o", "remount,size=1m", str(disk)],
        check=True,
    )
    pid = runs.begin("resume", disk / "run.jsonl")
    wait_for(lambda: runs.told()[0])
    os.kill(pid, signal.SIGTERM)
    assert runs.end() == 130
    assert read(out).samples[: len(kept.samples)] == kept.samples


def test_a_disk_that_is_full_at_once_leaves_no_empty_file(start_runs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    runs = start_runs(in_a_mount("size=4k", disk, f"head -c 4096 /dev/zero > {disk}/full"))
    code, printed = runs.make("out", disk / "run.jsonl")
    assert code == 2
    assert "record 1 could not be written (No space left on device)" in one_line(printed)
    assert not Path(f"/proc/{runs.process.pid}/root{disk}/run.jsonl").exists()


def test_a_read_only_folder_is_one_line(start_runs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    code, printed = start_runs(in_a_mount("ro", disk)).make("out", disk / "run.jsonl")
    assert code == 2
    assert one_line(printed) == (
        f"bench: {disk}/run.jsonl: cannot be written (Read-only file system); choose another place with --out"
    )


def test_a_limit_on_file_size_is_a_full_disk(tmp_path):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from bench.records.run import End\n"
        "from bench.records.writing import NotWritten, ResultFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "with ResultFile(Path(sys.argv[1])) as store:\n"
        "    try:\n"
        "        while True:\n"
        "            store.append(End(reason='blocks', seconds=1.0))\n"
        "    except NotWritten as error:\n"
        "        print(error)\n"
    )
    path = tmp_path / "run.jsonl"
    words = [sys.executable, "-c", code, str(path)]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    kept = path.read_bytes().count(b"\n")
    assert f"record {kept + 1} could not be written (File too large); the {kept} before it" in printed


# Files that are not what they were


@pytest.fixture
def resume(monkeypatch, write_suite):
    """Resumes a file without ever starting a worker: what is refused is refused before."""
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: read_environment())

    def read_environment():
        return results().header.environment

    def go(path: Path, suite: str = "ci") -> None:
        session.run(Request(suite=suite, out=path, resume=path))

    return go


@pytest.fixture
def run_file(tmp_path) -> Path:
    return write(results(["transformer", "seqboat"], [256]), tmp_path)


def test_a_broken_line_is_named_when_a_run_is_resumed_and_nothing_is_changed(resume, run_file):
    lines = run_file.read_bytes().splitlines(keepends=True)
    run_file.write_bytes(b"".join([*lines[:4], b'{"type":"sam\x00\n', *lines[5:], b'{"type":']))
    before = run_file.read_bytes()
    with pytest.raises(ResultError, match=rf"{run_file}: line 5 is not a record"):
        resume(run_file)
    assert run_file.read_bytes() == before


def test_a_file_of_a_newer_version_says_so_whatever_its_records_are(run_file):
    lines = run_file.read_text().splitlines()
    header = json.loads(lines[0]) | {"schema": SCHEMA + 1, "environment": "elsewhere"}
    run_file.write_text("\n".join([json.dumps(header), '{"type":"dream"}', *lines[1:]]) + "\n")
    with pytest.raises(ResultError, match=f"has schema {SCHEMA + 1}, .*newer version: pip install --upgrade"):
        read(run_file)


def test_a_second_header_is_named(run_file):
    lines = run_file.read_bytes().splitlines(keepends=True)
    run_file.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(ResultError, match=f"line {len(lines) + 1} is a second header"):
        read(run_file)


@pytest.mark.parametrize("content", [b"", b'{"type":"hea', b'{"type":"header","schema":1,"created":"2026'])
def test_a_run_that_was_cut_off_before_its_header_begins_when_it_is_resumed(start_runs, tmp_path, content):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    code, printed = start_runs().make("resume", path)
    assert code == 0, printed
    assert read(path).end.reason == "blocks"


def test_a_file_that_is_no_result_is_not_touched(resume, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"dear diary\ntoday I")
    with pytest.raises(ResultError, match="line 1 is not a record"):
        resume(path)
    assert path.read_bytes() == b"dear diary\ntoday I"


def change_header(path: Path, **changes) -> None:
    run = read(path)
    path.unlink()
    write(
        msgspec.structs.replace(run, path=path.name, header=msgspec.structs.replace(run.header, **changes)),
        path.parent,
    )


def test_a_suite_that_was_changed_and_other_data_are_refused(resume, run_file, write_suite):
    suite = write_suite("transformer", "seqboat", lengths=[256], activation=[0.3])
    change_header(run_file, suite=load_suite(Request(suite=suite, out=run_file)))
    with pytest.raises(UsageError, match=r"was made of other data \(made up; now .*\); start anew"):
        resume(run_file, suite)
    changed = write_suite("transformer", "seqboat", lengths=[256], activation=[0.5])
    with pytest.raises(
        UsageError, match=r"made by another suite .* repeat its command line: bench run --suite"
    ):
        resume(run_file, changed)
    change_header(run_file, revisions={"base": "0123"})
    with pytest.raises(UsageError, match="a gate's raw data, which cannot be continued"):
        resume(run_file, suite)


def test_two_runs_cannot_share_a_file(resume, run_file):
    with ResultFile(run_file, resume=True):
        before = run_file.read_bytes()
        with pytest.raises(ResultError, match="another run is writing to it") as caught:
            resume(run_file)
        assert "\n" not in str(caught.value)
        assert run_file.read_bytes() == before
    with ResultFile(run_file, resume=True) as store:
        assert [len(run.solos) for run in store.earlier] == [2]


def test_a_second_run_says_in_one_line_that_the_file_is_in_use(start_runs, tmp_path):
    first, second = start_runs(timing=LONG), start_runs(timing=LONG)
    path = tmp_path / "run.jsonl"
    pid = first.begin("out", path)
    wait_for(lambda: path.exists() and path.stat().st_size > 0)  # its first record comes after its lock
    code, printed = second.make("resume", path)
    os.kill(pid, signal.SIGTERM)
    assert first.end() == 130
    assert code == 2
    assert (
        f"bench: {path}: another run is writing to it; let it end, or choose another file with --out"
        in printed
    )


def test_blocks_that_were_cut_short_do_not_count(start_runs, tmp_path):
    runs, path = start_runs(), tmp_path / "run.jsonl"
    assert runs.make("out", path)[0] == 0
    whole = read(path)
    cut = [next(s for s in whole.samples if s.block == block) for block in range(3)]
    path.unlink()
    write(msgspec.structs.replace(whole, path=path.name, samples=cut), tmp_path)
    code, printed = runs.make("resume", path)
    assert code == 0, printed
    rows = build_table(read(path)).rows
    assert [row.blocks for row in rows] == [3, 3, 3]
    assert {s.block for s in read(path).samples} == {0, 1, 2, 3, 4, 5}


def test_a_torn_line_is_mentioned_when_the_run_goes_on(start_runs, tmp_path):
    runs, path = start_runs(), tmp_path / "run.jsonl"
    assert runs.make("out", path)[0] == 0
    path.write_bytes(path.read_bytes()[:-5])
    _, printed = runs.make("resume", path)
    assert f"{path}: its torn last line was dropped\n" in printed
    assert re.search(r"continuing after 3 cases alone and \d+ timed runs\n", printed)
    assert read(path).notice is None


# Signals, pipes, terminals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(start_runs, tmp_path, number):
    runs, path = start_runs(timing=LONG), tmp_path / "run.jsonl"
    pid = runs.begin("out", path)
    wait_for(lambda: any(record["type"] == "sample" for record in runs.told()[0]))
    os.kill(pid, number)
    assert runs.end() == 130
    printed = runs.errors.read_text()
    assert one_line(printed).startswith("bench: interrupted; resume with: bench run --suite ")
    assert one_line(printed).endswith(f" --resume {path}")
    assert "stopped because it was interrupted" in printed
    announced, workers = runs.told()
    kept = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert all(record in kept for record in announced)
    assert kept[-1]["type"] == "end"
    assert kept[-1]["reason"] == "interrupted"
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("moment", [(os, "fsync"), (session, "open_display"), (session, "Scheduler")])
def test_a_signal_before_anything_is_measured_ends_a_run_in_order(monkeypatch, tmp_path, moment):
    """The header is in the file already, which says that the run was interrupted."""
    path, called = tmp_path / "run.jsonl", getattr(*moment)

    def signalled(*words, **options):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGTERM)
        return called(*words, **options)

    environment = results().header.environment
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: environment)
    monkeypatch.setattr(*moment, signalled)
    outcome = session.run(Request(suite="ci", out=path))
    assert outcome.interrupted
    assert outcome.results.end.reason == read(path).end.reason == "interrupted"


def test_a_signal_at_any_moment_ends_a_run_in_order(start_runs, tmp_path):
    runs = start_runs(timing=LONG)
    for number in range(12):
        path = tmp_path / f"run{number}.jsonl"
        pid = runs.begin("out", path)
        wait_for(lambda: path.exists() and path.stat().st_size > 0)  # noqa: B023  (called at once)
        time.sleep(random.uniform(0.0, 0.5))
        os.kill(pid, signal.SIGTERM)
        assert runs.end() == 130
        assert read(path).end.reason == "interrupted"


def test_a_run_whose_reader_has_gone_goes_on(start_runs, tmp_path):
    reading, writing = os.pipe()
    runs, path = start_runs(stderr=writing), tmp_path / "run.jsonl"
    os.close(writing)
    os.close(reading)
    runs.begin("out", path)
    assert runs.end() == 0
    assert read(path).end.reason == "blocks"


def test_without_a_terminal_there_are_plain_lines(start_runs, tmp_path):
    code, printed = start_runs(start_new_session=True, env={"TERM": ""}).make("out", tmp_path / "run.jsonl")
    assert code == 0
    assert "block 3 at length 32" in printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", printed)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "| true", "| head -c 20"])
def test_output_that_nobody_takes(run_file, closed):
    words = f'"{sys.executable}" -m bench.cli table {run_file} --format html {closed}'
    finished = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr
    if "/dev/full" in closed:
        assert finished.returncode == 2
        assert finished.stderr == "bench: the output could not be written (No space left on device)\n"
    else:
        assert (finished.returncode, finished.stderr) == (0, "")


# Locales

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
EVERY_VIEW = """
import contextlib, sys
from bench import cli
path, page = sys.argv[1:]
forms = ("terminal", "markdown", "latex", "csv", "html", "json")
commands = [["table", path, "--format", form] for form in forms]
forms = ("bencher", "junit", "github-action-benchmark")
commands += [["export", path, "--format", form] for form in forms]
commands += [["compare", path, path], ["report", path, "-o", page], ["list"], ["run", "--help"]]
for words in commands:
    sys.argv = ["bench", *words]
    with contextlib.suppress(SystemExit):
        cli.main()
"""


def test_another_locale_changes_neither_files_nor_output(tmp_path):
    run = results(["transformer", "modèle:построить"], path="läuft.jsonl", failed={"modèle:построить": "oom"})
    path = write(run, tmp_path)
    page = tmp_path / "Übersicht.html"
    finished = subprocess.run(
        [sys.executable, "-c", EVERY_VIEW, path, page],
        capture_output=True,
        env=os.environ | C_LOCALE,
        check=False,
    )
    printed = finished.stdout.decode("utf-8")
    assert finished.stderr == b""
    assert finished.returncode == 0
    assert printed.count("построить") >= 9
    assert "läuft.jsonl" in printed
    assert "(× Transformer)" in printed
    assert "построить" in page.read_text(encoding="utf-8")


def test_a_run_in_another_locale(start_runs, tmp_path):
    code, printed = start_runs(env=C_LOCALE).make("out", tmp_path / "läuft.jsonl")
    assert code == 0, printed
    assert "läuft.jsonl" in printed
    assert str(tmp_path / "läuft.jsonl") in read(tmp_path / "läuft.jsonl").header.command


def test_a_file_name_that_is_no_text(start_runs, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    write(msgspec.structs.replace(results(["transformer"]), path=path.name), tmp_path)
    words = [sys.executable, "-m", "bench.cli", "table", path]
    finished = subprocess.run(words, capture_output=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")
    finished = subprocess.run([*words, path.with_suffix(".none")], capture_output=True, check=False)
    assert finished.returncode == 2
    assert b"\\udcff.none: cannot be read" in finished.stderr


def test_the_probe_speaks_utf_8_in_any_locale(monkeypatch):
    for name, value in (C_LOCALE | PLUG_INS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        child.subprocess,
        "run",
        lambda words, **options: real_run(
            [sys.executable, "-c", PLAYED_PROBE, *words[1 + words.index("bench.probes.environment") :]],
            **options,
        ),
    )
    assert probe_environment("cpu", 1).hardware == "Ünbekannt®"


real_run = subprocess.run
PLUG_INS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parents[1])])}
PLAYED_PROBE = """
import msgspec, sys
from bench.probes import environment
import made_up
environment.resolve_device = lambda wanted: wanted
played = msgspec.structs.replace(made_up.CPU, hardware="\\u00dcnbekannt\\u00ae")
environment.read_environment = lambda device, threads: played
environment.main()
"""


# Clocks


@pytest.fixture(scope="module")
def backwards_clock(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    library = tmp_path_factory.mktemp("clock") / "backwards_clock.so"
    source = Path(__file__).with_name("backwards_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def test_the_wall_clock_may_go_back(backwards_clock, start_runs, tmp_path):
    code = "import time; a = time.time(); print(time.time() < a - 50)"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=os.environ | backwards_clock, check=True
    )
    assert asked.stdout == b"True\n"

    path = tmp_path / "run.jsonl"
    begin = time.monotonic()
    code, printed = start_runs(env=backwards_clock).make("out", path)
    took = time.monotonic() - begin
    assert code == 0, printed
    run = read(path)
    assert run.end.reason == "blocks"
    assert 0 < run.end.seconds <= took
    assert all(0 < solo.prepare_seconds <= took for solo in run.solos.values())
    places = [(s.block, s.round, s.position) for s in run.samples]
    assert places == sorted(places)


WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}


def test_only_stamps_are_of_the_wall_clock():
    """Durations and deadlines are of the monotonic clock; the wall's is for names and dates."""
    asked = set()
    for path in [*ROOT.glob("bench/**/*.py"), *ROOT.glob("implementations/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
                if WALL_CLOCK & set(calls):
                    asked.add((path.relative_to(ROOT).as_posix(), node.name))
    dates = {name for _, name in asked}
    assert dates <= {"_begin", "default_out", "make_header", "profile", "write", "write_bundle"}, asked


# Memory


@pytest.mark.usefixtures("plug_ins")
def test_a_worker_that_eats_all_memory_is_out_of_memory(write_suite, tmp_path, monkeypatch):
    monkeypatch.setattr(Procedure, "_memory_limit", lambda plan: 2 << 30)
    suite = write_suite("fault_models:tiny", "fault_models:hungry", "fault_models:hungry_for_bytes")
    request = Request(suite=suite, out=tmp_path / "run.jsonl", quick=True, device="cpu", threads=1)
    tiny, hungry, bytes_ = build_table(session.run(request).results).rows
    assert tiny.status == "ok"
    for row in (hungry, bytes_):
        assert row.status == "oom"
        assert row.speed_ratio is None
    assert "can't allocate memory" in hungry.reason
    assert bytes_.reason == "out of memory"


@contextlib.contextmanager
def memory_cgroup(limit: int):
    """A control group with that much memory; skips where none can be made."""
    v1 = Path("/sys/fs/cgroup/memory")
    folder = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"seqboat-bench-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"needs a control group of its own ({error.strerror})")
    try:
        yield folder
    finally:
        wait_for(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


@pytest.mark.usefixtures("plug_ins")
def test_a_container_without_memory_costs_a_worker_and_not_the_run(write_suite, tmp_path):
    """An allocation fails before the limit is reached; what no limit can stop, the kernel kills."""
    suite = write_suite("fault_models:hungry_in_earnest", "fault_models:hungry_for_shared_memory")
    path = tmp_path / "run.jsonl"
    with memory_cgroup(1600 << 20) as group:
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        words = ["-m", "bench.cli", "run", "--suite", suite, "--quick", "--device", "cpu", "--threads", "1"]
        finished = subprocess.run(
            ["sh", "-c", enter, "sh", sys.executable, *words, "--out", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert finished.returncode == 3, finished.stderr
    told = " ".join(finished.stdout.split())
    reasons = ("can't allocate memory", "killed, most likely by the kernel for want of memory")
    for solo, reason in zip(read(path).solos.values(), reasons, strict=True):
        assert (solo.status, reason in solo.reason) == ("oom", True), solo
        assert re.search(f"out of memory: .*{reason}", told), finished.stdout
