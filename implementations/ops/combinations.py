"""Products of several time steps of a sequence, by all combinations of its last steps or by neighbours."""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def products(u: Tensor, degree: int, all_combinations: bool) -> Iterator[Tensor]:
    """Products of 2, 3, … degree steps of u `(batch, length, dim)`, each of that shape.

    all_combinations: those of the last combinations of steps, in lexicographic order; else each product is
    that of fewer steps times itself one step earlier. Raises ValueError if the length is below degree + 1.
    """
    product = u
    for size in range(2, degree + 1):
        if all_combinations:
            first, rest = last_combinations(u.shape[1], size, u.device)
            product = u.index_select(1, first) * product.index_select(1, rest)
        else:
            product = product * F.pad(product[:, :-1], (0, 0, 1, 0))
        yield product


@functools.lru_cache(maxsize=64)
def last_combinations(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The last `length` combinations of `size` steps out of `length`, in lexicographic order.

    Returns, each `(length,)`: the first step of every combination, and the position of its other steps among
    the last `length` combinations of `size − 1`. There are as many combinations with a given first step as
    combinations of the steps after it, which are the last ones of their own list. Raises ValueError if there
    are too few.
    """
    if math.comb(length, size) < length:
        raise ValueError(f"a length of {length} has fewer than {length} combinations of {size} steps")
    first: list[Tensor] = []
    rest: list[Tensor] = []
    found, step = 0, length - size
    # The tables are cached, so they must serve a backward pass and a real device, whoever asks first.
    with torch.inference_mode(False), torch.device("cpu"):
        while found < length:
            count = math.comb(length - 1 - step, size - 1)
            first.insert(0, torch.full((count,), step))
            rest.insert(0, torch.arange(length - count, length))
            found, step = found + count, step - 1
        return torch.cat(first)[-length:].to(device), torch.cat(rest)[-length:].to(device)
