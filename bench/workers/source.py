"""Source of the code that a worker measures, if it is not the code at hand."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CodeSource:
    """Code of one revision: its worktree's folders come before everything else on the path."""

    paths: tuple[Path, ...]
    """Folders whose modules can be imported; they come first once the harness has been loaded."""
    repository: Path | None = None
    """The user's working tree, if nothing may be imported from there."""
    implementations: Path | None = None
    """Folder that holds only the revision's own `implementations`, if it is a revision of this very project:
    they replace the harness's."""
    python: str = sys.executable
    """Interpreter: that of the revision's own environment if it was installed into one."""

    @property
    def python_path(self) -> list[str]:
        """PYTHONPATH of a worker: this very `bench`, and the user's folders outside the repository."""
        harness = Path(__file__).resolve().parents[2]
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        hidden = self.repository
        kept = [path for path in given if hidden is None or not Path(path).resolve().is_relative_to(hidden)]
        first = [] if self.implementations is None else [str(self.implementations)]
        return [*first, str(harness), *kept]
