"""Rooms with one object each, drawn by casting a ray per pixel.

Room coordinates: metres, X right, Y up, Z away from the wall behind the camera, the floor at y = 0.  Camera
coordinates: X right, Y down, Z forward.  Rays have unit Z in camera coordinates, so a ray parameter is a depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_compat.depth import Camera
from caffe_compat.errors import DataError
from caffe_compat.scenes.solids import Part, bounding_radius, intersect, make_object, occluded, scaled
from caffe_compat.scenes.textures import Texture, random_texture

__all__ = ["Frame", "Pose", "Room", "View", "camera_rays", "make_room", "make_view", "render"]

Array = NDArray[np.floating]
_OBJECT = 6
"""Surface number of the object; 0..5 are the room's +x, -x, +y (ceiling), -y (floor), +z and -z faces."""

# Objects are darker than the room, as furniture often is; in HHA they are brighter, so a colour network cannot simply
# be used on it.  Colour says nothing about the class.
_DARK, _LIGHT = (0.15, 0.5), (0.45, 0.95)


@dataclass(frozen=True)
class Decal:
    """A flat patch with its own texture: a picture on a wall, a rug.  Invisible in depth."""

    surface: int
    centre: Array
    half: Array
    texture: Texture


@dataclass(frozen=True)
class Room:
    """What the frames of one scene share.

    Attributes:
        size: width, height, length, (3,).
        textures: of the six faces.
        decals: pictures and rugs.
        light: unit direction towards the lamp, (3,).
        ambient: share of the light that comes from everywhere.
        tint: colour of the light, (3,).
    """

    size: Array
    textures: list[Texture]
    decals: list[Decal]
    light: Array
    ambient: float
    tint: Array


@dataclass(frozen=True)
class Pose:
    """A camera in a room: position (3,), rotation from camera to room coordinates (3, 3), tilt down in degrees."""

    position: Array
    rotation: Array
    tilt: float


@dataclass(frozen=True)
class View:
    """An object in a room and the camera that looks at it.

    Attributes:
        label: class of the object.
        parts: its parts in object coordinates.
        position: where it stands, (3,).
        turn: rotation from object to room coordinates, (3, 3).
        texture: its texture.
        pose: the camera.
        centre: centre of a sphere around the object, in object coordinates, (3,).
        radius: radius of that sphere.
    """

    label: int
    parts: list[Part]
    position: Array
    turn: Array
    texture: Texture
    pose: Pose
    centre: Array
    radius: float


@dataclass(frozen=True)
class Frame:
    """A drawn view.

    Attributes:
        image: RGB, (H, W, 3), uint8.
        depth: z in metres without noise, (H, W), float32.
        facing: cosine between surface normal and the ray back to the camera, (H, W).
        mask: pixels of the object, (H, W).
    """

    image: NDArray[np.uint8]
    depth: Array
    facing: Array
    mask: NDArray[np.bool_]


def make_room(rng: np.random.Generator) -> Room:
    """A random room, 3.4 to 5 m wide and 4.2 to 5.5 m long."""
    size = rng.uniform((3.4, 2.4, 4.2), (5.0, 2.8, 5.5)).astype(np.float32)
    wall = random_texture(rng, _LIGHT)
    textures = [wall if rng.random() < 0.6 else random_texture(rng, _LIGHT) for _ in range(6)]
    textures[3] = random_texture(rng, _LIGHT)
    decals = []
    for surface in (0, 1, 4, 4, 3):
        if rng.random() < 0.35:
            flat = surface == 3
            centre = rng.uniform((-0.4, 0.0 if flat else 0.45, 0.4), (0.4, 0.0 if flat else 0.75, 0.8)) * size
            half = rng.uniform(0.3, 0.8 if flat else 0.5, 3)
            decal = Decal(surface, centre.astype(np.float32), half.astype(np.float32), random_texture(rng, _LIGHT, 0.6))
            decals.append(decal)
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(30, 70))
    light = np.array([np.cos(height) * np.cos(azimuth), np.sin(height), np.cos(height) * np.sin(azimuth)], np.float32)
    tint = rng.uniform(0.8, 1.2, 3).astype(np.float32) * np.float32(rng.uniform(0.75, 1.15))
    return Room(size, textures, decals, light, rng.uniform(0.25, 0.4), tint)


def _about_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def make_view(label: int, room: Room, rng: np.random.Generator) -> View:
    """A random object of a class in a room, and a camera that looks at it.

    The camera is 1.2 to 2.5 m away, 0.95 to 1.5 m high and tilted down by 3 to 28 degrees.
    """
    factor = rng.uniform(0.65, 1.0)
    parts = scaled(make_object(label, rng), factor)
    distance = np.clip(factor / rng.uniform(0.45, 0.7), 1.2, 2.5)
    width, _, length = room.size
    x = rng.uniform(-0.5, 0.5) * (width - 2.2)
    z = rng.uniform(2.7, length - 0.75)
    approach = rng.uniform(-0.7, 0.7)
    eye_x = np.clip(x - distance * np.sin(approach), 0.3 - width / 2, width / 2 - 0.3)
    eye = np.array([eye_x, rng.uniform(0.95, min(1.5, 0.45 + 0.6 * distance)), z - distance * np.cos(approach)])
    ahead = np.hypot(x - eye[0], z - eye[2])
    heading = np.arctan2(x - eye[0], z - eye[2]) + np.radians(rng.uniform(-5, 5))
    aim = np.degrees(np.arctan2(eye[1] - 0.45 * factor, ahead))
    tilt = float(np.clip(aim - rng.uniform(0, 7), 3, 28))
    t, r = np.radians(tilt), np.radians(rng.normal(0, 1.5))
    axes = np.array([[1, 0, 0], [0, -np.cos(t), -np.sin(t)], [0, -np.sin(t), np.cos(t)]]).T
    roll = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    pose = Pose(eye.astype(np.float32), (_about_y(heading) @ axes @ roll).astype(np.float32), tilt)
    turn = _about_y(heading + rng.uniform(-1.9, 1.9))  # never straight from behind: stairs would be a box
    place = np.array([x, 0, z], np.float32)
    centre = np.array([0, 0.4 * factor, 0], np.float32)
    return View(label, parts, place, turn, random_texture(rng, _DARK), pose, centre, bounding_radius(parts, centre))


def render(room: Room, view: View, camera: Camera, rng: np.random.Generator) -> Frame:
    """Draw a view; ``rng`` adds the grain of the colour camera.

    Raises:
        DataError: the camera does not say the size of its images.
    """
    if camera.width is None or camera.height is None:
        raise DataError("camera: it has no width and height, which drawing needs")
    shape = (camera.height, camera.width)
    rays = view.pose.rotation @ camera_rays(camera, *shape)
    eye = view.pose.position[:, None]
    depth, surface, normals = _room_hits(room, eye, rays)
    _add_object(view, eye, rays, (depth, surface, normals))
    points = (eye + depth * rays).T
    colour = _reflectance(room, view, points, surface) * _lighting(room, view, points, surface, normals)
    image: Array = cv2.GaussianBlur(colour.reshape(*shape, 3), (3, 3), 0.5).astype(np.float32, copy=False)
    image = np.clip(image, 0, 1) ** np.float32(1 / 1.6) + 0.012 * rng.standard_normal((*shape, 3), np.float32)
    facing = -(normals * rays.T).sum(1) / np.linalg.norm(rays, axis=0)
    return Frame(
        np.round(255 * np.clip(image, 0, 1)).astype(np.uint8),
        depth.reshape(shape),
        facing.reshape(shape),
        (surface == _OBJECT).reshape(shape),
    )


def camera_rays(camera: Camera, height: int, width: int) -> Array:
    """Rays (3, H * W) with unit z."""
    u, v = np.meshgrid(np.arange(width) + camera.origin, np.arange(height) + camera.origin)
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)])
    return rays.reshape(3, -1).astype(np.float32)


def _room_hits(room: Room, eye: Array, rays: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """Depth (N,), surface number (N,) and inward normal (N, 3) where rays leave the room."""
    width, height, length = room.size
    low = np.array([[-width / 2], [0], [0]], np.float32)
    high = np.array([[width / 2], [height], [length]], np.float32)
    safe = np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
    t = (np.where(safe > 0, high, low) - eye) / safe
    axis = t.argmin(0)
    along = np.arange(rays.shape[1])
    positive = safe[axis, along] > 0
    normals = np.zeros((rays.shape[1], 3), np.float32)
    normals[along, axis] = np.where(positive, -1, 1)
    return t[axis, along], 2 * axis + ~positive, normals


def _add_object(view: View, eye: Array, rays: Array, hits: tuple[Array, NDArray[np.int64], Array]) -> None:
    """Put the object in front of the room: changes the three arrays of ``hits`` in place."""
    depth, surface, normals = hits
    origin = view.turn.T @ (eye - view.position[:, None])
    local = view.turn.T @ rays
    near = _close_rays(view, origin, local)
    found = intersect(view.parts, origin, local[:, near])
    front = found.t < depth[near]
    chosen = near[front]
    depth[chosen] = found.t[front]
    surface[chosen] = _OBJECT
    normals[chosen] = found.normals[front] @ view.turn.T


def _close_rays(view: View, origin: Array, direction: Array) -> NDArray[np.intp]:
    """Indices of the lines (object coordinates, 3 x N) that pass through the bounding sphere of the object."""
    offset = view.centre[:, None] - origin
    along = (offset * direction).sum(0) / (direction * direction).sum(0)
    gap = offset - along * direction
    return np.flatnonzero((gap * gap).sum(0) < view.radius**2)


def _reflectance(room: Room, view: View, points: Array, surface: NDArray[np.int64]) -> Array:
    """Colour of the surfaces, (N, 3)."""
    colour = np.empty_like(points)
    for number, texture in enumerate([*room.textures, view.texture]):
        here = np.flatnonzero(surface == number)
        local = points[here]
        if number == _OBJECT:
            local = (local - view.position) @ view.turn
        colour[here] = texture.at(local)
        for decal in room.decals:
            if decal.surface == number:
                inside = np.abs(local - decal.centre) < decal.half
                inside[:, number // 2] = True
                within = inside.all(1)
                colour[here[within]] = decal.texture.at(local[within])
    return colour


def _lighting(room: Room, view: View, points: Array, surface: NDArray[np.int64], normals: Array) -> Array:
    """Light that reaches the points, (N, 3): a lamp far away with cast shadows, and light from everywhere."""
    lamp = np.maximum(normals @ room.light, 0)
    beam = (view.turn.T @ room.light)[:, None]
    local = ((points - view.position) @ view.turn).T
    near = _close_rays(view, local, beam)
    near = near[lamp[near] > 0]
    start = local[:, near] + 0.004 * (normals[near] @ view.turn).T
    lamp[near[occluded(view.parts, start, beam)]] = 0
    sky = room.ambient * (0.85 + 0.15 * normals[:, 1])
    return (sky + (1 - room.ambient) * lamp)[:, None] * room.tint
