"""Nominal intrinsics of depth cameras at any of their resolutions.

Nominal: what the makers' drivers say for a typical device, good to a few per cent; each device has its own numbers, and
:mod:`.calibration` reads them.  One rule holds for every camera here: the picture shows the middle of the sensor, as
large as its shape allows, scaled to its size.  So 16:9 of a RealSense's 16:9 colour sensor keeps the whole width, and
640 x 480 loses the sides.  The depth of an Azure Kinect is another matter: its modes crop and bin.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import MappingProxyType

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.errors import DataError, nearest

__all__ = ["NOMINAL", "USUAL_UNITS_OF", "Sensor", "known_name", "named_camera", "parse_camera"]


@dataclasses.dataclass(frozen=True)
class Sensor:
    """What makes the pictures of a camera.

    Args:
        width, height: of the whole sensor in pixels.
        focal: nominal focal length in pixels of the whole sensor.
        sizes: (width, height) of the pictures that it gives.
        crops: of sizes that are cut out of the sensor: (shrunk by, left, top), in pixels of the shrunken sensor.
    """

    width: int
    height: int
    focal: float
    sizes: tuple[tuple[int, int], ...]
    crops: tuple[tuple[float, int, int], ...] = ()

    def camera(self, width: int, height: int) -> Camera:
        """The pinhole camera of pictures of a size that :attr:`sizes` has; pixels are counted from 0."""
        if self.crops:
            shrunk, left, top = self.crops[self.sizes.index((width, height))]
            cx, cy = self.width / shrunk / 2 - left - 0.5, self.height / shrunk / 2 - top - 0.5
            return Camera(self.focal / shrunk, self.focal / shrunk, cx, cy, width, height)
        focal = self.focal * max(width / self.width, height / self.height)
        return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


_WIDE = ((1280, 720), (848, 480), (640, 480), (640, 360), (480, 270), (424, 240))
_D400_COLOR = ((1920, 1080), (1280, 720), (960, 540), (848, 480), (640, 480), (640, 360), (424, 240), (320, 240))
_KINECT = ((1280, 720), (1920, 1080), (2560, 1440), (2048, 1536), (3840, 2160), (4096, 3072))

#: Sensors by name.  ``realsense_d435`` at 640 x 480 is the preset of that name in ``CAMERAS``; D415, D455 and L515 are
#: the same from typical devices.  The wide modes of the Azure Kinect's depth (1024 x 1024, 512 x 512) are fisheye
#: pictures, of which a pinhole holds only in the middle.
NOMINAL = MappingProxyType(
    {
        "realsense_d415": Sensor(1920, 1080, 1384.0, _D400_COLOR),
        "realsense_d415_depth": Sensor(1280, 720, 900.0, _WIDE),
        "realsense_d435": Sensor(1920, 1080, 1383.75, _D400_COLOR),
        "realsense_d435_depth": Sensor(1280, 800, 1.0 / 0.6 * 383.0, ((1280, 800), *_WIDE)),
        "realsense_d455": Sensor(1280, 800, 638.0, ((1280, 800), *_WIDE)),
        "realsense_d455_depth": Sensor(1280, 800, 638.0, ((1280, 800), *_WIDE)),
        "realsense_l515": Sensor(1920, 1080, 1360.0, ((1920, 1080), (1280, 720), (960, 540), (640, 480), (640, 360))),
        "realsense_l515_depth": Sensor(1024, 768, 731.0, ((1024, 768), (640, 480), (320, 240))),
        "azure_kinect": Sensor(4096, 3072, 1952.0, _KINECT),
        "azure_kinect_depth": Sensor(
            1024, 1024, 504.0, ((640, 576), (320, 288), (1024, 1024), (512, 512)),
            ((1, 192, 180), (2, 96, 90), (1, 0, 0), (2, 0, 0)),
        ),
    }
)  # fmt: skip

#: Units per metre of the depth that a camera's driver writes unless told otherwise, by the beginning of its name.
USUAL_UNITS_OF = MappingProxyType(
    {"realsense_l515": 4000.0, "realsense_": 1000.0, "azure_kinect": 1000.0, "kinect_v2": 1000.0, "tum_": 5000.0}
)


def named_camera(name: str, width: int, height: int) -> Camera:
    """A camera by its name, as it makes pictures of a size.

    Args:
        name: of ``NOMINAL``, or a preset of ``CAMERAS``, which has but one size.

    Raises:
        DataError: no such name (names the nearest), or the camera has no such size (names those that it has).
    """
    if name in NOMINAL:
        sizes = NOMINAL[name].sizes
        if (width, height) not in sizes:
            raise DataError(
                f"camera {name} makes no pictures of {width} x {height} (width x height); it makes "
                f"{', '.join(f'{w} x {h}' for w, h in sorted(sizes))}: pictures that were scaled or cropped since need "
                "their own fx,fy,cx,cy"
            )
        return NOMINAL[name].camera(width, height)
    if name not in CAMERAS:
        known = {*NOMINAL, *CAMERAS}
        raise DataError(f"camera '{name}': there is none of that name{nearest(name, known)}")
    camera = CAMERAS[name]
    if (camera.width, camera.height) != (width, height):
        raise DataError(
            f"camera {name} makes pictures of {camera.width} x {camera.height} (width x height), these are {width} x "
            f"{height}: give their own fx,fy,cx,cy"
        )
    return camera


def known_name(text: str) -> str:
    """The name of a camera however it is written: ``D435``, ``Azure-Kinect``, ``RealSense D455@848x480``.

    What is no camera's name, and what is the name of a file, is returned as it is.
    """
    name, at, rest = text.partition("@")
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    found = [one for one in (plain, f"realsense_{plain}") if one in NOMINAL or one in CAMERAS]
    return f"{found[0]}{at}{rest}" if found and not os.path.exists(text) else text


def parse_camera(text: str, *, origin: int | None = None, size: tuple[int, int] | None = None) -> Camera:
    """A camera as :meth:`Camera.parse` reads it, or ``NAME@WIDTHxHEIGHT``: a camera at one of its resolutions.

    Args:
        text: what a command line was given.
        origin: pixel origin; None means the camera's own.
        size: width and height of the pictures, where they are known: ``NAME`` alone is taken at this resolution.

    Raises:
        DataError: it is none of them, or there is no such resolution.
        MissingFileError: it looks like a file's name and there is none.
    """
    text = known_name(text)
    name, at, resolution = text.partition("@")
    if at and (name in NOMINAL or name in CAMERAS):
        parts = resolution.lower().split("x")
        if len(parts) != 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
            raise DataError(f"camera '{text}': expected NAME@WIDTHxHEIGHT, such as realsense_d435@848x480")
        found = named_camera(name, int(parts[0]), int(parts[1]))
    elif size is not None and (text in NOMINAL or text in CAMERAS):
        found = named_camera(text, *size)
    elif text in NOMINAL and text not in CAMERAS:
        example = "x".join(map(str, NOMINAL[text].sizes[0]))
        raise DataError(f"camera '{text}': at which resolution? such as {text}@{example}")
    else:
        known = {*NOMINAL, *CAMERAS}
        if text not in known and "," not in text and not os.path.exists(text) and not Path(text).suffix:
            raise DataError(
                f"camera '{text}': no camera of that name{nearest(name.lower(), known)}, no such file, not "
                f"fx,fy,cx,cy; names: {', '.join(sorted(known))}"
            )
        return Camera.parse(text, origin=origin)
    return found if origin is None else dataclasses.replace(found, origin=origin)
