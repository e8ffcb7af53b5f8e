"""Every peer's adapter: builds, trains, takes padding; and computes what ours does where it should."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.suites import reading as suites
from implementations import registry
from implementations.encoder import parameter_count
from implementations.errors import RegistryError
from implementations.task import Task
from peers.frame import NotInstalled, package

VOCABULARY = 40
PACKAGES = {
    "peers.x_transformers:build": "x_transformers",
    "peers.x_transformers:x_transformers_flash": "x_transformers",
    "peers.reformer_pytorch:build": "reformer_pytorch",
    "peers.bigbird:transformers_bigbird": "transformers",
    "peers.local_attention:build": "local_attention",
    "peers.performer_pytorch:build": "performer_pytorch",
    "peers.linformer:linformer_pip": "linformer",
    "peers.s5_pytorch:build": "s5",
    "peers.mamba2:transformers_mamba2": "transformers",
    "peers.xlstm:build": "xlstm",
}
CUDA_ONLY = {
    "peers.mamba2:mamba_ssm": "mamba_ssm",
    "peers.fla:fla_gated_deltanet": "fla",
    "peers.xlstm:xlstm_triton": "xlstm",
}
OURS = {
    "peers.x_transformers:build": ("transformer", 0.01),
    "peers.x_transformers:x_transformers_flash": ("transformer-sdpa", 0.01),
    "peers.reformer_pytorch:build": ("reformer(buckets=null, bucket=64, hashes=4)", 0.0),
    "peers.performer_pytorch:build": ("performer(kernel=softmax, features=256, pooling=mean)", 0.0),
    "peers.linformer:linformer_pip": ("linformer(k=256, pooling=mean)", 0.0),
    "peers.bigbird:transformers_bigbird": ("bigbird", 0.2),
    "peers.mamba2:transformers_mamba2": ("mamba2", 0.0),
    "peers.s5_pytorch:build": ("s5", 1.0),
}
"""The kind among ours, and how far apart the numbers of parameters may be: docs/peers.md says why."""
RENAMED = {
    "peers.performer_pytorch:build": {
        "module.fast_attention": "mixer",
        "module.to_q": "q_proj",
        "module.to_k": "k_proj",
        "module.to_v": "v_proj",
        "module.to_out": "out_proj",
    },
    "peers.linformer:linformer_pip": {".module": ""},
    "peers.mamba2:transformers_mamba2": {"module.module": "mixer"},
}
"""Peers whose parameters are ours by other names, and so must be what they compute."""
BLIND = (
    "peers.x_transformers:build",
    "peers.x_transformers:x_transformers_flash",
    "peers.local_attention:build",
    "peers.mamba2:transformers_mamba2",
    "peers.xlstm:build",
)
"""Peers whose logits do not depend on how much padding stands behind a sequence."""


def built(name: str, length: int = 256, head: str = "classifier", mode: str = "matched") -> nn.Module:
    """A peer, or one of ours, by default in the matched shape; skips where the package is not installed."""
    wanted = (PACKAGES | CUDA_ONLY).get(name)
    if wanted is not None and find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed: pip install 'seqboat-bench[peers]'")
    if name.endswith("_triton") and find_spec("triton") is None:
        pytest.skip("needs Triton, which torch for CUDA brings")
    classes = VOCABULARY if head == "language-model" else 3
    task = Task("text", length, classes, head, vocabulary=VOCABULARY)
    item = registry.find(name)
    torch.manual_seed(0)
    return item.load()(task, item.hyperparameters("text", mode))


def test_an_xlstm_is_not_built_at_a_width_that_its_heads_do_not_divide() -> None:
    if find_spec("xlstm") is None:
        pytest.skip("xlstm is not installed: pip install 'seqboat-bench[peers]'")
    build = registry.find("peers.xlstm:build").load()
    shape = registry.find("peers.xlstm:build").hyperparameters("text", "matched")
    with pytest.raises(ValueError, match="dim 132"):
        build(Task("text", 256, 3, "classifier", vocabulary=VOCABULARY), {**shape, "dim": 132})


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def test_the_suite_has_every_peer() -> None:
    named = {name for name in suites.load("peers").implementations if ":" in name}
    assert named == set(PACKAGES) | set(CUDA_ONLY)


@pytest.mark.parametrize("name", OURS)
def test_ours_stands_in_the_suite_as_it_is_compared_here(name: str) -> None:
    assert registry.find(OURS[name][0]).name in suites.load("peers").implementations


@pytest.mark.parametrize("name", PACKAGES)
def test_a_peer_trains_with_and_without_padding(name: str) -> None:
    model = built(name)
    unread = "embeddings.word_embeddings.weight"  # BigBird's own: it is given states, not tokens
    for lengths in (None, torch.tensor([256, 150])):
        model.zero_grad()
        logits = model(tokens(2, 256), lengths)
        assert logits.shape == (2, 3)
        assert logits.isfinite().all()
        nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
        silent = [key for key, p in model.named_parameters() if p.grad is None and not key.endswith(unread)]
        assert silent == []
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", BLIND)
def test_padding_changes_nothing(name: str) -> None:
    model = built(name).eval()
    inputs, lengths = tokens(1, 100), torch.tensor([100])
    padded = nn.functional.pad(inputs, (0, 156))
    torch.testing.assert_close(model(padded, lengths), model(inputs, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_a_peer_is_about_as_large_as_ours(name: str) -> None:
    ours, apart = OURS[name]
    sizes = [parameter_count(built(each, length=1024)) for each in (name, ours)]
    assert abs(sizes[0] / sizes[1] - 1) <= apart


@pytest.mark.parametrize("name", RENAMED)
def test_a_peer_with_our_parameters_computes_what_ours_does(name: str) -> None:
    theirs, ours = (built(each).eval() for each in (name, OURS[name][0]))
    ours.load_state_dict({_renamed(key, RENAMED[name]): value for key, value in theirs.state_dict().items()})
    inputs = tokens(2, 256)
    torch.testing.assert_close(theirs(inputs, None), ours(inputs, None), rtol=1e-3, atol=1e-4)


def _renamed(key: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        key = key.replace(theirs, ours)
    return key


@pytest.mark.parametrize("name", CUDA_ONLY)
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_a_peer_that_needs_cuda_says_so(name: str) -> None:
    model = built(name)
    with pytest.raises(NotImplementedError, match="run on CUDA devices, not on cpu"):
        model(tokens(1, 256), None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CUDA_ONLY)
def test_a_peer_on_cuda_trains(name: str) -> None:
    model = built(name).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(tokens(2, 256).cuda(), None)
    logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", {**PACKAGES, **CUDA_ONLY})
def test_a_peer_that_is_not_installed_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (PACKAGES | CUDA_ONLY)[name]
    for module in [wanted, *(key for key in sys.modules if key.startswith(f"{wanted}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    if wanted == "fla":
        monkeypatch.setitem(sys.modules, "fla.layers", None)
    task = Task("text", 64, 3, vocabulary=VOCABULARY)
    with pytest.raises(NotInstalled, match=r"^[\w-]+ is not installed: pip install 'seqboat-bench\[peers"):
        registry.find(name).load()(task, {})


def test_a_package_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn_package.py").write_text("import a_module_that_was_removed")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotImplementedError, match=r"^torn cannot be imported here: .*that_was_removed"):
        package("torn_package", "torn")


@pytest.mark.parametrize("name", ["peers.performer_pytorch:build", "peers.linformer:linformer_pip"])
def test_a_classifier_builds_no_language_model(name: str) -> None:
    with pytest.raises(NotImplementedError, match="no language model"):
        built(name, head="language-model")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("peers.mamba2:transformers_mamba2(ffn=64)", "unknown hyper-parameter 'ffn': the model never asks"),
        ("peers.s5_pytorch:build(heads=2)", "unknown hyper-parameter 'heads': the model never asks"),
        ("peers.x_transformers:build(tied=true)", "unknown hyper-parameter 'tied': the model never asks"),
        ("peers.x_transformers:build(ffn=300)", "ffn 300 is not a multiple of dim 128"),
    ],
)
def test_a_size_that_a_peer_does_not_have_is_refused(name: str, reason: str) -> None:
    """Its row would promise another model than the one that is timed."""
    built(name.partition("(")[0])  # skips where it is not installed
    with pytest.raises((RegistryError, ValueError), match=reason):
        built(name)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_peer_of_the_small_studies_is_small(name: str) -> None:
    assert registry.find(name).hyperparameters("text", "small") == {"layers": 4, "dim": 32}
    small, matched = (parameter_count(built(name, mode=mode)) for mode in ("small", "matched"))
    assert small < matched / 2
