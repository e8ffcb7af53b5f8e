"""A run for trackers of experiments, written by their own libraries and without a network.

Weights & Biases: an offline run, which `wandb sync` uploads. MLflow: a folder that is a file store, a run for
each row.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results
from bench.system.extras import require
from bench.views.figures import figures_of
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of

SETTINGS = ("model", "workload", "length", "batch", "fill", "precision", "phase", "hyperparameters", "seed")
"""Fields of a row that say what it is of."""
WANDB = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
}
MLFLOW = {
    # Newer versions prefer databases, and open a file store only when told so.
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
UNNAMEABLE = re.compile(r"[^\w\-. ]")
"""Characters that a name of a figure or parameter may not hold in MLflow."""
LONGEST_VALUE = 500
"""Characters of a parameter or tag, which older versions of MLflow cut off or refuse."""


def write_wandb(results: Results, folder: Path) -> None:
    """One offline run below `folder/wandb`: configuration, step times by block, and all other figures.

    Raises UsageError if the library is missing, or can't write.
    """
    rows = _rows(results)
    with _environment(WANDB), _told_as("wandb"):
        wandb = require("wandb", "wandb")
        run = wandb.init(
            project="seqboat-bench",
            name=results.header.suite.name,
            dir=str(_made(folder)),
            mode="offline",
            config=_configuration(results),
        )
        for block, values in enumerate(_by_block(results, rows)):
            run.log(values, step=block)
        run.summary.update(_once(results, rows))
        run.finish()


def write_mlflow(results: Results, folder: Path) -> None:
    """A file store: the suite is an experiment, each row a run with parameters, tags and metrics.

    Raises UsageError if the library is missing, or can't write.
    """
    rows = _rows(results)
    with _environment(MLFLOW), _told_as("mlflow"):
        mlflow = require("mlflow", "mlflow")
        client = mlflow.MlflowClient(tracking_uri=_made(folder).resolve().as_uri())
        name = results.header.suite.name
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if known is None else known.experiment_id
        for row in rows:
            _write_mlflow_run(client, experiment, results, row)


def _write_mlflow_run(client: Any, experiment: str, results: Results, row: Row) -> None:
    run = client.create_run(experiment, run_name=row.case_id, tags=_tags(results, row))
    identity = run.info.run_id
    for name in SETTINGS:
        client.log_param(identity, name, getattr(row, name))
    for figure in figures_of(results, row):
        name = UNNAMEABLE.sub("_", f"{figure.name} {figure.unit}".strip())
        for block, value in enumerate(figure.values):
            client.log_metric(identity, name, value, step=block)
    client.set_terminated(identity, "FINISHED" if row.status == "ok" else "FAILED")


def _tags(results: Results, row: Row) -> dict[str, str]:
    environment = results.header.environment
    values = {
        "status": row.status,
        "reason": row.reason,
        "hardware": row.hardware,
        "threads": row.threads,
        "torch": row.torch,
        "data": row.data,
        "measured": results.header.created,
        "harness": environment.harness,
        "mlflow.source.git.commit": environment.commit,
        "dirty": environment.dirty,
    }
    return {name: str(value)[:LONGEST_VALUE] for name, value in values.items() if value is not None}


def _rows(results: Results) -> list[Row]:
    return rows_of(results, results.header.suite.baseline)


def _configuration(results: Results) -> dict[str, Any]:
    header = results.header
    parts = {"suite": header.suite, "environment": header.environment, "plug_ins": header.plug_ins}
    return {**msgspec.to_builtins(parts), "data": header.data, "measured": header.created}


def _by_block(results: Results, rows: list[Row]) -> Iterator[dict[str, float]]:
    """Figures that each block has, block by block."""
    found = [(row, figure) for row in rows for figure in figures_of(results, row) if figure.is_by_block]
    for block in range(max((len(figure.values) for _, figure in found), default=0)):
        yield {
            f"{row.case_id}/{figure.name}_{figure.unit}": figure.values[block]
            for row, figure in found
            if block < len(figure.values)
        }


def _once(results: Results, rows: list[Row]) -> Mapping[str, object]:
    """All other figures, and how each row ended."""
    values: dict[str, object] = {f"{row.case_id}/status": row.status for row in rows}
    for row in rows:
        for figure in figures_of(results, row):
            if not figure.is_by_block:
                values[f"{row.case_id}/{figure.name}"] = figure.values[0]
    return values


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Within this context, these variables are set."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _told_as(library: str) -> Iterator[None]:
    """Whatever the library raises as one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"--to {library}: the library could not write ({reason})") from error
