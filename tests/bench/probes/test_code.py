"""The commit of a record is that of the code that was measured."""

import subprocess
import sys

import pytest

from bench.probes.code import measured_commit, module_digest

from ..repositories import commit, git

OURS = ("0" * 40, False)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    git(folder, "init", "--quiet")
    monkeypatch.chdir(folder)
    return folder


def test_a_users_model_has_its_own_repositorys_commit(mine):
    (mine / "models").mkdir()
    head = commit(mine, models__conv="", other="")
    (mine / "models" / "conv.py").write_text("")
    assert measured_commit(["models.conv:build", "seqboat"], OURS) == (head, True)
    head = commit(mine)
    assert measured_commit(["seqboat", "models.conv:build"], OURS) == (head, False)
    (mine / "results.jsonl").write_text("")
    assert measured_commit(["models.conv:build"], OURS) == (head, False)
    (mine / "other").write_text("changed")
    assert measured_commit(["models.conv:build"], OURS) == (head, True)


def test_what_lies_in_no_repository_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.py").write_text("")
    assert measured_commit(["alone:build"], OURS) == (None, None)
    assert measured_commit(["nowhere:build"], OURS) == (None, None)
    assert measured_commit(["numpy:build"], OURS) == (None, None)


def test_the_harnesss_models_have_the_harnesss(mine):
    assert measured_commit(["transformer", "peers.x_transformers:build", "unknown"], OURS) == OURS


def test_nothing_is_imported(mine):
    commit(mine, **{"loud.py": "raise SystemExit('imported')"})
    code = (
        "from bench.probes.code import measured_commit; print(measured_commit(['loud:build'], (None, None)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" in done.stdout


@pytest.mark.parametrize("source", ["", "import importlib\nimportlib.import_module('models.' + 'conv')\n"])
def test_an_editors_lock_is_no_source(mine, source):
    """A link that leads nowhere, as Emacs makes; whether the package's files are known or all are read."""
    commit(mine, **{"models/__init__.py": source, "models/conv.py": ""})
    before = module_digest("models.conv")
    (mine / "models" / ".#conv.py").symlink_to("someone@somewhere.1234")
    assert module_digest("models.conv") == before is not None
