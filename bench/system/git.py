"""Revisions of a repository side by side, each in a worktree of its own.

The user's tree, index, branches, stash, submodules and objects stay as they are: what is uncommitted is
copied over a worktree of HEAD, and no object is written.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError

WORKTREE = "worktree"
"""Name of the working tree as it is: with changes and new files, without ignored ones."""

LARGE_BYTES = 64 << 20
"""A new file above this size is data rather than code: it is linked, not copied."""

_GITLINK = "160000"

_HINTS = {
    b"git-lfs: not found": "install git-lfs",
    b"git-lfs: command not found": "install git-lfs",
    b"lfs": "GIT_LFS_SKIP_SMUDGE=1 leaves pointers as they are",
    b"dubious ownership": "if you trust it: git config --global --add safe.directory FOLDER",
}
"""Hints against a failure of git, by words of what it said; the first that fits."""

_OF_ONE_REPOSITORY = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "PREFIX", "IMPLICIT_WORK_TREE", "NAMESPACE"),
        *(
            "OBJECT_DIRECTORY",
            "ALTERNATE_OBJECT_DIRECTORIES",
            "SHALLOW_FILE",
            "GRAFT_FILE",
            "QUARANTINE_PATH",
        ),
    )
)
"""Variables that git sets for a hook: they point at that hook's repository and index."""

_SETTINGS = (
    *("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.sparseCheckout=false"),
    *("submodule.recurse=false", "gc.auto=0", "maintenance.auto=false", "log.showSignature=false"),
)
"""Settings: git runs no program of the user's, and a worktree is whole even if the working tree is sparse."""


@dataclass(frozen=True)
class CommitInfo:
    """Date and subject of a commit."""

    date: int
    """Time of the commit, in seconds since 1970."""
    subject: str


@dataclass(frozen=True)
class Repository:
    """The git repository around a folder. Every method raises UsageError with what git said."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> "Repository":
        if _said(folder, "rev-parse", "--is-bare-repository") == "true":
            raise UsageError(f"{folder.resolve()}: a bare repository; run this in a clone or worktree of it")
        return cls(Path(_git(folder, "rev-parse", "--show-toplevel")))

    def commit(self, revision: str) -> str:
        """Hash of the commit that a revision names; for the working tree that of HEAD, with `-dirty` if
        anything is uncommitted."""
        if revision == WORKTREE:
            head = self.commit("HEAD")
            return f"{head}-dirty" if any(_uncommitted(self.root)) else head
        try:
            # --end-of-options: a revision that begins with a dash is not an option.
            words = ("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
            return _git(self.root, *words).splitlines()[0]
        except UsageError:
            raise UsageError(
                f"{revision}: this repository has no such revision{self._hint(revision)}"
            ) from None

    def changes(self) -> tuple[bytes, int]:
        """Uncommitted changes as a diff against HEAD, new Python files included, and how many other new files
        are left out."""
        tracked = os.fsencode(_git(self.root, "diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD"))
        new = _paths(_git(self.root, "ls-files", "--others", "--exclude-standard", "-z"))
        sources = [path for path in new if path.endswith(".py") and (self.root / path).is_file()]
        parts = [tracked, *(_as_diff(self.root, path) for path in sources)]
        return b"\n".join(filter(None, parts)) + b"\n", len(new) - len(sources)

    def commits_between(self, good: str, bad: str) -> list[str]:
        """Hashes after `good` up to `bad`, along the first parents, the oldest first.

        Raises UsageError if `good` does not lie on that line.
        """
        if good == bad:
            raise UsageError(f"good and bad are one commit, {good[:12]}")
        line = _git(self.root, "rev-list", "--first-parent", bad).splitlines()
        if good not in line:
            raise UsageError(f"{good[:12]} is not among the first parents of {bad[:12]}; name one that is")
        return line[: line.index(good)][::-1]

    def commits_after(self, commit: str) -> list[str]:
        """Hashes of all commits, of any branch, that do not lie at or before this one."""
        return _git(self.root, "rev-list", "--all", "HEAD", f"^{commit}").splitlines()

    @classmethod
    def commits(cls, folder: Path, hashes: Collection[str]) -> dict[str, CommitInfo]:
        """Date and subject of commits by hash; empty if the repository around a folder lacks one."""
        try:
            root = cls.around(folder).root
            words = ("log", "--no-walk", "-z", "--format=%H %ct %s", "--stdin", "--")
            lines = _git(root, *words, stdin="\n".join(hashes)).split("\0") if hashes else []
        except UsageError:
            return {}
        # Only git's own NUL ends a line: a subject may hold any other separator, or nothing.
        known = (line.split(" ", 2) for line in lines if line)
        return {commit: CommitInfo(int(date), subject) for commit, date, subject in known}

    def add_tree(self, commit: str, tree: Path) -> None:
        """Make a worktree at a new path; of the working tree, with what is uncommitted, if the hash ends in
        `-dirty`. Submodules are filled as far as their commits are here."""
        recorded = commit.removesuffix("-dirty")
        _git(self.root, "worktree", "add", "--detach", "--quiet", str(tree), recorded)
        if commit == recorded:
            _fill_submodules(self.root, recorded, tree)
        else:
            _copy_working_tree(self.root, tree)

    def remove_tree(self, tree: Path) -> None:
        """Remove a worktree, and git's record of it."""
        # What is left of a worktree that git can't remove goes with the temporary folder, and at git's prune.
        with contextlib.suppress(UsageError):
            _git(self.root, "worktree", "remove", "--force", "--force", str(tree))

    def detach_tree(self, tree: Path) -> None:
        """Keep a worktree's files, and remove git's record of it."""
        aside = tree.with_name(f"{tree.name}.aside")
        tree.rename(aside)
        self.remove_tree(tree)
        (aside / ".git").unlink(missing_ok=True)
        aside.rename(tree)

    def _hint(self, revision: str) -> str:
        if _said(self.root, "rev-parse", "--verify", "HEAD") is None:
            return "; it has no commit yet"
        remote = _said(self.root, "for-each-ref", "--format=%(refname:short)", f"refs/remotes/*/{revision}")
        if remote:
            return f"; did you mean {remote.splitlines()[0]}?"
        if _said(self.root, "rev-parse", "--is-shallow-repository") == "true":
            return "; this clone is shallow: fetch more of it (git fetch --unshallow; fetch-depth: 0)"
        return ""


def commit_around(folder: Path, code: Path | None = None) -> tuple[str | None, bool | None]:
    """HEAD of the repository around a folder, and whether tracked files differ from it; else None twice.

    code: a module's file or a package's folder, in which Python files that are not tracked count too.
    """
    commit = _said(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None, None
    changed = bool(_said(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules"))
    if code is not None and not changed:
        others = _said(folder, "ls-files", "--others", "-z", "--", str(code)) or ""
        changed = any(path.endswith(".py") for path in _paths(others))
    return commit, changed


def empty_submodules(tree: Path) -> list[str]:
    """Paths of a worktree's submodules that are not filled."""
    links = _gitlinks(tree, "HEAD")
    return [path for path in links if not any((tree / path).iterdir() if (tree / path).is_dir() else ())]


def _uncommitted(root: Path) -> Iterator[str]:
    """Paths that differ from HEAD, and those of new files that are not ignored; folders are repositories."""
    yield from _paths(_git(root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", "HEAD"))
    yield from _paths(_git(root, "ls-files", "--others", "--exclude-standard", "-z"))


def _paths(text: str) -> list[str]:
    return [path for path in text.split("\0") if path]


def _as_diff(root: Path, path: str) -> bytes:
    """A new file as git shows it."""
    content = (root / path).read_bytes()
    name = os.fsencode(path)
    lines = [b"+" + line for line in content.split(b"\n")]
    last = lines.pop() if content.endswith(b"\n") or not content else None
    head = [b"diff --git a/%s b/%s" % (name, name), b"new file mode 100644"]
    if not content:
        return b"\n".join(head)
    head += [b"--- /dev/null", b"+++ b/%s" % name, b"@@ -0,0 +1,%d @@" % len(lines)]
    ending = [] if last is not None else [b"\\ No newline at end of file"]
    return b"\n".join([*head, *lines, *ending])


def _copy_working_tree(root: Path, tree: Path) -> None:
    """Bring a worktree of HEAD to what the working tree holds."""
    _fill_submodules(root, "HEAD", tree)
    for path in _uncommitted(root):
        source, target = root / path, tree / path
        if source.is_dir() and not source.is_symlink():
            _copy_repository(source, target)
        else:
            _copy_file(source, target)


def _copy_repository(source: Path, target: Path) -> None:
    """Copy a submodule or a nested repository: its HEAD and what is uncommitted there."""
    if not (source / ".git").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if _said(source, "rev-parse", "--verify", "HEAD") is not None:
        _export(source, "HEAD", target)
        _copy_working_tree(source, target)
        return
    for path in _paths(_git(source, "ls-files", "--cached", "--others", "--exclude-standard", "-z")):
        _copy_file(source / path, target / path)


def _copy_file(source: Path, target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
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


def _fill_submodules(root: Path, commit: str, tree: Path) -> None:
    """Fill submodules as that commit has them, from the user's own copies; what is not there stays empty."""
    for path, linked in _gitlinks(root, commit).items():
        source, target = root / path, tree / path
        if (source / ".git").exists() and _said(source, "cat-file", "-e", f"{linked}^{{commit}}") is not None:
            target.mkdir(parents=True, exist_ok=True)
            _export(source, linked, target)
            _fill_submodules(source, linked, target)


def _export(repository: Path, commit: str, target: Path) -> None:
    """Write a commit's files, through an index that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="seqboat-bench-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(repository, "read-tree", commit, environment=index)
        _git(repository, "checkout-index", "--all", f"--prefix={target}/", environment=index)


def _gitlinks(root: Path, commit: str) -> dict[str, str]:
    """Commits of a commit's submodules, by path."""
    entries = (entry.partition("\t") for entry in _paths(_git(root, "ls-tree", "-r", "-z", commit)))
    return {path: facts.split()[2] for facts, _, path in entries if facts.startswith(_GITLINK)}


def _said(folder: Path, *words: str) -> str | None:
    """Git's answer; None if it failed."""
    try:
        return _git(folder, *words)
    except UsageError:
        return None


def _git(
    folder: Path, *words: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
) -> str:
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    try:
        child = subprocess.run(
            ["git", "-C", str(folder), *settings, *words],
            capture_output=True,
            check=False,
            input=None if stdin is None else os.fsencode(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=_environment() | {"GIT_TERMINAL_PROMPT": "0", **(environment or {})},
        )
    except OSError as error:
        raise UsageError(f"git cannot be run ({error.strerror})") from None
    if child.returncode != 0:
        raise UsageError(f"git {words[0]}: {_reason(child.stderr, child.returncode)}")
    return os.fsdecode(child.stdout).removesuffix("\n")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OF_ONE_REPOSITORY}


def _reason(stderr: bytes, code: int) -> str:
    """The line that says why git failed: its own, else the last."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for mark in ("fatal:", "error:") for line in lines if line.startswith(mark)]
    chosen = next(iter([*telling, *lines[-1:]]), f"exit code {code}")
    hints = [hint for sign, hint in _HINTS.items() if sign in stderr.lower()]
    return "; ".join([chosen.removeprefix("fatal: ").removeprefix("error: "), *hints[:1]])
