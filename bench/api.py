"""The Python interface: what the command line does, with the objects that it uses.

`bench.run` measures, `bench.read` reads result files; both give a `Run`, from which come tables and charts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import UsageError
from bench.measure import session
from bench.measure.request import as_command, request_for
from bench.records.environment import Pairing
from bench.records.reading import Results, read_kinds
from bench.suites.case import Backend, HyperparameterMode, Mode, Phase, Precision
from bench.suites.files import suite_of_keys
from bench.views.tables.choice import needs_arithmetic
from bench.views.tables.row import Row
from bench.views.tables.table import Table, build_table
from bench.workloads.base import Fill

Model = str | Callable[..., Any]
"""An implementation: its name, `package.module:build`, or that function itself."""


@dataclass(frozen=True, repr=False)
class Run:
    """One result file, or several that make one table. A notebook shows the table."""

    results: tuple[Results, ...]
    """The files' contents by kind of device: header, solo passes, every timed run."""

    @property
    def complete(self) -> bool:
        """Whether every case ran, and was timed to the end."""
        return all(results.complete for results in self.results)

    @property
    def rows(self) -> list[Row]:
        """The table's rows, with every figure in full; None if it was not measured."""
        return self.table().rows

    def __repr__(self) -> str:
        """A line about what was measured: a whole run is hundreds of records."""
        parts = []
        for found in self.results:
            suite = found.header.suite
            lengths = ", ".join(map(str, suite.lengths))
            models = f"{len(suite.implementations)} models at {lengths}"
            parts.append(f"{suite.name} on {found.kind}: {models}, {found.path}")
        return f"<Run {'; '.join(parts)}>"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return self.table()._repr_html_()

    def to_pandas(self, *, baseline: str | None = None) -> Any:
        """The table's rows as a pandas.DataFrame, with every figure in full; needs pandas.

        Columns are those of the table in CSV; NaN or None if a figure was not measured. Raises UsageError.
        """
        return self.table(baseline=baseline).to_pandas()

    def table(self, *, baseline: str | None = None, published: bool = False) -> Table:
        """The table that `bench table` prints; `table.render("latex")` gives it for a paper.

        baseline: model that ratios are against, by default the suite's. published: with the accuracies that
        papers print. Raises UsageError if a file lacks the baseline.
        """
        return build_table(*self.results, baseline=baseline, published=published)

    def chart(self, name: str | None = None, *, baseline: str | None = None) -> Any:
        """The chart that `bench plot` draws, as an altair.Chart; needs the extra `report`, and no network.

        Raises UsageError for an unknown chart, or if the run lacks what it needs.
        """
        from bench.views.charts import charts
        from bench.views.charts.notebook import offline

        return offline(charts.specification(self.results, name, baseline))

    def report(self, path: str | Path, *, baseline: str | None = None) -> None:
        """Write the page that `bench report` writes; needs the extra `report`. Raises UsageError."""
        from bench.views import report

        report.write(self.results, Path(path), baseline)


def run(
    suite: str | Mapping[str, Any],
    *,
    implementations: Sequence[Model] | None = None,
    workload: str | None = None,
    lengths: Sequence[int] | None = None,
    batch: int | Sequence[int] | Literal["auto"] | None = None,
    tokens: int | None = None,
    fill: Fill | Sequence[Fill] | None = None,
    device: str = "auto",
    precision: Precision | Sequence[Precision] | None = None,
    phase: Phase | None = None,
    hyperparameters: HyperparameterMode | None = None,
    activation: Sequence[float] | None = None,
    baseline: Model | None = None,
    metrics: Sequence[str | Callable[..., Any]] | None = None,
    backend: Backend | None = None,
    budget: str | None = None,
    threads: int | Sequence[int] | None = None,
    mode: Mode | Sequence[Mode] | None = None,
    seed: int | None = None,
    quick: bool = False,
    quiet: bool = False,
    energy: bool = False,
    lock_clocks: int | None = None,
    pairing: Pairing = "turns",
    columns: Sequence[str] | None = None,
    executor: str = "local",
    out: str | Path | None = None,
    resume: str | Path | None = None,
) -> Run:
    """Measure a suite, as `bench run` does with the options of the same names.

    suite: a suite's name, a file that ends in .yaml, or the keys of such a file as a mapping; what is None is
    as the suite has it. quiet: say nothing of what is being measured.
    workload: in place of the suite's: a name, "tokens:file.npy", "text:file.txt" or
    "package.module:WORKLOAD". metrics: functions of a step that give a `bench.Figure`, or their import paths.
    lengths: sequence lengths in time steps. batch: sequences per step; tokens: time steps per step, in its
    place, which makes the batch this over the length. batch, fill, precision, threads and mode may be
    several. hyperparameters: "published", "matched", "small", or as "params:10M" as many parameters for every
    model. columns: "tflop/s" and "mfu" are counted and measured only if they are named here. activation:
    rates that sparse models are set to, one row each; an empty list leaves them as initialised. budget:
    time for the whole run, as "5m". lock_clocks: SM clock of the GPU for the run, in MHz. pairing: "turns",
    or "duet" for each model at the same time as the baseline, on half of the cores each. executor: "local",
    or "ray" for the devices of a Ray cluster.
    out: the result file, by default below results/runs. resume: a result file to continue.

    Models run in processes of their own, which import them: one that is defined in a notebook or in the
    script itself must move to a module. Raises UsageError before anything is measured, and KeyboardInterrupt,
    which names the file with what was measured until then.
    """
    settings: dict[str, Any] = {
        "implementations": None if implementations is None else [_name(model) for model in implementations],
        "workload": workload,
        "lengths": lengths,
        "tokens": tokens,
        "fill": fill,
        "precision": precision,
        "phase": phase,
        "hyperparameters": hyperparameters,
        "activation": activation,
        "baseline": None if baseline is None else _name(baseline),
        "metrics": None if metrics is None else [_name(metric) for metric in metrics],
        "backend": backend,
        "seed": seed,
        "batch": batch,
        "device": device,
        "budget": budget,
        "threads": threads,
        "modes": mode,
        "quick": quick,
        "quiet": quiet,
        "energy": energy,
        "lock_clocks": lock_clocks,
        "pairing": pairing,
        "executor": executor,
    }
    read = suite if isinstance(suite, str) else suite_of_keys(suite)
    command = as_command(suite if isinstance(suite, str) else None, {**settings, "columns": columns})
    settings["arithmetic"] = needs_arithmetic(columns)
    earlier = None if resume is None else Path(resume)
    outcome = session.run(request_for(read, out, **settings, resume=earlier, command=command))
    if outcome.interrupted:
        path = outcome.path
        raise KeyboardInterrupt(f"what was measured is in {path}; resume={path!r} continues it")
    return Run(tuple(outcome.runs))


def read(*paths: str | Path) -> Run:
    """Read result files as one run. Raises UsageError: which file is wrong, and how."""
    if not paths:
        raise UsageError("bench.read: give at least one result file")
    return Run(tuple(kind for path in paths for kind in read_kinds(Path(path))))


def _name(model: Model) -> str:
    """Import path by which a worker finds a model. Raises UsageError if there is none."""
    if isinstance(model, str):
        return model
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", "")
    if module in (None, "__main__") or not name.isidentifier():
        raise UsageError(
            f"{model!r}: models run in processes of their own, which can't import this one; put it as a "
            "function into a module (in a notebook: %%writefile my_model.py) and pass that function"
        )
    return f"{module}:{name}"
