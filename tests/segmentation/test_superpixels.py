"""Superpixels of files, and made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.sources import Reading
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.segmentation.superpixels import SuperpixelsOfFolder, made_superpixels, make_superpixels


class Depth:
    name = "drawn"

    def __init__(self, depth: np.ndarray) -> None:
        self.depth = depth

    def read(self) -> Reading:
        return Reading(self.depth)


def halves(values: tuple[float, float]) -> np.ndarray:
    return np.repeat(np.array([values], float).repeat(60, 0), 40, 1)


def test_files_of_16_bits_and_what_is_made_instead(tmp_path):
    labels = np.arange(1, 61 * 80 + 1, dtype=np.uint16).reshape(61, 80) + 300
    cv2.imwrite(str(tmp_path / "img_5001.png"), labels)
    there = FrameRecord("img_5001", size=(61, 80))
    superpixels = SuperpixelsOfFolder(tmp_path)(there)
    assert (superpixels.labels == labels).all() and superpixels.origin.endswith("img_5001.png")
    absent = FrameRecord("img_5002", size=(60, 80), depth=Depth(halves((1.0, 3.0))))
    with pytest.raises(MissingFileError, match=r"superpixels of image img_5002.*img_5002\.png|img_5002"):
        SuperpixelsOfFolder(tmp_path)(absent)
    source = SuperpixelsOfFolder(tmp_path, made_superpixels("depth", 20))
    assert source(absent).origin == "superpixels made by SLIC from depth" and source.made == ["img_5002"]
    with pytest.raises(DataError, match=r"img_5001.png: has 80 x 61 pixels, its image 80 x 60"):
        SuperpixelsOfFolder(tmp_path)(FrameRecord("img_5001", size=(60, 80)))
    cv2.imwrite(str(tmp_path / "img_5003.png"), labels - 301)
    with pytest.raises(DataError, match=r"img_5003.png: ids start at 0, expected 1"):
        SuperpixelsOfFolder(tmp_path)(FrameRecord("img_5003"))


@pytest.mark.parametrize("kind", ["color", "depth", "color+depth"])
def test_what_is_made_keeps_to_edges(tmp_path, kind):
    color = np.repeat(halves((20, 220)).astype(np.uint8)[:, :, None], 3, 2)
    cv2.imwrite(str(tmp_path / "a.png"), color)
    depth = halves((1.0, 3.0))
    depth[3, 3] = 0
    record = FrameRecord("a", {"images": str(tmp_path / "a.png")}, depth=Depth(depth))
    made = made_superpixels(kind, 30)(record)
    assert made.origin.endswith(f"from {kind}") and made.labels.min() == 1 and 10 < made.count < 60
    assert not set(made.labels[:, :40].ravel()) & set(made.labels[:, 40:].ravel())
    assert (made.areas > 0).all()


def test_what_cannot_be_made_is_said():
    bare = FrameRecord("a")
    with pytest.raises(UsageError, match=r"superpixels of 'colour' \(did you mean 'color'\?\)"):
        made_superpixels("colour")
    with pytest.raises(DataError, match=r"image a: has no colour"):
        made_superpixels("color")(bare)
    with pytest.raises(DataError, match=r"image a: has no depth"):
        made_superpixels("depth")(bare)
    with pytest.raises(DataError, match="of one size"):
        make_superpixels(np.zeros((4, 4, 3), np.uint8), np.ones((5, 4)))
    with pytest.raises(DataError, match="got neither"):
        make_superpixels()
