"""Fields of a model's configuration, held against their types.

A chain of ifs reads a misspelt word as its last branch: another model, under a name that promises this one.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Count = Annotated[int, "from 0"]
"""A whole number that may be 0. Any other whole number of a configuration is a size, from 1."""

WORDS: Mapping[Any, str] = {
    int: "a whole number from 1",
    Count: "a whole number from 0",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


class Config:
    """Base of hyper-parameters as dataclasses. Raises ValueError for a value of none of its field's types."""

    def __post_init__(self) -> None:
        check(type(self), vars(self))


def check(config: type[Config], values: Mapping[str, Any]) -> None:
    """Raises ValueError, which says what the field may be."""
    kinds = _kinds(config)
    for name, value in values.items():
        if not any(_fits(value, kind) for kind in kinds[name]):
            raise ValueError(_refusal(name, value, kinds[name]))


def config_of(module: ModuleType) -> type[Config]:
    """The configuration of a system's module, known by its name: `S4DConfig` in `s4d`."""
    wanted = module.__name__.rpartition(".")[2].replace("_", "") + "config"
    found: type[Config] = next(value for name, value in vars(module).items() if name.lower() == wanted)
    return found


def _kinds(config: type[Config]) -> Mapping[str, tuple[Any, ...]]:
    """Each field's types, one by one."""
    hints = get_type_hints(config, include_extras=True)
    return {
        name: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for name, hint in hints.items()
    }


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, Count):
        return type(value) is int and value >= (0 if kind == Count else 1)
    return type(value) in (int, float) if kind is float else isinstance(value, kind)


def _refusal(name: str, value: object, kinds: Sequence[Any]) -> str:
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        return f"unknown {name} {value!r}: choose {_listed(words)}"
    return f"{name} can't be {value!r}: give {_listed([WORDS[kind] for kind in kinds])}"


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
