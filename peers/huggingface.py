"""transformers' models by configuration, with random weights and without a network: `hf:llama`.

A classifier has our embedding, pooling and head around its stack, as every peer here; a language model is
transformers' own. Sizes are those of the mode of the hyper-parameters, and everything else is the default of
the configuration; a file has its own sizes.
"""

import difflib
import inspect
import logging
import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.heads import with_head
from implementations.task import Task
from peers.frame import package
from peers.huggingface_cache import CachedLanguageModel
from peers.huggingface_sizes import Sizes, configuration_of

STAGES = {
    r".*(MLP|FeedForward|Experts)": "feed-forward",
    r".*(Mixer|RecurrentBlock|Rglru|SSM)": "mixer",
    r".*RotaryEmbedding": "positions",
}
"""Names of the parts of a step in a profile, by patterns of transformers' class names."""

NOT_READ = (
    "architectures",
    "auto_map",
    "dtype",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
"""Keys of a file about weights, which are random here, and about its origin; the run sets the precision."""
FALLBACK = re.compile(r"fall(?:s|ing)? ?back|fast path|naive|not installed", re.IGNORECASE)
SCAN = "_rnn_scan"
"""The method of RecurrentGemma's recurrence."""
MISSING = re.compile(r"because `([^`]+)` is not installed")


class Stack(nn.Module):
    """A model of transformers on states `(batch, length, dim)` and a padding mask, which gives states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in takes else {}
        self.takes_mask = "attention_mask" in takes

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        options: dict[str, Any] = {**self.options}
        if padding_mask is not None and self.takes_mask:
            options["attention_mask"] = (~padding_mask).long()
        states: Tensor = self.model(inputs_embeds=x, **options).last_hidden_state
        return states


class Listener(logging.Handler):
    """Collects transformers' warnings about slower forms than it could use."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if FALLBACK.search(text):
            self.said[text] = None


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """A model for a task, by `model`, a type, or `configuration`, a file's keys; other keys are sizes or keys
    of the configuration.

    Raises NotInstalled, NotImplementedError for a model that can't be used here, and ValueError for sizes
    that its configuration refuses.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    library = package("transformers", "transformers")
    given = dict(hyperparameters)
    kind, keys = given.pop("model", None), dict(given.pop("configuration", {}))
    kind = kind or keys.pop("model_type")
    own = {key: value for key, value in keys.items() if key not in NOT_READ} if keys else None
    config = configuration_of(_configuration_class(library, kind), task, given, own)
    listener = _listen(library)
    model = (
        _language_model(library, config, kind) if task.causal else _classifier(library, config, kind, task)
    )
    loops = any(hasattr(module, SCAN) for module in model.modules())
    model.computed_by = lambda: computed_by(listener, config, loops)  # type: ignore[assignment]
    model.remarks = (_sizes(library, kind, config, own is not None),)  # type: ignore[assignment]
    return model


def _configuration_class(library: ModuleType, kind: str) -> Any:
    known = library.CONFIG_MAPPING
    if kind not in known:
        near = difflib.get_close_matches(kind, list(known.keys()), n=1)
        hint = f"; did you mean hf:{near[0]}?" if near else ""
        raise NotImplementedError(f"transformers {library.__version__} has no model {kind!r}{hint}")
    return known[kind]


def _listen(library: ModuleType) -> Listener:
    """Listen to warnings from now on; those that are given only once are given again."""
    listener = Listener()
    logger = logging.getLogger(library.__name__)
    for old in [handler for handler in logger.handlers if type(handler) is Listener]:
        logger.removeHandler(old)
    logger.addHandler(listener)
    once = getattr(logging.Logger, "warning_once", None)
    if once is not None and hasattr(once, "cache_clear"):
        once.cache_clear()
    return listener


def computed_by(listener: Listener, config: Any, loops: bool = False) -> str:
    """Kernels that a model has computed with, as far as transformers reports them.

    loops: whether it has a recurrence that transformers computes step by step without saying so.
    """
    missing = sorted({name.replace("_", "-") for said in listener.said for name in MISSING.findall(said)})
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        return f"reference PyTorch: {' and '.join(missing)} {verb} not installed"
    if listener.said:
        return f"transformers says: {next(iter(listener.said))}"
    if loops:
        return "reference PyTorch: the recurrence is a loop over time steps in Python"
    attention = getattr(config, "_attn_implementation", None)
    return f"transformers, attention {attention}" if attention else "transformers; it reports no fallback"


def _sizes(library: ModuleType, kind: str, config: Any, is_file: bool) -> str:
    sizes = Sizes.of(config)
    whose = "sizes of its file" if is_file else "sizes of the run, all else transformers' default"
    return f"transformers {library.__version__}, {kind}: {sizes.words}; {whose}"


def _classifier(library: ModuleType, config: Any, kind: str, task: Task) -> nn.Module:
    if getattr(config, "is_encoder_decoder", False):
        raise NotImplementedError(f"hf:{kind} is an encoder with a decoder, not a stack over one sequence")
    if type(config) not in library.MODEL_MAPPING:
        raise NotImplementedError(f"transformers has no bare model of the type {kind!r}")
    kind_of_model = library.MODEL_MAPPING[type(config)]
    takes = inspect.signature(kind_of_model.__init__).parameters
    options = {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}
    model = kind_of_model._from_config(config, **options)
    # It gets states: its own embedding of tokens would never be read.
    model.set_input_embeddings(nn.Identity())
    dim = Sizes.of(config).dim
    return with_head(task, Encoder(embed(task, dim), [Stack(model)]), dim, dim)


def _language_model(library: ModuleType, config: Any, kind: str) -> nn.Module:
    if type(config) not in library.MODEL_FOR_CAUSAL_LM_MAPPING or getattr(
        config, "is_encoder_decoder", False
    ):
        raise NotImplementedError(f"transformers has no language model of the type {kind!r}")
    model = library.AutoModelForCausalLM.from_config(config)
    _refuse_foresight(model, kind)
    return CachedLanguageModel(model, library)


@torch.no_grad()
def _refuse_foresight(model: nn.Module, kind: str) -> None:
    """Raise NotImplementedError if the first logits depend on later tokens."""
    if next(model.parameters()).device.type == "meta":
        return
    training = model.training
    with torch.random.fork_rng(devices=[]):
        tokens = torch.tensor([[1, 1, 1, 1], [1, 2, 2, 2]])
        first = model.eval()(input_ids=tokens, use_cache=False).logits[:, 0]
    model.train(training)
    if not torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-5):
        raise NotImplementedError(f"hf:{kind} looks at later tokens: it is not a language model")
