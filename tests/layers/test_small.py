"""Sparsify, AvgProbs, and images that are turned, stretched and moved, against loops written from their source."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.batches.turning import Affine
from caffe_compat.errors import DataError, LayerError, ShapeError
from caffe_compat.net import BlobNet, load_net


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_sparsify(threshold: float) -> None:
    x = np.array([-2, -0.5, -0.2, 0, 0.5, np.nextafter(0.5, 1), 3])
    layer = one_layer("Sparsify", f"sparsify_param {{ thre: {threshold} coef: 0.25 }}", (7,), phase="TRAIN")
    leaf = torch.from_numpy(x).requires_grad_()
    top = layer(leaf)
    want = [0 if abs(v) <= threshold else v - threshold if v > threshold else v + threshold for v in x]
    np.testing.assert_allclose(top.detach().numpy(), want, rtol=1e-12)
    seed = np.arange(1, 8.0)
    top.backward(torch.from_numpy(seed))
    diff = [(d + 0.25 * float(np.sign(t))) * (1 if threshold == 0 else t != 0) for d, t in zip(seed, want, strict=True)]
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), diff)


def test_sparsify_reads_what_is_in_the_buffer_by_then(tmp_path: Path) -> None:
    """A layer behind it turns the signs around in place (the diff, squared, stays as it is): Caffe takes those."""
    (tmp_path / "net.prototxt").write_text(
        """force_backward: true
        layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 3 } } }
        layer { name: "s" type: "Sparsify" bottom: "x" top: "y" sparsify_param { coef: 0.5 } }
        layer { name: "p" type: "Power" bottom: "y" top: "y" power_param { scale: -1 } }
        layer { name: "l" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }"""
    )
    net = load_net(tmp_path / "net.prototxt")
    bottom = torch.tensor([1.0, -2.0, 0.0], requires_grad=True)
    net.loss(net(x=bottom)).backward()
    assert bottom.grad is not None and bottom.grad.tolist() == [0.5, 1.5, 1]
    engine = BlobNet(net)
    engine.blob("x").data[...] = [1, -2, 0]
    engine.forward()
    engine.backward()
    assert engine.blob("x").diff.tolist() == [0.5, 1.5, 1]


def test_means() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    top = one_layer("AvgProbs", "avg_probs_param { multi_infer_size: 3 }", (6, 2, 3))(torch.from_numpy(x))
    np.testing.assert_allclose(top.numpy(), [(x[i] + x[i + 1] + x[i + 2]) / 3 for i in (0, 3)], rtol=1e-5)
    several = one_layer("AvgProbsMultiSources", "", (6, 2, 3), (6, 2, 3))(torch.from_numpy(x), torch.from_numpy(-2 * x))
    np.testing.assert_allclose(several.numpy(), -x / 2, rtol=1e-5)


class _Drawn:
    """Gives numbers of a list, as the generator would."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def uniform(self, low: float, high: float) -> float:
        value = self.values.pop(0)
        assert low <= value <= high
        return value

    def integers(self, end: int) -> int:
        value = int(self.values.pop(0))
        assert 0 <= value < end
        return value


def _picture(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_quarter_turn_keeps_the_size_and_loses_corners() -> None:
    pixels = _picture(40, 60)
    made = Affine(60, 180, (0, 0), 0, 7)(pixels, _Drawn(90, 0, 0))  # type: ignore[arg-type]
    want = np.full((40, 60, 3), 7, np.uint8)
    for row, column in np.ndindex(40, 60):
        # about (30, 20): the pixel that a turn to the left by 90 degrees moves here
        x, y = 30 - (row - 20), 20 + (column - 30)
        if 0 <= x < 60 and 0 <= y < 40:
            want[row, column] = pixels[y, x]
    want = cv2.resize(want, (60, 60), interpolation=cv2.INTER_CUBIC)
    assert np.abs(made.astype(int) - want)[2:-2, 2:-2].max() <= 3


@pytest.mark.parametrize(
    ("translation", "drawn", "cut"),
    [(3, (0, 5), (0, -3, 2, 0)), (9, (3, 0), (0, -1, 0, -7)), (2, (2, 2), (0, 0, 0, 0))],
)
def test_stretches_and_cuts(translation: float, drawn: tuple[int, int], cut: tuple[int, int, int, int]) -> None:
    """Rows and columns lost at (top, bottom, left, right): 5 and 7 are a tenth of 50 rows, where 9 is more."""
    pixels = _picture(40, 60)
    made = Affine(32, 0, (0.25, 0.25), translation, 0)(pixels, _Drawn(0, 0.2, 0.25, *drawn))  # type: ignore[arg-type]
    want = cv2.resize(pixels, (72, 50), interpolation=cv2.INTER_CUBIC)
    top, bottom, left, right = cut
    if translation == 9:  # int(3 - 5.0) = -2 rows, int(0 - 7.2) = -7 columns
        bottom = -2
    want = want[top : 50 + bottom, left : 72 + right]
    want = cv2.resize(np.ascontiguousarray(want), (32, 32), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(made, want)


def test_too_small_to_be_moved() -> None:
    with pytest.raises(DataError, match="is 4x4 when it is stretched, too small to be moved by a tenth"):
        Affine(8, 0, (0, 0), 2, 0)(_picture(4, 4), np.random.default_rng(0))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("affine")
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), _picture(30, 40) // (number + 1))
    (folder / "list.txt").write_text("".join(f"{number}.png {number + 5}\n" for number in range(3)))
    return folder / "list.txt"


def test_a_batch(listed: Path) -> None:
    still = "affine_param { x_stretch_unirnd_range: 0 y_stretch_unirnd_range: 0 rotation_unirnd_range: 0 }"
    body = (
        f'image_data_affine_param {{ source: "{listed}" root_folder: "{listed.parent}/" batch_size: 2 new_size: 16 }} '
        f"transform_param {{ scale: 0.5 mean_value: 3 {still} }}"
    )
    data, labels = one_layer("ImageDataAffine", body, tops=("data", "label"))()
    assert labels.tolist() == [5, 6]
    want = cv2.resize(_picture(30, 40) // 2, (16, 16), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
    np.testing.assert_allclose(data[1].numpy(), (want.astype(np.float32) - 3) / 2)


def test_several_times(listed: Path) -> None:
    body = (
        f'image_data_multi_infer_param {{ source: "{listed}" root_folder: "{listed.parent}/" batch_size: 2 new_size: 9 '
        "multi_infer_size: 3 is_color: false } transform_param { affine_param { background_color: 255 } }"
    )
    layer = one_layer("ImageDataMultipleInference", body, tops=("data", "label"))
    data, labels = layer()
    assert data.shape == (6, 1, 9, 9) and labels.tolist() == [5, 6]
    assert len({picture.numpy().tobytes() for picture in data}) == 6
    assert data[:3].mean() > data[3:].mean()  # the second picture is darker
    assert layer()[1].tolist() == [7, 5]


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "message"),
    [
        ("Sparsify", "sparsify_param { coef: -1 }", [(2, 3)], "coef -1, expected 0 or more"),
        ("AvgProbs", "avg_probs_param { multi_infer_size: 0 }", [(2, 3)], "multi_infer_size is 0"),
        ("AvgProbs", "avg_probs_param { multi_infer_size: 4 }", [(2, 3)], "expected a multiple of 4 items"),
        ("AvgProbsMultiSources", "", [(2, 3), (2, 4)], "expected one"),
        ("ImageDataAffine", "image_data_affine_param { batch_size: 1 }", [], "new_size is 0"),
        (
            "ImageDataAffine",
            "image_data_affine_param { batch_size: 1 new_size: 3 } transform_param { crop_size: 4 }",
            [],
            "crop_size is 4, expected at most new_size 3",
        ),
        (
            "ImageDataAffine",
            "image_data_affine_param { batch_size: 1 new_size: 3 } "
            "transform_param { affine_param { x_stretch_unirnd_range: 1 } }",
            [],
            "expected parts from 0 to below 1",
        ),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], message: str) -> None:
    tops = ("data", "label") if kind == "ImageDataAffine" else ("y",)
    with pytest.raises((LayerError, ShapeError), match=message):
        one_net(kind, body, shapes, tops)
