"""Bringing raw depth into the colour camera's image."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from caffe_compat.depth.camera import (
    CAMERAS,
    NYUD2_COLOR_DISTORTION,
    NYUD2_DEPTH_DISTORTION,
    NYUD2_DEPTH_TO_COLOR_ROTATION,
    NYUD2_DEPTH_TO_COLOR_TRANSLATION,
    Camera,
)
from caffe_compat.depth.io import NYUD2_FARTHEST, NYUD2_NO_DATA, nyud2_metres
from caffe_compat.errors import DataError

__all__ = ["register", "register_nyud2", "undistort"]

COEFFICIENTS = (4, 5, 8, 12, 14)
"""How many distortion coefficients OpenCV's models have."""


def undistort(image: np.ndarray, camera: Camera, distortion: Sequence[float]) -> np.ndarray:
    """Remove the lens distortion of an image; same size, same camera matrix.

    Args:
        image: uint8 [H, W, 3], sampled linearly, or depth [H, W], where the nearest pixel is taken so that no depth is
            made up between two surfaces.  What lies outside becomes 0.
        camera: the camera that made it.
        distortion: (k1, k2, p1, p2, k3), OpenCV's order; any number of coefficients that OpenCV takes.

    Raises:
        DataError: another size than the camera's, or another number of coefficients.
    """
    camera.check_size(image.shape[0], image.shape[1], "image")
    sized = camera.with_size(image.shape[1], image.shape[0])
    if len(distortion) not in COEFFICIENTS:
        raise DataError(f"distortion has {len(distortion)} coefficients, expected {', '.join(map(str, COEFFICIENTS))}")
    matrix, coefficients = _matrix(sized), np.array(distortion, np.float64)
    size = (image.shape[1], image.shape[0])
    columns, rows = cv2.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_32FC1)
    how = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
    return np.asarray(cv2.remap(image, columns, rows, how, borderMode=cv2.BORDER_CONSTANT, borderValue=0))


def register(
    depth: np.ndarray, depth_camera: Camera, color_camera: Camera, rotation: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Depth as the colour camera would have measured it.

    Args:
        depth: [H, W] metres, undistorted, 0 where missing.
        depth_camera, color_camera: the latter must know its size.
        rotation: [3, 3]; a point P of the depth camera lies at ``rotation @ P + translation`` in the colour camera.
        translation: [3] metres.

    Returns:
        float64 [height, width] of the colour camera, metres along its axis; the nearest surface wins; 0 where no
        measurement falls (see :func:`complete`).

    Raises:
        DataError: sizes or shapes that do not fit, or a colour camera without a size.
    """
    row, column, distance, _ = _project(depth, depth_camera, color_camera, rotation, translation)
    return _paint(row, column, distance, color_camera)


def register_nyud2(codes: np.ndarray, color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A raw NYUD2 video frame brought to the layout of the labelled frames, as the NYUD2 toolbox does.

    Both images are undistorted; depth while it is still codes, which are sampled linearly, and what a pixel without a
    measurement touches is missing.  Depth is projected into the colour camera, without its last row and column; the
    nearest surface wins; the value kept is the distance from the *depth* camera (about a millimetre from the other).
    What is 10 m away or more is missing: the toolbox keeps it as 10 m, but its completion takes it for noise.

    Args:
        codes: uint16 [480, 640], the sensor's disparity codes, see :func:`caffe_compat.depth.io.read_nyud2_codes`.
        color: uint8 [480, 640, 3] RGB of the nearest ``r-*.ppm``.

    Returns:
        Depth float64 [480, 640] metres with holes (0), and colour uint8 [480, 640, 3]; camera
        ``CAMERAS["nyud2_color"]``.

    Raises:
        DataError: sizes that differ from 480 x 640, or codes that are not uint16.
    """
    depth_camera, color_camera = CAMERAS["nyud2_depth"], CAMERAS["nyud2_color"]
    depth_camera.check_size(codes.shape[0], codes.shape[1])
    color_camera.check_size(color.shape[0], color.shape[1], "colour")
    if codes.dtype != np.uint16:
        raise DataError(f"codes are {codes.dtype}, expected the sensor's uint16")
    flat = _undistort_codes(codes, depth_camera)
    # The toolbox's rotation is inv(-M): both signs turned, its points lie in front of the camera again.
    rotation = np.linalg.inv(np.array(NYUD2_DEPTH_TO_COLOR_ROTATION))
    translation = -np.array(NYUD2_DEPTH_TO_COLOR_TRANSLATION)
    row, column, _, source = _project(flat, depth_camera, color_camera, rotation, translation)
    depth = _paint(row, column, source, color_camera)
    depth[-1], depth[:, -1] = 0, 0
    depth[depth >= NYUD2_FARTHEST] = 0
    return depth, undistort(color, color_camera, NYUD2_COLOR_DISTORTION)


def _undistort_codes(codes: np.ndarray, camera: Camera) -> np.ndarray:
    """Metres [H, W] of the undistorted code image, 0 where missing, at most 10."""
    places = _distorted_pixels(camera, NYUD2_DEPTH_DISTORTION)
    sampled = map_coordinates(codes.astype(np.float64), places, order=1, cval=0.0)
    touched = map_coordinates((codes >= NYUD2_NO_DATA).astype(np.float64), places, order=1, cval=0.0) > 0
    return np.where(touched, 0.0, nyud2_metres(sampled))


@functools.lru_cache(maxsize=4)
def _distorted_pixels(camera: Camera, distortion: tuple[float, ...]) -> np.ndarray:
    """Row and column [2, H, W] (from 0) in the distorted image of every pixel of the undistorted one.

    In float64, as ``initUndistortRectifyMap`` does not give them: its roundings let a pixel touch a neighbour without a
    measurement that it does not touch.
    """
    matrix = _matrix(camera)
    row, column = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    x, y = (column - matrix[0, 2]) / matrix[0, 0], (row - matrix[1, 2]) / matrix[1, 1]
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    none = np.zeros(3)
    places, _ = cv2.projectPoints(rays, none, none, matrix, np.array(distortion, np.float64))
    return np.ascontiguousarray(places.reshape(*x.shape, 2)[..., ::-1].transpose(2, 0, 1))


def _matrix(camera: Camera) -> np.ndarray:
    """The camera matrix [3, 3] for pixels counted from 0."""
    column, row = camera.cx - camera.origin, camera.cy - camera.origin
    return np.array([[camera.fx, 0, column], [0, camera.fy, row], [0, 0, 1]], np.float64)


def _project(
    depth: np.ndarray, depth_camera: Camera, color_camera: Camera, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, column, colour-camera and depth-camera distance of every measured point that falls into the colour image."""
    if color_camera.width is None or color_camera.height is None:
        raise DataError("camera: the colour camera needs width and height to register depth to it")
    depth_camera.check_size(depth.shape[0], depth.shape[1])
    if np.shape(rotation) != (3, 3) or np.shape(translation) != (3,):
        raise DataError(
            f"register: rotation {np.shape(rotation)} and translation {np.shape(translation)}, expected 3 x 3 and 3"
        )
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
    z = depth[v, u].astype(np.float64)
    x = (u + depth_camera.origin - depth_camera.cx) * z / depth_camera.fx
    y = (v + depth_camera.origin - depth_camera.cy) * z / depth_camera.fy
    px, py, pz = np.asarray(rotation) @ np.stack([x, y, z]) + np.asarray(translation)[:, None]
    front = pz > 0
    px, py, pz, z = px[front], py[front], pz[front], z[front]
    column = np.floor(px * color_camera.fx / pz + color_camera.cx + 0.5).astype(np.int64) - color_camera.origin
    row = np.floor(py * color_camera.fy / pz + color_camera.cy + 0.5).astype(np.int64) - color_camera.origin
    inside = (column >= 0) & (column < color_camera.width) & (row >= 0) & (row < color_camera.height)
    return row[inside], column[inside], pz[inside], z[inside]


def _paint(row: np.ndarray, column: np.ndarray, distance: np.ndarray, camera: Camera) -> np.ndarray:
    image = np.full((camera.height or 0, camera.width or 0), np.inf)
    np.minimum.at(image, (row, column), distance)
    return np.where(np.isfinite(image), image, 0.0)
