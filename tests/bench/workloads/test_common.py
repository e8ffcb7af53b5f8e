"""What every workload promises: batches that fit its task, the same for the same seed and index."""

import numpy as np
import pytest

from bench import workloads
from bench.errors import UsageError
from bench.workloads import image
from bench.workloads.base import used

TINY = {"image": 256, "pathfinder": 256, "path-x": 64 * 64}


@pytest.fixture(params=workloads.WORKLOADS)
def workload(request):
    return workloads.load(request.param)


@pytest.fixture
def length(workload):
    return TINY.get(workload.name, 256)


@pytest.mark.parametrize("fill", ["full", "real"])
def test_batches_fit_the_task(workload, length, fill):
    task = workload.task(length)
    batch = workload.batch(length, 3, fill, seed=0)
    towers = (2,) if task.head == "two-tower" else ()
    assert batch.inputs.shape == (3, *towers, length)
    assert batch.inputs.dtype == (np.int64 if task.input == "tokens" else np.float32)
    assert batch.targets.dtype == np.int64
    assert batch.targets.shape == ((3, length) if task.head == "language-model" else (3,))
    assert 0 <= batch.targets.min() <= batch.targets.max() < task.classes
    if task.input == "tokens":
        assert 0 <= batch.inputs.min() <= batch.inputs.max() < task.vocabulary
    else:
        assert np.isfinite(batch.inputs).all()
        assert batch.inputs.std() > 0
    if fill == "full":
        assert batch.lengths is None
        assert task.input == "reals" or batch.inputs.min() >= 1


@pytest.mark.parametrize("name", ["image", "pathfinder", "path-x"])
def test_grey_values_are_levels_on_the_scale_of_the_task(name):
    """A model that reads pixels as tokens finds them by that scale."""
    workload = workloads.load(name)
    length = workload.published_length
    grey = workload.task(length).grey
    levels = (workload.batch(length, 1, "full", seed=0).inputs * grey.deviation + grey.mean) * 255
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)
    assert levels.min() > -1e-3
    assert levels.max() < 255.001


@pytest.mark.parametrize("fill", ["full", "real"])
def test_batches_are_deterministic(workload, length, fill):
    first, again = (workload.batch(length, 2, fill, seed=3, index=4) for _ in range(2))
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    for seed, index in ((3, 5), (4, 4)):
        assert not np.array_equal(
            first.inputs, workload.batch(length, 2, fill, seed=seed, index=index).inputs
        )


def test_true_lengths_are_where_padding_begins(workload, length):
    batch = workload.batch(length, 6, "real", seed=0)
    if batch.lengths is None:
        return
    assert batch.lengths.shape == batch.inputs.shape[:-1]
    real = np.arange(length) < batch.lengths[..., None]
    assert np.array_equal(batch.inputs > 0, real)
    assert batch.real_tokens == batch.lengths.sum() < batch.tokens


@pytest.mark.parametrize("name", ["listops", "retrieval"])
def test_lengths_vary_where_the_published_ones_do(name):
    workload = workloads.load(name)
    batch = workload.batch(workload.published_length, 8, "real", seed=0)
    assert len(np.unique(batch.lengths)) > 4


def test_every_class_turns_up(workload, length):
    task = workload.task(length)
    if task.head == "language-model":
        return
    targets = np.concatenate([workload.batch(length, 16, "real", 0, index).targets for index in range(4)])
    assert set(targets) == set(range(task.classes))


@pytest.mark.parametrize("length", [0, 1 << 30])
def test_impossible_lengths_are_refused(workload, length):
    with pytest.raises(UsageError, match=f"{workload.name} gives"):
        workload.batch(length, 1, "full", seed=0)


def test_sources_end_with_one_that_is_always_there(workload):
    sources = workload.sources()
    assert sources[-1].location is not None
    assert all(source.obtain for source in sources[:-1])
    assert used(sources).location is not None
    assert workload.published_length <= workload.max_length


def test_a_sequence_shows_as_text(workload, length):
    assert len(workload.show(workload.batch(length, 2, "real", seed=0), row=1)) > 10


def test_a_part_without_any_sequence_is_one_clear_line():
    one = image.Pictures(np.zeros((1, 32, 32), dtype=np.uint8), np.zeros(1, dtype=np.int64), "one")
    assert len(one.part("train").labels) == 1
    with pytest.raises(UsageError, match="the data has 1 sequences, of which none falls into the validation"):
        one.part("validation")
