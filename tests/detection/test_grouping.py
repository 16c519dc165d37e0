"""Grouping against a slow, obvious one: a tree of regions, merged pair by pair."""

import dataclasses

import numpy as np
import pytest

from caffe_compat.detection.grouping import Regions, Weights, group, measure, pixel_codes

SIZES = Weights(color=0, texture=0, fill=0)


def blocks(rows, columns, side=6):
    """A picture of blocks of one colour each, and their numbers."""
    labels = np.kron(np.arange(rows * columns).reshape(rows, columns), np.ones((side, side), int))
    values = np.random.default_rng(rows).random((3, rows * columns), np.float32)
    return labels, values[:, labels]


def test_what_is_measured():
    """Sizes, boxes, neighbours and histograms, pixel by pixel."""
    rng = np.random.default_rng(0)
    labels = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 2, 1]])
    codes = pixel_codes(rng.random((2, 3, 4), np.float32))
    found = measure(labels, codes)
    assert found.sizes.tolist() == [3, 4, 3, 2] and found.area == 12
    assert found.boxes.tolist() == [[0, 0, 1, 1], [2, 0, 3, 2], [1, 1, 2, 2], [0, 2, 1, 2]]
    assert found.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]
    for histograms, planes, bins in ((found.color, codes.color, 25), (found.texture, codes.texture, 10)):
        assert histograms.sum(1) == pytest.approx(1)
        for region in range(4):
            wanted = [np.bincount(plane[labels == region], minlength=bins) for plane in planes]
            assert histograms[region] * len(planes) * (labels == region).sum() == pytest.approx(np.concatenate(wanted))


def test_texture_is_the_slope():
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))
    codes = pixel_codes(ramp[None]).texture[:, 5:-5, 5:-5]
    assert (codes[0] == int(1 / 19 / 0.25 * 10)).all()  # to the right
    assert not codes[[1, 2, 3, 5, 7]].any() and (codes[[4, 6]] == int(0.5**0.5 / 19 / 0.25 * 10)).all()


def slow(regions, weights):
    """Selective search as the paper has it: of all neighbours the two most alike, again and again."""
    sizes, boxes = [float(size) for size in regions.sizes], [box.astype(int) for box in regions.boxes]
    histograms = [[np.array(row, float) for row in part] for part in (regions.color, regions.texture)]
    near = {frozenset(pair) for pair in regions.pairs.tolist()}

    def around(a, b):
        return np.concatenate([np.minimum(boxes[a][:2], boxes[b][:2]), np.maximum(boxes[a][2:], boxes[b][2:])])

    def alike(pair):
        a, b = sorted(pair)
        box = around(a, b)
        empty = (box[2] - box[0] + 1) * (box[3] - box[1] + 1) - sizes[a] - sizes[b]
        terms = [np.minimum(part[a], part[b]).sum() for part in histograms]
        terms += [1 - (sizes[a] + sizes[b]) / regions.area, 1 - empty / regions.area]
        return np.dot(terms, [weights.color, weights.texture, weights.size, weights.fill])

    found = [tuple(box.tolist()) for box in boxes]
    while near:
        pair = max(sorted(near, key=sorted), key=alike)
        a, b = sorted(pair)
        boxes.append(around(a, b))
        found.append(tuple(boxes[-1].tolist()))
        share = sizes[a] / (sizes[a] + sizes[b])
        for part in histograms:
            part.append(share * part[a] + (1 - share) * part[b])
        sizes.append(sizes[a] + sizes[b])
        new = len(sizes) - 1
        near = {frozenset(new if n in pair else n for n in other) for other in near if other != pair}
    return found


def random_regions(seed, count=30):
    """Regions of a picture that are nearest to random points, each of a colour of its own with some noise."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 2)) * 60
    rows, columns = np.mgrid[:60, :60]
    labels = ((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    picture = np.clip(rng.random((3, count))[:, labels] + rng.normal(0, 0.1, (3, 60, 60)), 0, 1).astype(np.float32)
    return measure(labels, pixel_codes(picture))


@pytest.mark.parametrize("seed", range(5))
def test_as_pair_by_pair(seed):
    """With likeness of size alone, where merging brings nobody nearer, the tree is that of the paper's order."""
    regions = random_regions(seed)
    sizes = regions.sizes + np.random.default_rng(seed).random(len(regions.sizes), np.float32)  # no ties
    regions = dataclasses.replace(regions, sizes=sizes)
    found, _ = group(regions, SIZES)
    assert sorted(map(tuple, found.tolist())) == sorted(slow(regions, SIZES))


@pytest.mark.parametrize("weights", [Weights(), Weights(color=0), Weights(fill=0)])
@pytest.mark.parametrize("seed", range(5))
def test_nearly_as_pair_by_pair(weights, seed):
    regions = random_regions(seed)
    found, levels = group(regions, weights)
    mine, theirs = {tuple(box) for box in found.tolist()}, set(slow(regions, weights))
    assert len(found) == 2 * len(regions.sizes) - 1 and len(mine & theirs) >= 0.8 * len(theirs)
    assert levels[: len(regions.sizes)].max() == 0 and levels[-1] == 1 and found[-1].tolist() == [0, 0, 59, 59]


def test_the_regions_given_stay_as_they_are():
    labels, picture = blocks(3, 4)
    regions = measure(labels, pixel_codes(picture))
    before = [getattr(regions, name).copy() for name in ("sizes", "boxes", "color", "texture", "pairs")]
    first = group(regions, Weights())
    again = group(regions, Weights())
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
    for name, value in zip(("sizes", "boxes", "color", "texture", "pairs"), before, strict=True):
        assert np.array_equal(getattr(regions, name), value)


def test_alike_come_first():
    """Two grey blocks beside two red ones: each colour is one region before all are."""
    labels, _ = blocks(1, 4)
    values = np.array([[0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 0.1, 0.1]], np.float32)
    found, levels = group(measure(labels, pixel_codes(values[:, labels])), Weights(size=0, texture=0, fill=0))
    assert found[4:].tolist() == [[0, 0, 11, 5], [12, 0, 23, 5], [0, 0, 23, 5]] and levels.tolist() == [0] * 4 + [
        0.5,
        0.5,
        1,
    ]


def test_one_region():
    regions = measure(np.zeros((4, 5), int), pixel_codes(np.zeros((1, 4, 5), np.float32)))
    assert isinstance(regions, Regions) and regions.pairs.shape == (0, 2)
    boxes, levels = group(regions, Weights())
    assert boxes.tolist() == [[0, 0, 4, 3]] and levels.tolist() == [0]
