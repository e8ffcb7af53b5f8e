"""A gate imports every model of both revisions before it measures the first one."""

from types import SimpleNamespace

import pytest

from bench.gate import gate as gates
from bench.gate.gate import REVISIONS, Gate
from bench.gate.rules import rules_of
from bench.measure.procedure import Procedure
from bench.records.reading import read
from bench.records.solo import Solo
from bench.records.writing import ResultFile
from bench.suites.suite import Suite

from ..made_up import CPU, results


class Silent:
    def __getattr__(self, name):
        return lambda *words: None


@pytest.fixture
def done(tmp_path, monkeypatch):
    """A gate over three models, of which the last can't be imported, and what it does, in order."""
    order: list[str] = []

    def imported(cases, procedure, server):
        order.append(f"import {cases[0].implementation}")
        for case in cases:
            if case.implementation.startswith("broken"):
                yield Solo(case=case, status="error", reason="cannot import", traceback="Traceback: line 1")

    def measured(case, procedure, server, exact=False):
        order.append(f"run {case.implementation}")
        return Solo(case=case, status="ok", step_seconds=0.1)

    monkeypatch.setattr(gates, "failed_imports", imported)
    for name in ("measure_solo", "measure_exact"):
        monkeypatch.setattr(gates, name, measured)
    models = ("one:build", "transformer", "broken:build")
    fields = {"name": "tiny", "description": "", "workload": "text", "lengths": (32,)}
    suite = Suite(**fields, implementations=models, baseline=models[0])
    path = tmp_path / "run.jsonl"
    with ResultFile(path) as file:
        file.append(results(models).header)
        yield Gate(Procedure(suite, CPU), file, Silent(), rules_of({}, {}, None, None), blocks=0), order, path


@pytest.mark.parametrize("exact", [True, False])
def test_both_revisions_are_imported_first(done, exact):
    gate, order, path = done
    base, head = (SimpleNamespace(name=name) for name in REVISIONS[:2])
    pairs = gate.pairs(base, head, exact)
    assert order == 2 * ["import one:build", "import broken:build"] + 2 * ["run one:build", "run transformer"]
    assert [pair.base.status for pair in pairs] == ["ok", "ok", "error"]
    assert [pair.other.status for pair in pairs] == ["ok", "ok", "error"]
    traces = [solo.traceback for solo in read(path).solos.values() if solo.status == "error"]
    assert traces == ["Traceback: line 1"] * 2


def test_noise_is_measured_of_what_can_be_imported(done):
    gate, order, _ = done
    assert len(gate.with_itself()) == 2
    assert order[:2] == ["import one:build", "import broken:build"]
