"""Masks as COCO's run lengths: those that COCO's own code writes, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask

from caffe_compat.errors import DataError
from caffe_compat.media.run_lengths import mask_of_runs, run_lengths


def masks():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (40, 3), (64, 80)):
        yield np.zeros((height, width), bool)
        yield np.ones((height, width), bool)
        for part in (0.1, 0.5, 0.99):
            yield rng.random((height, width)) < part
    large = np.zeros((900, 1200), bool)
    large[100:850, 300:1100] = True
    yield large
    large = large.copy()
    large[0, 0] = large[-1, -1] = True  # long runs, and differences below 0
    yield large


@pytest.mark.parametrize("mask", list(masks()), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_they_are_cocos(mask):
    runs = json.loads(json.dumps(run_lengths(mask)))
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = theirs["counts"]
    assert runs == {"size": list(mask.shape), "counts": counts.decode() if isinstance(counts, bytes) else counts}
    assert (mask_of_runs(runs) == mask).all() and mask_of_runs(runs).dtype == bool
    assert (coco_mask.decode(theirs).astype(bool) == mask_of_runs({**runs, "counts": runs["counts"].encode()})).all()


def test_lengths_as_a_list():
    assert mask_of_runs({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"size": [2, 3], "counts": [1, 2]}, "do not fill 3 x 2 pixels"),
        ({"size": [2, 3], "counts": [-1, 7]}, "do not fill"),
        ({"size": [2], "counts": [2]}, r"size is \[2\]"),
        ({"counts": [2]}, "size is None"),
        ({"size": [2, 3], "counts": "6 "}, "counts hold ' '"),
        ({"size": [2, 3], "counts": "`"}, "end within a number"),
        ({"size": [2, 3], "counts": 7}, "counts are int"),
    ],
)
def test_damaged_ones(runs, message):
    with pytest.raises(DataError, match=message):
        mask_of_runs(runs)


def test_what_is_no_mask():
    with pytest.raises(DataError, match=r"uint8 of shape \(2, 3\), expected bool"):
        run_lengths(np.zeros((2, 3), np.uint8))
