"""Flow in the files of others."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import needs

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.flow import decode, encode, read_flo, read_two_stream, write_flo


def test_flo_there_and_back(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(0, 30, (5, 7, 2)).astype(np.float32)
    flow[2, 3] = np.nan
    write_flo(tmp_path / "a.flo", flow)
    raw = (tmp_path / "a.flo").read_bytes()
    assert raw[:4] == b"PIEH" and struct.unpack("<ii", raw[4:12]) == (7, 5) and len(raw) == 12 + 8 * 35
    np.testing.assert_array_equal(read_flo(tmp_path / "a.flo"), flow, equal_nan=True)
    theirs = np.asarray(cv2.readOpticalFlow(str(tmp_path / "a.flo")))  # OpenCV's own reader
    np.testing.assert_array_equal(theirs[~np.isnan(flow).any(-1)], flow[~np.isnan(flow).any(-1)])
    assert (theirs[2, 3] == np.float32(1e10)).all()


@pytest.mark.parametrize("unknown", [1.6e9, -1e10, np.nan, np.inf])
def test_flow_that_is_not_known_is_nan_in_both_components(tmp_path: Path, unknown: float) -> None:
    flow = np.ones((2, 3, 2), np.float32)
    flow[1, 2, 0] = unknown
    (tmp_path / "a.flo").write_bytes(b"PIEH" + struct.pack("<ii", 3, 2) + flow.tobytes())
    found = read_flo(tmp_path / "a.flo")
    assert np.isnan(found[1, 2]).all() and np.isnan(found).sum() == 2
    with pytest.raises(DataError, match="NaN or infinite at 1 of 6"):
        encode(found[..., 0], found[..., 1])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is no .flo file, it begins with b''"),
        (b"PIEH\0\0", "is no .flo file"),
        (b"HEIP" + struct.pack("<ii", 2, 1) + bytes(16), "begins with b'HEIP', expected b'PIEH'"),
        (b"PIEH" + struct.pack("<ii", 0, 4), "says that it is 0 x 4"),
        (b"PIEH" + struct.pack("<ii", 3, -4), "says that it is 3 x -4"),
        (b"PIEH" + struct.pack("<ii", 2, 1) + bytes(15), "has 15 bytes after its head, 2 x 1 pixels are 16"),
        (b"PIEH" + struct.pack("<ii", 2, 1) + bytes(17), "has more after its head, 2 x 1 pixels are 16"),
        (b"PIEH" + struct.pack("<ii", 1 << 20, 1 << 20), "the limit is"),
    ],
)
def test_flo_files_that_are_refused(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "bad.flo").write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.flo: .*" + told):
        read_flo(tmp_path / "bad.flo")


def test_flow_that_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.flo: flow of shape"):
        write_flo(tmp_path / "a.flo", np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"a\.flo: flow is infinite at 1 pixels"):
        write_flo(tmp_path / "a.flo", np.array([[[0, np.inf]]]))
    assert not any(tmp_path.iterdir())
    with pytest.raises(MissingFileError):
        read_flo(tmp_path / "a.flo")


def test_two_stream_pictures_keep_20_pixels(tmp_path: Path) -> None:
    flow = np.random.default_rng(1).uniform(-20, 20, (6, 8, 2))
    for at, name in enumerate(("x.png", "y.png")):  # as dense_flow writes them, but without loss
        cv2.imwrite(str(tmp_path / name), np.rint(255 * (flow[..., at] + 20) / 40).astype(np.uint8))
    found = read_two_stream(tmp_path / "x.png", tmp_path / "y.png")
    assert found.dtype == np.float32 and np.abs(found - flow).max() <= 20 / 255 + 1e-5
    np.testing.assert_allclose(read_two_stream(tmp_path / "x.png", tmp_path / "y.png", 40), 2 * found, rtol=1e-6)
    u, v = decode(encode(found[..., 0], found[..., 1]))  # our pictures keep 8 pixels, and twice the detail
    assert np.abs(np.stack([u, v], -1) - found.clip(-8, 7.9375)).max() <= 1 / 32 + 1e-6


def test_two_stream_pictures_that_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((3, 4), np.uint8))
    cv2.imwrite(str(tmp_path / "y.png"), np.zeros((4, 3), np.uint8))
    with pytest.raises(DataError, match=r"x\.png is 4x3, .*y\.png is 3x4: expected one size"):
        read_two_stream(tmp_path / "x.png", tmp_path / "y.png")
    for most in (0, -1, np.nan, np.inf):
        with pytest.raises(DataError, match="expected a positive number"):
            read_two_stream(tmp_path / "x.png", tmp_path / "x.png", most)
    with pytest.raises(MissingFileError):
        read_two_stream(tmp_path / "x.png", tmp_path / "z.png")


def test_real_two_stream_pictures() -> None:
    """Grey jpgs of others; the frames beside them are of another clip, so only their own numbers can be looked at."""
    folder = needs("real", "video", "mmaction2_two_stream")
    for number in range(1, 6):
        paths = [folder / f"{axis}_{number:05d}.jpg" for axis in "xy"]
        found = read_two_stream(*paths)
        codes = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths], -1)
        assert found.shape == (*codes.shape[:2], 2) and 0.3 < np.abs(found).max() < 20
        np.testing.assert_array_equal(np.rint((found + 20) / 40 * 255), codes)


def test_the_true_flow_of_rubberwhale() -> None:
    flow = read_flo(needs("real", "flow", "rubberwhale_gt.flo"))
    known = ~np.isnan(flow).any(-1)
    assert flow.shape == (388, 584, 2) and known.sum() == 222970
    assert np.abs(flow[known]).max() < 5
