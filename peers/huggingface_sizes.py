"""Sizes of a run as keys of a configuration of transformers."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from implementations.task import PADDING, Task

HEAD_WIDTH = 32
"""Width of an attention head, as in the matched shape."""
ROOM = 64
"""Positions beyond the task's length, for what is decoded after it."""
SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")


@dataclass(frozen=True)
class Sizes:
    """Depth, width and number of heads of a configuration, 0 heads if it does not say."""

    layers: int
    dim: int
    heads: int

    @classmethod
    def of(cls, config: Any) -> "Sizes":
        return cls(config.num_hidden_layers, config.hidden_size, _number(config, HEADS) or 0)

    @property
    def words(self) -> str:
        heads = f", heads {self.heads}" if self.heads else ""
        return f"{self.layers} layers, width {self.dim}{heads}"


HEADS = ("num_attention_heads", "num_heads")


def configuration_of(kind: Any, task: Task, given: Mapping[str, Any], file: Mapping[str, Any] | None) -> Any:
    """A configuration of a class for a task.

    given: `layers`, `dim`, `heads`, and keys of the configuration. file: keys of a file, which has its own
    sizes; None for the sizes of the class in proportion to dim. Raises ValueError, NotImplementedError.
    """
    default = kind()
    for name in ("hidden_size", "num_hidden_layers"):
        if not isinstance(getattr(default, name, None), int):
            raise NotImplementedError(
                f"the configuration {kind.__name__} has no {name}: it has several parts"
            )
    own = {key: value for key, value in given.items() if key not in ("layers", "dim", "heads")}
    for key in own:
        if not hasattr(default, key):
            raise ValueError(f"{kind.__name__} has no hyper-parameter {key!r}")
    keys = dict(file) if file is not None else _proportional(kind, default, given)
    if file is not None:
        keys |= _named(default, {"num_hidden_layers": given.get("layers"), "hidden_size": given.get("dim")})
    keys |= _for_task(default, task) | own
    try:
        return kind(**keys)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{kind.__name__} refuses these sizes: {reason}") from error


def _proportional(kind: Any, default: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    dim = int(given.get("dim", 128))
    heads = int(given.get("heads", _heads(dim)))
    sizes = {
        "num_hidden_layers": int(given.get("layers", 4)),
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_key_value_heads": _shared(default, heads),
        "intermediate_size": _scaled(default, "intermediate_size", dim),
        "head_dim": _head_width(default, dim, heads),
    }
    return _named(default, sizes) | SPECIAL.get(kind.model_type, _nothing)(dim)


def _heads(dim: int) -> int:
    """Heads of about HEAD_WIDTH that share the width out evenly, each of an even width, as rotations need."""
    return next((n for n in range(dim // HEAD_WIDTH, 1, -1) if dim % n == 0 and dim // n % 2 == 0), 1)


def _named(default: Any, sizes: Mapping[str, int | None]) -> dict[str, Any]:
    """Sizes by their names in this configuration; those that it does not have are left out."""
    names = getattr(type(default), "attribute_map", {})
    fields = set(inspect.signature(type(default)).parameters) | set(vars(default))
    found = {names.get(name, name): value for name, value in sizes.items() if value is not None}
    return {name: value for name, value in found.items() if name in fields}


def _number(config: Any, names: tuple[str, ...]) -> int | None:
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), None)


def _shared(default: Any, heads: int) -> int | None:
    """Number of key and value heads, in the default's proportion to the others."""
    few, many = (_number(default, (name,)) for name in ("num_key_value_heads", "num_attention_heads"))
    return None if not few or not many else max(1, heads * few // many)


def _scaled(default: Any, name: str, dim: int) -> int | None:
    value = _number(default, (name,))
    return None if value is None else max(1, round(value * dim / int(default.hidden_size)))


def _head_width(default: Any, dim: int, heads: int) -> int | None:
    width, many = _number(default, ("head_dim",)), _number(default, ("num_attention_heads",))
    if width is None or many is None:
        return None
    return max(2, round(width * many / int(default.hidden_size) * dim / heads))


def _for_task(default: Any, task: Task) -> dict[str, Any]:
    """Keys that the data decides: the vocabulary and the number of positions."""
    vocabulary = task.vocabulary if task.causal else 2  # of an embedding that is replaced
    keys = {"vocab_size": vocabulary, "max_position_embeddings": task.length + ROOM}
    tokens = {name: PADDING for name in SPECIAL_TOKENS if hasattr(default, name)}
    looks_back = {"is_decoder": True} if task.causal and hasattr(default, "is_decoder") else {}
    return _named(default, keys) | tokens | looks_back


def _nothing(dim: int) -> dict[str, Any]:
    return {}


def _mamba2(dim: int) -> dict[str, Any]:
    # As wide as the default's if that divides the width of all heads together, else the next one that does.
    width = next(width for width in range(min(64, 2 * dim), 0, -1) if 2 * dim % width == 0)
    return {"num_heads": 2 * dim // width, "head_dim": width, "n_groups": 1}


SPECIAL: Mapping[str, Callable[[int], dict[str, Any]]] = {"mamba2": _mamba2}
"""Sizes that must go together, by type of model."""
