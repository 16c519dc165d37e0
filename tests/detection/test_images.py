import cv2
import numpy as np
import pytest

from caffe_compat.config import load_config
from caffe_compat.detection.images import image_blob, join_blobs, mirror_picture, scaled_image
from caffe_compat.errors import DataError, MissingFileError, UsageError

CONFIG = load_config()


def picture(path, height=30, width=50, seed=0):
    image = np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), image)
    return image


@pytest.mark.parametrize(("scale", "most", "factor"), [(60, 1000, 2.0), (60, 80, 1.6), (60, 100, 2.0), (15, 9, 9 / 50)])
@pytest.mark.parametrize("flipped", [False, True])
def test_blob_is_that_of_fast_rcnn(tmp_path, scale, most, factor, flipped):
    image = picture(tmp_path / "a.png")
    (blob,), found = image_blob([tmp_path / "a.png"], CONFIG, [scale], flipped, max_size=most)
    assert found == factor
    pixels = (image[:, ::-1] if flipped else image).astype(np.float32)
    pixels -= np.array([[[102.9801, 115.9465, 122.7717]]])
    resized = cv2.resize(pixels, None, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    assert blob.dtype == np.float32 and (blob == resized.transpose(2, 0, 1)[None]).all()


def test_two_modalities(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", seed=1)
    blobs, _ = image_blob([tmp_path / "a.png", tmp_path / "b.png"], CONFIG, [60], size=(30, 50))
    assert [blob.shape for blob in blobs] == [(1, 3, 60, 100)] * 2 and (blobs[0] != blobs[1]).any()


def test_every_modality_less_its_own_means(tmp_path):
    image = picture(tmp_path / "a.png")
    config = load_config(pairs=["MODALITY_MEANS", "((1, 2, 3), (128, 128, 128))"])
    first, second = image_blob([tmp_path / "a.png", tmp_path / "a.png"], config, [30])[0]
    np.testing.assert_array_equal(first[0].transpose(1, 2, 0), image - np.float32([1, 2, 3]))
    np.testing.assert_array_equal(second[0].transpose(1, 2, 0), image - np.float32(128))
    with pytest.raises(UsageError, match="MODALITY_MEANS are of 2 modalities, expected 1"):
        image_blob([tmp_path / "a.png"], config, [30])


def test_bad_pictures(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", width=51)
    with pytest.raises(DataError, match="b.png: has 51 x 30 pixels, the same frame in .*a.png has 50 x 30 pixels"):
        image_blob([tmp_path / "a.png", tmp_path / "b.png"], CONFIG, [60])
    with pytest.raises(DataError, match="a.png: has 50 x 30 pixels, its boxes are for 49 x 30 pixels"):
        image_blob([tmp_path / "a.png"], CONFIG, [60], size=(30, 49))
    with pytest.raises(MissingFileError, match="c.png"):
        image_blob([tmp_path / "c.png"], CONFIG, [60])


def test_join_pads_at_the_bottom_and_on_the_right():
    blob = join_blobs([np.ones((2, 3, 3), np.float32), np.ones((4, 2, 3), np.float32)])
    assert blob.shape == (2, 3, 4, 3) and blob.sum() == 3 * (6 + 8)
    assert (blob[0, :, 2:] == 0).all() and (blob[1, :, :, 2:] == 0).all()


@pytest.mark.parametrize("modality", ["flow", "normals", "normals_255", "hha", "images"])
def test_numbers_that_point_to_the_right_point_to_the_left_in_a_mirror(tmp_path, modality):
    image = picture(tmp_path / "a.png")
    found = scaled_image(image, CONFIG, 1.0, True, modality)
    values = image[:, ::-1].astype(np.float64)
    about = {"flow": 128, "normals": 128, "normals_255": 127.5}.get(modality)
    if about is not None:
        values[..., 2] = np.clip(2 * about - values[..., 2], 0, 255)
    assert (mirror_picture(image, CONFIG, modality) == values).all()
    expected = (values - np.array(CONFIG.pixel_means)).astype(np.float32)
    assert (found == expected).all()
    plain = scaled_image(image, CONFIG, 1.0, True)
    assert (mirror_picture(image, load_config(parity=True), modality) == image[:, ::-1]).all()
    assert (scaled_image(image, load_config(parity=True), 1.0, True, modality) == plain).all()
    assert (scaled_image(image, CONFIG, 1.0, False, modality) == scaled_image(image, CONFIG, 1.0)).all()
