"""Png files that say how they were made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from caffe_compat.errors import DataError
from caffe_compat.frames import read_encoded, read_parameters, write_encoded


def test_hha_png_keeps_channels_and_parameters(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    parameters = {"camera": [1.5, 2, 3, 4], "fill": "nearest"}
    path = tmp_path / "hha.png"
    write_encoded(path, image, parameters)
    assert np.array_equal(np.array(Image.open(path)), image)  # R disparity, G height, B angle
    assert read_parameters(path) == parameters
    assert np.array_equal(read_encoded(path, parameters), image)
    with pytest.raises(DataError, match=r"hha\.png: made with fill = 'nearest', expected 'none'"):
        read_encoded(path, {"fill": "none"})
    Image.fromarray(image).save(path)
    assert read_parameters(path) is None
    with pytest.raises(DataError, match="does not say"):
        read_encoded(path, parameters)
    with pytest.raises(DataError, match="expected uint8"):
        write_encoded(path, image.astype(float), parameters)


def test_files_of_version_0_1_are_read(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("caffe_compat.depth", '{"kind": "hha"}')
    Image.new("RGB", (2, 2)).save(tmp_path / "old.png", pnginfo=chunks)
    assert read_parameters(tmp_path / "old.png") == {"kind": "hha"}


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"a": NaN}', "9" * 5000])
def test_garbled_parameters_are_one_error(tmp_path: Path, text: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("caffe_compat.frame", text)
    Image.new("RGB", (2, 2)).save(tmp_path / "bad.png", pnginfo=chunks)
    with pytest.raises(DataError, match=r"bad\.png: text chunk 'caffe_compat.frame'"):
        read_parameters(tmp_path / "bad.png")
