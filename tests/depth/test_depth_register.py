import math
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.depth import (
    CAMERAS,
    Camera,
    DepthFormat,
    read_depth,
    read_nyud2_codes,
    register,
    register_nyud2,
    undistort,
)
from caffe_compat.depth.camera import (
    NYUD2_COLOR_DISTORTION,
    NYUD2_DEPTH_DISTORTION,
    NYUD2_DEPTH_TO_COLOR_ROTATION,
    NYUD2_DEPTH_TO_COLOR_TRANSLATION,
)
from caffe_compat.depth.io import read_color
from caffe_compat.depth.registration import _distorted_pixels
from caffe_compat.errors import DataError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "rgbd"


def test_same_camera_changes_nothing():
    camera = Camera(50, 50, 10, 8, 20, 16)
    depth = np.random.default_rng(0).uniform(1, 4, (16, 20))
    assert register(depth, camera, camera, np.eye(3), np.zeros(3)) == pytest.approx(depth)


def test_a_sideways_camera_sees_parallax_and_the_nearest_surface():
    camera = Camera(50, 50, 10, 8, 20, 16)
    depth = np.full((16, 20), 4.0)
    depth[:, 10] = 1.0
    moved = register(depth, camera, camera, np.eye(3), np.array([0.08, 0, 0]))
    assert (moved[:, 14] == 1.0).all()  # 50 * 0.08 / 1 = 4 pixels; the wall behind moves by 1
    assert (moved[:, 0] == 0).all() and (moved[:, 11] == 0).all()
    with pytest.raises(DataError, match="needs width and height"):
        register(depth, camera, Camera(50, 50, 10, 8), np.eye(3), np.zeros(3))
    with pytest.raises(DataError, match="3 x 3"):
        register(depth, camera, camera, np.eye(4), np.zeros(3))


def toolbox(codes: np.ndarray) -> np.ndarray:
    """The NYUD2 toolbox's project_depth_map, a pixel at a time, of rows 90 to 150 (others are missing)."""
    depth_camera, color_camera = CAMERAS["nyud2_depth"], CAMERAS["nyud2_color"]
    k1, k2, p1, p2, k3 = NYUD2_DEPTH_DISTORTION
    rotation = np.linalg.inv(-np.array(NYUD2_DEPTH_TO_COLOR_ROTATION))
    found = np.zeros((480, 640))
    for row, column in np.ndindex(480, 640):
        if not 90 < row < 150:
            continue
        x, y = (column + 1 - depth_camera.cx) / depth_camera.fx, (row + 1 - depth_camera.cy) / depth_camera.fy
        r = x * x + y * y
        radial = 1 + k1 * r + k2 * r**2 + k3 * r**3
        u = (x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)) * depth_camera.fx + depth_camera.cx - 1
        v = (y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y) * depth_camera.fy + depth_camera.cy - 1
        if not (0 <= u <= 639 and 0 <= v <= 479):
            continue
        left, top = min(int(u), 638), min(int(v), 478)
        a, b = u - left, v - top
        weights = np.array([[(1 - b) * (1 - a), (1 - b) * a], [b * (1 - a), b * a]])
        four = codes[top : top + 2, left : left + 2].astype(float)
        code = (weights * four).sum()
        if code < 600 or ((four == 2047) & (weights > 0)).any() or code >= 1092.5:
            continue
        z = min(351.3 / (1092.5 - code), 10.0)
        px, py, pz = rotation @ np.array([x * z, y * z, z]) + np.array(NYUD2_DEPTH_TO_COLOR_TRANSLATION)
        to_column = math.floor(px * color_camera.fx / pz + color_camera.cx + 0.5)
        to_row = math.floor(py * color_camera.fy / pz + color_camera.cy + 0.5)
        if 0 < to_column < 640 and 0 < to_row < 480 and (found[to_row - 1, to_column - 1] or 99) > z:
            found[to_row - 1, to_column - 1] = z
    return np.where(found >= 10, 0, found)


def test_nyud2_registration_is_the_toolboxs():
    codes = np.full((480, 640), 2047, np.uint16)
    codes[100:140] = (np.linspace(700, 900, 640) + np.linspace(0, 40, 40)[:, None]).astype(np.uint16)
    codes[100:140, 300:340] -= 150  # something near, which hides what is behind
    codes[110:120, 100:120] = 2047
    codes[120:130, 500:520] = 1080  # beyond 10 m
    found, color = register_nyud2(codes, np.zeros((480, 640, 3), np.uint8))
    assert found == pytest.approx(toolbox(codes), abs=1e-9)
    assert (found > 0).sum() > 15000 and (found < 10).all()
    assert color.shape == (480, 640, 3)
    for wrong, message in ((codes[:100], "480 x 640"), (codes.astype(float), "uint16")):
        with pytest.raises(DataError, match=message):
            register_nyud2(wrong, np.zeros((480, 640, 3), np.uint8))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real frames here")
def test_registration_brings_real_depth_edges_onto_colour_edges():
    """Depth steps and colour steps meet more often after registration than before."""
    depth = read_depth(REAL / "open3d_testdata/other_formats_NYU_depth.pgm", DepthFormat(encoding="nyud2_raw"))
    color = read_color(REAL / "open3d_testdata/other_formats_NYU_color.ppm")
    found, flat = register_nyud2(read_nyud2_codes(REAL / "open3d_testdata/other_formats_NYU_depth.pgm"), color)
    assert edge_agreement(found, flat) > 1.1 * edge_agreement(depth, color)


def edge_agreement(depth: np.ndarray, color: np.ndarray) -> float:
    """Mean colour gradient at depth steps over 10 cm, against the image's mean."""
    grey = color.astype(float).mean(2)
    gradient = np.abs(np.diff(grey, axis=1))
    known = (depth[:, 1:] > 0) & (depth[:, :-1] > 0)
    step = known & (np.abs(np.diff(depth, axis=1)) > 0.1)
    step[:, :50] = step[:, -50:] = step[:50] = step[-50:] = False
    return float(gradient[step].mean() / gradient[50:-50, 50:-50].mean())


def distorted(camera, coefficients):
    """Brown's model number by number, as the NYUD2 toolbox writes it."""
    k1, k2, p1, p2, k3 = coefficients
    v, u = np.mgrid[: camera.height, : camera.width] + float(camera.origin)
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    columns = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    rows = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return rows * camera.fy + camera.cy - camera.origin, columns * camera.fx + camera.cx - camera.origin


def test_undistort_takes_the_nearest_depth_and_mixes_colours():
    camera = CAMERAS["nyud2_color"]
    assert camera.origin == 1  # MATLAB's
    rows, columns = distorted(camera, NYUD2_COLOR_DISTORTION)
    depth = np.random.default_rng(0).integers(1, 5000, (camera.height, camera.width)).astype(np.uint16)
    found = undistort(depth, camera, NYUD2_COLOR_DISTORTION)
    row, column = np.rint(rows).astype(int), np.rint(columns).astype(int)
    clear = (abs(rows - np.floor(rows) - 0.5) > 0.02) & (abs(columns - np.floor(columns) - 0.5) > 0.02)
    inside = clear & (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width)
    assert inside.mean() > 0.8 and (found[inside] == depth[row[inside], column[inside]]).all()
    assert (found[clear & ~inside] == 0).all()
    ramp = np.repeat(np.arange(camera.width, dtype=np.float64)[None] * 255 / camera.width, camera.height, 0)
    mixed = undistort(np.repeat(np.uint8(np.rint(ramp))[..., None], 3, 2), camera, NYUD2_COLOR_DISTORTION)
    within = (rows >= 0) & (rows <= camera.height - 1) & (columns >= 0) & (columns <= camera.width - 1)
    assert abs(mixed[within][:, 0] - columns[within] * 255 / camera.width).max() < 1.1


def test_places_of_codes_are_exact():
    camera = CAMERAS["nyud2_depth"]
    expected = np.stack(distorted(camera, NYUD2_DEPTH_DISTORTION))
    assert abs(_distorted_pixels(camera, NYUD2_DEPTH_DISTORTION) - expected).max() < 1e-11


def test_undistort_names_what_opencv_would_not_take():
    camera = Camera(50, 50, 10, 8, 20, 16)
    image = np.zeros((16, 20), np.uint16)
    assert undistort(image, camera, [0.1] * 8).shape == (16, 20)
    with pytest.raises(DataError, match="distortion has 3 coefficients, expected 4, 5, 8, 12, 14"):
        undistort(image, camera, [0.1] * 3)
