"""Revisions that must be installed: a virtual environment for each, kept by commit.

An environment sees the packages of the one that runs the harness (torch above all), except those that come
from the user's working tree; what its setup installs comes first.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.system.locks import locked
from bench.system.repository import Repository
from implementations import folders

LOG = "failed-setup.log"
"""File of all that the last failed setup wrote."""
_FRAME = (
    *("note:", "hint:", "[notice]", "[end of output]", "×", "│", "╰─>"),
    *("error: subprocess-exited-with-error", "error: metadata-generation-failed"),
)
"""Beginnings of the lines that pip puts around the output of what it ran, which say nothing of it."""
KEPT = 20
"""Environments that are kept; the least recently used are deleted first."""


class SetupFailed(UsageError):
    """The setup of a revision ended with an error."""

    def __init__(self, revision: str, commit: str, reason: str) -> None:
        super().__init__(f"{revision} ({commit[:12]}) can't be installed: {reason}")
        self.revision = revision


@dataclass(frozen=True)
class Installed:
    """A revision's worktree, and the environment that it was installed into."""

    tree: Path
    environment: Path

    @property
    def python(self) -> str:
        return str(self.environment / "bin" / "python")


def cache_folder() -> Path:
    """Folder of the environments. Raises UsageError."""
    try:
        return folders.cache_folder() / "revisions"
    except folders.NoHome as error:
        raise UsageError(str(error)) from None


def install(repository: Repository, name: str, commit: str, setup: str, temporary: Path) -> Installed:
    """Environment of a commit, made if it is not there; that of a working tree is made in `temporary`.

    name: name of the revision. Raises SetupFailed with a line that the setup wrote.
    """
    try:
        return _install(repository, commit, setup, temporary)
    except _Ended as error:
        raise SetupFailed(name, commit, str(error)) from None


class _Ended(Exception):
    """A command of the setup ended with an error."""


def _install(repository: Repository, commit: str, setup: str, temporary: Path) -> Installed:
    if commit.endswith("-dirty"):
        place = Installed(temporary / "tree", temporary / "environment")
        repository.add_tree(commit, place.tree)
        _make(place, repository, setup)
        return place
    words = (str(repository.root), commit, setup, sys.version, sys.prefix)
    folder = cache_folder() / hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]
    place = Installed(folder / "tree", folder / "environment")
    with _locked(folder):
        if not (folder / "ready").exists():
            for half_made in (place.tree, place.environment):
                shutil.rmtree(half_made, ignore_errors=True)
            repository.add_tree(commit, place.tree)
            try:
                _make(place, repository, setup)
            finally:
                repository.detach_tree(place.tree)
        (folder / "ready").touch()
    _forget_oldest()
    return place


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within this context no other process makes this environment. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=True))
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
        yield


def _make(place: Installed, repository: Repository, setup: str) -> None:
    _run([sys.executable, "-m", "venv", str(place.environment)], place)
    (packages,) = place.environment.glob("lib/python*/site-packages")
    (packages / "of_the_harness.pth").write_text("".join(f"{path}\n" for path in _shared(repository.root)))
    _run(["sh", "-c", setup], place)


def _shared(repository: Path) -> list[str]:
    """Folders of this process's packages, but for those inside the working tree."""
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    library |= {str(Path(path) / "lib-dynload") for path in library}
    given = {os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    found = []
    for path in sys.path:
        inside = Path(path).resolve().is_relative_to(repository) and "site-packages" not in Path(path).parts
        if path and os.path.isdir(path) and path not in library | given and not inside:
            found.append(path)
    return found


def _run(words: list[str], place: Installed) -> None:
    """Run a command of the setup, in the worktree and with its environment first on the path."""
    path = os.pathsep.join([str(place.environment / "bin"), os.environ.get("PATH", os.defpath)])
    settings = {"PATH": path, "VIRTUAL_ENV": str(place.environment), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        words,
        cwd=place.tree,
        env=kept | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        said = _telling_line(done.stdout.decode(errors="replace"))
        log = cache_folder() / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(done.stdout)
        raise _Ended(f"{words[-1]!r} ended with exit code {done.returncode}: {said} (all of it: {log})")


def _telling_line(output: str) -> str:
    """The line of a setup's output that says why it failed: its last error, else its last line."""
    lines = [line.strip() for line in output.splitlines()]
    own = [line for line in lines if line and not line.lower().startswith(_FRAME)]
    errors = [line for line in own if "error:" in line.lower()]
    return (errors or own or ["it wrote nothing"])[-1][:200]


def _forget_oldest() -> None:
    made = sorted(cache_folder().glob("*/ready"), key=lambda ready: ready.stat().st_mtime, reverse=True)
    for ready in made[KEPT:]:
        shutil.rmtree(ready.parent, ignore_errors=True)
