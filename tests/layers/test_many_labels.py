"""MultiLabelImageData of PG-CNN."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from one_layer import one_layer

from caffe_compat.errors import CaffeCompatError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), random.integers(0, 255, (6, 5, 3)).astype(np.uint8))
    (tmp_path / "list.txt").write_text("0.png 3 -40 7\n1.png 1  2\t3\n\n2.png 5 6 99\n")
    return tmp_path


def _body(folder: Path, more: str = "label_num: 3", transform: str = "") -> str:
    parts = f'source: "{folder}/list.txt" root_folder: "{folder}/" batch_size: 2 {more}'
    return f"multi_label_image_data_param {{ {parts} }} transform_param {{ {transform} }}"


def test_batches(folder: Path) -> None:
    layer = one_layer("MultiLabelImageData", _body(folder, transform="scale: 0.5 mean_value: 4"), tops=("d", "l"))
    data, labels = layer()
    assert labels.tolist() == [[3, -40, 7], [1, 2, 3]] and data.shape == (2, 3, 6, 5)
    want = [cv2.imread(str(folder / f"{number}.png")).transpose(2, 0, 1) for number in range(2)]
    np.testing.assert_allclose(data.numpy(), (np.stack(want).astype(np.float32) - 4) / 2)
    assert layer()[1].tolist() == [[5, 6, 99], [3, -40, 7]]


def test_sizes_and_order(folder: Path) -> None:
    more = "label_num: 3 new_height: 9 new_width: 8 is_color: false shuffle: true"
    layer = one_layer("MultiLabelImageData", _body(folder, more, "crop_size: 4"), tops=("d", "l"), phase="TRAIN")
    seen = [row[0] for _ in range(3) for row in layer()[1].tolist()]
    assert sorted(seen[:3]) == sorted(seen[3:]) == [1, 3, 5] and layer()[0].shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("more", "text", "message"),
    [
        ("label_num: 2", None, "line 1: '0.png 3 -40 7', expected a path and 2 whole numbers"),
        ("label_num: 3", "0.png 1 2 x\n", "line 1: '0.png 1 2 x', expected a path and 3 whole numbers"),
        ("label_num: 3", "\n", "the list is empty"),
        ("label_num: 0", None, "label_num is 0"),
        ("label_num: 3 new_height: 4", None, "expected both or none"),
        ("label_num: 3", "none.png 1 2 3\n", "none.png"),
    ],
)
def test_refusals(folder: Path, more: str, text: str | None, message: str) -> None:
    if text is not None:
        (folder / "list.txt").write_text(text)
    with pytest.raises(CaffeCompatError, match=message):
        one_layer("MultiLabelImageData", _body(folder, more), tops=("d", "l"))
