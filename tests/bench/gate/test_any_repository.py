"""The gate in repositories of others: what is measured is the revision's code, or nothing is."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from bench.errors import UsageError
from bench.gate import installed
from bench.gate.revisions import Code, absent, checked_out
from bench.measure.procedure import Procedure
from bench.records.reading import read
from bench.suites import reading as suites
from bench.system.repository import Repository
from bench.version import __version__
from bench.workers.forkserver import ForkServer

from ..in_process import bench
from ..made_up import CPU
from ..repositories import commit, git

HOUSE = Path(__file__).parents[3]

MODEL = """
from torch import nn
{imports}

class Model(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, {dim})
        self.out = nn.Linear({dim}, task.classes)

    def forward(self, inputs, lengths=None):
        return self.out(self.embedding(inputs).mean(dim=1))

def build(task, hyperparameters):
    return Model(task)
"""


def model(dim: int | str = 8, imports: str = "") -> str:
    return MODEL.format(dim=dim, imports=imports)


class Mine:
    """A repository, and the gate in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        git(root, "init", "--quiet")
        (root / ".git" / "info" / "exclude").write_text("*.jsonl\n__pycache__\nlocal\n")

    def suite(self, *implementations: str, **keys: object) -> str:
        suite = {
            "description": "tiny",
            "workload": "text",
            "lengths": [32],
            "implementations": list(implementations),
            "baseline": implementations[0],
            "timing": {"deadline": "60s"},
        }
        return yaml.safe_dump(suite | keys)

    def regress(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        options = ("--device", "cpu", "--threads", "1", "--exact", "--out", "run.jsonl")
        done = bench("regress", *options, *words, cwd=self.root, env=environment)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def mine(tmp_path) -> Mine:
    return Mine(tmp_path / "mine")


def readmes_model() -> tuple[str, str]:
    """README's `my_model.py`, and the same with a convolution more."""
    text = (HOUSE / "README.md").read_text().partition("# my_model.py\n")[2].partition("```")[0]
    grown = text.replace("self.out =", "self.second = nn.Conv1d(dim, dim, 7, padding=3)\n        self.out =")
    return text, grown.replace("self.embedding(tokens).mT", "self.second(self.embedding(tokens).mT)")


@pytest.mark.slow
def test_each_revision_has_its_own_code(mine):
    """Packages named as the harness's and its tests', modules in `src`, a suite with limits: all at once."""
    small, grown = readmes_model()
    uses_ops = model("size", "from package.ops import size\nimport tests.helper")
    models = ["my_model:build", "package.conv:build", "same:build", "ignored:build", "lenient:build"]
    models += ["gone:build", "new:build"]
    suite = mine.suite(
        *models,
        limits={"default": {"margin": "2%"}, "lenient:build": {"margin": "60%", "tolerance": "70%"}},
        ignore=[{"ignored:build": "being rewritten"}],
    )
    packages = {f"{name}/__init__.py": "" for name in ("bench", "tests", "src/package")}
    alone = {f"{name}.py": model(64) for name in ("same", "ignored", "lenient", "gone")}
    ops = {"src/package/conv.py": uses_ops, "tests/helper.py": ""}
    base = commit(
        mine.root, **packages, **alone, **ops, **{"my_model.py": small, "src/package/ops.py": "size = 64"}
    )
    git(mine.root, "mv", "gone.py", "new.py")
    after = {"my_model.py": grown, "src/package/ops.py": "size = 72", "checks/tiny.yaml": suite}
    head = commit(mine.root, **after, **{f"{name}.py": model(96) for name in ("ignored", "lenient")})
    # What the working tree says since then is not asked.
    (mine.root / "same.py").write_text(model(9000))
    (mine.root / "checks" / "tiny.yaml").unlink()
    words = ("--base", base, "--head", head, "--suite", "checks/tiny.yaml", "--format", "json")
    done = mine.regress(*words)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    cases = {case["model"].partition(":")[0]: case for case in report["cases"]}
    assert {name: case["verdict"] for name, case in cases.items()} == {
        "my_model": "REGRESSED",
        "package.conv": "REGRESSED",
        "same": "PASSED",
        "ignored": "REGRESSED",
        "lenient": "PASSED",
        "gone": "REGRESSED",
        "new": "PASSED",
    }
    assert "flops +99" in cases["my_model"]["reason"]
    assert "parameters +12" in cases["package.conv"]["reason"]
    assert cases["same"]["changes"] == []
    assert cases["ignored"]["ignored"] == "being rewritten"
    assert "ignored:build" not in report["reason"]
    assert cases["lenient"]["limits"] == {"margin": 0.6, "tolerance": 0.7}
    assert cases["gone"]["reason"] == "head no longer has it: no module named gone"
    assert cases["new"]["reason"] == "new, nothing to compare"
    header = read(mine.root / "run.jsonl").header
    assert (header.environment.commit, header.environment.dirty) == (head, False)
    assert header.environment.harness.startswith(__version__)


@pytest.mark.slow
def test_an_unchanged_commit_passes_and_says_so_everywhere(mine, tmp_path):
    commit(mine.root, **{"model.py": model()})
    summary, comment = tmp_path / "summary.md", tmp_path / "comment.md"
    summary.write_text("# before\n")
    (mine.root / "tiny.yaml").write_text(mine.suite("model:build"))
    words = ("--base", "HEAD", "--suite", "tiny.yaml", "--format", "junit", "--summary")
    done = mine.regress(*words, "--comment", str(comment), GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stderr
    assert 'failures="0"' in done.stdout
    assert summary.read_text().startswith("# before\n### ✅ PASSED: 1 case\n")
    assert comment.read_text().startswith("<!-- seqboat-bench gate -->\n### ✅ PASSED")


@pytest.mark.slow
def test_models_may_be_named_one_by_one(mine):
    """The first has grown, the last has not; the run's own file is nothing that has changed."""
    (mine.root / ".git" / "info" / "exclude").write_text("")
    commit(mine.root, **{"first.py": model(64), "last.py": model()})
    (mine.root / "first.py").write_text(model(96))
    head = commit(mine.root)
    words = (
        "--base",
        "HEAD~1",
        "--impl",
        "first:build",
        "--impl",
        "last:build",
        "--device",
        "cpu",
        "--exact",
    )
    done = bench("regress", *words, "--format", "json", cwd=mine.root)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert [case["verdict"] for case in report["cases"]] == ["REGRESSED", "PASSED"]
    assert "    base: first:build, 256 × 1 at activation 0.3: " in done.stderr
    assert " FLOPs, " in done.stderr
    assert "None" not in done.stderr
    assert git(mine.root, "status", "--porcelain") == ""
    assert Repository(mine.root).commit("worktree") == head
    unchanged = bench(
        *("regress", "--base", "HEAD", *words[2:], "--from-diff", "--traceback", "--comment", "said.md"),
        *("--out", "none.jsonl"),
        cwd=mine.root,
    )
    assert unchanged.returncode == 0, unchanged.stderr
    assert "no model changed" in (mine.root / "said.md").read_text()
    assert "PASSED: no model changed" in unchanged.stdout
    assert "exact costs" not in unchanged.stdout


@pytest.mark.slow
def test_what_is_of_no_revision_is_refused(mine):
    commit(mine.root, **{"model.py": model()})
    done = mine.regress("--base", "HEAD", "--impl", "peers.x_transformers:build")
    assert done.returncode == 2
    assert ") does not have it: peers.x_transformers comes from" in done.stderr
    assert "`peers` is the harness's own" in done.stderr
    assert not list(mine.root.glob("*.jsonl")) or not read(mine.root / "run.jsonl").solos


@pytest.mark.slow
def test_where_a_module_comes_from(mine, tmp_path, monkeypatch):
    """One revision, and every way to miss it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "foreign.py").write_text(model())
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    (mine.root / "local").mkdir()
    (mine.root / "local" / "helper.py").write_text("")
    sneaky = f"import sys; sys.path.append({str(mine.root / 'local')!r}); import helper"
    broken = {"broken.py": "import nowhere", "half/__init__.py": "import half.missing"}
    hash_ = commit(mine.root, **{"model.py": model(), "sneaky.py": model(imports=sneaky)}, **broken)
    with checked_out(Repository.around(mine.root), {"head": hash_}, Code()) as revisions:
        (head,) = revisions.values()
        suite = replace(suites.load("ci"), implementations=("model:build",), baseline="model:build")
        plan = Procedure(suite, CPU, sources={"head": head.source})
        with ForkServer(plan.threads, plan.sources) as server:

            def missing(name: str) -> dict[tuple[str, str], str]:
                case = replace(suite.cases("cpu")[0], implementation=name)
                return absent(plan, server, [head], [case])

            for there in ("model:build", "broken:build"):
                assert missing(there) == {}
            for name, reason in {
                "foreign:build": f") does not have it: foreign comes from {elsewhere}/foreign.py",
                "modle:build": "no module named modle; a folder of its own is named by --source",
                "model.deep:build": "no module named model.deep",
                "half.missing:build": "no module named half.missing",
                "model:biuld": "model has no biuld",
                "seqboat": "`implementations` is the harness's own",
                "no-such-name": "unknown implementation",
                "sneaky:build": "helper comes from the working tree",
            }.items():
                with pytest.raises(UsageError, match=re.escape(reason)):
                    missing(name)


def test_a_failed_setup_is_told_by_its_own_error():
    """As pip frames it, as a shell script ends, and without a word."""
    pip = """  error: subprocess-exited-with-error
  × Preparing editable metadata (pyproject.toml) did not run successfully.
  ╰─> [2 lines of output]
      running dist_info
      error: invalid command 'bdist_wheel'
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed
× Encountered error while generating package metadata.
╰─> See above for output."""
    for output, line in {
        pip: "error: invalid command 'bdist_wheel'",
        "one\nno compiler here\n\n": "no compiler here",
        "cc: error: x\nmake: leaving": "cc: error: x",
        "": "it wrote nothing",
    }.items():
        assert installed._telling_line(output) == line


def test_bad_words_are_refused_before_anything_is_checked_out(mine):
    commit(mine.root, **{"model.py": model()})
    for words, message in {
        ("--format", "yaml"): "--format yaml: choose terminal, markdown, latex, csv, html, json, junit",
        ("--summary",): "--summary: GITHUB_STEP_SUMMARY is not set",
        ("--comment", "nowhere/x.md"): "--comment nowhere/x.md: cannot be written (no such folder)",
        ("--source", "sources"): "--source sources: no such folder in base or head",
    }.items():
        done = mine.regress("--base", "HEAD", *words, GITHUB_STEP_SUMMARY="")
        assert done.returncode == 2
        assert message in done.stderr


def test_a_fault_in_the_suite_names_the_users_file(mine):
    commit(mine.root, **{"model.py": model(), "checks/ci.yaml": "limit: 3%\n" + mine.suite("model:build")})
    done = mine.regress("--base", "HEAD", "--suite", "checks/ci.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "bench: checks/ci.yaml: Object contains unknown field `limit`"
    )


@pytest.mark.slow
def test_a_revision_that_must_be_installed(mine, tmp_path, monkeypatch):
    """Each has an environment of its own, kept by commit; a head that can't be installed has regressed."""
    own = installed._run

    def run(words, place):
        # This setup needs no pip, and to install it takes longer than all else.
        own([*words, "--without-pip"] if "venv" in words else words, place)

    monkeypatch.setattr(installed, "_run", run)
    install = (
        'echo run >> "$LOG"; cp -r sources/* "$(python -c "import site; print(site.getsitepackages()[0])")"'
    )
    base = commit(mine.root, **{"install.sh": install, "sources/made/conv.py": model(64)})
    head = commit(mine.root, **{"sources/made/conv.py": model(96)})
    broken = commit(mine.root, **{"install.sh": "echo no compiler here; exit 3"})
    log = tmp_path / "log"
    words = ("--base", base, "--impl", "made.conv:build", "--setup", "sh install.sh", "--format", "json")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "LOG": str(log)}
    done = mine.regress(*words, "--head", head, **environment)
    assert done.returncode == 1, done.stderr
    assert "parameters +" in json.loads(done.stdout)["reason"]
    gone = mine.regress(*words, "--head", broken, "--out", "second.jsonl", **environment)
    assert gone.returncode == 1
    assert "head (" in json.loads(gone.stdout)["reason"]
    assert "ended with exit code 3: no compiler here" in json.loads(gone.stdout)["reason"]
    told = tmp_path / "cache" / "seqboat-bench" / "revisions" / "failed-setup.log"
    assert f"(all of it: {told})" in json.loads(gone.stdout)["reason"]
    assert told.read_text() == "no compiler here\n"
    assert log.read_text() == "run\nrun\n"
    assert git(mine.root, "worktree", "list").count("\n") == 0
