"""Revisions of a repository side by side, each in a worktree of its own.

The user's tree, index, branches, stash, submodules and objects stay as they are: what is uncommitted is
copied over a worktree of HEAD, and no object is written.
"""

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.system.git import ask, paths_of, said
from bench.system.worktree import copy_working_tree, fill_submodules, uncommitted

WORKTREE = "worktree"
"""Name of the working tree as it is: with changes and new files, without ignored ones."""


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
        if said(folder, "rev-parse", "--is-bare-repository") == "true":
            raise UsageError(f"{folder.resolve()}: a bare repository; run this in a clone or worktree of it")
        return cls(Path(ask(folder, "rev-parse", "--show-toplevel")))

    def commit(self, revision: str) -> str:
        """Hash of the commit that a revision names; for the working tree that of HEAD, with `-dirty` if
        anything is uncommitted."""
        if revision == WORKTREE:
            head = self.commit("HEAD")
            return f"{head}-dirty" if any(uncommitted(self.root)) else head
        try:
            # --end-of-options: a revision that begins with a dash is not an option.
            words = ("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
            return ask(self.root, *words).splitlines()[0]
        except UsageError:
            raise UsageError(
                f"{revision}: this repository has no such revision{self._hint(revision)}"
            ) from None

    def changes(self) -> tuple[bytes, int]:
        """Uncommitted changes as a diff against HEAD, new Python files included, and how many other new files
        are left out."""
        tracked = os.fsencode(ask(self.root, "diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD"))
        new = paths_of(ask(self.root, "ls-files", "--others", "--exclude-standard", "-z"))
        sources = [path for path in new if path.endswith(".py") and (self.root / path).is_file()]
        parts = [tracked, *(_as_diff(self.root, path) for path in sources)]
        return b"\n".join(filter(None, parts)) + b"\n", len(new) - len(sources)

    def commits_between(self, good: str, bad: str) -> list[str]:
        """Hashes after `good` up to `bad`, along the first parents, the oldest first.

        Raises UsageError if `good` does not lie on that line.
        """
        if good == bad:
            raise UsageError(f"good and bad are one commit, {good[:12]}")
        line = ask(self.root, "rev-list", "--first-parent", bad).splitlines()
        if good not in line:
            raise UsageError(f"{good[:12]} is not among the first parents of {bad[:12]}; name one that is")
        return line[: line.index(good)][::-1]

    def commits_after(self, commit: str) -> list[str]:
        """Hashes of all commits, of any branch, that do not lie at or before this one."""
        return ask(self.root, "rev-list", "--all", "HEAD", f"^{commit}").splitlines()

    @classmethod
    def commits(cls, folder: Path, hashes: Collection[str]) -> dict[str, CommitInfo]:
        """Date and subject of commits by hash; empty if the repository around a folder lacks one."""
        try:
            root = cls.around(folder).root
            words = ("log", "--no-walk", "-z", "--encoding=UTF-8", "--format=%H %ct %s", "--stdin", "--")
            lines = ask(root, *words, stdin="\n".join(hashes)).split("\0") if hashes else []
        except UsageError:
            return {}
        # Only git's own NUL ends a line: a subject may hold any other separator, or nothing.
        known = (line.split(" ", 2) for line in lines if line)
        return {commit: CommitInfo(int(date), _as_text(subject)) for commit, date, subject in known}

    def add_tree(self, commit: str, tree: Path) -> None:
        """Make a worktree at a new path; of the working tree, with what is uncommitted, if the hash ends in
        `-dirty`. Submodules are filled as far as their commits are here."""
        recorded = commit.removesuffix("-dirty")
        ask(self.root, "worktree", "add", "--detach", "--quiet", str(tree), recorded)
        if commit == recorded:
            fill_submodules(self.root, recorded, tree)
        else:
            copy_working_tree(self.root, tree)

    def remove_tree(self, tree: Path) -> None:
        """Remove a worktree, and git's record of it."""
        # What is left of a worktree that git can't remove goes with the temporary folder, and at git's prune.
        with contextlib.suppress(UsageError):
            ask(self.root, "worktree", "remove", "--force", "--force", str(tree))

    def detach_tree(self, tree: Path) -> None:
        """Keep a worktree's files, and remove git's record of it."""
        aside = tree.with_name(f"{tree.name}.aside")
        tree.rename(aside)
        self.remove_tree(tree)
        (aside / ".git").unlink(missing_ok=True)
        aside.rename(tree)

    def _hint(self, revision: str) -> str:
        if said(self.root, "rev-parse", "--verify", "HEAD") is None:
            return "; it has no commit yet"
        remote = said(self.root, "for-each-ref", "--format=%(refname:short)", f"refs/remotes/*/{revision}")
        if remote:
            return f"; did you mean {remote.splitlines()[0]}?"
        if said(self.root, "rev-parse", "--is-shallow-repository") == "true":
            return "; this clone is shallow: fetch more of it (git fetch --unshallow; fetch-depth: 0)"
        return ""


def commit_around(folder: Path, code: Path | None = None) -> tuple[str | None, bool | None]:
    """HEAD of the repository around a folder, and whether tracked files differ from it; else None twice.

    code: a module's file or a package's folder, in which Python files that are not tracked count too.
    """
    commit = said(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None, None
    changed = bool(said(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules"))
    if code is not None and not changed:
        others = said(folder, "ls-files", "--others", "-z", "--", str(code)) or ""
        changed = any(path.endswith(".py") for path in paths_of(others))
    return commit, changed


def _as_text(subject: str) -> str:
    """A subject without the bytes that are not UTF-8, which no output could be written with."""
    return os.fsencode(subject).decode(errors="replace")


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
