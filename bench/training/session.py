"""One `bench train` from request to records: suite, recipes, files, and one model after the other."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.measure.header import source_of, sources_of_others
from bench.measure.request import continued
from bench.probes.environment import command_line, probe_environment
from bench.records import checkpoint as checkpoints
from bench.records.checkpoint import Checkpoint
from bench.records.environment import Environment
from bench.records.training import SCHEMA, Begin, Recipe, TrainingEnd, TrainingResults, read_training
from bench.records.writing import RecordFile
from bench.suites import reading as suites
from bench.suites.case import Case, Precision
from bench.suites.suite import Suite
from bench.system import own_models
from bench.system.signals import Interruption, termination_interrupts
from bench.training.display import PlainTrainingDisplay, open_display
from bench.training.recipe import make_recipe
from bench.workers.failures import TRACEBACK_CHARACTERS
from implementations import registry


@dataclass(frozen=True)
class TrainRequest:
    """A user's request to train."""

    suite: str
    out: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of the suite, in place of its own."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipes, in place of theirs."""
    device: str = "auto"
    threads: int | None = None
    resume: bool = False


@dataclass(frozen=True)
class TrainOutcome:
    """Result of `bench train`."""

    trainings: list[TrainingResults]
    interrupted: bool
    resume_line: str

    @property
    def complete(self) -> bool:
        return not self.interrupted and all(training.finished for training in self.trainings)


@dataclass(frozen=True)
class Job:
    """One training and its files."""

    case: Case
    recipe: Recipe
    records: Path
    checkpoint: Path
    sources: dict[str, str]
    """Digests of the model's source, and of a workload's that is the user's own."""


def train(request: TrainRequest) -> TrainOutcome:
    """Train the models of a suite in turn. Raises UsageError before anything is trained.

    A model that fails ends only its own training.
    """
    suite = suites.load(request.suite, request.overrides)
    environment = probe_environment(request.device, request.threads or suite.most_threads)
    names = models_of(suite, request.overrides)
    own_models.look_here()
    # What can't be imported is found before another has been trained for hours.
    own_models.load_all(map(registry.find, names))
    jobs = [_job(name, suite, request) for name in names]
    _refuse_shared_files(jobs)
    earlier = [_earlier(job, environment, request.resume) for job in jobs]
    interrupted = False
    with open_display() as display, termination_interrupts(patient=True) as interruption:
        for job, checkpoint in zip(jobs, earlier, strict=True):
            if checkpoint is not None and read_training(job.records).finished:
                display.say(f"{job.case.implementation}: trained already")
                continue
            if interruption.requested:
                break
            try:
                _train(job, checkpoint, suite, environment, display, interruption)
            except KeyboardInterrupt:
                interrupted = True
                break
    line = continued(command_line(), {"--out": str(request.out), "--resume": ""})
    trainings = [read_training(job.records) for job in jobs if job.records.exists()]
    return TrainOutcome(trainings, interrupted or interruption.requested, line)


def models_of(suite: Suite, overrides: dict[str, Any]) -> list[str]:
    """Implementations to train: those asked for, else all but other forms of one that is trained."""
    if "implementations" in overrides:
        return list(suite.implementations)
    names = suite.implementations
    return [name for name in names if registry.find(name).reference not in names]


def _job(name: str, suite: Suite, request: TrainRequest) -> Job:
    workload = workloads.load(suite.workload)
    recipe = make_recipe(name, suite, workload, request.changes)
    case = Case(
        implementation=name,
        workload=suite.workload,
        length=suite.lengths[0],
        batch=recipe.batch,
        fill="real",
        precision=_precision(suite),
        phase="train",
        hyperparameters=suite.hyperparameters,
        activation=None,
        backend=suite.backend,
        seed=suite.seed,
    )
    stem = re.sub(r"[^\w.-]", "_", name)
    digest = source_of(name, suite)
    sources = {**({} if digest is None else {name: digest}), **sources_of_others(suite)}
    return Job(case, recipe, request.out / f"{stem}.jsonl", request.out / f"{stem}.safetensors", sources)


def _refuse_shared_files(jobs: Sequence[Job]) -> None:
    """Raise UsageError if two models would write to the same files."""
    owners: dict[Path, str] = {}
    for job in jobs:
        name = job.case.implementation
        if (other := owners.setdefault(job.records, name)) != name:
            raise UsageError(
                f"{job.records}: would be the file of both {other} and {name}; give one of them another --out"
            )


def _precision(suite: Suite) -> Precision:
    if len(suite.precisions) > 1:
        raise UsageError(f"{suite.name}: has several precisions, and a training has one; give --precision")
    return suite.precisions[0]


def _earlier(job: Job, environment: Environment, resume: bool) -> Checkpoint | None:
    """The checkpoint to continue; None if nothing was trained yet, or if that failed before its first step.

    Raises UsageError if there is one and it was not asked for, or if it is of another training.
    """
    if not job.records.exists():
        if job.checkpoint.exists():
            raise UsageError(
                f"{job.checkpoint}: exists already, without {job.records.name}; move it away, or choose "
                "another --out"
            )
        return None
    if not resume:
        raise UsageError(f"{job.records}: exists already; continue it with --resume or choose another --out")
    records = read_training(job.records)
    if not job.checkpoint.exists():
        if records.failed_at_once:
            return None
        raise UsageError(f"{job.checkpoint}: is missing, so {job.records} cannot be resumed; delete it")
    checkpoint = checkpoints.read(job.checkpoint)
    for what in ("case", "recipe"):
        then, now = (msgspec.to_builtins(getattr(made, what)) for made in (checkpoint, job))
        changed = [f"{key} {then[key]}, now {now[key]}" for key in now if then[key] != now[key]]
        if changed:
            raise UsageError(f"{job.checkpoint}: was made by another training ({'; '.join(changed)})")
    edited = [name for name, digest in checkpoint.sources.items() if job.sources.get(name) != digest]
    if edited:
        raise UsageError(
            f"{job.checkpoint}: was made before {' and '.join(edited)} changed (another source); start anew, "
            "or go back to that version"
        )
    then, now = records.begin.environment.machine, environment.machine
    if then != now:
        raise UsageError(
            f"{job.records}: comes from another machine ({then.words}; this is {now.words}); start anew"
        )
    data = workloads.load(job.case.workload).data()
    if checkpoint.data != data:
        raise UsageError(
            f"{job.checkpoint}: was made of other data ({checkpoint.data}; now {data}); start anew"
        )
    return checkpoint


def _train(
    job: Job,
    earlier: Checkpoint | None,
    suite: Suite,
    environment: Environment,
    display: PlainTrainingDisplay,
    interruption: Interruption,
) -> None:
    import torch

    from bench.training.loop import Loop
    from bench.training.trainer import Trainer
    from implementations.encoder import parameter_count

    torch.set_num_threads(environment.threads)
    if earlier is None:
        job.records.unlink(missing_ok=True)  # Of a training that failed before its first step.
    try:
        trainer = Trainer(job.case, job.recipe, environment.device)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        with RecordFile(job.records, resume=earlier is not None) as store:
            if earlier is None:
                store.append(_begin(job, suite, environment, parameters=0))
            store.append(_failure(error, earlier.step if earlier else 0, earlier.seconds if earlier else 0.0))
        display.say(f"{job.case.implementation} failed: {_words(error)}")
        return
    with RecordFile(job.records, resume=earlier is not None) as store:
        if earlier is None:
            begin = _begin(job, suite, environment, parameter_count(trainer.model))
            store.append(begin)
        loop = Loop(trainer, store, job.checkpoint, display, job.sources)
        try:
            if earlier is not None:
                loop.resume_from(earlier)
            _say_begin(job, trainer.step, display)
            loop.run(interruption)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            store.append(_failure(error, trainer.step, loop.seconds))
            display.say(f"    failed: {_words(error)}")


def _say_begin(job: Job, step: int, display: PlainTrainingDisplay) -> None:
    display.begins(job.case.implementation, step, job.recipe.steps)
    if job.recipe.scaled_from is not None:
        display.say(
            f"    a warm-up of {job.recipe.warm_up} steps, and the schedule, are in proportion to the "
            f"published training of {job.recipe.scaled_from}"
        )


def _failure(error: BaseException, step: int, seconds: float) -> TrainingEnd:
    """The end of a training by whatever its model raised; it costs no other model its own."""
    trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return TrainingEnd(reason="error", step=step, seconds=seconds, detail=_words(error), traceback=trace)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _begin(job: Job, suite: Suite, environment: Environment, parameters: int) -> Begin:
    workload = workloads.load(suite.workload)
    head = workload.task(job.case.length).head
    return Begin(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(),
        suite=suite.name,
        case=job.case,
        recipe=job.recipe,
        environment=environment,
        data=workload.data(),
        parameters=parameters,
        unit="bits_per_character" if head == "language-model" else "accuracy",
    )
