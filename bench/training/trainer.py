"""One model in training: a step, an evaluation, and its whole state as tensors."""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import workloads
from bench.errors import UsageError
from bench.records.checkpoint import MODEL, OPTIMIZER, RANDOM
from bench.records.training import Evaluation, LayerActivation, ParameterGroup, Recipe
from bench.steps.step import autocast, build_model, cross_entropy, set_matmul_precision, to_device
from bench.suites.case import Case
from bench.workloads import Batch
from implementations import activation

VALIDATION_SEED = 0
"""Seed of the validation sequences, the same for every model and seed."""


class Trainer:
    """Trains one model. `step` is the number of steps done, and of the next batch.

    Raises UsageError if the case cannot be trained.
    """

    def __init__(self, case: Case, recipe: Recipe, device: str) -> None:
        if case.precision == "fp16":
            raise UsageError("--precision fp16: gradients would vanish without loss scaling; take bf16")
        if case.precision == "bf16-pure":
            raise UsageError("--precision bf16-pure: weights would not move by small steps; take bf16")
        self.case, self.recipe = case, recipe
        self.device = torch.device(device)
        self.workload = workloads.load(case.workload)
        self.task = self.workload.task(case.length)
        set_matmul_precision(case.precision)
        self.model = build_model(case, self.task, self.device)
        if recipe.activation_penalty and not activation.configurators(self.model):
            raise UsageError(f"--activation-reg: {case.implementation} has no configurators")
        self.optimizer = make_optimizer(self.model, recipe)
        self.step = 0
        self._validation: list[Batch] = []

    def advance(self) -> float:
        """Run one training step. Returns its loss in nats, without the penalty."""
        self.model.train()
        batch = self.workload.batch(
            self.case.length, self.recipe.batch, self.case.fill, self.case.seed, self.step, "train"
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest_lr"] * self.recipe.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss, penalty = self._losses(batch)
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self.recipe.learning_rate * self.recipe.rate(max(0, self.step - 1))

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Evaluate the model on the validation sequences; random state and weights stay as they are."""
        self.model.eval()
        losses, correct, labels = 0.0, 0, np.zeros(self.task.classes, dtype=np.int64)
        rates: list[list[list[float]]] = []
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            for batch in self._validation_batches():
                logits, targets = self._forward(batch)
                losses += float(cross_entropy(logits, targets)) * targets.numel()
                correct += int((logits.argmax(dim=-1) == targets).sum())
                labels += np.bincount(batch.targets.ravel(), minlength=self.task.classes)
                rates.append(activation_by_sample(self.model))
        count = int(labels.sum())
        loss = losses / count
        is_language_model = self.task.head == "language-model"
        return Evaluation(
            step=self.step,
            loss=loss,
            accuracy=None if is_language_model else correct / count,
            bits_per_character=loss / math.log(2) if is_language_model else None,
            chance_loss=entropy(labels / count),
            chance_accuracy=float(labels.max() / count),
            sequences=self.recipe.validation_sequences,
            activation=[_spread(np.concatenate(layer)) for layer in zip(*rates, strict=True)],
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name, except the step's number."""
        tensors = {MODEL + name: tensor for name, tensor in self.model.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"{OPTIMIZER}{number}.{name}": torch.as_tensor(value) for name, value in values.items()
            }
        tensors[RANDOM + "cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def load(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Continue from a state. Raises RuntimeError if it is another model's."""
        self.model.load_state_dict(_below(tensors, MODEL))
        whole = self.optimizer.state_dict()
        whole["state"] = _nested(_below(tensors, OPTIMIZER))
        self.optimizer.load_state_dict(whole)
        torch.set_rng_state(tensors[RANDOM + "cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors[RANDOM + "cuda"], self.device)
        self.step = step

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor | float]:
        """The loss and the penalty."""
        if not self.recipe.activation_penalty:
            return cross_entropy(*self._forward(batch)), 0.0
        with activation.confidences(self.model) as confidences:
            return cross_entropy(*self._forward(batch)), self._penalty(confidences)

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, lengths, targets = to_device(batch, self.device, self.case.precision)
        with autocast(self.device, self.case.precision):
            logits: Tensor = self.model(inputs, lengths)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), targets

    def _penalty(self, confidences: list[Tensor]) -> Tensor:
        if not all(confidence.requires_grad for confidence in confidences):
            raise UsageError(
                f"--activation-reg: the fused form {self.case.implementation} gives no gradient of the "
                "confidence alone; train the plain form, which has the same parameters"
            )
        return self.recipe.activation_penalty * torch.stack(confidences).mean()

    def _validation_batches(self) -> list[Batch]:
        if not self._validation:
            left = self.recipe.validation_sequences
            while left > 0:
                size = min(left, self.recipe.batch)
                self._validation.append(self._validation_batch(size))
                left -= size
        return self._validation

    def _validation_batch(self, size: int) -> Batch:
        index = len(self._validation)
        return self.workload.batch(
            self.case.length, size, self.case.fill, VALIDATION_SEED, index, "validation"
        )


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser. Each group's `highest_lr` is the rate at the end of the warm-up."""
    kinds: dict[str, Any] = {
        "adam": torch.optim.AdamW,
        "adamw": torch.optim.AdamW,
        "radam": torch.optim.RAdam,
    }
    options = {"decoupled_weight_decay": True} if recipe.optimizer == "radam" else {}
    optimizer: torch.optim.Optimizer = kinds[recipe.optimizer](
        list(_groups(model, recipe)), lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, **options
    )
    return optimizer


def _groups(model: nn.Module, recipe: Recipe) -> Iterator[dict[str, Any]]:
    # The last group has the parameters of no other group; it is yielded first.
    groups = [*recipe.groups(), ParameterGroup(pattern="", weight_decay=None)]
    members: list[list[nn.Parameter]] = [[] for _ in groups]
    for name, parameter in model.named_parameters():
        matching = (number for number, group in enumerate(groups) if re.search(group.pattern, name))
        members[next(matching)].append(parameter)
    pairs = list(zip(groups, members, strict=True))
    for group, parameters in [pairs[-1], *pairs[:-1]]:
        rate, decay = group.learning_rate, group.weight_decay
        if parameters:
            yield {
                "params": parameters,
                "highest_lr": recipe.learning_rate if rate is None else min(recipe.learning_rate, rate),
                "weight_decay": recipe.weight_decay if decay is None else decay,
            }


def activation_by_sample(model: nn.Module) -> list[list[float]]:
    """Activation rates of the last batch's rows, by configurator; empty if configurators can't tell."""
    found = activation.configurators(model)
    if not all(hasattr(configurator, "activation_rates_by_sample") for configurator in found):
        return []
    return [configurator.activation_rates_by_sample() for configurator in found]


def entropy(shares: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Entropy of probabilities `(classes,)`, in nats."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _spread(rates: np.ndarray[Any, np.dtype[np.float64]]) -> LayerActivation:
    low, high = np.quantile(rates, (0.1, 0.9))
    return LayerActivation(
        mean=float(rates.mean()), deviation=float(rates.std()), low=float(low), high=float(high)
    )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _nested(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """`{"3.step": x}` as `{3: {"step": x}}`."""
    nested: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        nested.setdefault(int(number), {})[key] = tensor
    return nested
