"""Pictures: 16 bits, grey, alpha, EXIF, and sizes that are refused before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from caffe_compat.depth.io import read_color, read_raw
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.frames.png import read_encoded, read_parameters
from caffe_compat.media import (
    PIXEL_LIMIT,
    datum_channels,
    decode,
    encode,
    encoded_datum,
    open_pillow,
    pixel_limit,
    planes,
    read_picture,
    resize_caffe,
    stated_size,
)
from caffe_compat.memory import NO_LIMITS
from caffe_compat.pycaffe import io as caffe_io

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def bomb(width: int, height: int) -> bytes:
    """A grey 1-bit png of zeros, its rows deflated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_colours_are_blue_green_red():
    stream = io.BytesIO()
    Image.fromarray(COLOR).save(stream, "PNG")
    assert np.array_equal(decode(stream.getvalue(), "x"), COLOR[:, :, ::-1])
    assert np.array_equal(decode(encode(COLOR, "png", "x"), "x"), COLOR)
    assert [plane.shape for plane in planes(COLOR)] == [(6, 8)] * 3


def test_16_bits_keep_their_upper_8():
    deep = RNG.integers(0, 65536, (5, 4), dtype=np.uint16)
    assert np.array_equal(decode(png(deep), "x", "gray"), deep >> 8)
    assert np.array_equal(decode(png(deep), "x"), np.repeat((deep >> 8)[:, :, None], 3, 2))
    with pytest.raises(DataError, match="x: has pixels of type uint16, expected 8 bits"):
        decode(png(deep), "x", "unchanged")


def test_grey_and_alpha():
    grey = COLOR[:, :, 0].copy()
    assert np.array_equal(decode(png(grey), "x"), np.repeat(grey[:, :, None], 3, 2))
    assert np.array_equal(decode(png(grey), "x", "unchanged"), grey)
    alpha = np.dstack([COLOR, grey])
    assert np.array_equal(decode(png(alpha), "x"), COLOR)
    assert np.array_equal(decode(png(alpha), "x", "unchanged"), alpha)
    luma = COLOR @ np.array([0.114, 0.587, 0.299])
    assert np.abs(decode(png(COLOR), "x", "gray") - luma).max() <= 1


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("channels", ["color", "gray", "unchanged"])
def test_orientation_is_ignored(orientation, channels):
    exif = Image.Exif()
    exif[0x112] = orientation
    plain, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(COLOR).save(plain, "JPEG")
    Image.fromarray(COLOR).save(turned, "JPEG", exif=exif)
    assert decode(turned.getvalue(), "x", channels).shape[:2] == (6, 8)
    assert np.array_equal(decode(turned.getvalue(), "x", channels), decode(plain.getvalue(), "x", channels))


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tiff", "webp", "pgm", "ppm", "hdr", "pam", "pfm", "ras"])
def test_stated_sizes(kind):
    image = COLOR[:, :, 0] if kind == "pgm" else COLOR
    if kind in ("hdr", "pfm"):
        image = image.astype(np.float32)
    assert stated_size(encode(np.ascontiguousarray(image), kind, "x"), "x") == (6, 8)


def test_size_is_checked_before_decoding(tmp_path, monkeypatch):
    data = bomb(20000, 20000)
    assert len(data) < 400_000
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=rf"bomb.png: is a picture of 20000x20000, 400000000 pixels, .*{PIXEL_LIMIT}"):
        read_picture(path)
    with path.open("rb") as stream, pytest.raises(DataError, match="bomb.png: .* pixels"):
        open_pillow(stream, str(path))


def test_the_limit_can_be_moved(monkeypatch):
    monkeypatch.setattr("caffe_compat.media.sizes.PIXEL_LIMIT", 47)
    for data in (png(COLOR), encode(COLOR, "bmp", "x")):
        with pytest.raises(DataError, match="x: is a picture of 8x6, 48 pixels, the limit is 47; --no-limits"):
            decode(data, "x")
        assert decode(data, "x", most=48).shape == decode(data, "x", most=0).shape == (6, 8, 3)
    monkeypatch.setenv(NO_LIMITS, "1")
    assert decode(png(COLOR), "x").shape == (6, 8, 3)
    assert pixel_limit() == 0


def test_pillows_own_limit_stays(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    assert open_pillow(io.BytesIO(png(COLOR)), "x").size == (8, 6)
    assert Image.MAX_IMAGE_PIXELS == 4


def test_what_is_no_picture(tmp_path):
    with pytest.raises(MissingFileError):
        read_picture(tmp_path / "absent.png")
    for data in (b"", b"junk", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff"):
        with pytest.raises(DataError, match="x: is no image"):
            decode(data, "x")
    with pytest.raises(DataError, match="cannot write 'xyz'"):
        encode(COLOR, "xyz", "x")


def test_every_reader_refuses(tmp_path, monkeypatch):
    """The layers, the tools and pycaffe all come here."""
    monkeypatch.chdir(tmp_path)
    Path("b.png").write_bytes(bomb(20000, 20000))
    Path("b.pgm").write_bytes(b"P2 20000 20000 255\n" + b"0 " * 100)
    record = encoded_datum(Path("b.png").read_bytes(), 0).SerializeToString()
    for read in (
        lambda: caffe_io.load_image("b.png"),
        lambda: datum_channels(record, "b.png"),
        lambda: read_raw("b.png"),
        lambda: read_raw("b.pgm"),
        lambda: read_color("b.png"),
        lambda: read_encoded("b.png"),
        lambda: read_parameters("b.png"),
    ):
        with pytest.raises(DataError, match=r"b\.p.*the limit is 134217728"):
            read()


def test_a_size_that_no_machine_has_memory_for() -> None:
    with pytest.raises(DataError, match="a picture of 4 x 5 to 1073741824 x 1073741824: .*OpenCV"):
        resize_caffe(np.zeros((4, 5, 3), np.uint8), 2**30, 2**30)
