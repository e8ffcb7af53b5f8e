"""Modes of a step: each computes what the plain step does, or is found out."""

import contextlib
import functools

import msgspec
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from bench.correctness.modes import compare_with_eager
from bench.probes.tensor_bytes import TensorBytes
from bench.steps import graphs, layers, modes
from bench.steps.modes import NotInThisMode
from bench.steps.step import Step
from bench.suites import reading as suites
from bench.workers.messages import Compile, Compiled, Failure, Prepare, Prepared, Warm
from bench.workers.worker import Worker
from implementations.ops.sizes import most_active, within_capacity

CASE = msgspec.structs.replace(
    suites.load("ci").cases("cpu")[0], activation=None, length=96, batch=2, hyperparameters="small"
)
READS = ("_local_scalar_dense", "nonzero")
"""Operators that wait for the device."""


def case(name, mode, **changes):
    name = f"{__name__}:{name}" if name in globals() else name
    sparse = {"activation": 0.3} if name == "seqboat" else {}
    return msgspec.structs.replace(CASE, implementation=name, mode=mode, **(sparse | changes))


def in_mode(name, mode, **changes):
    step = Step(case(name, mode, **changes), "cpu")
    step.calibrate()
    modes.enter(step)
    return step


class Stack(nn.Module):
    """Embeddings, two layers and a mean; the layers are a plug-in's own."""

    def __init__(self, task, *stack):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, 8)
        self.layers = nn.ModuleList(stack)
        self.out = nn.Linear(8, task.classes)

    def forward(self, inputs, lengths=None):
        x = self.embedding(inputs)
        for layer in self.layers:
            x = layer(x)
        return self.out(x.mean(dim=1))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x).tanh()


class OtherTheSecondTime(Layer):
    """Computes something else when it is computed again."""

    def forward(self, x):
        again = torch._C._current_autograd_node() is not None
        return super().forward(1.5 * x if again else x)


class Reading(Layer):
    """Waits for a value."""

    def forward(self, x):
        return super().forward(x) * (1.0 if int(x.numel() + (x.sum() * 0).item()) else 2.0)


class OtherCompiled(Layer):
    def forward(self, x):
        return super().forward(x) * (1.01 if torch.compiler.is_compiling() else 1.0)


class Counting(Layer):
    """Another number in each step, which torch compiles into the code."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1.0 if self.calls % 2 else 1)


def plain(task, hyperparameters):
    return Stack(task, Layer(), Layer())


def forgetful(task, hyperparameters):
    return Stack(task, Layer(), OtherTheSecondTime())


def two_faced(task, hyperparameters):
    return Stack(task, OtherCompiled())


def reading(task, hyperparameters):
    return Stack(task, Reading())


def counting(task, hyperparameters):
    return Stack(task, Counting())


def without_layers(task, hyperparameters):
    model = Stack(task)
    del model.layers
    model.layers = ()
    return model


class Recording(TorchDispatchMode):
    """A CUDA graph's double: keeps every operator with its tensors, and does them again on demand."""

    def __init__(self):
        super().__init__()
        self.work = []

    @contextlib.contextmanager
    def warming_up(self):
        yield

    @contextlib.contextmanager
    def capturing(self):
        with self:
            yield

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket.__name__ in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.work.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.work:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(graphs, "graph_for", lambda device: Recording())


@pytest.fixture
def quick_compiler(monkeypatch):
    monkeypatch.setattr(modes, "COMPILER", "aot_eager")
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["transformer", "seqboat", "s4d-legs"])
def test_checkpointed_layers_have_the_same_gradients_dropout_included(name):
    step = in_mode(name, "checkpoint")
    found = compare_with_eager(step)
    assert found.agrees, found.words
    assert found.gradient_error < 1e-5
    assert found.reference == f"{name} (eager)"


def test_dropout_that_is_drawn_anew_is_found(monkeypatch):
    anew = functools.partial(checkpoint, preserve_rng_state=False)
    monkeypatch.setattr(layers, "checkpoint", anew)
    assert not compare_with_eager(in_mode("transformer", "checkpoint")).agrees


def test_checkpointed_layers_keep_less():
    peaks = {}
    for mode in ("eager", "checkpoint"):
        step = in_mode("transformer", mode, length=256)
        step()
        with TensorBytes(step.live()) as watched:
            step()
        peaks[mode] = watched.peak
    assert peaks["checkpoint"] < 0.6 * peaks["eager"]


def test_a_layer_that_computes_otherwise_again_is_wrong():
    found = compare_with_eager(in_mode("forgetful", "checkpoint"))
    assert not found.agrees
    assert found.output_error < 1e-5 < found.gradient_error


def test_a_compiled_model_agrees_and_tells_its_breaks(quick_compiler):
    step = in_mode("reading", "compile")
    first = modes.compile_now(step, cold=True)
    assert first.first_step_seconds > 0
    assert first.graph_breaks > 0
    assert compare_with_eager(step).agrees
    assert step.model._compiled_call_impl is not None


def test_what_torch_gives_up_compiling_is_counted(quick_compiler):
    assert modes.compile_now(in_mode("plain", "compile"), cold=True).given_up == 0
    torch._dynamo.reset()
    assert modes.compile_now(in_mode("counting", "compile"), cold=True).given_up > 0


def test_seqboat_is_compiled_for_any_number_of_active_steps(quick_compiler):
    """Dropout activates other steps in every layer and every step; reading how many is all that breaks."""
    step = in_mode("seqboat(dropout=0.1, layers=2)", "compile", activation=None)
    assert modes.compile_now(step, cold=True).given_up == 0
    counters = torch._dynamo.utils.counters
    assert counters["graph_break"]
    assert all("Tensor.item" in reason for reason in counters["graph_break"])
    before = counters["frames"]["total"]
    for _ in range(8):
        step()
    assert counters["frames"]["total"] == before


def test_a_model_that_computes_otherwise_when_compiled_is_wrong(quick_compiler):
    step = in_mode("two_faced", "compile")
    assert modes.compile_now(step, cold=True).graph_breaks == 0
    assert not compare_with_eager(step).agrees
    with TensorBytes():  # Whoever watches makes torch compute op by op, from then on.
        step()
    assert not compare_with_eager(step).agrees
    torch._dynamo.reset()
    assert compare_with_eager(in_mode("plain", "compile")).agrees


@pytest.mark.parametrize("name", ["transformer", "seqboat", "plain"])
def test_a_replayed_graph_computes_what_the_step_does(recorded, name):
    """At weights that were not those of the capture: nothing of them is kept but their place."""
    step = in_mode(name, "graph")
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.mul_(0.9)
    step()
    assert step.not_finite() is None
    found = compare_with_eager(step)
    assert found.agrees, found.words


def test_a_graph_that_does_nothing_is_found(recorded, monkeypatch):
    monkeypatch.setattr(Recording, "replay", lambda self: None)
    assert not compare_with_eager(in_mode("transformer", "graph")).agrees


def test_a_step_that_waits_for_the_device_is_not_captured(recorded, monkeypatch):
    monkeypatch.setattr(graphs.sizes, "within_capacity", lambda share: contextlib.nullcontext())
    with pytest.raises(
        NotInThisMode, match="mode graph: the step can't be captured: operation not permitted"
    ):
        in_mode("seqboat", "graph")


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB."),
    ],
)
def test_a_fault_of_the_device_in_a_capture_is_not_called_unsupported(recorded, monkeypatch, error):
    def fails(self, func, types, args=(), kwargs=None):
        raise error

    monkeypatch.setattr(Recording, "__torch_dispatch__", fails)
    with pytest.raises(type(error)):
        in_mode("plain", "graph")


@pytest.mark.parametrize("words", ["operation not permitted when stream is capturing", "capture invalidated"])
def test_a_step_that_cuda_does_not_capture_says_so(recorded, monkeypatch, words):
    def fails(self, func, types, args=(), kwargs=None):
        raise torch.AcceleratorError(f"CUDA error: {words}")

    monkeypatch.setattr(Recording, "__torch_dispatch__", fails)
    with pytest.raises(NotInThisMode, match=words):
        in_mode("plain", "graph")


def test_a_step_that_fails_before_the_capture_is_an_error_of_its_own(recorded, monkeypatch):
    @contextlib.contextmanager
    def warming_up(self):
        raise RuntimeError("no such kernel")
        yield

    monkeypatch.setattr(Recording, "warming_up", warming_up)
    with pytest.raises(RuntimeError, match="no such kernel"):
        in_mode("plain", "graph")


def test_nothing_is_compiled_before_the_step_whose_time_is_that_of_compiling(quick_compiler):
    """As `bench run` asks a worker on a GPU, whose first steps are a question of their own."""
    counters = torch._dynamo.utils.counters
    worker = Worker()
    assert isinstance(worker.answer(Prepare(case("plain", "compile"), "cpu", 1, None)), Prepared)
    worker.on_gpu = True
    before = counters["frames"]["total"]
    assert isinstance(worker.answer(Compile(2)), Compiled)
    assert counters["frames"]["total"] == before
    warmed = worker.answer(Warm(1, 2, 1.0, cold=True))
    assert warmed.compiled.first_step_seconds > max(warmed.step_seconds)
    assert counters["frames"]["total"] > before


def test_room_for_active_steps():
    active = torch.zeros(2, 10, dtype=torch.bool)
    active[0, :4] = True
    assert most_active(active) == 4
    with within_capacity(0.55):
        assert most_active(active) == 6
    with within_capacity(0.3), pytest.raises(RuntimeError, match="more than 3 active steps: the capacity"):
        most_active(active)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (case("transformer", "graph"), "mode graph: CUDA graphs need a CUDA device, and this is cpu"),
        (case("transformer", "graph", phase="forward"), "mode graph: it is for the phase train"),
        (case("without_layers", "checkpoint"), "mode checkpoint: the model has no list of layers"),
    ],
)
def test_what_has_no_such_mode_says_why(subject, words):
    answer = Worker().answer(Prepare(subject, "cpu", 1, None))
    assert isinstance(answer, Failure)
    assert (answer.kind, words in answer.reason) == ("unsupported", True)


def test_float16_has_a_scale_at_which_no_gradient_overflows():
    worker = Worker()
    assert isinstance(
        worker.answer(Prepare(case("plain", "eager", precision="fp16"), "cpu", 1, None)), Prepared
    )
    step = worker.step
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    step()
    assert step.not_finite() is not None
    step.calibrate()
    assert step.not_finite() is None
    assert 1 < step.scaler.get_scale() < 2.0**40


def test_bf16_pure_holds_all_in_bfloat16():
    step = Step(case("transformer", "eager", precision="bf16-pure"), "cpu")
    step()
    held = {tensor.dtype for tensor in step.model.parameters()}
    held |= {
        value.dtype for state in step.optimizer.state.values() for value in state.values() if value.dim()
    }
    assert held == {torch.bfloat16}
    assert step.not_finite() is None


def test_the_scale_of_float16_stays_as_it_has_settled():
    """After two thousand good steps torch's would double, and the next step overflow."""
    step = Step(case("plain", "eager", precision="fp16"), "cpu")
    step()
    step.calibrate()
    before = step.scaler.get_scale()
    step.scaler._growth_tracker.fill_(1999)
    for _ in range(2):
        step()
    assert step.scaler.get_scale() == before
    assert step.not_finite() is None
