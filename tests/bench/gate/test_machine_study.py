"""The study of a machine: from its own blocks of identical code, by pairing, to what its gates find."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from bench.gate import false_alarms
from bench.gate.machine_study import gate, measured, resampled, section, self_comparisons, shifted
from bench.gate.planted import plant
from bench.records.environment import Pairing
from bench.records.reading import Results, read
from bench.records.run import Sample
from bench.records.solo import Solo
from bench.suites import reading as suites

from ..made_up import CPU, results, write


def against_itself(noise: float, pairing: Pairing = "turns", blocks: int = 6) -> Results:
    """A run of `bench doctor --aa`, each block of which differs by so much noise."""
    environment = msgspec.structs.replace(CPU, pairing=pairing, threads=1)
    made = results(["transformer", "seqboat"], environment=environment, path=f"{pairing}.jsonl")
    random = np.random.default_rng(1)
    solos, samples = {}, []
    for solo in made.solos.values():
        base, control = (msgspec.structs.replace(solo.case, revision=name) for name in ("base", "control"))
        solos[base.id] = Solo(case=base, status="ok", step_seconds=1.0)
        for block in range(blocks):
            for case, seconds in ((base, 1.0), (control, float(np.exp(random.normal(0, noise))))):
                for visit in (0, 1):
                    place = (visit + (case is control)) % 2
                    samples.append(
                        Sample(
                            case_id=case.id,
                            block=block,
                            group=len(solos),
                            round=0,
                            visit=visit,
                            position=2 * visit + place,
                            steps=1,
                            seconds=seconds,
                            processors=[place] if pairing == "duet" else [],
                        )
                    )
    return msgspec.structs.replace(made, solos=solos, samples=samples)


@pytest.mark.parametrize("pairing", ["turns", "duet"])
def test_a_quiet_machine_finds_everything_and_a_wild_one_nothing(pairing):
    assert {len(values) for values in self_comparisons(against_itself(0.001, pairing)).values()} == {6}
    quiet = section([against_itself(0.001, pairing)], 20)
    rows = [row for row in quiet.splitlines() if row.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        *("transformer", "seqboat"),
        *("suite, one case slower", "suite, every case slower"),
    ]
    assert all(row.split("|")[2:-1] == rows[0].split("|")[2:-1] for row in rows)
    assert rows[0].split()[3::2] == ["0.0%", "100.0%", "100.0%", "100.0%"]
    wild = section([against_itself(0.5, pairing)], 20)
    assert "0.0%" in wild.splitlines()[-2]


def test_both_pairings_are_told_apart():
    both = section([against_itself(0.01), against_itself(0.01, "duet")], 2)
    assert both.index("### In turns") < both.index("### In a duet")
    assert "side by side, 1 thread each" in both


def test_a_slower_case_among_others_is_found():
    quiet = resampled([0.001, -0.001, 0.0])
    random = np.random.default_rng(0)
    assert gate(quiet, [quiet, shifted(quiet, 0.05)], random) == "REGRESSED"
    assert gate(quiet, [quiet, quiet], random) == "PASSED"


def test_planted_blocks_take_the_place_of_shifted_ones():
    run = against_itself(0.001)
    slow = [
        msgspec.structs.replace(
            sample, case_id=sample.case_id.replace("@control", "@slower-5%"), seconds=1.003, position=3
        )
        for sample in run.samples
        if sample.case_id.endswith("@control")
    ]
    both = msgspec.structs.replace(run, samples=[*run.samples, *slow])
    assert all(set(case.planted) == {0.05} for case in measured(both).values())
    text = section([both], 10)
    assert "5% planted: +0.3%" in text
    row = next(row for row in text.splitlines() if row.startswith("| transformer"))
    assert row.split()[7::2] == ["0.0%", "100.0%"], "what was planted is no slowdown, and is not found"


def test_a_plant_takes_a_share_of_the_step_and_only_once(tmp_path):
    source = plant(tmp_path, 0.25, ["seqboat", "seqboat-fused", "transformer"])
    assert source.implementations == tmp_path
    for name in ("models/seqboat", "fused/seqboat", "models/transformer"):
        text = (tmp_path / "implementations" / f"{name}.py").read_text()
        assert text.count("_slowed(_as_it_was(*arguments, **keywords), 0.25)") == 1
        compile(text, name, "exec")
    now = [0.0]

    def clock():
        now[0] += 0.001
        return now[0]

    planted: dict = {}
    exec((tmp_path / "implementations" / "planted.py").read_text(), planted)
    part, model = nn.Identity(), nn.Sequential()
    assert planted["slowed"](model, 0.25, clock) is model
    planted["slowed"](part, 0.25, clock)
    assert not part._forward_pre_hooks
    x = torch.zeros(1)
    begins = []
    for _ in range(20):
        begins.append(now[0])
        model(x)
        now[0] += 1.0
    took = np.diff(begins)[1:]
    assert took == pytest.approx(1.25, abs=0.01)


BUILD = """
import os
import subprocess
import sys
from bench import workloads
from implementations import registry
task = workloads.load("text").task(64)
for name in sys.argv[1:]:
    item = registry.find(name)
    model = item.load()(task, item.hyperparameters("text", "small"))
    assert len(model._forward_pre_hooks) == 1, name
    sys.modules["implementations.planted"]._planted.clear()
"""


def test_every_planted_model_of_the_suite_builds(tmp_path):
    names = suites.load("ci").implementations
    source = plant(tmp_path, 0.25, names)
    command = [sys.executable, "-P", "-c", BUILD, *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(source.python_path)}
    subprocess.run(command, env=environment, check=True)


def test_the_command_reads_files_and_names_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(false_alarms, "EXPERIMENTS", 2)
    files = [str(write(against_itself(0.001, pairing), tmp_path)) for pairing in ("turns", "duet")]
    monkeypatch.setattr(sys, "argv", ["false_alarms", "--machine", *files])
    false_alarms.main()
    assert capsys.readouterr().out == section([read(Path(file)) for file in files], 2)
    for words, message in ((["--machine"], "name the files"), (["none.jsonl"], "none.jsonl: cannot be read")):
        monkeypatch.setattr(sys, "argv", ["false_alarms", *words])
        with pytest.raises(SystemExit) as end:
            false_alarms.main()
        assert end.value.code == 2
        assert message in capsys.readouterr().err


def test_the_first_stage_alone_has_its_blocks_and_no_more():
    """As many runs as other tools are given in the table beside them."""
    asked = []

    def open_case(count, random):
        asked.append(count)
        return [0.02 + (-1) ** number * 0.03 for number in range(count)]

    quiet = resampled([0.001, -0.001, 0.0])
    for second_stage, expected in ((False, [5]), (True, [5, 10])):
        asked.clear()
        gate(quiet, [open_case], np.random.default_rng(0), second_stage)
        assert asked == expected
