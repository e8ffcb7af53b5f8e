"""What a step does beside the model: its optimiser."""

import pytest
import torch
from torch import nn

from bench.steps.plugged import adam
from bench.steps.step import cross_entropy


class Parametrised(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_the_optimiser_takes_parameters_of_any_dtype_and_moves_none(dtype):
    model = Parametrised(dtype)
    optimizer = adam(model)
    model.weight.abs().sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, torch.ones(3, dtype=dtype))
    assert optimizer.state[model.weight]["exp_avg"].abs().sum() > 0


def test_a_classifier_on_a_language_task_is_told_which_logits_are_wanted():
    with pytest.raises(ValueError, match=r"logits of shape \(2, 5\); this task wants \(2, 8, classes\)"):
        cross_entropy(torch.zeros(2, 5), torch.zeros(2, 8, dtype=torch.int64))
