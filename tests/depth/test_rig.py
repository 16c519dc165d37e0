"""Depth brought to a colour camera of another size, place and lens."""

import cv2
import numpy as np
import pytest

from caffe_compat.depth import Camera, register
from caffe_compat.depth.rig import Rig, View
from caffe_compat.errors import DataError

EYE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SMALL = Camera(50, 50, 9.5, 7.5, 20, 16)


def turn(*degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees))[0]


def rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


def test_without_lens_and_of_one_focal_length_it_is_register():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 4, (16, 20)) * (rng.random((16, 20)) > 0.2)
    color = Camera(50, 50, 11, 8, 24, 18, origin=1)
    rotation, translation = turn(2, -3, 1), (0.03, -0.01, 0.02)
    found = Rig(View(SMALL), View(color), rows(rotation), translation).register(depth)
    assert np.array_equal(found, register(depth, SMALL, color, rotation, np.array(translation)))
    assert (found > 0).sum() > 150


@pytest.mark.parametrize("times", [2, 3, 2.5])
def test_a_finer_colour_image_has_no_gaps(times):
    """A slanted wall, seen finer: every pixel inside gets a depth, that of the wall there."""
    color = Camera(50 * times, 50 * times, 9.5 * times, 7.5 * times, int(20 * times), int(16 * times))
    u = np.arange(20) - SMALL.cx
    wall = np.broadcast_to(2 / (1 - 0.3 * u / 50), (16, 20))  # Z = 2 + 0.3 X
    found = Rig(View(SMALL), View(color), EYE, (0.0, 0.0, 0.0)).register(wall)
    inside = found[3:-3, 3:-3]
    expected = 2 / (1 - 0.3 * (np.arange(color.width) - color.cx) / color.fx)
    assert (inside > 0).all()
    assert np.abs(inside - expected[3:-3]).max() < 0.03  # a pixel of depth is 2 / 50 * 0.3 = 0.012 m deep


def test_the_nearest_surface_wins():
    depth = np.full((16, 20), 4.0)
    depth[:, 10] = 1.0
    found = Rig(View(SMALL), View(SMALL), EYE, (0.08, 0.0, 0.0)).register(depth)
    assert (found[:, 14] == 1.0).all() and (found[:, 0] == 0).all()


def test_lenses_point_by_point():
    """Each pixel goes where OpenCV's model of both lenses puts it; a slow loop is the reference."""
    bent, other = (0.2, -0.3, 0.002, -0.003, 0.1), (-0.15, 0.1, -0.002, 0.001, 0.02, 0.3, 0.01, 0.05)
    depth_view, color_view = View(SMALL, bent), View(Camera(48, 47, 10, 8, 20, 16), other)
    rotation, translation = turn(1, 2, -2), (0.02, 0.01, -0.01)
    depth = np.random.default_rng(1).uniform(1, 3, (16, 20))
    expected = np.full((16, 20), np.inf)
    for v in range(16):
        for u in range(20):
            ray = cv2.undistortPoints(np.array([[[u, v]]], np.float64), depth_view.matrix, np.array(bent))[0, 0]
            point = rotation @ (np.array([*ray, 1]) * depth[v, u]) + translation
            place, _ = cv2.projectPoints(point[None], np.zeros(3), np.zeros(3), color_view.matrix, np.array(other))
            x, y = np.floor(place[0, 0] + 0.5).astype(int)
            if 0 <= x < 20 and 0 <= y < 16:
                expected[y, x] = min(expected[y, x], point[2])
    found = Rig(depth_view, color_view, rows(rotation), translation).register(depth)
    assert found == pytest.approx(np.where(np.isfinite(expected), expected, 0), abs=1e-9)
    assert (found > 0).sum() > 200


def test_points_far_outside_do_not_come_back_through_the_lens():
    view = View(Camera(10, 10, 9.5, 7.5, 20, 16), (-0.4, 0.0, 0.0, 0.0))
    wide = View(Camera(2, 2, 49.5, 7.5, 100, 16))
    found = Rig(wide, view, EYE, (0.0, 0.0, 0.0)).register(np.where(np.arange(100) > 90, 1.0, 0.0) * np.ones((16, 1)))
    assert not found.any()


def test_nothing_measured_is_nothing():
    lens = (0.1, 0.0, 0.0, 0.0)
    assert not Rig(View(SMALL, lens), View(SMALL, lens), EYE, (0.0, 0.0, 0.0)).register(np.zeros((16, 20))).any()


@pytest.mark.parametrize(
    ("rotation", "translation", "message"),
    [
        (EYE, (15.0, 0.0, 0.0), "15 m apart; expected metres, are these millimetres"),
        (EYE[:2], (0.0, 0.0, 0.0), r"rotation \(2, 3\)"),
        (((2.0, 0.0, 0.0), *EYE[1:]), (0.0, 0.0, 0.0), "is no rotation"),
        (((-1.0, 0.0, 0.0), *EYE[1:]), (0.0, 0.0, 0.0), "is no rotation"),
        (EYE, (float("nan"), 0.0, 0.0), "not finite"),
    ],
)
def test_extrinsics_that_are_none(rotation, translation, message):
    with pytest.raises(DataError, match=message):
        Rig(View(SMALL), View(SMALL), rotation, translation)


def test_views_that_are_none():
    with pytest.raises(DataError, match="expected 0, 4, 5"):
        View(SMALL, (1.0, 2.0))
    with pytest.raises(DataError, match="width and height are not known"):
        View(Camera(1, 1, 0, 0))
    with pytest.raises(DataError, match="but the camera makes"):
        Rig(View(SMALL), View(SMALL), EYE, (0.0, 0.0, 0.0)).register(np.ones((3, 4)))
