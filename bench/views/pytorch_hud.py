"""Records of the benchmark database behind PyTorch's HUD, in its schema v3: one per figure of a row.

The service's own uploader adds repository, branch and job. Every value of an `extra_info` is text there.
"""

import json
from collections.abc import Mapping
from typing import Any

from bench.records.reading import Results
from bench.views.figures import Named, figures_of
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of

GIB = 1 << 30


def as_text(results: Results) -> str:
    """A run as a JSON list of records. Raises UsageError for a gate's raw data."""
    rows = rows_of(results, results.header.suite.baseline)
    records = [_record(results, row, figure) for row in rows for figure in figures_of(results, row)]
    return json.dumps(records, indent=1, ensure_ascii=False)


def _record(results: Results, row: Row, figure: Named) -> dict[str, Any]:
    suite, environment = results.header.suite, results.header.environment
    return {
        "benchmark": {
            "name": f"seqboat-bench {suite.name}",
            "mode": "training" if row.phase == "train" else "inference",
            "dtype": row.precision,
            "extra_info": _texts(
                device=row.device,
                phase=row.phase,
                baseline=suite.baseline,
                hyperparameters=row.hyperparameters,
                seed=row.seed,
                measured=results.header.created,
                harness=environment.harness,
            ),
        },
        "model": {
            "name": row.model,
            "type": row.complexity,
            "backend": row.backend or "",
            "origins": [row.code.package] if row.code and row.code.package else ["seqboat-bench"],
            "extra_info": _texts(case=row.case_id, computed_by=row.computed_by),
        },
        "inputs": {
            row.workload: {
                "dtype": row.precision,
                "extra_info": _texts(length=row.length, batch=row.batch, fill=row.fill, data=row.data),
            }
        },
        "dependencies": {
            name: {"repo": "", "branch": "", "sha": "", "version": version, "extra_info": {}}
            for name, version in {"torch": row.torch, **environment.libraries}.items()
        },
        "runners": [_runner(results)],
        "metric": {
            "name": f"{figure.name}({figure.unit})" if figure.unit else figure.name,
            "benchmark_values": list(figure.values),
            "extra_info": _texts(per="block" if figure.is_by_block else "run"),
        },
    }


def _runner(results: Results) -> Mapping[str, Any]:
    environment = results.header.environment
    cuda = environment.kind == "cuda"
    memory = environment.memory_bytes // GIB
    return {
        "name": environment.hardware,
        "type": environment.device,
        "cpu_info": environment.processor,
        "cpu_count": environment.threads,
        "avail_mem_in_gb": 0 if cuda else memory,
        "gpu_info": environment.hardware if cuda else "",
        "gpu_count": 1 if cuda else 0,
        "avail_gpu_mem_in_gb": memory if cuda else 0,
        "extra_info": _texts(
            python=environment.python,
            platform=environment.platform,
            driver=environment.driver,
            cuda=environment.cuda,
            commit=environment.commit,
            dirty=environment.dirty,
        ),
    }


def _texts(**values: object) -> dict[str, str]:
    """Known values as text."""
    return {name: str(value) for name, value in values.items() if value is not None}
