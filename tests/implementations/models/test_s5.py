"""S5: the parallel form is the recurrence; what it sees of the past, the future and the padding."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.probes.tensor_bytes import TensorBytes
from implementations.models.s5 import S5SSM, S5Config, S5Layer, build, hippo_blocks
from implementations.ops.flax_layers import BatchNorm
from implementations.ops.ssm import hippo_legs
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 6, "state": 8, "blocks": 2}
TEXT = Task("text", length=24, classes=3, vocabulary=20)
IMAGE = Task("image", length=24, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=24, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=24, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([24, 9])


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def states_of(length: int, dim: int = 6) -> Tensor:
    return torch.randn(2, length, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


def complex_of(pairs: Tensor) -> Tensor:
    return torch.complex(pairs[..., 0], pairs[..., 1])


def continuous(ssm: S5SSM) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, step sizes and B as the paper writes them, from the parameters."""
    real = ssm.Lambda_re.clamp(max=-1e-4) if ssm.clip_eigenvalues else ssm.Lambda_re
    return torch.complex(real, ssm.Lambda_im), ssm.log_step[:, 0].exp() * ssm.step_rescale, complex_of(ssm.B)


def step_by_step(ssm: S5SSM, u: Tensor) -> Tensor:
    eigenvalues, step, B = continuous(ssm)
    if ssm.discretization == "zoh":
        decay = (eigenvalues * step).exp()
        B = ((decay - 1) / eigenvalues)[:, None] * B
    else:
        decay = (1 + step / 2 * eigenvalues) / (1 - step / 2 * eigenvalues)
        B = (step / (1 - step / 2 * eigenvalues))[:, None] * B
    if hasattr(ssm, "C1"):
        Cs = [complex_of(ssm.C1), complex_of(ssm.C2)]
    else:
        Cs = list(complex_of(ssm.C).split(len(step), dim=1))
    y = u * ssm.D
    for C, order in zip(Cs, (range(u.shape[1]), reversed(range(u.shape[1]))), strict=False):
        x = torch.zeros(u.shape[0], len(step), dtype=torch.complex128)
        for t in order:
            x = decay * x + u[:, t].to(x.dtype) @ B.T
            y[:, t] += ssm.multiplicity * (x @ C.T).real
    return y


@pytest.mark.parametrize(
    ("bidirectional", "discretization", "output_init", "conj_sym"),
    [
        *product([False, True], ["zoh", "bilinear"], ["lecun_normal", "complex_normal"], [True]),
        (True, "zoh", "trunc_standard_normal", False),
        (False, "bilinear", "complex_normal", False),
    ],
)
def test_scan_equals_the_recurrence(
    bidirectional: bool, discretization: Any, output_init: Any, conj_sym: bool
) -> None:
    torch.manual_seed(1)
    ssm = S5SSM(
        6,
        8,
        blocks=2,
        bidirectional=bidirectional,
        discretization=discretization,
        output_init=output_init,
        conj_sym=conj_sym,
        step_rescale=1.5,
    ).double()
    u = states_of(37)
    torch.testing.assert_close(ssm(u), step_by_step(ssm, u), rtol=1e-11, atol=1e-11)


def test_clipped_eigenvalues_keep_the_model_stable() -> None:
    torch.manual_seed(2)
    u = states_of(400)
    growth = {}
    for clip in (False, True):
        ssm = S5SSM(6, 8, clip_eigenvalues=clip, dt_min=0.1, dt_max=0.2).double()
        with torch.no_grad():
            ssm.Lambda_re.fill_(1.0)
        growth[clip] = ssm(u).abs().max().item()
        torch.testing.assert_close(ssm(u), step_by_step(ssm, u), rtol=1e-9, atol=1e-9)
    assert growth[True] < 1e3 < 1e9 < growth[False]


def test_gradients_of_the_layer() -> None:
    torch.manual_seed(3)
    layer = S5Layer(S5SSM(3, 4, bidirectional=True), norm="layernorm", activation="full_glu").double()
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (states_of(5, 3).requires_grad_(), *values), atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("conj_sym", [True, False])
def test_starts_as_blocks_of_hippo(blocks: int, conj_sym: bool) -> None:
    eigenvalues, V = hippo_blocks(12, blocks, conj_sym)
    normal = (V * eigenvalues) @ V.mH
    normal = 2 * normal.real if conj_sym else normal.real
    size = 12 // blocks
    A, B = hippo_legs(size)
    expected = A + torch.outer(B, B) / 2
    torch.testing.assert_close(normal, torch.block_diag(*[expected] * blocks))


def test_running_variance_is_biased() -> None:
    norm = BatchNorm(3, momentum=0.75).double()
    x = 2 * states_of(5, 3) + 1
    rows = x.reshape(-1, 3)
    with torch.no_grad():
        norm.var.fill_(4.0)
    y = norm(x)
    torch.testing.assert_close(norm.mean, 0.25 * rows.mean(0))
    torch.testing.assert_close(norm.var, 0.75 * 4.0 + 0.25 * rows.var(0, unbiased=False))
    torch.testing.assert_close(
        y, ((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()).view_as(x)
    )
    torch.testing.assert_close(norm.eval()(x), (x - norm.mean) / (norm.var + 1e-5).sqrt())


def test_bidirectional_sees_all_and_itself_in_both_directions() -> None:
    torch.manual_seed(5)
    ssm = S5SSM(4, 8, bidirectional=True).double()
    u = states_of(20, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(ssm(u)[:, 10].square().sum(), u)
    assert gradient.abs().amax(dim=-1).gt(0).all()
    impulse = torch.zeros(1, 5, 4, dtype=torch.float64)
    impulse[0, 2, 1] = 1.0
    with torch.no_grad():
        ssm.D.zero_()
        ssm.C1.zero_()
    backward = ssm(impulse)[0].abs().amax(dim=-1)
    assert backward[:3].gt(0).all()
    assert backward[3:].eq(0).all()


def test_padding_reaches_the_real_positions() -> None:
    """The official code masks nothing but the mean: what stands in the padding changes the logits."""
    torch.manual_seed(6)
    model = build(TEXT, TINY).double().eval()
    inputs = tokens(1, 24)
    other = inputs.clone()
    other[:, 15:] = 7
    length = torch.tensor([15])
    assert not torch.allclose(model(inputs, length), model(other, length), rtol=1e-6)
    assert not torch.allclose(model(inputs, length), model(inputs[:, :15]), rtol=1e-6)
    causal = build(TEXT, {**TINY, "bidirectional": False}).double().eval()
    torch.testing.assert_close(causal(inputs, length), causal(inputs[:, :15]))


def test_tokens_enter_one_hot_through_a_dense_layer() -> None:
    model = build(TEXT, TINY)
    embedding = model.pool.encoder.embedding
    one_hot = nn.functional.one_hot(tokens(2, 24), 20).float()
    with torch.no_grad():
        embedding.bias.normal_()
    torch.testing.assert_close(embedding(tokens(2, 24)), one_hot @ embedding.kernel + embedding.bias)


def test_autocast_keeps_the_state_space_in_float32() -> None:
    torch.manual_seed(8)
    ssm = S5SSM(6, 8, bidirectional=True)
    u = states_of(64).float()
    with torch.autocast("cpu", torch.bfloat16):
        single, half = ssm(u), ssm(u.bfloat16())
    torch.testing.assert_close(single, ssm(u), rtol=0, atol=0)
    torch.testing.assert_close(half, ssm(u.bfloat16().float()).bfloat16(), rtol=0, atol=0)


def test_dropout_spares_no_time_step_of_a_channel() -> None:
    torch.manual_seed(9)
    layer = S5Layer(S5SSM(40, 8), activation="gelu", norm="layernorm", dropout=0.5)
    x = states_of(10, 40).float()
    dropped = (layer(x) == x).float().mean(dim=1)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}


def cost(model: nn.Module, length: int) -> tuple[int, int]:
    """Peak tensor bytes beyond the model and FLOPs of a training step."""
    inputs = tokens(1, length)
    with TensorBytes() as memory, FlopCounterMode(display=False) as flops:
        model(inputs).sum().backward()
    return memory.peak - memory.before, flops.get_total_flops()


def test_cost_is_linear_in_length() -> None:
    model = build(Task("text", length=4096, classes=2, vocabulary=20), {**TINY, "dim": 16, "state": 16})
    short, long = cost(model, 1024), cost(model, 2048)
    for name, once, twice in zip(("bytes", "FLOPs"), short, long, strict=True):
        assert 1.8 * once < twice <= 2.2 * once, name


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="state_dim"):
        build(TEXT, {**TINY, "state_dim": 2})
    for mistake, message in [
        ({"blocks": 3}, "3 blocks"),
        ({"activation": "relu"}, "half_glu1"),
        ({"discretization": "euler"}, "bilinear"),
        ({"output_init": "zeros"}, "lecun_normal"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(TEXT, {**TINY, **mistake})
    assert S5Config(**TINY).dropout == 0.0
