"""Pathfinder and Path-X: the label is what following the contours says."""

import numpy as np
import pytest
from scipy import ndimage

from bench import workloads
from bench.workloads import contours
from bench.workloads.path_x import GEOMETRY as PATH_X
from bench.workloads.pathfinder import GEOMETRY as PATHFINDER

SQUARE = np.ones((3, 3))


def discs_and_whether_connected(pixels) -> tuple[int, bool]:
    """Close the gaps between dashes, and see whether both discs lie on the same connected piece."""
    side = round(len(pixels) ** 0.5)
    drawn = pixels.reshape(side, side) > -0.5
    discs, count = ndimage.label(ndimage.binary_erosion(drawn, SQUARE))
    pieces, _ = ndimage.label(ndimage.binary_dilation(drawn, SQUARE), SQUARE)
    middles = np.round(ndimage.center_of_mass(discs > 0, discs, range(1, count + 1))).astype(int)
    return count, len({pieces[row, column] for row, column in middles}) == 1


def test_path_x_labels_are_the_truth():
    batch = workloads.load("path-x").batch(128 * 128, 40, "full", seed=7)
    found = [discs_and_whether_connected(pixels) for pixels in batch.inputs]
    assert {count for count, _ in found} == {2}
    right = sum(same == label for (_, same), label in zip(found, batch.targets, strict=True))
    # A disc now and then bridges the gap to a contour beside it.
    assert right >= 38
    assert 10 < batch.targets.sum() < 30


@pytest.mark.parametrize("geometry", [PATHFINDER, PATH_X])
def test_contours_keep_clear_of_each_other_and_of_the_border(geometry):
    generator = np.random.default_rng(0)
    for _ in range(5):
        drawn = contours._contours(geometry, generator)
        assert [len(contour.angles) for contour in drawn] == [14, 14] + [4] * geometry.distractors
        for number, contour in enumerate(drawn):
            steps = np.linalg.norm(np.diff(contour.middles, axis=0), axis=-1)
            assert steps.max() <= geometry.dash + geometry.gap + 1e-9
            assert np.abs(np.diff(contour.angles)).max() <= geometry.largest_turn + 1e-9
            ends = contour.ends(geometry.dash)
            assert ends.min() > geometry.disc - geometry.gap
            assert ends.max() < geometry.side - geometry.disc + geometry.gap
            for other in drawn[number + 1 :]:
                distances = np.linalg.norm(contour.middles[:, None] - other.middles, axis=-1)
                assert distances.min() > geometry.clearance


@pytest.mark.parametrize(("connected", "owners"), [(True, [{0}, {1}]), (False, [{0, 1}])])
def test_discs_lie_on_ends_of_the_contours_that_the_label_says(monkeypatch, connected, owners):
    drawn = []
    monkeypatch.setattr(contours, "_draw", lambda geometry, found, discs: drawn.append((found, discs)))
    generator = np.random.default_rng(1)
    for _ in range(12):
        contours.picture(PATHFINDER, connected, generator)
    seen = []
    for found, discs in drawn:
        ends = [contour.ends(PATHFINDER.dash) for contour in found]
        owner = {
            number
            for number, pair in enumerate(ends)
            if (np.linalg.norm(pair[:, None] - discs, axis=-1) < 1e-9).any()
        }
        assert len(np.unique(discs, axis=0)) == 2
        seen.append(owner)
    assert all(owner in owners for owner in seen)
    assert all(owner in seen for owner in owners)


def test_pictures_have_the_published_contrast():
    grey = workloads.load("path-x").batch(128 * 128, 1, "full", seed=0).inputs[0]
    levels = np.round((grey + 1) * 127.5)
    assert levels.min() == 0
    assert levels.max() == 255
    # Dashes are at 0.9 of white; only the two discs are brighter.
    assert 0 < (levels > 230).sum() < 2 * np.pi * 4.5**2
    assert (np.abs(levels - 229.5) <= 1).sum() > 20


def test_a_dash_is_drawn_where_it_is():
    canvas = np.zeros((20, 20))
    contours._stroke(canvas, 1, np.array([[10.0, 5.5]]), np.array([[4.0, 0.0]]), 0.5, 0.75)
    assert canvas[5, 6:14] == pytest.approx(0.75)
    assert canvas.sum() == pytest.approx(0.75 * (8 + 2 * 0.5), rel=0.1)
