"""Files of a worktree: what is uncommitted is copied over it, and its submodules are filled.

The user's own copies are only read, and no object is written.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UsageError
from bench.system.git import ask, paths_of, said

LARGE_BYTES = 64 << 20
"""A new file above this size is data rather than code: it is linked, not copied."""

_GITLINK = "160000"
_DIFFER = ("diff", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "-z")


def copy_working_tree(root: Path, tree: Path) -> None:
    """Bring a worktree of HEAD to what the working tree holds."""
    fill_submodules(root, "HEAD", tree)
    for path in uncommitted(root):
        source, target = root / path, tree / path
        if source.is_dir() and not source.is_symlink():
            _copy_repository(source, target)
        else:
            _copy_file(source, target, tree)


def _copy_repository(source: Path, target: Path) -> None:
    """Copy a submodule or a nested repository: its HEAD and what is uncommitted there."""
    _make_way(target)
    if not (source / ".git").exists():
        return  # A folder in place of a file: what is in it is copied file by file.
    target.mkdir(parents=True)
    if said(source, "rev-parse", "--verify", "HEAD") is not None:
        _export(source, "HEAD", target)
        copy_working_tree(source, target)
        return
    for path in paths_of(ask(source, "ls-files", "--cached", "--others", "--exclude-standard", "-z")):
        _copy_file(source / path, target / path, target)


def _copy_file(source: Path, target: Path, tree: Path) -> None:
    if not target.parent.resolve().is_relative_to(tree.resolve()):
        raise UsageError(f"{source}: is behind a link in the commit, and would be copied to where that leads")
    _make_way(target)
    if not os.path.lexists(source):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_symlink() and source.stat().st_size > LARGE_BYTES:
            target.symlink_to(source)
        elif source.is_symlink() or source.is_file():
            shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        raise UsageError(f"{source}: cannot be copied ({error.strerror})") from None


def _make_way(target: Path) -> None:
    """Remove what the commit has in a path's place; of a link, the link alone."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)


def fill_submodules(root: Path, commit: str, tree: Path) -> None:
    """Fill submodules as that commit has them, from the user's own copies; what is not there stays empty."""
    for path, linked in _gitlinks(root, commit).items():
        source, target = root / path, tree / path
        if (source / ".git").exists() and said(source, "cat-file", "-e", f"{linked}^{{commit}}") is not None:
            target.mkdir(parents=True, exist_ok=True)
            _export(source, linked, target)
            fill_submodules(source, linked, target)


def _export(repository: Path, commit: str, target: Path) -> None:
    """Write a commit's files, through an index that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="seqboat-bench-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        ask(repository, "read-tree", commit, environment=index)
        ask(repository, "checkout-index", "--all", f"--prefix={target}/", environment=index)


def _gitlinks(root: Path, commit: str) -> dict[str, str]:
    """Commits of a commit's submodules, by path."""
    entries = (entry.partition("\t") for entry in paths_of(ask(root, "ls-tree", "-r", "-z", commit)))
    return {path: facts.split()[2] for facts, _, path in entries if facts.startswith(_GITLINK)}


def empty_submodules(tree: Path) -> list[str]:
    """Paths of a worktree's submodules that are not filled."""
    links = _gitlinks(tree, "HEAD")
    return [path for path in links if not any((tree / path).iterdir() if (tree / path).is_dir() else ())]


def uncommitted(root: Path) -> Iterator[str]:
    """Paths that differ from HEAD, and those of new files that are not ignored; folders are repositories."""
    yield from paths_of(ask(root, *_DIFFER, "HEAD"))
    yield from paths_of(ask(root, "ls-files", "--others", "--exclude-standard", "-z"))
