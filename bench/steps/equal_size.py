"""The width at which a model has a wanted number of parameters: built on meta tensors, which have no memory.

The search has a process of its own: what a module keeps from one model to the next would else be tensors
without values, in the model that is measured.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import torch

from implementations.encoder import parameter_count
from implementations.equal_sizes import TOLERANCE, NoEqualSize, closest
from implementations.registry import Implementation
from implementations.settings import Read
from implementations.task import Task

if TYPE_CHECKING:
    from implementations.registry import Build


class Found(msgspec.Struct, frozen=True):
    """Outcome of a search: a width, or the reason why there is none."""

    width: int | None
    reason: str = ""
    needs_values: bool = False
    """Whether a model asks for values of its tensors when it is built, which meta tensors do not have."""


_found: dict[tuple[str, Task, str], Found] = {}


def width_of(implementation: Implementation, build: "Build", task: Task, mode: str, target: int) -> int:
    """The width. Raises NoEqualSize if no width gives the target within the tolerance.

    build: the implementation's function. mode: the hyper-parameters' own name for the target.
    """
    # Another form of a model has the same parameters.
    key = (implementation.plain, task, mode)
    if key not in _found:
        on_meta = _Sizes(implementation, build, task, mode, "meta")
        _found[key] = _apart(lambda: on_meta.search(target))
        if _found[key].needs_values:
            in_earnest = _Sizes(implementation, build, task, mode, "cpu")
            _found[key] = _apart(lambda: in_earnest.search(target))
    found = _found[key]
    if found.width is None:
        raise NoEqualSize(f"{mode}: {found.reason}")
    return found.width


class _Sizes:
    """Counts the parameters of a model at a width, and keeps why it could not."""

    def __init__(
        self, implementation: Implementation, build: "Build", task: Task, mode: str, device: str
    ) -> None:
        """device: `meta`, or `cpu` for a model that needs values."""
        self.implementation = implementation
        self.build = build
        self.task = task
        self.mode = mode
        self.device = device
        self.known: dict[int, int | None] = {}
        self.failure = ""
        """Why the last width was none."""
        self.hopeless = False
        """Whether it is the same at all widths."""
        self.needs_values = False

    def search(self, target: int) -> Found:
        best = closest(self.count, target)
        if self.hopeless:
            return Found(None, self.failure, self.needs_values)
        if best is None:
            return Found(None, f"it can't be built at any width; the last failure: {self.failure}")
        if best.off(target) <= TOLERANCE:
            return Found(best.width)
        fixed = self.implementation.setting.get("dim")
        where = f"{best.width}" if fixed is None else f"{fixed}, which is set by hand"
        return Found(
            None,
            f"no width gives it that many parameters within {TOLERANCE:.0%}; the nearest are "
            f"{best.parameters:,} at a width of {where}",
        )

    def count(self, width: int) -> int | None:
        if self.hopeless:
            return None
        if width not in self.known:
            self.known[width] = self._count(width)
        return self.known[width]

    def _count(self, width: int) -> int | None:
        values = Read(self.implementation.hyperparameters(self.task.name, self.mode, width))
        try:
            with torch.device(self.device):
                model = self.build(self.task, values)
        except (NotImplementedError, RuntimeError) as error:
            self.failure = str(error)
            self.needs_values = self.device == "meta"
            self.hopeless = self.needs_values or isinstance(error, NotImplementedError)
            return None
        except Exception as error:
            self.failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return None
        if "dim" not in values.asked:
            self.failure = "the model never asks for `dim`, so nobody can choose its width"
            self.hopeless = True
            return None
        return parameter_count(model)


def _apart(search: Callable[[], Found]) -> Found:
    """Run a search in a fork of this process, and wait for it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(search, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answered = answers.read()
    _, status = os.waitpid(child, 0)
    if not answered:
        code = os.waitstatus_to_exitcode(status)
        raise NoEqualSize(f"the search for a width ended with exit code {code}")
    return msgspec.json.decode(answered, type=Found)


def _answer(search: Callable[[], Found], writer: int) -> None:
    """In the fork: hand the answer over, and end without what this process would do at its end."""
    torch.set_num_threads(1)  # Of this process's other threads a fork has none.
    try:
        found = search()
    except BaseException as error:
        found = Found(None, " ".join(f"{type(error).__name__}: {error}".split())[:300])
    with os.fdopen(writer, "wb") as answers:
        answers.write(msgspec.json.encode(found))
    os._exit(0)
