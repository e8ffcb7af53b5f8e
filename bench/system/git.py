"""Git asked for something: no program of the user's is run by it, and a failure is a line that says why."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError

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
    # A diff is one that `git apply` takes, whatever the user likes to look at.
    *("color.ui=false", "diff.noprefix=false", "diff.mnemonicPrefix=false", "diff.submodule=short"),
)
"""Settings: git runs no program of the user's, and a worktree is whole even if the working tree is sparse."""


def said(folder: Path, *words: str) -> str | None:
    """Git's answer; None if it failed."""
    try:
        return ask(folder, *words)
    except UsageError:
        return None


def ask(
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


def paths_of(text: str) -> list[str]:
    return [path for path in text.split("\0") if path]
