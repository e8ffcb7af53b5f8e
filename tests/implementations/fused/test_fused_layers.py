"""Fused models compute what the plain ones do: outputs and every gradient, in float64 and float32."""

import pytest
import torch
from torch import nn

from implementations import activation, registry
from implementations.kernels.backend import use_backend
from implementations.task import Task

VOCABULARY = 257
FUSED = ["seqboat-fused", "seqboat-full-fused", "mega-fused", "mega-chunk-fused"]
SMALL = {
    "layers": 2,
    "dim": 12,
    "hidden": 20,
    "attention_dim": 8,
    "states": 4,
    "truncation": 40,
    "dropout": 0.0,
}
SEQBOAT = ["seqboat-fused", "seqboat-full-fused"]

Result = tuple[torch.Tensor, dict[str, torch.Tensor]]


def pair(name: str, length: int, head: str = "classifier", **changes) -> tuple[nn.Module, nn.Module]:
    """The plain model and the fused one, with the same parameters."""
    item = registry.find(name)
    size = {"window": 16} if name == "seqboat-fused" else {"chunk": 16} if name == "mega-chunk-fused" else {}
    extra = {"ffn": 20} if item.system == "mega" else {}
    task = Task("text", length=length, classes=3, vocabulary=VOCABULARY, head=head)
    hyperparameters = item.hyperparameters("text") | SMALL | size | extra | changes
    torch.manual_seed(0)
    plain = registry.find(item.reference).load()(task, hyperparameters).double()
    for name_, parameter in plain.named_parameters():
        if name_.endswith(("gamma", "rel_pos_bias")) and ".ema." not in name_ and ".move." not in name_:
            nn.init.normal_(parameter)  # Attention that differs from a plain mean.
    fused = item.load()(task, hyperparameters).double()
    fused.load_state_dict(plain.state_dict())
    return plain, fused


def evaluate(model: nn.Module, inputs, lengths) -> Result:
    model.zero_grad(set_to_none=True)
    logits = model(inputs, lengths)
    generator = torch.Generator().manual_seed(3)
    cotangent = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    (logits * cotangent.to(logits.dtype)).sum().backward()
    return logits.detach(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b).norm() / b.norm().clamp(min=1e-12))


def assert_equal(plain: Result, fused: Result, bound: float) -> None:
    assert plain[1].keys() == fused[1].keys()
    assert relative(fused[0], plain[0]) <= bound
    largest = max(float(gradient.norm()) for gradient in plain[1].values())
    for name, gradient in plain[1].items():
        difference = float((fused[1][name] - gradient).norm())
        # A gradient that is analytically zero is compared with the scale of the others.
        assert difference <= bound * max(float(gradient.norm()), 1e-3 * largest), name


def set_rate(plain: nn.Module, fused: nn.Module, inputs, lengths, rate: float) -> None:
    if activation.configurators(plain):
        activation.calibrate(plain, inputs, lengths, rate)
        fused.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("length", [1, 15, 16, 17, 64, 97])
@pytest.mark.parametrize("name", FUSED)
def test_lengths(name, length):
    plain, fused = pair(name, length)
    inputs = tokens(2, length)
    set_rate(plain, fused, inputs, None, 0.4)
    assert_equal(evaluate(plain, inputs, None), evaluate(fused, inputs, None), 1e-9)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", SEQBOAT)
def test_activation_rates(name, padded, rate):
    plain, fused = pair(name, 97)
    inputs, lengths = tokens(3, 97), torch.tensor([97, 40, 3]) if padded else None
    set_rate(plain, fused, inputs, lengths, rate)
    assert_equal(evaluate(plain, inputs, lengths), evaluate(fused, inputs, lengths), 1e-9)
    assert activation.activation_rates(fused) == activation.activation_rates(plain)


@pytest.mark.parametrize("name", ["mega-fused", "mega-chunk-fused"])
@pytest.mark.parametrize("lengths", [[97, 40, 3], [97, 97, 96]])
def test_padding_of_mega(name, lengths):
    plain, fused = pair(name, 97)
    inputs, true = tokens(3, 97), torch.tensor(lengths)
    assert_equal(evaluate(plain, inputs, true), evaluate(fused, inputs, true), 1e-9)


OPTIONS = [
    {"attention": "relu2", "norm": "batchnorm", "prenorm": True},
    {"attention": "laplace", "norm": "layernorm", "prenorm": True},
    {"attention": "softmax", "norm": "rmsnorm", "prenorm": True},
    {"relative_bias": "rotary"},
    {"relative_bias": "simple", "truncation": None},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("head", ["classifier", "language-model"])
@pytest.mark.parametrize("name", FUSED)
def test_options(name, head, options):
    plain, fused = pair(name, 64, head, **options)
    inputs = tokens(2, 64)
    set_rate(plain, fused, inputs, None, 0.4)
    assert_equal(evaluate(plain, inputs, None), evaluate(fused, inputs, None), 1e-9)


@pytest.mark.parametrize("name", ["seqboat-fused", "mega-chunk-fused"])
def test_a_long_sequence_whose_average_hardly_decays(name):
    """q near 1, so that what the truncation cuts off is large."""
    plain, fused = pair(name, 4096, truncation=1024, layers=1)
    for parameter, value in ((p, v) for m in plain.modules() if hasattr(m, "delta") for p, v in
                             ((m.delta, -9.0), (m.alpha, -1.0))):  # fmt: skip
        nn.init.constant_(parameter, value)
    fused.load_state_dict(plain.state_dict())
    inputs = tokens(1, 4096)
    set_rate(plain, fused, inputs, None, 0.3)
    assert_equal(evaluate(plain, inputs, None), evaluate(fused, inputs, None), 1e-9)


@pytest.mark.parametrize("name", FUSED)
def test_float32_is_as_exact_as_the_plain_form(name):
    """Outputs to 1e-5, and each gradient's error against float64 at most three times the plain form's, or
    1e-5 of itself if the plain form's rounding happened to cancel, as it may in a single number, or a quarter
    of float32's rounding of the largest gradient: what is next to nothing rounds as the processor does."""
    plain, fused = pair(name, 128)
    inputs = tokens(2, 128)
    set_rate(plain, fused, inputs, None, 0.4)
    exact = evaluate(plain, inputs, None)
    singles = [evaluate(model.float(), inputs, None) for model in (plain, fused)]
    assert relative(singles[1][0], exact[0]) <= 1e-5
    largest = max(float(gradient.norm()) for gradient in exact[1].values())
    quarter = torch.finfo(torch.float32).eps / 4
    for key, gradient in exact[1].items():
        errors = [float((single[1][key].double() - gradient).norm()) for single in singles]
        assert errors[1] <= max(3 * errors[0], 1e-5 * float(gradient.norm()), quarter * largest), key


@pytest.mark.parametrize("name", FUSED)
def test_backend_torch_is_the_plain_form_itself(name):
    plain, fused = pair(name, 33)
    use_backend(fused, "torch")
    inputs = tokens(2, 33)
    ours, theirs = evaluate(fused, inputs, None), evaluate(plain, inputs, None)
    assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("name", SEQBOAT)
def test_dropout_keeps_its_share_and_its_scale(name):
    """With dropout the output is another at every pass, and right on average (in the average of many)."""
    _, fused = pair(name, 64, layers=1, dropout=0.5)
    states = torch.randn(1, 64, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    (layer,) = fused.pool.encoder.layers
    layer.train()
    first, second = layer(states), layer(states)
    assert not torch.allclose(first, second)
    assert torch.isfinite(first).all()
    assert torch.equal(layer.eval()(states), layer(states))


@pytest.mark.parametrize("name", FUSED)
def test_dropout_modules_have_a_mode_of_their_own(name):
    """A model in training whose dropout is switched off drops nothing, as its plain form."""
    plain, fused = pair(name, 32, dropout=0.5)
    for model in (plain, fused):
        for module in model.train().modules():
            if isinstance(module, nn.Dropout):
                module.eval()
    inputs = tokens(2, 32)
    assert relative(fused(inputs, None), plain(inputs, None)) < 1e-9
    assert torch.equal(fused(inputs, None), fused(inputs, None))


@pytest.mark.parametrize("name", FUSED)
def test_the_backward_pass_is_of_the_mode_of_its_forward_pass(name):
    plain, fused = pair(name, 32, dropout=0.5)
    inputs, gradients = tokens(2, 32), []
    for model in (plain.eval(), fused.eval()):
        logits = model(inputs, None)
        model.train()
        logits.square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for key, gradient in gradients[0].items():
        assert relative(gradients[1][key], gradient) < 1e-8, key


@pytest.mark.parametrize("name", FUSED)
def test_second_derivatives_are_refused(name):
    """The backward passes by hand give none, and a sum without them would be taken for the whole."""
    _, fused = pair(name, 32)
    parameters = [p for p in fused.parameters() if p.requires_grad]
    loss = fused(tokens(1, 32), None).square().sum()
    grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        sum(grad.square().sum() for grad in grads if grad is not None).backward()
