"""What the adapters of official modules make of options and inputs that few vectors have."""

import pytest
import torch

from implementations.models.luna import LunaAttention
from implementations.official import OfficialView, Unsupported, build_module
from implementations.official.options import BOOKKEEPING, check_options

LENGTH, TAPS = 48, 20


SHAPES = {
    "layer.D": (1, 4),
    "layer.kernel.A_imag": (4, 4),
    "layer.kernel.A_real": (4, 4),
    "layer.kernel.B": (1, 4, 4, 2),
    "layer.kernel.C": (1, 4, 4, 2),
    "layer.kernel.P": (1, 4, 4, 2),
    "layer.kernel.inv_dt": (4, 1),
    "output_linear.0.bias": (8,),
    "output_linear.0.weight": (8, 4),
}


def s4_block(mode: str) -> OfficialView:
    generator = torch.Generator().manual_seed(1)
    names = SHAPES.keys() - (set() if mode == "dplr" else {"layer.kernel.P"})
    options = {"d_model": 4, "d_state": 8, "l_max": TAPS, "bidirectional": False, "transposed": False}
    config = {"ctor": {**options, "mode": mode, "dt_transform": "softplus"}, "run": {"L": LENGTH}}
    params = {name: torch.randn(SHAPES[name], generator=generator) for name in sorted(names)}
    return build_module("s4", "S4Block", config, params)


@pytest.mark.parametrize("mode", ["diag", "dplr"])
def test_a_kernel_reaches_no_further_than_l_max(mode):
    x = torch.randn(1, LENGTH, 4)
    other = x.clone()
    other[:, 0] += 1.0
    block = s4_block(mode)
    changed = (block(x=x)["y"] - block(x=other)["y"]).abs().amax(dim=(0, 2)) > 1e-5
    assert changed[:TAPS].all()
    assert not changed[TAPS:].any()
    assert block(x=x)["kernel_K"].shape[-1] == TAPS


def test_an_input_without_a_counterpart_is_unsupported():
    params = dict(LunaAttention(4, 2, None, True).named_parameters())
    module = build_module("luna", "LunarMultiheadAttention", {"d": 4, "h": 2}, params)
    x = torch.zeros(3, 1, 4)
    with pytest.raises(Unsupported, match="context"):
        module(x=x, px=x, context=x)


def test_how_a_case_was_recorded_is_not_an_option():
    check_options(dict.fromkeys(BOOKKEEPING), ())
    with pytest.raises(Unsupported, match="bias_free"):
        check_options({"bias_free": True, "wstd": 0.3}, ())
