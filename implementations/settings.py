"""Names of implementations with a setting: `seqboat(window=64)`, and with a row's name before it,
`seqboat-w64=seqboat(window=64)`."""

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from implementations.errors import RegistryError

if TYPE_CHECKING:
    from torch import nn

    from implementations.task import Task

Kind = TypeVar("Kind")

WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
LABEL = re.compile(r"[A-Za-z0-9][\w.+-]*")
LARGEST = (1 << 63) - 1
"""Largest whole number that a record holds."""


@dataclass(frozen=True)
class Setting:
    """An implementation, hyper-parameters to replace its own, and the name of the row if it has one."""

    use: str
    values: Mapping[str, Any]
    label: str | None = None

    @property
    def unlabelled(self) -> str:
        """The name without a label: one text for the same values in any order."""
        words = ", ".join(f"{key}={_text(value)}" for key, value in sorted(self.values.items()))
        return f"{self.use}({words})" if words else self.use

    def __str__(self) -> str:
        return f"{self.label}={self.unlabelled}" if self.label else self.unlabelled


def parse(text: str) -> Setting:
    """A name as a setting, which may be empty. Raises RegistryError if it cannot be read."""
    head, bracket, values = text.partition("(")
    label, equals, use = head.rpartition("=")
    label, use = label.strip(), use.strip()
    if not use or (equals and not LABEL.fullmatch(label)):
        raise RegistryError(f"{text!r}: write a setting as model(key=value), or name=model(key=value)")
    return Setting(use, _values(text, bracket + values) if bracket else {}, label or None)


def split(text: str) -> list[str]:
    """Parts between commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def is_plain(value: object) -> bool:
    """Whether a value can stand in a record: a finite number, a word, a truth value, null, or a list or
    mapping of such."""
    if isinstance(value, int):
        return -LARGEST <= value <= LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, str)


def replaced(name: str, own: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own hyper-parameters with those of a setting in their place.

    Raises RegistryError if it has none of that name, or if a number stands for a word.
    """
    for key, value in values.items():
        if key not in own:
            raise RegistryError(f"{name}: unknown hyper-parameter {key!r}; known: {', '.join(sorted(own))}")
        if None not in (own[key], value) and isinstance(own[key], str) != isinstance(value, str):
            raise RegistryError(f"{name}: {key} is {own[key]!r} by default, so it cannot be {value!r}")
    return {**own, **values}


def doubtful(own: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a setting that a model's own do not vouch for: another word, a size below 1, another type."""
    return {key: value for key, value in values.items() if not _vouches(own[key], value)}


def _vouches(own: object, value: object) -> bool:
    if type(own) is not type(value):
        return False
    return own == value or isinstance(value, bool | float) or (isinstance(value, int) and value >= 1)


class Read(Mapping[str, Any]):
    """Hyper-parameters that record which of them a model has read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values_by_name = values
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self.values_by_name[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


class Watched:
    """A configuration that records which of its fields a model reads."""

    def __init__(self, config: object, asked: set[str]) -> None:
        self._config, self._asked = config, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.add(name)
        return getattr(self._config, name)


def configured(kind: Callable[..., Kind], hyperparameters: Mapping[str, Any]) -> Kind:
    """A configuration of hyper-parameters, of which only what the model reads from there counts as read."""
    if not isinstance(hyperparameters, Read):
        return kind(**hyperparameters)
    return cast(Kind, Watched(kind(**hyperparameters.values_by_name), hyperparameters.asked))


def checked(
    name: str, build: "Callable[[Task, Mapping[str, Any]], nn.Module]", values: Mapping[str, Any]
) -> "Callable[[Task, Mapping[str, Any]], nn.Module]":
    """A plug-in's function, which must read every value of a setting: a value that it does not read changes
    nothing, and its figures would be under a wrong name."""

    def build_and_check(task: "Task", hyperparameters: Mapping[str, Any]) -> "nn.Module":
        read = Read(hyperparameters)
        model = build(task, read)
        for key in values:
            if key not in read.asked:
                raise RegistryError(f"{name}: unknown hyper-parameter {key!r}: the model never asks for it")
        return model

    return build_and_check


def _values(text: str, arguments: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"model{arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        pairs = [(str(keyword.arg or ""), _value(keyword.value)) for keyword in call.keywords]
        if not all(is_plain(value) for _, value in pairs):
            raise ValueError
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise RegistryError(
            f"{text!r}: write hyper-parameters as (key=value, …), with numbers, words, true, false or null"
        ) from None
    names = [name for name, _ in pairs]
    if "" in names or len(set(names)) < len(names):
        raise RegistryError(f"{text!r}: give each hyper-parameter once, by its name")
    return dict(pairs)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return WORDS.get(node.id, node.id)
    return ast.literal_eval(node)


def _text(value: Any) -> str:
    """Text that `_value` reads as that value."""
    for word, meaning in WORDS.items():
        if value is meaning:
            return word
    plain = isinstance(value, str) and value.isidentifier() and value not in WORDS
    return value if plain and _is_name(value) else repr(value)


def _is_name(word: str) -> bool:
    """Whether a word is a name in Python; `None` and `if` are identifiers but not names."""
    try:
        return isinstance(ast.parse(word, mode="eval").body, ast.Name)
    except SyntaxError:
        return False
