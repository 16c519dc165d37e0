"""Ways of computing flow from two frames.

ActionTubes took Brox's variational method (2004, a Matlab mex of the University of Freiburg).  DIS with its variational
refinement is the nearest in OpenCV's main package and the default; TV-L1 and DeepFlow, nearer still and slower, are in
its contrib modules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import cv2
import numpy as np

from caffe_compat.errors import DataError, UsageError, nearest, one_line
from caffe_compat.media.video import gray_of

__all__ = ["METHODS", "Method", "OpenCVMethod", "check_frames", "opencv_method"]

CONTRIB = "needs OpenCV's contrib modules: pip install opencv-contrib-python in the place of opencv-python"
PRESETS: Mapping[str, str] = MappingProxyType(
    {"ultrafast": "ULTRAFAST", "fast": "FAST", "medium": "MEDIUM"}
)  # OpenCV's names after DISOPTICAL_FLOW_PRESET_


class Method(Protocol):
    """A way of computing flow.  It goes to worker processes: it holds names and numbers."""

    def settings(self) -> dict[str, Any]:
        """What the flow depends on besides the frames, in JSON's terms."""

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow from the first frame to the second.

        Args:
            first, second: uint8 [H, W, 3], blue first, of one size.

        Returns:
            float32 [H, W, 2]: pixels to the right and downwards.

        Raises:
            DataError: frames that the method cannot take.
        """


def _dis(preset: str) -> Any:
    return cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{PRESETS[preset]}"))


def _farneback(_: str) -> Any:
    return cv2.FarnebackOpticalFlow.create()


def _tvl1(_: str) -> Any:
    return _contrib("DualTVL1OpticalFlow_create", "tvl1")()


def _deepflow(_: str) -> Any:
    return _contrib("createOptFlow_DeepFlow", "deepflow")()


def _contrib(function: str, name: str) -> Callable[[], Any]:
    found = getattr(getattr(cv2, "optflow", None), function, None)
    if found is None:
        raise UsageError(f"method '{name}' {CONTRIB}")
    return found  # type: ignore[no-any-return]


_MAKERS: Mapping[str, tuple[Callable[[str], Any], tuple[str, ...]]] = MappingProxyType(
    {
        "dis": (
            _dis,
            (
                "finest_scale", "patch_size", "patch_stride", "gradient_descent_iterations",
                "use_mean_normalization", "use_spatial_propagation", "variational_refinement_iterations",
                "variational_refinement_alpha", "variational_refinement_delta", "variational_refinement_gamma",
            ),
        ),
        "farneback": (
            _farneback,
            ("num_levels", "pyr_scale", "fast_pyramids", "win_size", "num_iters", "poly_n", "poly_sigma", "flags"),
        ),
        "tvl1": (
            _tvl1,
            (
                "tau", "lambda", "theta", "gamma", "scales_number", "warpings_number", "epsilon", "inner_iterations",
                "outer_iterations", "scale_step", "median_filtering",
            ),
        ),
        "deepflow": (_deepflow, ()),
    }
)  # fmt: skip
"""Of each method what makes OpenCV's object, and its options, named as OpenCV's setters."""
_FROM_0 = frozenset({
    "finest_scale", "gradient_descent_iterations", "variational_refinement_iterations", "variational_refinement_delta",
    "variational_refinement_gamma", "flags", "gamma", "median_filtering",
})  # fmt: skip
"""Options that may be 0; others must be positive (OpenCV divides by some without looking)."""
METHODS = (*_MAKERS, "raft")
"""Names of all methods."""


@dataclasses.dataclass(frozen=True)
class OpenCVMethod:
    """A method of OpenCV's, as a :class:`Method`; made by :func:`opencv_method`.

    Args:
        name: ``dis``, ``farneback``, ``tvl1`` or ``deepflow``.
        preset: of DIS.
        options: every option and its value.
    """

    name: str
    preset: str
    options: tuple[tuple[str, Any], ...]

    def settings(self) -> dict[str, Any]:
        return {"method": self.name, **({"preset": self.preset} if self.name == "dis" else {}), **dict(self.options)}

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        check_frames(first, second)
        self._check_size(*first.shape[:2])
        estimator = _made(self.name, self.preset, dict(self.options))
        try:
            found = estimator.calc(gray_of(first), gray_of(second), None)
        except cv2.error as error:
            size = f"{first.shape[1]}x{first.shape[0]}"
            raise DataError(f"{self.name} cannot take frames of {size}: {one_line(error)}") from error
        return np.asarray(found, np.float32)

    def _check_size(self, height: int, width: int) -> None:
        """Refuse frames that are thinner than a patch at DIS's finest scale: some of them crash OpenCV."""
        if self.name == "dis":
            options = dict(self.options)
            least = options["patch_size"] << options["finest_scale"]
            if min(height, width) < least:
                raise DataError(f"frames of {width}x{height}: dis needs {least} pixels in both directions")


def opencv_method(name: str = "dis", preset: str = "medium", options: Mapping[str, str] | None = None) -> OpenCVMethod:
    """A method of OpenCV's.

    Args:
        name: ``dis``, ``farneback``, ``tvl1`` or ``deepflow``.
        preset: of DIS: ``ultrafast``, ``fast`` or ``medium``.
        options: other values than OpenCV's own, as text; names as those of its setters (``setFinestScale`` is
            ``finest_scale``).

    Raises:
        UsageError: no such method, preset or option, a value of another type or that OpenCV refuses, or OpenCV without
            its contrib modules.
    """
    if name not in _MAKERS:
        raise UsageError(f"method '{name}'{nearest(name, _MAKERS)}: expected one of {', '.join(_MAKERS)}")
    if preset not in PRESETS:
        raise UsageError(f"preset '{preset}'{nearest(preset, PRESETS)}: expected one of {', '.join(PRESETS)}")
    known = _MAKERS[name][1]
    estimator = _made(name, preset, {})
    values = {option: getattr(estimator, f"get{_camel(option)}")() for option in known}
    for option, text in (options or {}).items():
        if option not in known:
            those = ", ".join(known) or "none"
            raise UsageError(f"method '{name}' has no option '{option}'{nearest(option, known)}; it has {those}")
        values[option] = _value(option, text, values[option])
    if name == "dis" and not 4 <= values["patch_size"] >= values["patch_stride"]:
        raise UsageError(
            f"patch_size {values['patch_size']} and patch_stride {values['patch_stride']}: expected 4 or more, and a "
            "stride that leaves no gaps (others crash OpenCV)"
        )
    made = _made(name, preset, values)
    kept = tuple((option, getattr(made, f"get{_camel(option)}")()) for option in known)
    for option, value in kept:
        if not np.isclose(value, values[option]):
            raise UsageError(f"method '{name}': OpenCV makes {value} of {option} = {values[option]}")
    return OpenCVMethod(name, preset, kept)


def _made(name: str, preset: str, options: Mapping[str, Any]) -> Any:
    """OpenCV's object with these options."""
    estimator = _MAKERS[name][0](preset)
    for option, value in options.items():
        try:
            getattr(estimator, f"set{_camel(option)}")(value)
        except cv2.error as error:
            raise UsageError(f"method '{name}': {option} = {value}: {one_line(error)}") from error
    return estimator


def _value(option: str, text: str, default: Any) -> Any:
    """What a text says, as the type of the default."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"{option} is '{text}', expected true or false")
        return text.lower() in ("true", "1")
    try:
        value = type(default)(text)
    except ValueError as error:
        kind = "an integer" if isinstance(default, int) else "a number"
        raise UsageError(f"{option} is '{text}', expected {kind}") from error
    if not 0 <= value < 1e6 or (value == 0 and option not in _FROM_0):
        raise UsageError(
            f"{option} is '{text}', expected a {'number from 0' if option in _FROM_0 else 'positive number'}"
        )
    return value


def _camel(option: str) -> str:
    return "".join(word.capitalize() for word in option.split("_"))


def check_frames(first: np.ndarray, second: np.ndarray) -> None:
    """Refuse what are not two frames of one size.

    Raises:
        DataError: another type or shape.
    """
    for frame in (first, second):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise DataError(f"a frame {frame.dtype} {list(frame.shape)}, expected uint8 [H, W, 3]")
    if first.shape != second.shape:
        sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (first, second)]
        raise DataError(f"frames of {sizes[0]} and of {sizes[1]}: expected one size")
