"""HHA the slow, obvious way: one pixel at a time, least squares by NumPy.  And a scene whose truth is known."""

import math

import numpy as np

from caffe_compat.depth import Camera

CAMERA = Camera(40.0, 28.0, 30.3, 22.1, 60, 48, origin=1)
EYE_HEIGHT, WALL = 1.4, 4.0


def room(tilt_degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Depth in metres [48, 60] of a floor 1.4 m under the camera and a wall 4 m ahead; and where the floor is."""
    angle = math.radians(tilt_degrees)
    depth = np.zeros((48, 60))
    floor = np.zeros((48, 60), bool)
    for row in range(48):
        for column in range(60):
            x, y, z = ray(row, column)
            up_y = math.cos(angle) * y + math.sin(angle) * z  # the ray in upright axes
            up_z = -math.sin(angle) * y + math.cos(angle) * z
            to_floor = EYE_HEIGHT / up_y if up_y > 0 else math.inf
            to_wall = WALL / up_z if up_z > 0 else math.inf
            depth[row, column] = min(to_floor, to_wall)
            floor[row, column] = to_floor < to_wall
    return depth, floor


def ray(row: int, column: int) -> tuple[float, float, float]:
    return (column + 1 - CAMERA.cx) / CAMERA.fx, (row + 1 - CAMERA.cy) / CAMERA.fy, 1.0


def normal(depth: np.ndarray, missing: np.ndarray, row: int, column: int, radius: int) -> np.ndarray:
    rays, inverse = [], []
    for r in range(max(0, row - radius), min(depth.shape[0], row + radius + 1)):
        for c in range(max(0, column - radius), min(depth.shape[1], column + radius + 1)):
            if not missing[r, c]:
                rays.append(ray(r, c))
                inverse.append(1 / depth[r, c])
    if not rays:
        return np.full(3, np.nan)
    solution = np.linalg.lstsq(np.array(rays), np.array(inverse), rcond=None)[0]
    solution /= np.linalg.norm(solution)
    return solution if solution @ ray(row, column) >= 0 else -solution


def encode(depth: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HHA image and gravity of metres [H, W]."""
    down = np.array([0.0, 1.0, 0.0])
    pixels = [(r, c) for r in range(depth.shape[0]) for c in range(depth.shape[1])]
    normals = [n for n in (normal(depth, missing, r, c, 10) for r, c in pixels) if not np.isnan(n).any()]
    for threshold in (45, 15):
        for _ in range(5):
            matrix = np.zeros((3, 3))
            for n in normals:
                if abs(n @ down) > math.cos(math.radians(threshold)):
                    matrix -= np.outer(n, n)
                elif abs(n @ down) < math.sin(math.radians(threshold)):
                    matrix += np.outer(n, n)
            found = np.linalg.eigh(matrix)[1][:, 0]
            down = found if found @ down >= 0 else -found
    heights = {(r, c): -100 * depth[r, c] * (np.array(ray(r, c)) @ down) for r, c in pixels}
    ground = min(heights.values())
    if ground > -90:
        ground = -130
    image = np.zeros((*depth.shape, 3), np.uint8)
    for r, c in pixels:
        n = normal(depth, missing, r, c, 3)
        angle = 180.0 if np.isnan(n).any() else math.degrees(math.acos(max(-1.0, min(1.0, n @ down))))
        values = (31000 / max(100 * depth[r, c], 100), heights[r, c] - ground, angle + 38)
        image[r, c] = [min(255, math.floor(value + 0.5)) for value in values]
    return image, down
