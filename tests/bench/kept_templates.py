"""Templates that outlive a test: each takes seconds to load torch, and hardly a test asks for a fresh one.

So do answers of the process that describes this machine, which loads torch too.
"""

import os

from bench.system import child
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


def surroundings() -> frozenset[tuple[str, str]]:
    """What processes that are started now would see."""
    return frozenset(item for item in os.environ.items() if item[0] not in UNREAD)


class Templates:
    """In the place of the class of templates: one that was made before, if it sees the same surroundings."""

    def __init__(self) -> None:
        self.kept: dict[object, Kept] = {}

    def __call__(self, threads: int, loaded: forkserver._Loaded | None, workload: str | None) -> Kept:
        # Models of a revision come from its own folders, others from the current one after all.
        folder = os.getcwd() if loaded is None else None
        key = (threads, loaded, workload, folder, surroundings())
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


class Answers:
    """In the place of `child.ask`: this machine is described once to those who see the same surroundings."""

    def __init__(self) -> None:
        self.own = child.ask
        self.kept: dict[object, bytes] = {}

    def __call__(self, module: str, *words: str, **options) -> bytes:
        if module != "bench.probes.environment":
            return self.own(module, *words, **options)
        key = (words, surroundings())
        if key not in self.kept:
            self.kept[key] = self.own(module, *words, **options)
        return self.kept[key]
