"""The code of each revision: where it is imported from, and a check that it comes from nowhere else."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.errors import UsageError
from bench.gate.installed import install
from bench.measure.procedure import Procedure
from bench.suites.case import Case
from bench.system.repository import Repository
from bench.system.worktree import empty_submodules
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import Locate, Located
from bench.workers.source import CodeSource

PACKAGE = "implementations"
OF_HARNESS = ("bench", PACKAGE, "peers")
"""Packages that come with the harness."""
DEFAULT_FOLDERS = (".", "src")
"""Folders of a repository that are importable without --source."""
HARNESS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Code:
    """The user's way to make a repository's code importable."""

    folders: tuple[str, ...] = ()
    """Folders below the repository's root; by default the root and `src`."""
    setup: str | None = None
    """Command that installs a revision, run in its worktree."""


@dataclass(frozen=True)
class Revision:
    """A commit that is checked out."""

    name: str
    commit: str
    tree: Path
    source: CodeSource
    repository: Path
    """The user's working tree."""

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders of this revision's files."""
        made = () if self.source.python == CodeSource.python else (Path(self.source.python).parents[1],)
        return (self.tree.resolve(), *(path.resolve() for path in made))

    def has(self, file: str) -> bool:
        return any(Path(file).resolve().is_relative_to(root) for root in self.roots)


@contextlib.contextmanager
def checked_out(
    repository: Repository, commits: Mapping[str, str], code: Code
) -> Iterator[dict[str, Revision]]:
    """Check out every commit, by its name, ready to be imported. Raises UsageError, or SetupFailed."""
    with tempfile.TemporaryDirectory(prefix="seqboat-bench-") as temporary, contextlib.ExitStack() as stack:
        found = {}
        for name, commit in commits.items():
            folder = Path(temporary) / name
            folder.mkdir()
            if code.setup is None:
                tree, python = folder / "tree", CodeSource.python
                stack.callback(repository.remove_tree, tree)
                repository.add_tree(commit, tree)
            else:
                stack.callback(repository.remove_tree, folder / "tree")
                made = install(repository, name, commit, code.setup, folder)
                tree, python = made.tree, made.python
            source = CodeSource(_paths(tree, code), repository.root, _own_package(tree, folder), python)
            found[name] = Revision(name, commit, tree, source, repository.root)
        for wanted in code.folders:
            if not any((revision.tree / wanted).is_dir() for revision in found.values()):
                raise UsageError(f"--source {wanted}: no such folder in {' or '.join(found)}")
        yield found


def _paths(tree: Path, code: Code) -> tuple[Path, ...]:
    folders = code.folders or (DEFAULT_FOLDERS if code.setup is None else ())
    return tuple((tree / folder).resolve() for folder in folders if (tree / folder).is_dir())


def _own_package(tree: Path, folder: Path) -> Path | None:
    """A folder with nothing but the revision's `implementations`, if the repository is this very project."""
    if not (tree / PACKAGE / "registry.py").is_file() or not (tree / PACKAGE / "cards").is_dir():
        return None
    alone = folder / "own"
    alone.mkdir()
    (alone / PACKAGE).symlink_to(tree / PACKAGE, target_is_directory=True)
    return alone


def absent(
    procedure: Procedure, server: ForkServer, revisions: Sequence[Revision], cases: Sequence[Case]
) -> dict[tuple[str, str], str]:
    """Why a revision does not have an implementation, by the names of both; those that it has are left out.

    Raises UsageError if no revision has it, or if a module comes from the working tree: then what would be
    measured is not the revision.
    """
    missing: dict[tuple[str, str], str] = {}
    first_cases = {case.implementation: case for case in reversed(cases)}
    for name, case in first_cases.items():
        lacks = {}
        for revision in revisions:
            lack = _lack(procedure, server, revision, case)
            if lack is not None:
                lacks[revision.name] = lack
        if len(lacks) == len(revisions):
            last = revisions[-1]
            reason, advice = lacks[last.name]
            raise UsageError(f"{name}: {_named(last)} does not have it: {reason}{advice}")
        missing |= {(revision, name): reason for revision, (reason, _) in lacks.items()}
    return missing


def _lack(procedure: Procedure, server: ForkServer, revision: Revision, case: Case) -> tuple[str, str] | None:
    """Why a revision does not have an implementation, and advice if no other has it; None if it does."""
    try:
        with server.start(at(case, revision.name)) as worker:
            found = worker.ask(Locate(worker.case), Located, procedure.deadline_seconds)
    except WorkerFailed:
        return None  # The measurement will report that it does not run, with the reason.
    submodule = _submodule(revision)
    advice = "" if submodule else _advice(found.path.partition(":")[0].partition(".")[0], revision)
    if found.missing is not None:
        return f"{found.missing}{submodule}", advice
    stranger = _stranger(found, revision)
    if stranger is not None:
        raise UsageError(
            f"{case.implementation}: {stranger}, not from {_named(revision)}; commit it, or name its --source"
        )
    module = found.path.partition(":")[0]
    file = found.files.get(module)
    if file is None or revision.has(file):
        return None
    return f"{module} comes from {file}{submodule}", advice


def _stranger(found: Located, revision: Revision) -> str | None:
    """A module from the user's working tree, if any; installed packages and the harness may lie there."""
    harness_has = ("bench",) if revision.source.implementations else OF_HARNESS
    for name, file in found.files.items():
        path = Path(file).resolve()
        if revision.has(file) or not path.is_relative_to(revision.repository):
            continue
        of_harness = any(path.is_relative_to(HARNESS / package) for package in harness_has)
        if not of_harness and not {"site-packages", "dist-packages"} & set(path.parts):
            return f"{name} comes from the working tree ({file})"
    return None


def _named(revision: Revision) -> str:
    return f"{revision.name} ({revision.commit[:12]})"


def _submodule(revision: Revision) -> str:
    """Advice if a module may be missing since a submodule is."""
    empty = empty_submodules(revision.tree) if (revision.tree / ".git").exists() else []
    if not empty:
        return ""
    return f"; its submodule {empty[0]} is not here: git submodule update --init {empty[0]}"


def _advice(package: str, revision: Revision) -> str:
    """Advice for a model that no revision has, by the package of its module."""
    if package in OF_HARNESS and revision.source.implementations is None:
        return f"; `{package}` is the harness's own: name a model of this repository, --impl module:function"
    return "; a folder of its own is named by --source, what must be installed by --setup"


def at(case: Case, revision: str) -> Case:
    """The case of a revision."""
    return msgspec.structs.replace(case, revision=revision)
