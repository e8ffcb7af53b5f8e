"""Revisions of a repository side by side, each in a worktree of its own; the user's tree is never touched."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError

WORKTREE = "worktree"
"""Stands for the working tree as it is: changes and new files included, ignored ones not."""

PACKAGE = "implementations"

_AUTHOR = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "bench"), ("EMAIL", "bench@localhost"))
}


@dataclass(frozen=True)
class CommitInfo:
    """What git knows of a commit."""

    date: int
    """Of the committer, in seconds since 1970."""
    subject: str


@dataclass(frozen=True)
class Repository:
    """The git repository around a folder. Every method raises UsageError with what git said."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> "Repository":
        return cls(Path(_git(folder, "rev-parse", "--show-toplevel")))

    def commit(self, revision: str) -> str:
        """The commit that a revision names, or a snapshot of the working tree."""
        if revision == WORKTREE:
            return self._snapshot()
        try:
            # --end-of-options: a revision that begins with a dash is no option.
            return _git(self.root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        except UsageError:
            raise UsageError(f"{revision}: this repository has no such revision") from None

    @classmethod
    def commits(cls, folder: Path, hashes: Collection[str]) -> dict[str, CommitInfo]:
        """Date and subject of commits by hash; empty where the repository around a folder lacks one."""
        try:
            root = cls.around(folder).root
            lines = _git(root, "log", "--no-walk", "--format=%H %ct %s", *hashes, "--").splitlines()
        except UsageError:
            return {}
        known = (line.split(" ", 2) for line in lines)
        return {commit: CommitInfo(int(date), subject) for commit, date, subject in known}

    @contextlib.contextmanager
    def check_out(self, commits: Mapping[str, str]) -> Iterator[dict[str, Path]]:
        """A folder a name, from which that commit's `implementations` can be imported and nothing else."""
        with tempfile.TemporaryDirectory(prefix="seqboat-bench-") as folder, contextlib.ExitStack() as stack:
            sources = {}
            for name, commit in commits.items():
                tree = Path(folder) / f"{name}-tree"
                stack.callback(self._remove, tree)
                _git(self.root, "worktree", "add", "--detach", "--quiet", str(tree), commit)
                sources[name] = _only_the_package(tree, Path(folder) / name, commit)
            yield sources

    def _snapshot(self) -> str:
        """A commit of the working tree, made beside the user's index and branches."""
        with tempfile.TemporaryDirectory(prefix="seqboat-bench-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            _git(self.root, "read-tree", "HEAD", environment=index)
            _git(self.root, "add", "--all", environment=index)
            tree = _git(self.root, "write-tree", environment=index)
        head = _git(self.root, "rev-parse", "HEAD")
        return _git(self.root, "commit-tree", tree, "-p", head, "-m", "working tree", environment=_AUTHOR)

    def _remove(self, tree: Path) -> None:
        # What is left of a worktree that git can't remove goes with the temporary folder, and at git's prune.
        with contextlib.suppress(UsageError):
            _git(self.root, "worktree", "remove", "--force", str(tree))


def _only_the_package(tree: Path, source: Path, commit: str) -> Path:
    if not (tree / PACKAGE).is_dir():
        raise UsageError(f"{commit[:12]}: has no folder {PACKAGE}/ to measure")
    source.mkdir()
    (source / PACKAGE).symlink_to(tree / PACKAGE, target_is_directory=True)
    return source


def _git(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> str:
    try:
        child = subprocess.run(
            ["git", "-C", str(folder), "-c", "core.hooksPath=/dev/null", *words],
            capture_output=True,
            check=False,
            # Called from a git hook, these would point at that hook's repository and index.
            env={k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | dict(environment or {}),
        )
    except OSError as error:
        raise UsageError(f"git cannot be run ({error.strerror})") from None
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip()
        lines = said.splitlines() or [f"exit code {child.returncode}"]
        raise UsageError(f"git {words[0]}: {lines[-1].removeprefix('fatal: ')}")
    return os.fsdecode(child.stdout).strip()
