"""BoxData against loops written down from gklz1982/caffe-yolov2's and quhezheng/caffe_yolo_v2's sources."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data_files import boxed, image, write_lmdb
from one_layer import one_layer

from caffe_compat.batches.boxed import drawn_boxes
from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers import Layer

ROWS = [[(2, 0, 0.5, 0.4, 0.3, 0.2), (7, 1, 0.9, 0.1, 0.1, 0.15)], [(0, 0, 0.25, 0.75, 0.5, 0.5)]]
f32 = np.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxed")
    write_lmdb(path / "db", [boxed(number, rows) for number, rows in enumerate(ROWS)])
    write_lmdb(path / "corners", [boxed(0, [(0.25, 0.5, 0.5, 0.2, 3)])])
    write_lmdb(path / "many", [boxed(0, [(1, 0, 0.5, 0.5, 0.1, 0.1)] * 31)])
    write_lmdb(path / "outside", [boxed(0, [(1, 0, 1.5, 0.5, 0.1, 0.1)])])
    write_lmdb(path / "five", [boxed(0, [(1, 0, 1.5, 0.5, 0.1)])])
    return path


def _layer(folder: Path, name: str, more: str = "", transform: str = "", phase: str = "TEST", tops: int = 2) -> Layer:
    body = f'data_param {{ source: "{folder}/{name}" backend: LMDB batch_size: 2 {more} }} '
    body += f"transform_param {{ {transform} }}"
    return one_layer("BoxData", body, tops=["data", "label", "again"][:tops], phase=phase)


def _label(rows: list[tuple[float, ...]], most: int = 30) -> np.ndarray:
    found = np.zeros((most, 5), f32)
    for place, (kind, _, *box) in enumerate(rows):
        found[place] = [kind, *box]
    return found.ravel()


def test_whole_pictures_in_test(folder: Path) -> None:
    layer = _layer(folder, "db", "side: 13 side: 7", "mean_value: 2 scale: 0.5", tops=3)
    data, label, again = layer()
    assert data.shape == (2, 3, 30, 40)
    for item, rows in enumerate(ROWS):
        want = (image(item, 30, 40).transpose(2, 0, 1).astype(f32) - 2) * f32(0.5)
        assert np.array_equal(data[item].numpy(), want)
        np.testing.assert_array_equal(label[item].numpy(), _label(rows))
    assert np.array_equal(label.numpy(), again.numpy())


def test_corners_become_centres(folder: Path) -> None:
    _, label = _layer(folder, "corners", "num_label: 2")()
    assert label.shape == (2, 10)
    np.testing.assert_allclose(label[0].numpy(), [3, 0.5, 0.6, 0.5, 0.2, 0, 0, 0, 0, 0], rtol=1e-6)


def test_parts_of_pictures_in_training(folder: Path) -> None:
    layer = _layer(folder, "db", phase="TRAIN")
    seen = set()
    for _ in range(6):
        data, label = (top.numpy() for top in layer())
        for item, rows in enumerate(ROWS):
            found = []
            for percent in range(30):
                factor = f32(1 - percent / 100)
                wide, high = int(f32(40) * factor) - 1, int(f32(30) * factor) - 1
                for left, top in np.ndindex(40 - wide, 30 - high):
                    kept = []
                    for kind, hard, *box in rows:
                        x, y, w, h = (int(f32(v) * f32(n)) for v, n in zip(box, (40, 30, 40, 30), strict=True))
                        if left <= x < left + wide and top <= y < top + high:
                            moved = f32(x - left) / f32(wide), f32(y - top) / f32(high), f32(w) / f32(wide)
                            kept.append((kind, hard, *moved, f32(h) / f32(high)))
                    if not np.array_equal(label[item], _label(kept)):
                        continue
                    part = image(item, 30, 40)[top : top + high, left : left + wide]
                    want = cv2.resize(np.ascontiguousarray(part), (40, 30)).transpose(2, 0, 1)
                    if np.array_equal(data[item], want.astype(f32)):
                        found.append((percent, left, top))
            assert found
            seen.add(found[0])
    assert len(seen) > 6


def test_no_part_has_a_box() -> None:
    random = np.random.default_rng(0)
    assert drawn_boxes(np.array([[1, 1.5, 0.5, 0.1, 0.1]], f32), 30, 40, random) is None
    assert drawn_boxes(np.array([[1, 0.5, 0.5, 0.1, 0.1]], f32), 1, 40, random) is None


@pytest.mark.parametrize(
    ("name", "more", "phase", "message"),
    [
        ("db", "side: 7 side: 13", "TEST", "1 tops of boxes and 2 entries of data_param.side"),
        ("db", "num_label: 0", "TEST", "num_label is 0"),
        ("db", "shuffle: true", "TEST", "shuffle means nothing"),
        ("many", "", "TEST", "has 31 boxes .* expected 30 at most"),
        ("five", "", "TEST", "has 5 numbers of boxes, expected an encoded picture and 6"),
        ("outside", "", "TRAIN", "no box of .* is in a part of the picture"),
    ],
)
def test_refused(folder: Path, name: str, more: str, phase: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"'under_test' .BoxData.*{message}"):
        _layer(folder, name, more, phase=phase)()
