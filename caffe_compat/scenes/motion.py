"""What moves in a drawn clip, and its true optical flow.

An action is a way of moving and nothing else: every solid does every action, anywhere in the room and in the air, so
that one colour picture does not tell left from right.  The camera moves too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from caffe_compat.depth import Camera
from caffe_compat.scenes.render import Frame, Pose, Room, View, camera_rays, make_view
from caffe_compat.scenes.solids import CLASSES

__all__ = ["ACTIONS", "VIDEO_ACTIONS", "Motion", "make_track", "true_flow"]

Array = NDArray[np.floating]

SPEED = (1.6, 3.2)
"""Pixels a frame, in pictures of 128 pixels width, of what moves across the picture."""
DEPTH_SPEED = 2.0
"""What moves to or from the camera is so many times as fast, or it would hardly be seen."""
TURN = (5.0, 9.0)
"""Degrees a frame of what turns."""
LIFT = (0.3, 0.6)
"""Metres by which everything is raised in the middle of a clip, so that what sinks has where to."""
CAMERA_SHIFT, CAMERA_TURN = 0.008, 0.25
"""Standard deviations of the camera's own motion in a clip: metres, and degrees about each axis, a frame."""


@dataclass(frozen=True)
class Motion:
    """A way of moving, as seen by the camera: parts of a speed, and the sense of a turn about the upright axis."""

    right: float = 0.0
    up: float = 0.0
    towards: float = 0.0
    spin: float = 0.0


_HALF = float(np.sqrt(0.5))

ACTIONS: Mapping[str, Motion] = MappingProxyType(
    {
        "approach": Motion(towards=1),
        "left": Motion(right=-1),
        "recede": Motion(towards=-1),
        "right": Motion(right=1),
        "rise": Motion(up=1),
        "sink": Motion(up=-1),
        "turn": Motion(spin=1),
    }
)
"""What is detected; the label is the position."""

VIDEO_ACTIONS: Mapping[str, Motion] = MappingProxyType(
    {
        "approach": Motion(towards=1),
        "recede": Motion(towards=-1),
        "rise_left": Motion(-_HALF, _HALF),
        "rise_right": Motion(_HALF, _HALF),
        "sink_left": Motion(-_HALF, -_HALF),
        "sink_right": Motion(_HALF, -_HALF),
        "turn": Motion(spin=1),
        "turn_back": Motion(spin=-1),
    }
)
"""Those of the videos that have no boxes, as UCF101's are other actions than JHMDB's, with some in common."""


def make_track(motion: Motion, room: Room, camera: Camera, rng: np.random.Generator, frames: int) -> list[View]:
    """A random solid that moves, and a camera that moves a little, frame by frame."""
    start = make_view(int(rng.integers(len(CLASSES))), room, rng)
    lift = np.array([0, rng.uniform(*LIFT), 0], np.float32)
    width = camera.width or 128
    pixels = rng.uniform(*SPEED) * width / 128
    pose = replace(start.pose, position=start.pose.position + lift)
    middle = start.position + lift
    sight = middle + start.turn @ start.centre - pose.position
    distance = float(np.linalg.norm(sight))
    step = _across(sight / distance, pose, motion) * (pixels * distance / camera.fx)
    angle = motion.spin * np.radians(rng.uniform(*TURN))
    shift, turn = rng.normal(0, CAMERA_SHIFT, 3), np.radians(rng.normal(0, CAMERA_TURN, 3))
    track = []
    for number in range(frames):
        time = number - (frames - 1) / 2
        track.append(
            replace(
                start,
                position=(middle + time * step).astype(np.float32),
                turn=(_rotation(np.array([0, time * angle, 0])) @ start.turn).astype(np.float32),
                pose=Pose(
                    (pose.position + time * shift).astype(np.float32),
                    (pose.rotation @ _rotation(time * turn)).astype(np.float32),
                    pose.tilt,
                ),
            )
        )
    return track


def _across(sight: Array, pose: Pose, motion: Motion) -> Array:
    """A unit step in room coordinates; ``sight`` is the unit direction from the camera to the object."""
    right = pose.rotation[:, 0] - (pose.rotation[:, 0] @ sight) * sight
    right = right / np.linalg.norm(right)
    up = np.cross(sight, right)
    up = up if up @ pose.rotation[:, 1] < 0 else -up  # the camera's y points down
    found: Array = motion.right * right + motion.up * up - DEPTH_SPEED * motion.towards * sight
    return found


def _rotation(turn: Array) -> Array:
    """The rotation about a vector by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(turn))
    if angle == 0:
        return np.eye(3)
    x, y, z = turn / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    found: Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return found


def true_flow(frame: Frame, here: View, then: View, camera: Camera) -> NDArray[np.float32]:
    """Where every pixel's surface is one frame later, less where it is: float32 (H, W, 2), x to the right and y down.

    Args:
        frame: ``here`` as drawn; its depth and mask are read.
        here, then: what is seen in a frame and in the next one.

    What is hidden in the next frame has its flow too; nothing is behind the camera, which stays in the room.
    """
    height, width = frame.depth.shape
    rays = here.pose.rotation.astype(np.float64) @ camera_rays(camera, height, width)
    points = here.pose.position[:, None] + frame.depth.reshape(1, -1) * rays
    moved = then.turn.astype(np.float64) @ here.turn.T @ (points - here.position[:, None]) + then.position[:, None]
    points = np.where(frame.mask.reshape(1, -1), moved, points)
    seen = then.pose.rotation.astype(np.float64).T @ (points - then.pose.position[:, None])
    v, u = np.mgrid[:height, :width]
    across = camera.fx * seen[0] / seen[2] + camera.cx - camera.origin - u.ravel()
    down = camera.fy * seen[1] / seen[2] + camera.cy - camera.origin - v.ravel()
    return np.stack([across, down], 1).reshape(height, width, 2).astype(np.float32)
