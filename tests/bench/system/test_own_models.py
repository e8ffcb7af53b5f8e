"""Modules of the user's own: in a folder whose files have the names of others' modules."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path
from types import ModuleType

import pytest

from bench.records.reading import read
from bench.system import own_models
from bench.system.child import ask
from implementations import registry
from implementations.errors import RegistryError

ROOT = Path(__file__).parents[3]
MODEL = Path(__file__).parents[1] / "fault_models.py"
NAMES = [
    *("bench.py", "bench/__init__.py", "implementations/__init__.py", "peers/__init__.py"),
    *("queue.py", "random.py", "types.py", "torch.py", "numpy/__init__.py", "yaml.py", "msgspec.py"),
]


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """A current folder with a model, and with files that must never be imported."""
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('a file of the current folder took the place of a module')\n")
    shutil.copy(MODEL, tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """As the installed command is, which doesn't put the current folder before others."""
    command = [sys.executable, "-P", "-m", "bench.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_files_of_the_current_folder_take_no_modules_place(crowded, write_suite):
    """Nor does a plug-in that can't be imported stop another; what it raised and printed is kept."""
    (crowded / "broken.py").write_text("print('loading weights')\nfrom mine import nothing_of_that_name\n")
    (crowded / "typo.py").write_text("import nothing_of_that_name\n")
    suite = write_suite("mine:slow", "broken:build", "typo:build")
    words = ["--quick", "--device", "cpu", "--threads", "1", "--out", "run.jsonl", "--traceback"]
    ran = bench("run", "--suite", suite, *words)
    assert ran.returncode == 3, ran.stderr
    # Both are found before the first model runs.
    fails, typo, works = read(crowded / "run.jsonl").solos.values()
    assert "cannot import typo:build (No module named 'nothing_of_that_name')" in typo.reason
    assert typo.traceback in ran.stderr
    assert works.status == "ok", works.reason
    assert "cannot import broken:build (cannot import name 'nothing_of_that_name'" in fails.reason
    assert 'broken.py", line 2, in <module>' in fails.traceback
    assert fails.printed == "loading weights\n"
    assert fails.traceback in ran.stderr
    assert fails.printed in ran.stderr


def test_all_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name in ("first_typo", "second_typo"):
        (tmp_path / f"{name}.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(RegistryError) as caught:
        own_models.load_all(map(registry.find, ("first_typo:build", "transformer", "second_typo:build")))
    assert "cannot import first_typo:build" in str(caught.value)
    assert "cannot import second_typo:build" in str(caught.value)
    trace = "".join(traceback.format_exception(caught.value))
    assert 'first_typo.py", line 1' in trace
    assert 'second_typo.py", line 1' in trace


def test_profile_takes_models_from_the_current_folder(crowded, write_suite):
    words = ["--impl", "mine:slow", "--device", "cpu", "--threads", "1", "--steps", "1"]
    profiled = bench("profile", "--suite", write_suite("mine:slow"), *words)
    assert profiled.returncode == 0, profiled.stderr


def test_children_are_safe_from_the_current_folder(crowded):
    assert b'"device":"cpu"' in ask("bench.probes.environment", "cpu", "1")


@pytest.mark.parametrize(
    ("name", "taken_by"), [("bench:build", "bench/__init__.py"), ("random:build", "random.py")]
)
def test_a_name_that_another_module_has_is_one_line(tmp_path, monkeypatch, name, taken_by):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own_models.look_here()
    mine = tmp_path / f"{name.partition(':')[0]}.py"
    mine.write_text("def build(task, hyperparameters): ...\n")
    with pytest.raises(RegistryError) as caught:
        own_models.load(registry.find(name))
    told = str(caught.value)
    assert told.startswith(f"{name}: {mine.name} in this folder has the name of ")
    assert f"{taken_by}, which comes first: rename yours" in told
    assert "\n" not in told


@pytest.mark.parametrize("imported", [True, False])
def test_a_copy_of_what_is_installed_is_no_collision(tmp_path, monkeypatch, imported):
    """Whether it was imported already, or only the package that holds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    name, installed = "peers.local_attention", own_models.HARNESS / "peers" / "local_attention.py"
    importlib.import_module("peers")
    if imported:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[name].__file__ = str(installed)
    else:
        monkeypatch.delitem(sys.modules, name, raising=False)
    copy = tmp_path / "peers" / "local_attention.py"
    copy.parent.mkdir()
    shutil.copy(installed, copy)
    own_models.refuse_collision(f"{name}:build")
    copy.write_text("def build(task, hyperparameters): ...\n")
    with pytest.raises(RegistryError, match=r"peers/local_attention\.py in this folder has the name of"):
        own_models.refuse_collision(f"{name}:build")


def test_a_plug_in_that_cannot_be_imported_is_found_before_anything_is_trained(crowded, write_suite):
    (crowded / "broken.py").write_text("def build(task, hyperparameters)\n")
    suite = write_suite("transformer", "broken:build", lengths=[16])
    settings = "--impl transformer,broken:build --learning-rate 0.001 --steps 1 --batch 2 --out trained"
    trained = bench("train", "--suite", suite, *settings.split(), "--traceback")
    assert trained.returncode == 2
    *trace, line = trained.stderr.strip().splitlines()
    assert "cannot import broken:build (SyntaxError: expected ':' (broken.py, line 1))" in line
    assert "    def build(task, hyperparameters)" in trace
    assert not Path("trained").exists()


def test_a_project_with_a_package_bench_of_its_own_runs_its_tests(tmp_path, monkeypatch):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "test_mine.py").write_text(
        "import bench\n\n\ndef test_mine():\n    assert bench.MINE\n\n\n"
        "def test_speed(throughput):\n    throughput('ci', 'seqboat')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plug_in = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    plug_ins = ["-p", "benchmark", "-p", plug_in["seqboat_bench"]]
    command = [sys.executable, "-m", "pytest", *plug_ins, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert f"here bench is {tmp_path / 'bench' / '__init__.py'}" in done.stdout
