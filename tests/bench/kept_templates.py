"""Templates that outlive a test: each takes seconds to load torch, and hardly a test asks for a fresh one."""

import os

from bench.workers import forkserver

KEPT = 6
"""At once, in one process of the tests; each takes some 300 MiB."""

UNREAD = ("PYTEST_CURRENT_TEST", "GITHUB_STEP_SUMMARY")
"""Variables that nothing in a template or a worker reads."""

Template = forkserver._TemplateProcess


class Kept(Template):
    """A template that whoever uses it leaves as it is."""

    def kill(self) -> None:
        pass

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None


class Templates:
    """In the place of the class of templates: one that was made before, if it sees the same surroundings."""

    def __init__(self) -> None:
        self.kept: dict[object, Kept] = {}

    def __call__(self, threads: int, loaded: forkserver._Loaded | None, workload: str | None) -> Kept:
        variables = {name: value for name, value in os.environ.items() if name not in UNREAD}
        # Models of a revision come from its own folders, others from the current one after all.
        folder = os.getcwd() if loaded is None else None
        key = (threads, loaded, workload, folder, frozenset(variables.items()))
        found = self.kept.pop(key, None)
        if found is None or not found.is_alive:
            found = Kept(threads, loaded, workload)
        self.kept[key] = found  # As the youngest.
        if len(self.kept) > KEPT:
            Template.kill(self.kept.pop(next(iter(self.kept))))
        return found

    def close(self) -> None:
        for template in self.kept.values():
            Template.kill(template)
