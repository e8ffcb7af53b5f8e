"""Display of a training: a progress bar in a terminal, plain lines anywhere else."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.records.training import Evaluation, Plateau
from bench.text.terminal import patient_console
from bench.views.training import chance, quality


class PlainTrainingDisplay:
    """One line per evaluation, to standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> "PlainTrainingDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begins(self, name: str, done: int, steps: int) -> None:
        self.say(f"{name}: {steps - done} steps" + (f", from step {done} on" if done else ""))

    def stepped(self, step: int, loss: float) -> None:
        return

    def evaluated(self, evaluation: Evaluation, loss: float | None) -> None:
        self.say(f"    {describe(evaluation, loss)}")

    def stuck(self, plateau: Plateau) -> None:
        self.say(
            f"    warning: after {plateau.step} steps the loss, {plateau.loss:.3f}, is still that "
            f"of guessing, {plateau.chance_loss:.3f}; try another --learning-rate, a longer --warm-up or "
            "more --steps"
        )

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class TrainingBar(PlainTrainingDisplay):
    """The same lines above a bar with the remaining time."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=None, loss=float("nan"))

    def __enter__(self) -> "TrainingBar":
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def begins(self, name: str, done: int, steps: int) -> None:
        super().begins(name, done, steps)
        self.bar.reset(self.task, description=name, total=steps, completed=done, loss=float("nan"))

    def stepped(self, step: int, loss: float) -> None:
        self.bar.update(self.task, completed=step, loss=loss)


def open_display() -> PlainTrainingDisplay:
    """A bar if standard error is a terminal, else plain lines."""
    console = patient_console()
    return TrainingBar(console) if console.is_terminal else PlainTrainingDisplay(console)


def describe(evaluation: Evaluation, loss: float | None = None) -> str:
    """An evaluation in a few words."""
    parts = [f"step {evaluation.step}"]
    if loss is not None:
        parts.append(f"training loss {loss:.3f}")
    parts.append(f"validation {quality(evaluation)} (chance {chance(evaluation)})")
    if evaluation.activation:
        parts.append("activation " + " ".join(f"{layer.mean:.0%}" for layer in evaluation.activation))
    return ", ".join(parts)
