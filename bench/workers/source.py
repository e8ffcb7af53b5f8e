"""Where a worker imports the code that is measured from, when it is not what is at hand."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CodeSource:
    """One revision's code: its worktree's folders come before everything else on the path."""

    paths: tuple[Path, ...]
    """Folders whose modules can be imported; they are put first once the harness has been loaded."""
    repository: Path | None = None
    """The user's working tree, if what lies there is not to be imported."""
    implementations: Path | None = None
    """A folder that holds only the revision's own `implementations`, if it is one of this very project: they
    take the place of the harness's."""
    python: str = sys.executable
    """The interpreter: of an environment of its own if the revision was installed into one."""

    @property
    def python_path(self) -> list[str]:
        """PYTHONPATH of a worker: this very `bench`, and what the user put there from elsewhere."""
        harness = Path(__file__).resolve().parents[2]
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        hidden = self.repository
        kept = [path for path in given if hidden is None or not Path(path).resolve().is_relative_to(hidden)]
        first = [] if self.implementations is None else [str(self.implementations)]
        return [*first, str(harness), *kept]
