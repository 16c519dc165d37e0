"""Pinhole cameras of the depth data sets.

Pixel coordinates: a camera says with ``origin`` which number its ``cx, cy`` give to the centre of the first pixel.
NYUD2's constants come from Matlab, where it is 1; ROS, OpenCV and the makers' drivers count from 0.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

from caffe_compat.documents import parse_json
from caffe_compat.errors import DataError, nearest, one_line
from caffe_compat.files import open_existing

__all__ = [
    "CAMERAS",
    "NYUD2_COLOR_DISTORTION",
    "NYUD2_DEPTH_DISTORTION",
    "NYUD2_DEPTH_TO_COLOR_ROTATION",
    "NYUD2_DEPTH_TO_COLOR_TRANSLATION",
    "Camera",
]


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera: ``X = (u - cx) Z / fx``, ``Y = (v - cy) Z / fy`` with X right, Y down, Z forward.

    Args:
        fx, fy: focal lengths in pixels.
        cx, cy: principal point in pixels, counted as ``origin`` says.
        width, height: size of the images it makes; None leaves the size unchecked.
        origin: coordinate of the centre of the first pixel, 1 (Matlab, NYUD2) or 0 (OpenCV, drivers).

    Raises:
        DataError: a number that is not finite, a focal length or size that is not positive, another origin.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None
    origin: int = 0

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name[0] == "f" and value <= 0):
                raise DataError(
                    f"camera: {name} is {value}, expected a {'positive' if name[0] == 'f' else 'finite'} number"
                )
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"camera: {name} is {value}, expected a positive number of pixels or None")
        if self.origin not in (0, 1):
            raise DataError(f"camera: origin is {self.origin}, expected 0 or 1 (the coordinate of the first pixel)")

    def crop(self, top: int, left: int, height: int, width: int) -> Camera:
        """The camera of ``image[top:top+height, left:left+width]`` (counted from 0)."""
        outside = top < 0 or left < 0 or height < 1 or width < 1
        outside |= self.height is not None and top + height > self.height
        outside |= self.width is not None and left + width > self.width
        if outside:
            raise DataError(
                f"camera: crop of {height} x {width} at row {top}, column {left} leaves the image "
                f"of {self.height} x {self.width} (height x width)"
            )
        return dataclasses.replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def with_size(self, width: int | None, height: int | None) -> Camera:
        """The same intrinsics for images of another size: neither cropped nor scaled, nothing is recomputed."""
        return dataclasses.replace(self, width=width, height=height)

    def check_size(self, height: int, width: int, what: str = "depth") -> None:
        """Refuse an image that this camera did not make.

        Raises:
            DataError: the sizes differ.
        """
        if (self.height or height, self.width or width) != (height, width):
            raise DataError(
                f"{what} is {height} x {width} but the camera makes {self.height} x {self.width} (height x width); use "
                "Camera.crop for a cropped image, Camera.with_size to keep these intrinsics on purpose"
            )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, origin: int = 0) -> Camera:
        """Read a camera from a file.

        Args:
            path: ``.json`` with ``fx, fy, cx, cy`` and maybe ``width, height, origin``, or with Open3D's
                ``intrinsic_matrix`` (9 numbers, column by column); or text with 4 numbers (fx fy cx cy) or the
                9 numbers of a 3 x 3 matrix row by row, as SUN RGB-D's ``intrinsics.txt``.
            origin: pixel origin, where the file does not say.

        Raises:
            MissingFileError: no such file.
            DataError: it holds no camera.
        """
        with open_existing(path, "camera intrinsics") as stream:
            content = stream.read(65536)
        try:
            text = content.decode("utf-8")
            is_json = Path(path).suffix.lower() == ".json"
            fields = _json_fields(parse_json(text, "its text")) if is_json else _matrix_fields(text)
            return cls(**{"origin": origin, **fields})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, DataError) as error:
            reason = f"field {error} is missing" if isinstance(error, KeyError) else one_line(error)
            raise DataError(f"{os.fspath(path)}: not a camera file: {reason}") from error

    @classmethod
    def parse(cls, text: str, *, origin: int | None = None) -> Camera:
        """A camera from a preset's name, a file's name, or ``fx,fy,cx,cy``.

        Args:
            text: what a command line was given.
            origin: pixel origin; None means the preset's own, and 0 for files and numbers.

        Raises:
            DataError: it is none of them.
            MissingFileError: it looks like a file's name and there is none.
        """
        if text in CAMERAS:
            return CAMERAS[text] if origin is None else dataclasses.replace(CAMERAS[text], origin=origin)
        if text.count(",") == 3:
            try:
                fx, fy, cx, cy = (float(part) for part in text.split(","))
            except ValueError:
                raise DataError(f"camera '{text}': expected four numbers fx,fy,cx,cy") from None
            return cls(fx, fy, cx, cy, origin=origin or 0)
        if os.path.exists(text) or Path(text).suffix.lower() in (".json", ".txt"):
            return cls.from_file(text, origin=origin or 0)
        raise DataError(
            f"camera '{text}': no preset of that name{nearest(text, CAMERAS)}, no such file, not fx,fy,cx,cy; "
            f"presets: {', '.join(sorted(CAMERAS))}"
        )


def _json_fields(content: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: int(content[name]) for name in ("width", "height", "origin") if name in content}
    if "intrinsic_matrix" in content:
        matrix = [float(value) for value in content["intrinsic_matrix"]]
        if len(matrix) != 9:
            raise ValueError(f"intrinsic_matrix has {len(matrix)} numbers, expected 9")
        return fields | dict(zip(("fx", "fy", "cx", "cy"), (matrix[0], matrix[4], matrix[6], matrix[7]), strict=True))
    return fields | {name: float(content[name]) for name in ("fx", "fy", "cx", "cy")}


def _matrix_fields(text: str) -> dict[str, float]:
    numbers = [float(part) for part in re.split(r"[\s,;]+", text.strip()) if part]
    if len(numbers) == 9:
        if numbers[6:] != [0.0, 0.0, 1.0]:
            raise ValueError(f"the third row of the matrix is {numbers[6:]}, expected 0 0 1")
        numbers = [numbers[0], numbers[4], numbers[2], numbers[5]]
    if len(numbers) != 4:
        raise ValueError(f"{len(numbers)} numbers, expected 4 (fx fy cx cy) or 9 (3 x 3 matrix)")
    return dict(zip(("fx", "fy", "cx", "cy"), numbers, strict=True))


_NYUD2_COLOR = Camera(
    518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465, width=640, height=480, origin=1
)

#: Cameras by name.  ``nyud2_*`` are the calibrated ones of the NYUD2 toolbox, ``sunrgbd_*`` what SUN RGB-D's
#: intrinsics.txt says for most frames of a sensor (read each frame's own file instead where it is there), with pixels
#: counted from 1 as its toolbox does; the others are nominal values of the makers' drivers for a sensor's usual mode,
#: good to a few per cent.
CAMERAS = MappingProxyType(
    {
        "nyud2_color": _NYUD2_COLOR,
        "nyud2_color_cropped": _NYUD2_COLOR.crop(45, 40, 425, 560),
        "nyud2_depth": Camera(
            582.62448167737955, 582.69103270988637, 313.04475870804731, 238.44389626620386, 640, 480, origin=1
        ),
        "kinect_v1": Camera(525.0, 525.0, 319.5, 239.5, 640, 480),
        "kinect_v2": Camera(365.0, 365.0, 256.0, 212.0, 512, 424),
        "kinect_v2_color": Camera(1081.37, 1081.37, 959.5, 539.5, 1920, 1080),
        "xtion": Camera(525.0, 525.0, 319.5, 239.5, 640, 480),
        "realsense_d435": Camera(615.0, 615.0, 319.5, 239.5, 640, 480),
        "realsense_d435_depth": Camera(383.0, 383.0, 319.5, 239.5, 640, 480),
        "sunrgbd_kv1": Camera(520.53, 520.53, 277.93, 215.115, 561, 427, origin=1),
        "sunrgbd_kv2": Camera(529.5, 529.5, 365.0, 265.0, 730, 530, origin=1),
        "sunrgbd_realsense": Camera(691.584, 691.584, 362.777, 264.75, 681, 531, origin=1),
        "sunrgbd_xtion": Camera(570.342, 570.342, 295.0, 220.5, 591, 441, origin=1),
        "tum_fr1": Camera(517.3, 516.5, 318.6, 255.3, 640, 480),
        "tum_fr2": Camera(520.9, 521.0, 325.1, 249.7, 640, 480),
        "tum_fr3": Camera(535.4, 539.2, 320.1, 247.6, 640, 480),
    }
)

#: Lens distortion of NYUD2's cameras as (k1, k2, p1, p2, k3), OpenCV's order.
NYUD2_COLOR_DISTORTION = (
    2.0796615318809061e-01,
    -5.8613825163911781e-01,
    7.2231363135888329e-04,
    1.0479627195765181e-03,
    4.9856986684705107e-01,
)
NYUD2_DEPTH_DISTORTION = (
    -9.9897236553084481e-02,
    3.9065324602765344e-01,
    1.9290592870229277e-03,
    -1.9422022475975055e-03,
    -5.1031725053400578e-01,
)
#: The matrix M of the NYUD2 toolbox; a depth-camera point P lies at ``inv(-M) P + T`` in the colour camera.
NYUD2_DEPTH_TO_COLOR_ROTATION = (
    (9.9997798940829263e-01, 5.0518419386157446e-03, 4.3011152014118693e-03),
    (-5.0359919480810989e-03, 9.9998051861143999e-01, -3.6879781309514218e-03),
    (-4.3196624923060242e-03, 3.6662365748484798e-03, 9.9998394948385538e-01),
)
#: T in metres; the toolbox stores it in the order t_x, t_z, t_y.
NYUD2_DEPTH_TO_COLOR_TRANSLATION = (2.5031875059141302e-02, -2.9342312935846411e-04, 6.6238747008330102e-04)
