from pathlib import Path

import numpy as np
import pytest

from caffe_compat.depth import CAMERAS, Camera, DepthFormat, read_depth, register, register_nyud2
from caffe_compat.depth.io import read_color
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


def test_nyud2_registration_moves_a_wall_by_the_baseline():
    """Without distortion a point on the axis lands where the published matrices say; 1 cm of slack for the lens."""
    depth = np.full((480, 640), 2.0)
    found, color = register_nyud2(depth, np.zeros((480, 640, 3), np.uint8))
    assert found.shape == (480, 640) and color.shape == (480, 640, 3)
    assert found.max() == pytest.approx(2.0, abs=1e-6)
    # The colour camera sees narrower: the depth image fills less than its frame at neither side but the border.
    assert (found[40:440, 60:600] > 0).mean() > 0.75
    with pytest.raises(DataError, match="480 x 640"):
        register_nyud2(depth[:100], np.zeros((480, 640, 3), np.uint8))
    assert CAMERAS["nyud2_depth"].fx == pytest.approx(582.62448, abs=1e-5)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real frames here")
def test_registration_brings_real_depth_edges_onto_colour_edges():
    """Depth steps and colour steps meet more often after registration than before."""
    depth = read_depth(REAL / "open3d_testdata/other_formats_NYU_depth.pgm", DepthFormat(encoding="nyud2_raw"))
    color = read_color(REAL / "open3d_testdata/other_formats_NYU_color.ppm")
    found, flat = register_nyud2(depth, color)
    assert edge_agreement(found, flat) > 1.1 * edge_agreement(depth, color)


def edge_agreement(depth: np.ndarray, color: np.ndarray) -> float:
    """Mean colour gradient at depth steps over 10 cm, against the image's mean."""
    grey = color.astype(float).mean(2)
    gradient = np.abs(np.diff(grey, axis=1))
    known = (depth[:, 1:] > 0) & (depth[:, :-1] > 0)
    step = known & (np.abs(np.diff(depth, axis=1)) > 0.1)
    step[:, :50] = step[:, -50:] = step[:50] = step[-50:] = False
    return float(gradient[step].mean() / gradient[50:-50, 50:-50].mean())
