"""The width at which a model has a wanted number of parameters."""

import pytest

from implementations import registry
from implementations.equal_sizes import TOLERANCE, closest, parameters_wanted
from implementations.errors import RegistryError


def quadratic(width):
    return 50 * width**2 + 300 * width + 7


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("params:10M", 10_000_000),
        ("params:1.5B", 1_500_000_000),
        ("params:350k", 350_000),
        ("params:77", 77),
        ("matched", None),
    ],
)
def test_numbers_of_parameters_are_read(mode, wanted):
    assert parameters_wanted(mode) == wanted


@pytest.mark.parametrize("mode", ["params:", "params:0", "params:many", "params:-1M", "params:10MB"])
def test_what_is_no_number_is_one_line(mode):
    with pytest.raises(RegistryError, match="write the number of parameters as params:10M"):
        registry.find("seqboat").hyperparameters("text", mode)


@pytest.mark.parametrize("target", [100_000, 1_000_000, 10_000_000, 10**9])
def test_a_width_within_the_tolerance_is_found_with_few_counts(target):
    asked = []
    found = closest(lambda width: asked.append(width) or quadratic(width), target)
    assert found.parameters == quadratic(found.width)
    assert found.off(target) <= TOLERANCE
    assert len(asked) < 25


def test_widths_are_as_coarse_as_the_tolerance_allows():
    assert closest(lambda width: width, 1_000).width % 8 == 0


def test_only_widths_that_can_be_had_are_taken():
    """Heads of 24 divide few powers of two."""
    found = closest(lambda width: quadratic(width) if width % 24 == 0 else None, 10_000_000)
    assert found.width % 24 == 0
    assert found.off(10_000_000) < 0.06  # the step from one to the next is a tenth


def test_the_nearest_is_told_where_none_is_near():
    found = closest(lambda width: quadratic(width) if width % 512 == 0 else None, 10_000_000)
    assert (found.width, found.off(10_000_000) > TOLERANCE) == (512, True)
    assert closest(lambda width: None, 100) is None


def test_sizes_follow_the_width():
    wide = registry.find("seqboat").hyperparameters("text", "params:10M", 512)
    assert {key: wide[key] for key in ("layers", "dim", "hidden", "attention_dim")} == {
        "layers": 4,
        "dim": 512,
        "hidden": 1024,
        "attention_dim": 256,
    }
    deep = registry.find("seqboat(layers=6)").hyperparameters("text", "params:10M", 512)
    assert (deep["layers"], deep["dim"]) == (6, 512)
    assert registry.find("m:build").hyperparameters("text", "params:10M", 512) == {"dim": 512}
