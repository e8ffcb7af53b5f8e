"""Profiles: stages have their names and their costs, nothing stays wrapped, and the tree adds up."""

import json
import math
import re
import subprocess
import sys

import msgspec
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.probes.operators import OperatorCosts
from bench.records.profile import SCHEMA, Ceilings, Cost, Profile, Stage, read_profile, tree
from bench.steps.profiler import profile
from bench.steps.stages import PREFIX, named
from bench.steps.step import Step
from bench.suites import reading as suites
from bench.views.profile import Profiles
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render
from implementations import activation

from ..made_up import CPU

ENVIRONMENT = msgspec.structs.replace(CPU, threads=1)


def case(implementation: str, length: int = 256):
    suite = msgspec.structs.replace(suites.load("ci"), implementations=(implementation,), lengths=(length,))
    return suite.cases("cpu")[0]


@pytest.fixture(scope="module")
def boat(tmp_path_factory):
    trace = tmp_path_factory.mktemp("trace") / "trace.json"
    return profile(case("seqboat"), ENVIRONMENT, steps=2, trace=trace), trace


def stage_of(made: Profile, *path: str) -> Stage:
    (stage,) = [stage for stage in made.stages if stage.path == path]
    return stage


LAYER_STAGES = ["EMA", "configurator", "compress", "attention", "projections", "extract"]


@pytest.mark.parametrize("name", LAYER_STAGES)
def test_the_parts_of_a_seqboat_layer_are_stages_forward_and_backward(boat, name):
    stage = stage_of(boat[0], "layers", name)
    assert stage.calls % 4 == 0, "there are four layers"
    assert stage.calls > 0
    assert stage.forward.seconds > 0
    assert stage.backward.seconds > 0
    assert stage.forward.bytes > 0


@pytest.mark.parametrize("plain", ["seqboat", "mega-chunk"])
def test_a_fused_form_has_the_stages_of_its_plain_one_with_time_and_flops_of_its_own(plain):
    fused, reference = (profile(case(name, 128), ENVIRONMENT, steps=1) for name in (f"{plain}-fused", plain))
    assert fused.flops_from == f"{plain}-fused"
    wide = ("layers", "gated attention unit") if plain == "mega-chunk" else ("layers",)
    for name in ("EMA", "attention", "projections"):
        stage = stage_of(fused, *wide, name)
        assert stage.forward.seconds > 0
        assert stage.backward.seconds > 0
        assert stage.forward.flops > 0
    products = [sum(costs(made, "projections", wide)) for made in (fused, reference)]
    assert products[0] == pytest.approx(products[1], rel=0.1)


def costs(made: Profile, name: str, above: tuple[str, ...]):
    stage = stage_of(made, *above, name)
    return stage.forward.flops, stage.backward.flops


def test_the_triton_form_has_stages_too():
    """In the interpreter: its kernels are those of the stages that the plain form has."""
    import implementations.fused.seqboat_triton  # noqa: F401 - as the steps before a profile do

    fused = case("seqboat-fused(layers=1, dim=8, states=2)", 16)
    small = msgspec.structs.replace(fused, hyperparameters="small", activation=None, backend="triton")
    step = Step(small, "cpu")
    with torch.no_grad():
        for configurator in activation.configurators(step.model):
            configurator.act_bias.fill_(-10.0)
    with named(step) as stages:
        step()
    found = {path[-1] for path in stages.calls if path[:1] == ("layers",)}
    assert {"EMA", "configurator", "compress", "gates", "attention", "extract"} <= found


def test_head_loss_and_optimiser_are_stages(boat):
    assert stage_of(boat[0], "optimiser").forward.seconds > 0
    assert stage_of(boat[0], "optimiser").backward.seconds == 0
    assert stage_of(boat[0], "head", "projections").backward.seconds > 0
    assert stage_of(boat[0], "loss").backward.seconds > 0


def test_stages_add_up_to_no_more_than_the_step_that_was_profiled(boat):
    total = sum(stage.forward.seconds + stage.backward.seconds for stage in boat[0].stages)
    assert 0.5 * boat[0].profiled_seconds < total <= boat[0].profiled_seconds


def test_the_trace_has_a_track_of_memory(boat):
    """Torch counts from 0 on a CPU: parameters, optimiser and batch are there before the step."""
    made, trace = boat
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    live = [event["args"]["bytes"] for event in events if event.get("ph") == "C"]
    assert max(live) == pytest.approx(max(bytes_ for _, bytes_, _ in made.timeline), rel=0.05)
    assert min(live) > 2 * 4 * 600_000, "parameters and more"


def test_the_trace_has_the_names_of_the_stages(boat):
    events = json.loads(boat[1].read_text(encoding="utf-8"))["traceEvents"]
    names = {event.get("name", "") for event in events}
    assert {f"{PREFIX}layers / EMA", f"{PREFIX}layers / attention"} <= names


def test_the_timeline_peaks_where_the_exact_count_does(boat):
    timeline = boat[0].timeline
    assert [place for place, _, _ in timeline] == sorted(place for place, _, _ in timeline)
    assert max(live for _, live, _ in timeline) == max(stage.peak_bytes for stage in boat[0].stages)


def test_products_are_counted_as_torch_counts_them():
    step = Step(case("transformer", 64), "cpu")
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    with named(step) as stages, OperatorCosts(lambda _: (stages.path, "forward")) as costs:
        step()
    ours, theirs = sum(costs.flops.values()), counter.get_total_flops()
    assert theirs < ours < 1.5 * theirs, "beside products there are only pointwise operators and sums"


def test_transforms_and_pointwise_operators_are_counted_by_hand():
    def flops(action) -> int:
        with OperatorCosts(lambda _: ((), "forward")) as costs:
            action()
        return sum(costs.flops.values())

    real, spectrum = torch.randn(3, 1024), torch.randn(3, 513, dtype=torch.complex64)
    assert flops(lambda: torch.fft.rfft(real)) == 2.5 * 3 * 1024 * math.log2(1024)
    assert flops(lambda: real * real) == 3 * 1024
    assert flops(lambda: spectrum * spectrum) == 6 * 3 * 513
    assert flops(lambda: torch.mm(real, real.T)) == 2 * 3 * 3 * 1024
    assert flops(lambda: real.view(1024, 3)) == 0


def test_products_in_place_and_fused_attention_are_counted_as_their_plain_forms():
    a, b, total = torch.randn(4, 8), torch.randn(8, 6), torch.zeros(4, 6)
    q = torch.randn(2, 3, 16, 8, requires_grad=True)

    def flops(action) -> int:
        with OperatorCosts(lambda _: ((), "forward")) as costs:
            action()
        return sum(costs.flops.values())

    assert flops(lambda: total.addmm_(a, b)) == 2 * 4 * 8 * 6
    assert flops(lambda: torch.mv(a, b[:, 0])) == 2 * 4 * 8
    assert flops(lambda: F.softmax(a, dim=-1)) == 5 * 4 * 8
    assert flops(lambda: torch._foreach_add_([a, b], 1.0)) == 4 * 8 + 8 * 6
    assert flops(lambda: a.clone()) == 0
    product = 2 * 2 * 3 * 16 * 16 * 8
    attention = flops(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward())
    assert attention >= (2 + 5) * product, "two products forward, five backward: the scores again"


def test_bytes_are_those_read_and_written_and_views_are_free():
    x = torch.randn(1000)
    with OperatorCosts(lambda _: ((), "forward")) as costs:
        F.relu(x.view(10, 100))
    assert sum(costs.bytes.values()) == 2 * x.nbytes


def test_in_place_counts_twice_and_a_gather_only_what_it_picks():
    x, index, picked = torch.randn(1000), torch.arange(10), torch.randn(10)

    def moved(action) -> int:
        with OperatorCosts(lambda _: ((), "forward")) as costs:
            action()
        return sum(costs.bytes.values())

    assert moved(lambda: x.mul_(2.0)) == 2 * x.nbytes
    assert moved(lambda: x.zero_()) == x.nbytes
    assert moved(lambda: x.index_select(0, index)) == 2 * picked.nbytes + index.nbytes
    assert moved(lambda: x.index_add_(0, index, picked)) == 3 * picked.nbytes + index.nbytes
    assert moved(lambda: x.new_empty(5)) == 0


def test_nothing_stays_wrapped_and_the_step_computes_the_same():
    from implementations.ops import sma

    step = Step(case("seqboat", 64), "cpu")
    before = [module.forward for module in step.model.modules()]
    compress = sma.compress
    with torch.random.fork_rng():
        step()
    loss = step.loss
    with named(step) as stages:
        assert sma.compress is not compress
        with torch.random.fork_rng():
            step()
    assert stages.path == ()
    assert torch.equal(step.loss, loss)
    assert sma.compress is compress
    assert [module.forward for module in step.model.modules()] == before
    assert not any("forward" in vars(module) for module in step.model.modules())


def test_a_stage_that_fails_leaves_the_names_in_order():
    step = Step(case("transformer", 64), "cpu")
    with named(step) as stages:
        step.inputs = step.inputs + 10_000
        with pytest.raises(IndexError):
            step()
        assert stages.path == ()


def made_up_profile() -> Profile:
    cost = Cost(seconds=0.01, flops=10_000_000, bytes=1 << 20)
    return Profile(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        command=["bench", "profile"],
        case=case("seqboat"),
        environment=CPU,
        steps=1,
        plain_seconds=0.1,
        named_seconds=0.101,
        profiled_seconds=0.11,
        stages=[
            Stage(path=(), calls=0, forward=Cost(seconds=0.001), backward=Cost(), peak_bytes=1 << 20),
            Stage(path=("layers",), calls=4, forward=cost, backward=cost, peak_bytes=1 << 21),
            Stage(path=("layers", "EMA"), calls=4, forward=cost, backward=Cost(), peak_bytes=1 << 22),
            Stage(path=("head",), calls=1, forward=Cost(seconds=0.002), backward=Cost(), peak_bytes=1 << 20),
        ],
        timeline=[(number / 72, (number % 9) << 20, "layers, forward") for number in range(72)],
        ceilings=Ceilings(
            flops_per_second=2e9, bytes_per_second=2**30, matrix="1024 × 1024, fp32", copy="128 MiB"
        ),
        flops_from="seqboat",
    )


def test_the_tree_sums_what_is_inside_and_puts_the_longest_first():
    nodes = list(tree(made_up_profile()))
    assert [(node.name, node.depth) for node in nodes] == [
        ("step", 0), ("layers", 1), ("EMA", 2), ("(other)", 2), ("head", 1), ("(other)", 1),
    ]  # fmt: skip
    assert nodes[0].total.seconds == pytest.approx(0.033)
    assert nodes[1].total.flops == 30_000_000
    assert nodes[1].peak_bytes == 1 << 22


def test_the_text_shows_roofline_memory_and_overhead():
    text = render(Profiles.of([made_up_profile()]), "terminal")
    ema = next(line for line in text.splitlines() if "EMA" in line)
    assert "50%" in ema, "10 MFLOP at 2 GFLOP/s are 5 ms of 10"
    assert "the peak, 8.00 MiB, in layers, forward" in text
    assert "(+1.0%)" in text
    assert "(+10.0%)" in text


def test_profiles_of_two_models_stand_in_one_table():
    slow = made_up_profile()
    fast = msgspec.structs.replace(slow, case=case("seqboat-fused"), plain_seconds=0.05)
    table = Profiles.of([slow, fast])
    text = render(table, "terminal", Choice(columns=["forward", "peak memory"], digits=2))
    assert "SeqBoat (fused): a step is 2.00 times as fast as that of SeqBoat" in text
    assert [line.split()[-4:-2] for line in text.splitlines() if line.startswith("step ")] == 2 * [
        ["23", "ms"]
    ]
    assert "Roofline  " not in text
    (first, *_) = json.loads(render(Profiles.of([slow], ["EMA"]), "json"))["tree"]
    assert (first["stage"], first["forward_seconds"]) == ("EMA", 0.01)


def test_a_profile_is_read_back_and_other_files_are_refused(tmp_path):
    path = tmp_path / "profile.json"
    path.write_bytes(msgspec.json.encode(made_up_profile()))
    assert read_profile(path) == made_up_profile()
    path.write_text('{"type": "header"}')
    with pytest.raises(UsageError, match="is not a profile"):
        read_profile(path)


def test_the_roofline_chart_has_the_stages_and_the_roof(tmp_path):
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')
    from bench.views.charts import roofline as roofline_chart
    from bench.views.charts import style as chart_style

    chart_style.save(roofline_chart.roofline([made_up_profile()]), tmp_path / "roofline.svg")
    picture = (tmp_path / "roofline.svg").read_text(encoding="utf-8")
    assert ">EMA<" in picture
    kept = tmp_path / "profile.json"
    kept.write_bytes(msgspec.json.encode(made_up_profile()))
    plotted = CliRunner().invoke(app, ["plot", str(kept), "-o", str(tmp_path / "plain.svg")])
    assert plotted.exit_code == 0, plotted.exception
    assert ">EMA<" in (tmp_path / "plain.svg").read_text(encoding="utf-8")
    elsewhere = msgspec.structs.replace(made_up_profile(), environment=ENVIRONMENT)
    with pytest.raises(UsageError, match="different machines"):
        roofline_chart.roofline([made_up_profile(), elsewhere])
    made = made_up_profile()
    narrow = msgspec.structs.replace(made, case=msgspec.structs.replace(made.case, precision="bf16"))
    with pytest.raises(UsageError, match="different precisions"):
        roofline_chart.roofline([made, narrow])


def test_profiles_of_one_model_are_told_apart_in_a_roofline():
    from bench.views.charts import roofline as roofline_chart

    made = made_up_profile()
    longer = msgspec.structs.replace(made, case=msgspec.structs.replace(made.case, length=4096))
    later = msgspec.structs.replace(made, created="2027-01-01T00:00:00+00:00")
    for one, other, words in ((made, longer, "4096x"), (made, later, "2027-01-01")):
        names = {point["model"] for point in roofline_chart.points_of([one, other])}
        assert len(names) == 2
        assert any(words in name for name in names)


@pytest.mark.parametrize(
    ("setting", "words"), [("modes: checkpoint", "its modes|modes are"), ("threads: [1, 2]", "--threads")]
)
def test_a_suite_that_a_profile_cannot_follow_is_refused(tmp_path, setting, words):
    suite = tmp_path / "mine.yaml"
    suite.write_text(f"extends: ci\n{setting}\n")
    refused = CliRunner().invoke(app, ["profile", "--suite", str(suite), "--impl", "seqboat"])
    assert isinstance(refused.exception, UsageError), refused.output
    assert re.search(words, str(refused.exception))


def test_what_a_model_prints_is_not_in_the_output_and_one_that_fails_costs_its_own_profile_only(tmp_path):
    (tmp_path / "talks.py").write_text(
        "import os\n"
        "from implementations.models.transformer import build as plain\n\n\n"
        "def build(task, hyperparameters):\n"
        "    print('by Python')\n"
        "    os.write(1, b'by a library')\n"
        "    return plain(task, {'layers': 1, 'dim': 8, 'heads': 1, 'ffn': 8})\n"
    )
    (tmp_path / "exits.py").write_text("def build(task, hyperparameters):\n    raise SystemExit(0)\n")
    (tmp_path / "number.py").write_text("build = 5\n")
    models = "exits:build,number:build,talks:build"
    words = ["profile", "--suite", "ci", "--length", "64", "--impl", models, "--steps", "1", "--json"]
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "bench: exits:build: failed: SystemExit: 0\n" in done.stderr
    assert "bench: number:build: failed: TypeError: 'int' object is not callable\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)
    assert "by Python" in done.stderr
    assert "by a library" in done.stderr
