import pytest
import torch
from torch import Tensor, nn

from implementations.activation import calibrate, configurators
from implementations.models.seqboat import SeqBoatConfig, SeqBoatLayer, build
from implementations.registry import find
from implementations.task import Task

SIZES = {"layers": 2, "dim": 12, "hidden": 20, "attention_dim": 8, "states": 3}
PUBLISHED = ("listops", "text", "retrieval", "image", "pathfinder", "path_x", "speech", "enwik8")
TASKS = {
    "retrieval": Task("retrieval", 40, 2, head="two-tower", vocabulary=20),
    "enwik8": Task("enwik8", 40, 20, head="language-model", vocabulary=20),
    **{name: Task(name, 40, 3, input="reals") for name in ("image", "pathfinder", "path_x", "speech")},
    **{name: Task(name, 40, 3, vocabulary=20) for name in ("listops", "text")},
}
VARIANTS = [
    {"window": 5, "relative_bias": "simple"},
    {"window": 5, "relative_bias": "local", "prenorm": False, "norm": "scalenorm"},
    {"window": 5, "relative_bias": "rotary", "attention": "relu2", "norm": "rmsnorm"},
    {"window": 5, "attention": "laplace", "truncation": 9},
    {"window": None, "relative_bias": "simple"},
    {"window": None, "relative_bias": "rotary", "attention": "laplace"},
    {"window": 5, "relative_bias": "local", "always_active": True},
]


def layer(causal: bool = False, rate: float = 0.5, **options: object) -> SeqBoatLayer:
    """A layer in float64 with weights large enough for attention and router to matter."""
    torch.manual_seed(0)
    made = SeqBoatLayer(SeqBoatConfig(**{**SIZES, **options}), causal=causal, max_positions=30).double()
    for name, parameter in made.named_parameters():
        if not name.startswith("norm"):
            torch.nn.init.normal_(parameter, std=0.4)
    torch.nn.init.ones_(made.beta)  # scores are positive, and relu² leaves something of them
    if configurators(made):
        calibrate(made, states(100, seed=2), None, rate)
    return made


def states(length: int, batch: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, SIZES["dim"], generator=generator, dtype=torch.float64)


def active_steps(made: SeqBoatLayer, x: Tensor, padding: Tensor | None = None) -> Tensor:
    """`(batch, length)`: what the layer's configurator decides on x."""
    seen: list[Tensor] = []
    assert made.configurator is not None
    hook = made.configurator.register_forward_hook(lambda m, i, routing: seen.append(routing.active))
    made(x, padding)
    hook.remove()
    return seen[0]


def by_the_equations(made: SeqBoatLayer, x: Tensor) -> Tensor:
    """The layer, row by row on the active steps alone, softmax attention with the bias `simple`."""
    config, silu = made.config, torch.nn.functional.silu
    m = silu(made.ema(made.norm(x)))
    router, linear = made.hx_proj(m)[..., :2], made.hx_proj(m)[..., 2:]
    h = torch.zeros_like(x)
    for row in range(x.shape[0]):
        bias = torch.stack([made.configurator.act_bias, torch.tensor(0.0)])
        p = torch.softmax((router[row] + bias) / made.configurator.temp.exp(), dim=-1)
        at = (p[:, 1] > p[:, 0]).nonzero().squeeze(-1)
        z, r, v = silu(made.mx_proj(m[row, at])).split(
            [config.attention_dim, config.hidden, config.hidden], -1
        )
        q, k = z * made.gamma[0] + made.beta[0], z * made.gamma[1] + made.beta[1]
        scores = q @ k.T * config.attention_dim**-0.5
        table = made.rel_pos_bias.rel_pos_bias
        middle = (len(table) - 1) // 2
        scores = scores + table[(middle + at[None] - at[:, None]).clamp(0, len(table) - 1)]
        if config.window is not None:
            index = torch.arange(len(at))
            scores = scores.masked_fill((index[:, None] - index).abs() > config.window, -torch.inf)
        h[row, at] = made.h_proj(scores.softmax(-1) @ v * r) * p[at, 1:]
    return silu(linear + h + x)


@pytest.mark.parametrize("window", [2, 5, None])
def test_the_layer_is_its_equations(window: int | None) -> None:
    made, x = layer(window=window), states(41)
    rates = active_steps(made, x).double().mean(dim=1)
    assert 0.2 < rates.min() < rates.max() < 0.9
    torch.testing.assert_close(made(x), by_the_equations(made, x))


@pytest.mark.parametrize("options", VARIANTS)
def test_rows_and_padding_do_not_disturb_each_other(options: dict[str, object]) -> None:
    made = layer(**options)
    x = states(30)
    padding = torch.arange(30) >= torch.tensor([30, 21, 11])[:, None]
    y = made(x, padding)
    other = made(x.masked_fill(padding.unsqueeze(-1), 3.0), padding)
    torch.testing.assert_close(y[~padding], other[~padding])
    torch.testing.assert_close(y[1, :21], made(x[1:2, :21])[0])
    torch.testing.assert_close(y[2, :11], made(x[2:3, :11])[0])


@pytest.mark.parametrize("options", VARIANTS)
def test_causal_outputs_do_not_see_the_future(options: dict[str, object]) -> None:
    made = layer(causal=True, **options)
    x = states(24, batch=2).requires_grad_()
    for t in (0, 9, 20):
        (gradient,) = torch.autograd.grad(made(x)[:, t, 0].sum(), x)
        assert gradient[:, t + 1 :].abs().max() < 1e-12
        assert gradient[:, t].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("window", "causal", "edge"), [(3, False, 1.0), (3, True, 1.0), (None, True, 0.9)], ids=str
)
def test_a_dense_row_switches_compression_off_for_all_rows(
    window: int | None, causal: bool, edge: float
) -> None:
    made = layer(causal=causal, window=window, attention="relu2", relative_bias="rotary")
    x = states(20, batch=2)
    assert active_steps(made, x).sum(dim=1).max() < 18
    alone = made(x)[0]

    def beside(active: int) -> Tensor:
        def force(module: nn.Module, inputs: tuple[Tensor], hx: Tensor) -> Tensor:
            first = torch.arange(20) < active
            router = torch.stack([~first, first], dim=-1) * 100.0
            return torch.cat([hx[:1], torch.cat([router, hx[1, :, 2:]], dim=-1)[None]])

        hook = made.hx_proj.register_forward_hook(force)
        try:
            return made(x)[0]
        finally:
            hook.remove()

    dense = round(edge * 20)
    torch.testing.assert_close(beside(dense - 1), alone)
    assert not torch.allclose(beside(dense), alone, rtol=1e-6)


@pytest.mark.parametrize("options", VARIANTS[:6])
@pytest.mark.parametrize("causal", [False, True])
def test_no_active_step_leaves_the_linear_branch(options: dict[str, object], causal: bool) -> None:
    made = layer(causal=causal, rate=0.0, **options)
    x = states(13, batch=2).requires_grad_()
    y = made(x)
    u = made.norm(x) if made.config.prenorm else x
    linear = made.hx_proj(torch.nn.functional.silu(made.ema(u)))[..., 2:]
    expected = torch.nn.functional.silu(linear + x)
    torch.testing.assert_close(y, expected if made.config.prenorm else made.norm(expected))
    y.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    assert not made.mx_proj.weight.grad.any()


@pytest.mark.parametrize("rate", [0.5, 1.0])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 17])
def test_a_window_over_everything_gives_seqboat_full(length: int, rate: float) -> None:
    local, full = layer(window=5, rate=rate), layer(window=None, rate=rate)
    wide = layer(window=length, rate=rate)
    x = states(length)
    torch.testing.assert_close(wide(x), full(x))
    assert local(x).isfinite().all()
    if length <= 5:
        torch.testing.assert_close(local(x), full(x))


def test_gradients_reach_the_router_through_the_confidence_only() -> None:
    made, x = layer(window=4), states(15)
    active = active_steps(made, x)
    hx: list[Tensor] = []
    made.hx_proj.register_forward_hook(lambda m, i, out: (out.retain_grad(), hx.append(out))[0])
    made(x).square().sum().backward()
    router = hx[0].grad[..., :2]
    assert not router[~active].any()
    assert (router[active].abs() > 0).all()
    torch.testing.assert_close(router[..., 0], -router[..., 1])


@pytest.mark.parametrize("causal", [False, True])
def test_where_dropout_stands(causal: bool) -> None:
    made, x, silu = layer(causal=causal, window=4, rate=1.0), states(15), torch.nn.functional.silu
    expected, bias = made(x), made.configurator.act_bias.clone()
    made.hidden_dropout.p = 1.0  # no values: the gated branch is its bias, times the confidence
    confidence = made.configurator(made.hx_proj(silu(made.ema(made.norm(x))))[..., :2]).confidence
    linear = made.hx_proj(silu(made.ema(made.norm(x))))[..., 2:]
    gated = made.h_proj.bias * confidence.unsqueeze(-1)
    torch.testing.assert_close(made(x), silu(linear + gated + x))
    made.dropout.p = 1.0  # no EMA; bidirectional: no gated branch; causal: no branch at all
    made.configurator.act_bias.fill_(-1e6)
    left = x if causal else made.hx_proj.bias[2:] + x
    torch.testing.assert_close(made(x), silu(left))
    made.configurator.act_bias.copy_(bias)
    torch.testing.assert_close(made.eval()(x), expected)


@pytest.mark.parametrize("name", ["seqboat", "seqboat-full"])
@pytest.mark.parametrize("task", PUBLISHED)
def test_published_hyperparameters_build_and_learn(name: str, task: str) -> None:
    implementation = find(name)
    for mode in ("published", "matched"):
        hyperparameters = implementation.hyperparameters(task, mode)
        with torch.device("meta"):
            model = implementation.load()(TASKS[task], hyperparameters)
        assert len(configurators(model)) == hyperparameters["layers"]

    small = {**implementation.hyperparameters(task), **SIZES, "truncation": 16}
    if small["window"] is not None:
        small["window"] = 6
    torch.manual_seed(0)
    model = implementation.load()(TASKS[task], small)
    shape = (2, 2, 40) if task == "retrieval" else (2, 40)
    reals = TASKS[task].input == "reals"
    inputs = torch.randn(shape) if reals else torch.randint(1, 20, shape)
    lengths = torch.tensor([[40, 33], [25, 40]]) if task == "retrieval" else torch.tensor([40, 27])
    calibrate(model, inputs, lengths, 0.5)
    logits = model(inputs, lengths)
    classes = TASKS[task].classes
    assert logits.shape == ((2, 40, classes) if task == "enwik8" else (2, classes))
    logits.square().sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def test_published_text_model_is_as_published() -> None:
    """Sizes of the official Text recipe: 4 layers of scale norm after, window 128 with a bias of its own."""
    implementation = find("seqboat")
    with torch.device("meta"):
        model = implementation.load()(TASKS["text"], implementation.hyperparameters("text"))
    shapes = {name: tuple(p.shape) for name, p in model.pool.encoder.layers[0].named_parameters()}
    assert shapes["hx_proj.weight"] == (130, 128)
    assert shapes["mx_proj.weight"] == (64 + 256 + 256, 128)
    assert shapes["h_proj.weight"] == (128, 256)
    assert shapes["ema.delta"] == (256, 16, 1)
    assert shapes["rel_pos_bias.rel_pos_bias"] == (6 * 128 - 1,)
    assert model.pool.encoder.final_norm is None


def test_bad_hyperparameters_are_refused() -> None:
    task = TASKS["text"]
    with pytest.raises(TypeError, match="heads"):
        build(task, {**SIZES, "heads": 4})
    with pytest.raises(ValueError, match="needs a window"):
        build(task, {**SIZES, "window": None, "relative_bias": "local"})
    with pytest.raises(ValueError, match="even attention_dim"):
        build(task, {**SIZES, "attention_dim": 5, "relative_bias": "rotary"})
    for name in ("relative_bias", "attention"):
        with pytest.raises(ValueError, match=f"unknown {name} 'cosine': choose"):
            build(task, {**SIZES, name: "cosine"})
    with pytest.raises(ValueError, match="window can't be 0"):
        build(task, {**SIZES, "window": 0})
    with pytest.raises(ValueError, match="unknown norm"):
        build(task, {**SIZES, "norm": "groupnorm"})
