"""caffe.io, Classifier and Detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pycaffe import nets

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import CaffeCompatError, MissingFileError, UsageError
from caffe_compat.proto import caffe_pb2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_blobs_and_datums_round_trip() -> None:
    array = np.random.RandomState(0).randn(2, 3, 4).astype(np.float32)
    blob = caffe.io.array_to_blobproto(array, diff=2 * array)
    assert list(blob.shape.dim) == [2, 3, 4]
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), 2 * array)
    data = caffe.io.arraylist_to_blobprotovector_str([array, array[0]])
    assert [a.shape for a in caffe.io.blobprotovector_str_to_arraylist(data)] == [(2, 3, 4), (3, 4)]
    pixels = (array * 10).astype(np.uint8)
    for value in (array, pixels):
        datum = caffe.io.array_to_datum(value, 7)
        assert datum.label == 7 and bool(datum.data) == (value.dtype == np.uint8)
        np.testing.assert_array_equal(caffe.io.datum_to_array(datum), value)
    with pytest.raises(ValueError, match="channels, height, width"):
        caffe.io.array_to_datum(array[0])
    with pytest.raises(ValueError, match="compressed image"):
        caffe.io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"x"))


def test_load_image() -> None:
    bgra = np.zeros((2, 3, 4), np.uint8)
    bgra[..., 2], bgra[..., 3] = 255, 128
    cv2.imwrite("red.png", bgra)
    red = caffe.io.load_image("red.png")
    assert red.dtype == np.float32 and red.shape == (2, 3, 3)
    assert red[0, 0].tolist() == [1, 0, 0]
    assert caffe.io.load_image("red.png", color=False).shape == (2, 3, 1)
    cv2.imwrite("gray.png", np.full((2, 2), 51, np.uint8))
    np.testing.assert_allclose(caffe.io.load_image("gray.png"), np.full((2, 2, 3), 0.2), rtol=1e-6)
    with pytest.raises(MissingFileError):
        caffe.io.load_image("none.png")


def test_resize_keeps_constants_ranges_and_channels() -> None:
    assert (caffe.io.resize_image(np.full((4, 4, 3), 7.0), (2, 5)) == 7).all()
    ramp = np.tile(np.arange(8, dtype=np.float32)[None, :, None], (4, 1, 2))
    assert caffe.io.resize_image(ramp, (4, 4)).shape == (4, 4, 2)  # two channels: SciPy's zoom
    assert caffe.io.resize_image(ramp[..., :1], (4, 4))[1, :, 0] == pytest.approx([0.5, 2.5, 4.5, 6.5])


def test_resize_is_scikit_images() -> None:
    image = np.random.RandomState(0).rand(6, 8, 3)
    import skimage.transform

    expected = skimage.transform.resize(image, (3, 4), order=0, mode="constant")
    np.testing.assert_array_equal(caffe.io.resize(image, (3, 4), order=0, mode="constant"), expected)


def test_transformer_steps_and_inverse() -> None:
    transformer = caffe.io.Transformer({"data": (1, 3, 2, 2)})
    image = np.random.RandomState(0).rand(2, 2, 3).astype(np.float32)
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([1.0, 2.0, 3.0]))
    transformer.set_input_scale("data", 0.5)
    kept = image.copy()
    got = transformer.preprocess("data", image)
    expected = (image.transpose(2, 0, 1)[::-1] * 255 - np.array([1, 2, 3])[:, None, None]) * 0.5
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_array_equal(image, kept)
    back = transformer.deprocess("data", got[None])
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, image, rtol=1e-4, atol=1e-6)


def test_transformer_refusals() -> None:
    transformer = caffe.io.Transformer({"data": (1, 3, 2, 2)})
    with pytest.raises(UsageError, match="'x' is not one of the net inputs: data"):
        transformer.preprocess("x", np.zeros((2, 2, 3)))
    with pytest.raises(UsageError, match="expected 3"):
        transformer.set_transpose("data", (1, 0))
    with pytest.raises(UsageError, match="one per channel"):
        transformer.set_channel_swap("data", (1, 0))
    for mean in (np.zeros(2), np.zeros((2, 2, 2)), np.zeros((1, 1, 1, 1))):
        with pytest.raises(ValueError, match="mean"):
            transformer.set_mean("data", mean)
    transformer.set_mean("data", np.full((3, 4, 4), 2.0))  # resized; a constant stays one
    assert (transformer.mean["data"] == 2).all() and transformer.mean["data"].shape == (3, 2, 2)


def weights(net: str = nets.IMAGE) -> str:
    caffe.Net(nets.write(net), caffe.TEST).save("w.caffemodel")
    return "w.caffemodel"


def test_classifier_averages_ten_crops() -> None:
    file = weights()
    classifier = caffe.Classifier("net.prototxt", file, image_dims=(8, 10), raw_scale=2.0, channel_swap=(2, 1, 0))
    image = np.random.RandomState(0).rand(8, 10, 3).astype(np.float32)
    centre = classifier.predict([image], oversample=False).ravel()
    np.testing.assert_allclose(centre, 2 * image[1:7, 1:9, ::-1].sum(axis=(0, 1)), rtol=1e-4)
    ten = classifier.predict([image, image])
    crops = caffe.io.oversample([image], (6, 8))
    np.testing.assert_allclose(ten[1], 2 * crops.sum(axis=(1, 2)).mean(axis=0)[::-1], rtol=1e-4)


def test_detector_scores_windows() -> None:
    file = weights()
    cv2.imwrite("white.png", np.full((20, 30, 3), 255, np.uint8))
    detector = caffe.Detector("net.prototxt", file)
    found = detector.detect_windows([("white.png", [(0, 0, 10, 10), (5, 5, 19, 29)])])
    assert [entry["filename"] for entry in found] == ["white.png"] * 2
    assert found[1]["window"].tolist() == [5, 5, 19, 29]
    np.testing.assert_allclose(found[0]["prediction"], [48, 48, 48], rtol=1e-5)
    with pytest.raises(CaffeCompatError, match="selective_search"):
        detector.detect_selective_search(["white.png"])


def test_detector_context_outside_the_image_is_the_mean() -> None:
    square = nets.IMAGE.replace("dim: 6 dim: 8", "dim: 8 dim: 8").replace("kernel_h: 6", "kernel_h: 8")
    file = weights(square)
    detector = caffe.Detector("net.prototxt", file, context_pad=2, mean=np.array([0.25, 0.5, 0.75]))
    crop = detector.crop(np.ones((20, 20, 3), np.float32), (0, 0, 8, 8))
    assert crop.shape == (8, 8, 3)
    np.testing.assert_allclose(crop[0, 0], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(crop[-1, -1], 1)
    with pytest.raises(UsageError, match="outside the image"):
        detector.crop(np.ones((20, 20, 3), np.float32), (60, 60, 65, 65))
