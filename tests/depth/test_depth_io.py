import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_compat.depth import (
    DepthFormat,
    complete,
    depth_from_disparity,
    detect_units,
    disparity,
    read_depth,
)
from caffe_compat.depth.io import read_color, read_raw, write_depth
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.frames import read_encoded, read_parameters

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "rgbd"
MILLIMETRES = DepthFormat(1000)
RAMP = np.linspace(0.9, 4.0, 48).reshape(6, 8)


def test_depth_png_round_trip(tmp_path):
    depth = RAMP.copy()
    depth[0, 0] = 0
    write_depth(tmp_path / "d.png", depth)
    assert read_depth(tmp_path / "d.png", MILLIMETRES) == pytest.approx(depth, abs=5.01e-4)
    with pytest.raises(DataError, match="16 bits"):
        write_depth(tmp_path / "e.png", depth, 30000)


def test_invalid_codes_become_holes(tmp_path):
    codes = np.full((4, 4), 1500, np.uint16)
    codes[0, 0], codes[1, 1], codes[2, 2] = 0, 65535, 77
    Image.fromarray(codes).save(tmp_path / "d.png")
    assert (read_depth(tmp_path / "d.png", MILLIMETRES) == 0).sum() == 2
    assert (read_depth(tmp_path / "d.png", DepthFormat(1000, invalid=(0, 77, 65535))) == 0).sum() == 3


def test_npy_is_metres_and_not_finite_is_a_hole(tmp_path):
    depth = RAMP.copy()
    depth[0, 0], depth[0, 1] = np.nan, np.inf
    np.save(tmp_path / "d.npy", depth)
    found = read_depth(tmp_path / "d.npy", DepthFormat(1))
    assert found[0, 0] == found[0, 1] == 0
    assert np.array_equal(found[1:], depth[1:])
    assert np.array_equal(read_depth(tmp_path / "d.npy", DepthFormat()), found)


def test_pgm_is_big_endian_unscaled_and_may_have_comments(tmp_path):
    codes = (RAMP * 1000).astype(np.uint16)
    path = tmp_path / "d.pgm"
    path.write_bytes(b"P5\n# made by hand\n8 6\n10000\n" + codes.astype(">u2").tobytes())
    assert np.array_equal(read_raw(path), codes)
    path.write_bytes(b"P5 8 6 65535\n" + codes.astype(">u2").tobytes()[:-1])
    with pytest.raises(DataError, match=r"d.pgm: truncated, 95 of 96"):
        read_raw(path)


def test_text_pgm_is_unscaled_too(tmp_path):
    path = tmp_path / "d.pgm"
    path.write_text("P2\n# made by hand\n4 2\n10000\n1 20 300 4000\n# row\n8 10000 0 7\n")
    assert read_raw(path).tolist() == [[1, 20, 300, 4000], [8, 10000, 0, 7]]
    for text, message in (
        ("P2 4 2 10000 1 2 3", "3 numbers, expected 2 x 4"),
        ("P2 1 1 100 500", "has 500, but its header says 100"),
        ("P2 1 1 100 x", "whole ones"),
        ("P2 1 1 65535 99999999999999999999", "has a number of 20 digits, but its header says 65535"),
        ("P2 1 1 65535 " + "9" * 5000, "has a number of 5000 digits"),
        ("P2 " + "9" * 5000 + " 1 65535 1", "broken pgm header"),
        ("P2" + " " * 200 + "x", "broken pgm header"),  # at once: no backtracking
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_raw(path)


def test_sun_encoding_rotates_bits_and_stops_at_8_metres(tmp_path):
    millimetres = np.array([[1234, 0], [8191, 700]], np.uint16)
    Image.fromarray((millimetres << 3) | (millimetres >> 13)).save(tmp_path / "d.png")
    found = read_depth(tmp_path / "d.png", DepthFormat(1000, "sun"))
    assert found.tolist() == [[1.234, 0], [8.0, 0.7]]


def test_nyud2_codes_are_swapped_disparities(tmp_path):
    codes = np.array([[1000, 2047], [599, 800]], np.uint16)
    path = tmp_path / "d.pgm"
    path.write_bytes(b"P5 2 2 65535\n" + codes.astype("<u2").tobytes())
    found = read_depth(path, DepthFormat(encoding="nyud2_raw"))
    assert found == pytest.approx(np.array([[351.3 / 92.5, 0], [0, 351.3 / 292.5]]))


def test_wrong_or_unknown_units_say_what_to_pass(tmp_path):
    write_depth(tmp_path / "d.png", RAMP)
    with pytest.raises(
        DataError, match=r"d\.png: with 1 units.*wrong unit; pass units_per_metre.*1000 \(0\.9 to 4 m\)"
    ):
        read_depth(tmp_path / "d.png", DepthFormat(1))
    with pytest.raises(DataError, match="wrong unit"):
        read_depth(tmp_path / "d.png", DepthFormat(1e6))
    assert detect_units((RAMP * 1000).astype(np.uint16)) == 1000
    with pytest.raises(DataError, match=r"cannot be told.*5000 \(.*10000 \("):
        detect_units((RAMP * 7000).astype(np.uint16))
    with pytest.raises(DataError, match="cannot be told"):
        detect_units(RAMP * 1000)
    with pytest.raises(DataError, match="positive number"):
        DepthFormat(0)
    with pytest.raises(DataError, match="expected one of plain"):
        DepthFormat(1, "other")  # type: ignore[arg-type]


def test_files_that_are_no_depth_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nothing\.png"):
        read_raw(tmp_path / "nothing.png")
    whole = io.BytesIO()
    Image.fromarray((RAMP * 1000).astype(np.uint16)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:-40])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P").save(tmp_path / "palette.png")
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "empty.png")
    for name, message in (
        ("cut", "cannot be read"),
        ("text", "cannot be read"),
        ("rgb", "one channel"),
        ("palette", "palette"),
        ("empty", "all 16 pixels are missing"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.png: .*{message}"):
            read_depth(tmp_path / f"{name}.png", MILLIMETRES)
    with pytest.raises(DataError, match=r"objects\.npy"):
        read_raw(tmp_path / "objects.npy")


def test_disparity_is_the_clamped_reciprocal_three_times():
    image = disparity(np.array([[0.5, 2.0, 3.0, 4.0, 5.0, 10.0]]))
    assert image[0, :, 0].tolist() == [255, 155, 103, 78, 62, 31]
    assert (image == image[..., :1]).all()
    with pytest.raises(DataError, match="cannot be metres"):
        disparity(np.full((2, 2), 900.0))


def test_stereo_disparity_to_depth():
    found = depth_from_disparity(np.array([[10.0, np.inf, np.nan, -5.0]]), 100, 0.2, 2.0)
    assert found == pytest.approx(np.array([[20 / 12, 0, 0, 0]]))
    with pytest.raises(DataError, match="known disparity"):
        depth_from_disparity(np.full((2, 2), np.inf), 100, 0.2)
    with pytest.raises(DataError, match="positive"):
        depth_from_disparity(np.ones((2, 2)), 100, 0)


def test_complete_takes_the_nearest_measured_pixel():
    depth = np.array([[1.0, 0, 0, 0, 2.0], [np.nan, 0, 0, 0, 0]])
    assert complete(depth).tolist() in ([[1, 1, a, 2, 2], [1, 1, b, 2, 2]] for a in (1, 2) for b in (1, 2))
    with pytest.raises(DataError, match="all 10 pixels"):
        complete(depth * 0)
    with pytest.raises(DataError, match="expected one of nearest"):
        complete(depth, method="magic")  # type: ignore[arg-type]


def test_colorization_follows_colour_and_keeps_what_was_measured():
    depth = np.where(np.arange(20) < 10, 1.0, 3.0)[None].repeat(12, 0)
    color = np.where(depth > 2, 200, 40).astype(np.uint8)[..., None].repeat(3, 2)
    holes = depth.copy()
    holes[2:10, 5:12] = 0  # the edge is off the middle of the hole: nearest would misplace it
    filled = complete(holes, method="colorization", color=color)
    assert np.array_equal(filled[holes > 0], depth[holes > 0])
    assert np.abs(filled - depth).max() < 0.25
    assert np.abs(complete(holes) - depth).max() > 1.5
    with pytest.raises(DataError, match="needs the colour"):
        complete(holes, method="colorization")
    with pytest.raises(DataError, match="colour is 12 x 19"):
        complete(holes, method="colorization", color=color[:, 1:])


def test_pictures_of_depth_are_warned_of(tmp_path):
    codes = (RAMP * 60).astype(np.uint8)
    Image.fromarray(codes).save(tmp_path / "d.png")
    with pytest.warns(UserWarning, match=r"d\.png: 8-bit numbers, 256 steps"):
        assert np.array_equal(read_raw(tmp_path / "d.png"), codes)
    Image.fromarray(codes).save(tmp_path / "d.jpg", quality=95)
    with pytest.warns(UserWarning, match=r"d\.jpg: a JPEG, which smears"):
        read_depth(tmp_path / "d.jpg", DepthFormat(60))
    (tmp_path / "d.pgm").write_bytes(b"P5 8 6 255\n" + codes.tobytes())
    with pytest.warns(UserWarning, match=r"d\.pgm: 8-bit"):
        read_raw(tmp_path / "d.pgm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_depth(tmp_path / "e.png", RAMP)
        read_depth(tmp_path / "e.png", MILLIMETRES)


def test_pictures_beyond_the_limit_are_not_decoded(tmp_path, monkeypatch):
    write_depth(tmp_path / "d.png", RAMP)
    Image.new("RGB", (8, 6)).save(tmp_path / "c.png")
    with monkeypatch.context() as patch:
        patch.setattr("caffe_compat.media.sizes.PIXEL_LIMIT", 40)
        for reader in (read_raw, read_color, read_encoded, read_parameters):
            path = tmp_path / ("d.png" if reader is read_raw else "c.png")
            with pytest.raises(DataError, match=rf"{path.name}: is a picture of 8x6, 48 pixels, the limit is 40"):
                reader(path)
    assert read_raw(tmp_path / "d.png").shape == (6, 8)
