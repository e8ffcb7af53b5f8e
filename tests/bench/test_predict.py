"""Peak memory without the memory: against measured bytes, and the reason where there is no prediction."""

import msgspec
import pytest

from bench import suite as suites
from bench.predict import predict
from bench.probes.tensor_bytes import TensorBytes
from bench.step import Step

CASE = msgspec.structs.replace(suites.load("ci").cases("cpu")[0], activation=None)


def case(implementation: str, length: int = 256):
    return msgspec.structs.replace(CASE, implementation=implementation, length=length)


def measured(subject) -> int:
    """Peak bytes of a second step, without what else this process holds."""
    with TensorBytes() as before:
        others = before.current
    step = Step(subject, "cpu")
    step()
    with TensorBytes() as watched:
        step()
    return watched.peak - others


@pytest.mark.parametrize("implementation", ["transformer", "mega-chunk", "linformer", "s4d-legs"])
def test_the_prediction_is_within_two_percent(implementation):
    found = predict(case(implementation), "cpu")
    assert found.reason is None
    assert found.tensor_bytes == pytest.approx(measured(case(implementation)), rel=0.02)


def test_what_depends_on_values_has_a_reason():
    found = predict(case("seqboat"), "cpu")
    assert found.tensor_bytes is None
    assert found.reason.startswith("not predictable: sizes depend on values")


def test_a_length_that_would_not_fit():
    """Attention is quadratic: sixty-four times as long takes far more than 1,000 times the memory."""
    small, large = (predict(case("transformer", length), "cpu").tensor_bytes for length in (512, 32_768))
    assert large > 1000 * small
    assert large > 100 << 30
