"""Worktrees of revisions: as the revision is, whatever the repository; nothing of the user's is touched."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.system import worktree
from bench.system.repository import WORKTREE, Repository, commit_around
from bench.system.worktree import empty_submodules

from ..repositories import commit, git


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "mine"
    root.mkdir()
    git(root, "init", "--quiet")
    commit(root, model="1", pkg__conv="1")
    return root


@contextlib.contextmanager
def checked_out(root: Path, revision: str) -> Iterator[Path]:
    repository = Repository.around(root)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        try:
            repository.add_tree(repository.commit(revision), tree)
            yield tree
        finally:
            repository.remove_tree(tree)


def files_of(root: Path, revision: str) -> dict[str, str]:
    with checked_out(root, revision) as tree:
        return {
            str(path.relative_to(tree)): path.read_text()
            for path in sorted(tree.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(tree).parts
        }


def only_git(folder: Path) -> str:
    """A search path with git and a shell, and no extension of git."""
    folder.mkdir()
    for program in ("git", "sh"):
        (folder / program).symlink_to(shutil.which(program) or "")
    return str(folder)


def state(root: Path) -> tuple[str, ...]:
    """All that the user would notice."""
    objects = sorted(str(path) for path in (root / ".git" / "objects").rglob("*"))
    words = (
        "status --porcelain",
        "for-each-ref",
        "worktree list",
        "stash list",
        "diff --cached",
        "ls-files -s",
    )
    return (*(git(root, *word.split()) for word in words), str(objects))


def test_the_working_tree_is_taken_as_it_is_and_left_alone(root):
    (root / "model").write_text("changed")
    (root / "pkg" / "conv").unlink()
    (root / "new").write_text("new")
    (root / "staged").write_text("staged")
    git(root, "add", "staged")
    (root / ".git" / "info" / "exclude").write_text("ignored\n")
    (root / "ignored").write_text("ignored")
    before = state(root)
    assert files_of(root, WORKTREE) == {"model": "changed", "new": "new", "staged": "staged"}
    assert files_of(root, "HEAD") == {"model": "1", "pkg/conv": "1"}
    assert state(root) == before


def test_a_clean_working_tree_is_its_commit(root):
    repository = Repository.around(root)
    assert repository.commit(WORKTREE) == repository.commit("HEAD")
    (root / "new").write_text("new")
    assert repository.commit(WORKTREE) == repository.commit("HEAD") + "-dirty"


def test_a_large_new_file_is_linked_to(root, monkeypatch):
    monkeypatch.setattr(worktree, "LARGE_BYTES", 10)
    (root / "data").write_text("much of it, really")
    with checked_out(root, WORKTREE) as tree:
        assert (tree / "data").readlink() == root / "data"
    assert (root / "data").exists()


def test_repositories_within(root, tmp_path):
    nested = root / "nested"
    nested.mkdir()
    git(nested, "init", "--quiet")
    (nested / "early").write_text("no commit yet")
    assert files_of(root, WORKTREE)["nested/early"] == "no commit yet"
    commit(nested, code="1")
    (nested / "code").write_text("2")
    assert files_of(root, WORKTREE)["nested/code"] == "2"
    assert "nested/code" not in files_of(root, "HEAD")


def test_submodules_are_filled_from_the_users_copy(root, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    commit(library, ops="1")
    git(root, "submodule", "add", "--quiet", str(library), "lib")
    first = commit(root)
    git(root / "lib", "checkout", "--quiet", "--detach")
    commit(root / "lib", ops="2")
    second = commit(root)
    before = state(root), state_of_submodule(root / "lib")
    assert files_of(root, first)["lib/ops"] == "1"
    assert files_of(root, second)["lib/ops"] == "2"
    (root / "lib" / "ops").write_text("3")
    assert files_of(root, WORKTREE)["lib/ops"] == "3"
    (root / "lib" / "ops").write_text("2")
    assert (state(root), state_of_submodule(root / "lib")) == before
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(root), str(clone))
    assert "lib/ops" not in files_of(clone, "HEAD")
    with checked_out(clone, "HEAD") as tree:
        assert empty_submodules(tree) == ["lib"]


def state_of_submodule(folder: Path) -> tuple[str, str]:
    return git(folder, "status", "--porcelain"), git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("setting", ["dirty", "all"])
def test_edits_of_a_submodule_count_whatever_status_leaves_out(root, tmp_path, setting):
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    commit(library, ops="1")
    git(root, "submodule", "add", "--quiet", str(library), "lib")
    git(root, "config", "--file", ".gitmodules", "submodule.lib.ignore", setting)
    commit(root)
    (root / "lib" / "new").write_text("new")
    assert files_of(root, WORKTREE)["lib/new"] == "new"
    (root / "lib" / "ops").write_text("2")
    assert files_of(root, WORKTREE)["lib/ops"] == "2"


@pytest.fixture
def outside(root, tmp_path) -> Path:
    """A folder that the commit links to, in whose place the working tree has one of its own."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("theirs")
    (root / "data").symlink_to(outside)
    commit(root)
    (root / "data").unlink()
    (root / "data").mkdir()
    (root / "data" / "kept").write_text("mine")
    return outside


def test_a_folder_in_place_of_a_link_is_not_written_to_where_it_leads(root, outside):
    assert files_of(root, WORKTREE)["data/kept"] == "mine"
    assert (outside / "kept").read_text() == "theirs"


def test_nothing_is_written_through_a_link(root, outside):
    """Git lists what is new behind it, but not that it changed."""
    git(root, "update-index", "--assume-unchanged", "data")
    with pytest.raises(UsageError, match="data/kept: is behind a link in the commit"):
        files_of(root, WORKTREE)
    assert (outside / "kept").read_text() == "theirs"


def test_a_folder_in_place_of_a_file_and_the_other_way_round(root):
    (root / "pkg" / "conv").unlink()
    (root / "pkg").rmdir()
    (root / "pkg").write_text("a file")
    (root / "model").unlink()
    (root / "model").mkdir()
    (root / "model" / "part").write_text("in a folder")
    expected = {"pkg": "a file", "model/part": "in a folder"}
    assert files_of(root, WORKTREE) == expected
    git(root, "add", "--all")
    assert files_of(root, WORKTREE) == expected


def test_a_sparse_working_tree_has_whole_worktrees(root):
    git(root, "sparse-checkout", "set", "--no-cone", "/model")
    assert not (root / "pkg").exists()
    expected = {"model": "1", "pkg/conv": "1"}
    assert files_of(root, "HEAD") == expected
    (root / "model").write_text("2")
    assert files_of(root, WORKTREE) == expected | {"model": "2"}


def test_shallow_clones_detached_heads_and_worktrees_of_worktrees(root, tmp_path):
    first = git(root, "rev-parse", "HEAD")
    commit(root, model="2")
    shallow, linked = tmp_path / "shallow", tmp_path / "linked"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{root}", str(shallow))
    assert files_of(shallow, "HEAD")["model"] == "2"
    with pytest.raises(UsageError, match="this clone is shallow: fetch more of it"):
        files_of(shallow, first)
    git(root, "worktree", "add", "--quiet", "--detach", str(linked), first)
    (linked / "model").write_text("0")
    assert files_of(linked, WORKTREE)["model"] == "0"
    assert files_of(linked, first)["model"] == "1"


def test_a_branch_of_the_remote_alone_is_suggested(root, tmp_path):
    git(root, "branch", "feature/long/convolution")
    git(tmp_path, "clone", "--quiet", str(root), "clone")
    assert files_of(root, "feature/long/convolution")["model"] == "1"
    with pytest.raises(UsageError, match="did you mean origin/feature/long/convolution"):
        Repository.around(tmp_path / "clone").commit("feature/long/convolution")


def test_filters_and_the_environments_settings_hold(root, monkeypatch):
    (root / ".git" / "info" / "attributes").write_text("weights filter=lfs\n")
    commit(root, weights="pointer")
    git(root, "config", "filter.lfs.smudge", 'test -n "$GIT_LFS_SKIP_SMUDGE" && cat')
    git(root, "config", "filter.lfs.required", "true")
    with pytest.raises(UsageError, match="weights: smudge filter lfs failed; GIT_LFS_SKIP_SMUDGE=1 leaves"):
        files_of(root, "HEAD")
    git(root, "config", "filter.lfs.process", "git-lfs filter-process")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", only_git(root.parent / "bin"))
        with pytest.raises(UsageError, match=r"; install git-lfs$"):
            files_of(root, "HEAD")
    git(root, "config", "--unset", "filter.lfs.process")
    with monkeypatch.context() as patch:
        patch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
        assert files_of(root, "HEAD")["weights"] == "pointer"
    for number, (key, value) in enumerate({"filter.lfs.smudge": "tr p P", "a.b": "c"}.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    assert files_of(root, "HEAD")["weights"] == "Pointer"
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert files_of(root, "HEAD")["weights"] == "Pointer"


def test_subjects_of_every_kind(root):
    git(root, "config", "log.showSignature", "true")
    subjects = ["form\ffeed", "next\x85line", "line\u2028separator", "", "  ", "plain"]
    hashes = [commit(root, subject) for subject in subjects]
    found = Repository.commits(root, hashes)
    assert [found[name].subject.strip() for name in hashes] == [subject.strip() for subject in subjects]
    assert Repository.commits(root, [*hashes, 40 * "0"]) == {}
    assert Repository.commits(root, []) == {}


def test_subjects_that_are_not_utf_8(root):
    git(root, "config", "i18n.commitEncoding", "latin1")
    latin = commit(root, os.fsdecode(b"caf\xe9"))
    words = ["git", "-C", str(root)]
    content = subprocess.run([*words, "cat-file", "commit", latin], capture_output=True, check=True).stdout
    made = subprocess.run(
        [*words, "hash-object", "-w", "-t", "commit", "--stdin"],
        input=content.replace(b"\nencoding latin1", b""),
        capture_output=True,
        check=True,
    )
    hashes = [latin, made.stdout.decode().strip()]
    subjects = [Repository.commits(root, hashes)[name].subject for name in hashes]
    assert subjects == ["café", "caf\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("color.ui", "always"), ("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true")],
)
def test_a_diff_can_be_applied_whatever_the_user_likes_to_see(root, key, value):
    (root / "model").write_text("2")
    before = Repository.around(root).changes()
    git(root, "config", key, value)
    assert Repository.around(root).changes() == before


def test_commits_between_two_ends(root):
    first = git(root, "rev-parse", "HEAD")
    more = [commit(root, model=str(number)) for number in range(3)]
    repository = Repository.around(root)
    assert repository.commits_between(first, more[-1]) == more
    with pytest.raises(UsageError, match="is not among the first parents of"):
        repository.commits_between(more[-1], first)
    with pytest.raises(UsageError, match="are one commit"):
        repository.commits_between(first, first)


def test_the_commit_around_a_folder(root, tmp_path):
    head = git(root, "rev-parse", "HEAD")
    assert commit_around(root / "pkg") == (head, False)
    (root / "model").write_text("2")
    assert commit_around(root) == (head, True)
    assert commit_around(tmp_path) == (None, None)


def test_a_kept_tree_leaves_no_note(root, tmp_path):
    repository = Repository.around(root)
    before = state(root)
    repository.add_tree(repository.commit("HEAD"), tmp_path / "tree")
    repository.detach_tree(tmp_path / "tree")
    assert (tmp_path / "tree" / "model").read_text() == "1"
    assert state(root) == before
    assert not os.path.lexists(tmp_path / "tree" / ".git")


def test_what_hinders_git_is_told_with_what_helps(root, tmp_path, monkeypatch):
    empty, bare = tmp_path / "empty", tmp_path / "bare.git"
    git(tmp_path, "init", "--quiet", str(empty))
    with pytest.raises(UsageError, match="HEAD: this repository has no such revision; it has no commit yet"):
        Repository.around(empty).commit("HEAD")
    git(tmp_path, "clone", "--quiet", "--bare", str(root), str(bare))
    with pytest.raises(UsageError, match=r"bare.git: a bare repository; run this in a clone"):
        Repository.around(bare)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match=r"dubious ownership .*; if you trust it: git config --global --add"):
        Repository.around(root)
