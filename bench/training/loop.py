"""A training from its current step to its end: steps, evaluations, records and checkpoints."""

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bench.records import checkpoint as checkpoints
from bench.records.checkpoint import Checkpoint
from bench.records.training import EndReason, Evaluation, Plateau, Progress, TrainingEnd
from bench.records.writing import RecordFile
from bench.system.signals import Interruption
from bench.training.display import PlainTrainingDisplay
from bench.training.trainer import Trainer


class Loop:
    """Carries out a training. A checkpoint is written at every evaluation and at an interruption.

    sources: digests of what is trained, which stand in each checkpoint.
    """

    def __init__(
        self,
        trainer: Trainer,
        store: RecordFile,
        path: Path,
        display: PlainTrainingDisplay,
        sources: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.trainer, self.store, self.path, self.display = trainer, store, path, display
        self.sources = sources
        self.losses: list[float] = []
        self.seconds = 0.0
        self.evaluation: Evaluation | None = None
        self.warned = False

    def resume_from(self, earlier: Checkpoint) -> None:
        """Continue a training from its checkpoint."""
        tensors = checkpoints.tensors_of(self.path, "")
        self.trainer.load(earlier.step, tensors)
        self.losses, self.seconds, self.evaluation = list(earlier.losses), earlier.seconds, earlier.evaluation

    def run(self, interruption: Interruption) -> EndReason:
        """Train until the last step, until interrupted, or until the loss is not a number."""
        reason = self._steps(interruption)
        detail = f"the loss is not a number at step {self.trainer.step}" if reason == "nan" else None
        self.store.append(
            TrainingEnd(reason=reason, step=self.trainer.step, seconds=self.seconds, detail=detail)
        )
        return reason

    def _steps(self, interruption: Interruption) -> EndReason:
        recipe = self.trainer.recipe
        if self.trainer.step == 0 and not self._evaluate():
            return "nan"
        while self.trainer.step < recipe.steps:
            if interruption.requested:
                self._save()
                return "interrupted"
            begin = time.perf_counter()
            self.losses.append(self.trainer.advance())
            self.seconds += time.perf_counter() - begin
            self.display.stepped(self.trainer.step, self.losses[-1])
            due = self.trainer.step % recipe.evaluate_every == 0 or self.trainer.step == recipe.steps
            if not math.isfinite(self.losses[-1]) or (due and not self._evaluate()):
                return "nan"
        return "finished"

    def _evaluate(self) -> bool:
        """Evaluate, record and save; False, and nothing is recorded, if the loss is not a number."""
        evaluation = self.trainer.evaluate()
        if not math.isfinite(evaluation.loss):
            return False
        loss = statistics.fmean(self.losses) if self.losses else None
        if loss is not None:
            self.store.append(
                Progress(
                    step=self.trainer.step,
                    loss=loss,
                    learning_rate=self.trainer.learning_rate,
                    seconds=self.seconds,
                )
            )
        self.losses = []
        self.evaluation = evaluation
        self.store.append(evaluation)
        self.display.evaluated(evaluation, loss)
        self._warn(evaluation, loss)
        self._save()
        return True

    def _warn(self, evaluation: Evaluation, loss: float | None) -> None:
        """Warn once, when the warm-up and a fifth of the steps are over and nothing has been learned.

        The training loss must say so too: a model that has learned can be badly calibrated in validation.
        """
        recipe, step = self.trainer.recipe, self.trainer.step
        if self.warned or loss is None or step < max(recipe.warm_up, recipe.steps / 5):
            return
        if evaluation.is_chance(loss) and evaluation.is_chance(evaluation.loss):
            self.warned = True
            plateau = Plateau(step=step, loss=loss, chance_loss=evaluation.chance_loss)
            self.store.append(plateau)
            self.display.stuck(plateau)

    def _save(self) -> None:
        trainer = self.trainer
        made = Checkpoint(
            schema=checkpoints.SCHEMA,
            case=trainer.case,
            recipe=trainer.recipe,
            data=trainer.workload.data(),
            step=trainer.step,
            seconds=self.seconds,
            losses=self.losses,
            evaluation=self.evaluation,
            sources=dict(self.sources),
        )
        checkpoints.write(self.path, made, trainer.state())
