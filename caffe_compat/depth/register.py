"""Bringing raw depth into the colour camera's image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.depth.camera import (
    CAMERAS,
    NYUD2_COLOR_DISTORTION,
    NYUD2_DEPTH_DISTORTION,
    NYUD2_DEPTH_TO_COLOR_ROTATION,
    NYUD2_DEPTH_TO_COLOR_TRANSLATION,
    Camera,
)
from caffe_compat.errors import DataError

__all__ = ["register", "register_nyud2", "undistort"]


def undistort(image: np.ndarray, camera: Camera, distortion: Sequence[float]) -> np.ndarray:
    """Remove the lens distortion of an image; same size, same camera matrix.

    Args:
        image: uint8 [H, W, 3], sampled linearly, or depth [H, W], where the nearest pixel is taken so that no depth is
            made up between two surfaces.  What lies outside becomes 0.
        camera: the camera that made it.
        distortion: (k1, k2, p1, p2, k3), OpenCV's order.
    """
    import cv2

    camera.check_size(image.shape[0], image.shape[1], "image")
    matrix = np.array(
        [[camera.fx, 0, camera.cx - camera.origin], [0, camera.fy, camera.cy - camera.origin], [0, 0, 1]], np.float64
    )
    size = (image.shape[1], image.shape[0])
    maps = cv2.initUndistortRectifyMap(matrix, np.array(distortion, np.float64), None, matrix, size, cv2.CV_32FC1)  # type: ignore[call-overload]
    how = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
    return np.asarray(cv2.remap(image, maps[0], maps[1], how, borderMode=cv2.BORDER_CONSTANT, borderValue=0))


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


def register_nyud2(depth: np.ndarray, color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A raw NYUD2 video frame brought to the layout of the labelled frames, as the NYUD2 toolbox does.

    Both images are undistorted, depth is projected into the colour camera, the nearest surface wins, and the value kept
    is the distance from the *depth* camera (the toolbox's choice; about a millimetre from the other).

    Args:
        depth: float [480, 640] metres of a raw ``d-*.pgm`` (``DepthFormat(encoding="nyud2_raw")``), 0 where missing.
        color: uint8 [480, 640, 3] RGB of the nearest ``r-*.ppm``.

    Returns:
        Depth float64 [480, 640] with holes, and colour uint8 [480, 640, 3]; camera ``CAMERAS["nyud2_color"]``.

    Raises:
        DataError: sizes that differ from 480 x 640.
    """
    depth_camera, color_camera = CAMERAS["nyud2_depth"], CAMERAS["nyud2_color"]
    depth_camera.check_size(depth.shape[0], depth.shape[1])
    color_camera.check_size(color.shape[0], color.shape[1], "colour")
    flat = undistort(depth.astype(np.float32), depth_camera, NYUD2_DEPTH_DISTORTION)
    # The toolbox's rotation is inv(-M): both signs turned, its points lie in front of the camera again.
    rotation = np.linalg.inv(np.array(NYUD2_DEPTH_TO_COLOR_ROTATION))
    translation = -np.array(NYUD2_DEPTH_TO_COLOR_TRANSLATION)
    row, column, _, source = _project(flat, depth_camera, color_camera, rotation, translation)
    return _paint(row, column, source, color_camera), undistort(color, color_camera, NYUD2_COLOR_DISTORTION)


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
    column = np.rint(px * color_camera.fx / pz + color_camera.cx).astype(np.int64) - color_camera.origin
    row = np.rint(py * color_camera.fy / pz + color_camera.cy).astype(np.int64) - color_camera.origin
    inside = (column >= 0) & (column < color_camera.width) & (row >= 0) & (row < color_camera.height)
    return row[inside], column[inside], pz[inside], z[inside]


def _paint(row: np.ndarray, column: np.ndarray, distance: np.ndarray, camera: Camera) -> np.ndarray:
    image = np.full((camera.height or 0, camera.width or 0), np.inf)
    np.minimum.at(image, (row, column), distance)
    return np.where(np.isfinite(image), image, 0.0)
