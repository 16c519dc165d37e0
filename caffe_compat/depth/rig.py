"""A depth and a colour camera that are screwed together: depth as the colour camera's pixels would have it."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from caffe_compat.depth.camera import Camera
from caffe_compat.errors import DataError

__all__ = ["Rig", "View"]

_DISTORTIONS = (0, 4, 5, 8, 12, 14)
"""How many coefficients OpenCV's model takes: k1 k2 p1 p2 [k3 [k4 k5 k6 [...]]]."""
CLOSED = 1.05
"""Pixels of depth are painted so much wider than they are, since parallax and slanted surfaces draw them apart."""
MOST_SPREAD = 8
"""Pixels of the colour image that one pixel of depth covers at most, across."""


@dataclasses.dataclass(frozen=True)
class View:
    """A camera with its lens.

    Args:
        camera: the pinhole camera; it knows its size.
        distortion: k1, k2, p1, p2 and, where there are more, k3 or k3 to k6, in OpenCV's order and model; empty: none.

    Raises:
        DataError: another number of coefficients, one that is not finite, or a camera without a size.
    """

    camera: Camera
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.distortion) not in _DISTORTIONS or not all(map(math.isfinite, self.distortion)):
            raise DataError(
                f"camera: distortion {list(self.distortion)}, expected {', '.join(map(str, _DISTORTIONS))} finite "
                "numbers (k1 k2 p1 p2 k3 ..)"
            )
        if self.camera.width is None or self.camera.height is None:
            raise DataError("camera: its width and height are not known")

    @property
    def lens(self) -> np.ndarray | None:
        """The coefficients as OpenCV takes them; None if all are 0."""
        return np.array(self.distortion) if any(self.distortion) else None

    @property
    def matrix(self) -> np.ndarray:
        """[3, 3]; the principal point counts pixels from 0."""
        camera = self.camera
        return np.array(
            [[camera.fx, 0, camera.cx - camera.origin], [0, camera.fy, camera.cy - camera.origin], [0, 0, 1.0]]
        )


@dataclasses.dataclass(frozen=True)
class Rig:
    """Two cameras.

    Args:
        depth, color: the cameras.
        rotation: three rows of three; a point P of the depth camera lies at ``rotation @ P + translation`` in the
            colour camera.
        translation: three numbers in metres.

    Raises:
        DataError: shapes, numbers that are not finite, a matrix that does not rotate, or over 2 m between the cameras
            (millimetres?).
    """

    depth: View
    color: View
    rotation: tuple[tuple[float, ...], ...]
    translation: tuple[float, ...]

    def __post_init__(self) -> None:
        rotation, translation = np.array(self.rotation, np.float64), np.array(self.translation, np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise DataError(
                f"extrinsics: rotation {rotation.shape} and translation {translation.shape}, expected 3 x 3, 3"
            )
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            raise DataError("extrinsics: a number is not finite")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
            raise DataError(f"extrinsics: {rotation.tolist()} is no rotation")
        distance = float(np.linalg.norm(translation))
        if distance > 2:
            raise DataError(
                f"extrinsics: the cameras are {distance:g} m apart; expected metres, are these millimetres?"
            )

    def register(self, depth: np.ndarray) -> np.ndarray:
        """Depth for every pixel of the colour image as it was taken, its lens distortion included.

        Where the colour image is finer than the depth, a pixel of depth covers as many pixels as it is wide there, so
        that surfaces stay closed; the nearest surface wins.

        Args:
            depth: [H, W] metres of the depth camera, 0 where missing.

        Returns:
            float64 [height, width] of the colour camera, metres along its axis; 0 where no measurement falls.

        Raises:
            DataError: depth of another size than the depth camera makes.
        """
        self.depth.camera.check_size(depth.shape[0], depth.shape[1])
        v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
        z = depth[v, u].astype(np.float64)
        x, y = self._rays(u, v)
        points = np.array(self.rotation) @ np.stack([x * z, y * z, z]) + np.array(self.translation)[:, None]
        points = points[:, points[2] > 0]
        column, row = self._pixels(points)
        return self._paint(row, column, points[2])

    def _rays(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X / Z and Y / Z of pixels."""
        matrix, lens = self.depth.matrix, self.depth.lens
        if lens is None or not len(u):
            return (u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]
        pixels = np.stack([u, v], axis=1).astype(np.float64)[:, None]
        rays = cv2.undistortPoints(pixels, matrix, lens)[:, 0]
        return rays[:, 0], rays[:, 1]

    def _pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row, not rounded, of points [3, N] before the colour camera."""
        matrix, lens = self.color.matrix, self.color.lens
        slopes = points[:2] / points[2]
        if lens is None or not points.shape[1]:
            return slopes[0] * matrix[0, 0] + matrix[0, 2], slopes[1] * matrix[1, 1] + matrix[1, 2]
        # far outside the picture the lens's polynomial turns round and would bring points back into it
        outside = (np.abs(slopes) > 1.5 * self._reach()[:, None]).any(axis=0)
        solid = np.vstack([slopes, np.ones_like(slopes[:1])]).T[:, None]
        found = cv2.projectPoints(solid, np.zeros(3), np.zeros(3), matrix, lens)[0][:, 0].T
        return np.where(outside, -1e9, found[0]), np.where(outside, -1e9, found[1])

    def _reach(self) -> np.ndarray:
        """The largest X / Z and Y / Z of the colour image, without its lens."""
        camera, matrix = self.color.camera, self.color.matrix
        width, height = camera.width or 0, camera.height or 0
        return np.array(
            [
                max(matrix[0, 2], width - matrix[0, 2]) / matrix[0, 0],
                max(matrix[1, 2], height - matrix[1, 2]) / matrix[1, 1],
            ]
        )

    def _paint(self, row: np.ndarray, column: np.ndarray, distance: np.ndarray) -> np.ndarray:
        camera = self.color.camera
        height, width = camera.height or 0, camera.width or 0
        spread = max(camera.fx / self.depth.camera.fx, camera.fy / self.depth.camera.fy)
        across = 1 if spread <= CLOSED else min(math.ceil(spread * CLOSED), MOST_SPREAD)
        first_row, first_column = (_whole(place - across / 2 + 1 + 1e-9) for place in (row, column))
        image = np.full(height * width, np.inf)
        for down in range(across):
            for right in range(across):
                at_row, at_column = first_row + down, first_column + right
                inside = (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
                np.minimum.at(image, at_row[inside] * width + at_column[inside], distance[inside])
        return np.where(np.isfinite(image), image, 0.0).reshape(height, width)


def _whole(places: np.ndarray) -> np.ndarray:
    """Rounded down; what lies at infinity stays out of the image."""
    return np.asarray(np.floor(np.nan_to_num(np.clip(places, -1e9, 1e9), nan=-1e9)), np.int64)
