"""transformers' models by configuration: sizes, heads, masks, caches, and what they say of themselves."""

import json
import logging
import sys

import pytest
import torch

from implementations import registry
from implementations.decoding import NoRecurrentForm
from implementations.errors import RegistryError
from implementations.task import Task
from peers import huggingface
from peers.frame import NotInstalled
from peers.huggingface_sizes import SPECIAL, _heads

pytest.importorskip("transformers")

LENGTH, VOCABULARY = 48, 40
CLASSIFIER = Task("text", LENGTH, 3, vocabulary=VOCABULARY)
LANGUAGE = Task("enwik8", LENGTH, VOCABULARY, "language-model", vocabulary=VOCABULARY)
REALS = Task("image", LENGTH, 3, input="reals")
SMALL = {"model_type": "llama", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
         "num_key_value_heads": 1, "intermediate_size": 40, "dtype": "bfloat16", "architectures": ["X"],
         "vocab_size": 9}  # fmt: skip


def built(name: str, task: Task, mode: str = "small", **more):
    item = registry.find(name)
    torch.manual_seed(0)
    return item.load()(task, item.hyperparameters(task.name, mode) | more)


def tokens(seed: int = 1):
    return torch.randint(1, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["hf:llama", "hf:mamba2", "hf:recurrent_gemma", "hf:bert"])
def test_a_classifier_trains_with_and_without_padding(name):
    model = built(name, CLASSIFIER)
    for lengths in (None, torch.tensor([LENGTH, 30])):
        model.zero_grad()
        logits = model(tokens(), lengths)
        assert logits.shape == (2, 3)
        logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["hf:llama", "hf:mamba2"])
def test_padding_changes_nothing(name):
    model = built(name, CLASSIFIER).eval()
    short = tokens()[:1, :30]
    padded = torch.nn.functional.pad(short, (0, LENGTH - 30))
    torch.testing.assert_close(
        model(padded, torch.tensor([30])), model(short, torch.tensor([30])), rtol=1e-4, atol=1e-5
    )


def test_pictures_are_taken_as_reals():
    assert built("hf:llama", REALS)(torch.randn(2, LENGTH)).shape == (2, 3)


@pytest.mark.parametrize("name", ["hf:llama", "hf:mamba2", "hf:mistral"])
def test_a_language_model_decodes_as_its_parallel_form_does_and_again(name):
    model, x = built(name, LANGUAGE).eval(), tokens()
    with torch.no_grad():
        expected = model(x)
    context = 40
    logits, generation = model.prefill(x[:, :context], LENGTH)
    torch.testing.assert_close(logits, expected[:, :context], rtol=1e-4, atol=1e-5)
    saved = [tensor.clone() for tensor in generation.state.tensors()]
    assert generation.bytes > 0
    for _ in range(2):
        steps = [model.step(x[:, place], generation) for place in range(context, LENGTH)]
        torch.testing.assert_close(torch.stack(steps, 1), expected[:, context:], rtol=1e-4, atol=1e-5)
        assert generation.time == LENGTH
        generation.rewind(context)
        for tensor, before in zip(generation.state.tensors(), saved, strict=True):
            tensor.copy_(before)


def test_a_state_outside_the_cache_is_no_recurrent_form():
    with pytest.raises(NoRecurrentForm, match="keeps states in modules, outside its cache"):
        built("hf:recurrent_gemma", LANGUAGE).prefill(tokens(), LENGTH)


def test_sizes_are_those_of_the_mode():
    (words,) = built("hf:llama", CLASSIFIER, "matched").remarks
    assert "llama: 4 layers, width 128, heads 4; sizes of the run" in words
    (words,) = built("hf:llama(dim=64, heads=2, layers=1)", CLASSIFIER, "matched").remarks
    assert "llama: 1 layers, width 64, heads 2" in words
    assert built("hf:gpt2", CLASSIFIER).pool.encoder.layers[0].model.config.n_embd == 32


def test_a_file_has_sizes_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    model = built("hf:config.json", LANGUAGE, "matched")
    assert "llama: 3 layers, width 24, heads 3; sizes of its file" in model.remarks[0]
    assert model(tokens()).shape == (2, LENGTH, VOCABULARY)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    changed = registry.find("hf:config.json").hyperparameters("text")
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"hidden_size": 48}))
    assert registry.find("hf:config.json").hyperparameters("text") != changed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is not JSON"),
        ("[]", "has no model_type"),
        ('{"model_type": 3}', "has no model_type"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RegistryError) as caught:
        registry.find("hf:config.json")
    assert words in str(caught.value)
    assert "hf:config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "task", "kind", "words"),
    [
        ("hf:lama", CLASSIFIER, NotImplementedError, "has no model 'lama'; did you mean hf:llama?"),
        ("hf:t5", CLASSIFIER, NotImplementedError, "is an encoder with a decoder"),
        ("hf:vit", LANGUAGE, NotImplementedError, "no language model of the type 'vit'"),
        ("hf:llama(dim=33, heads=2)", CLASSIFIER, ValueError, "refuses these sizes"),
        ("hf:llama(wings=2)", CLASSIFIER, ValueError, "has no hyper-parameter 'wings'"),
    ],
)
def test_what_has_no_place_says_why(name, task, kind, words):
    with pytest.raises(kind, match=words.replace("?", r"\?")):
        built(name, task)


def test_a_model_that_looks_ahead_is_no_language_model(monkeypatch):
    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, input_ids, use_cache):
            total = input_ids.float().sum(dim=1, keepdim=True) * self.weight
            return type("Output", (), {"logits": total[..., None].expand(-1, 4, 2)})()

    with pytest.raises(NotImplementedError, match="hf:looks looks at later tokens"):
        huggingface._refuse_foresight(Looks(), "looks")


def test_without_transformers_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        NotInstalled, match=r"transformers is not installed: pip install 'seqboat-bench\[peers\]'"
    ):
        built("hf:llama", CLASSIFIER)


def test_a_model_says_which_kernels_computed():
    model = built("hf:mamba2", CLASSIFIER)
    model(tokens())
    expected = "reference PyTorch: causal-conv1d and mamba-ssm are not installed"
    found = model.computed_by()
    assert found == expected or "mamba_ssm" in sys.modules
    loops = built("hf:recurrent_gemma", CLASSIFIER)
    assert loops.computed_by() == "reference PyTorch: the recurrence is a loop over time steps in Python"
    other = built("hf:llama", CLASSIFIER)
    other(tokens())
    assert other.computed_by() == "transformers, attention sdpa"


def test_a_librarys_slower_form_is_heard():
    listener = huggingface.Listener()
    logger = logging.getLogger("transformers.test_of_mine")
    logger.addHandler(listener)
    logger.warning("The fast path is not available\nbecause one of `(x,)` is None.")
    logger.warning("something else")
    assert huggingface.computed_by(listener, None) == (
        "transformers says: The fast path is not available because one of `(x,)` is None."
    )


@pytest.mark.parametrize(("dim", "heads"), [(128, 4), (32, 1), (200, 5), (208, 4), (198, 3)])
def test_heads_share_a_width_out(dim, heads):
    assert _heads(dim) == heads


@pytest.mark.parametrize("dim", range(32, 161, 4))
def test_mamba2_has_every_width_that_equal_parameters_ask_for(dim):
    sizes = SPECIAL["mamba2"](dim)
    assert sizes["num_heads"] * sizes["head_dim"] == 2 * dim
