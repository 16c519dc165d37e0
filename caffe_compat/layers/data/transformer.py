"""Caffe's ``transform_param``."""

from __future__ import annotations

import numpy as np

from caffe_compat.batches.stretching import Stretching
from caffe_compat.batches.transform import Transform
from caffe_compat.batches.varying import Varying
from caffe_compat.layers.params import Params, Section
from caffe_compat.media import MODALITIES, Preprocessing, read_mean

__all__ = ["Transformer", "plain"]


def plain(value: np.floating) -> float:
    """A number of float32 as a prototxt has it: 0.017, not 0.017000000923871994."""
    return float(f"{value:.8g}")


def _read_varying(params: Params) -> Varying | Stretching | None:
    """intel/caffe's ``random_resize_param``, else ``random_aspect_ratio_param``, or NVIDIA/caffe's sizes."""
    section = params.section("transform_param")
    both = [section.value(name) for name in _VARYING if section.has(name)]
    drawn = [name for name in _STRETCHING if section.has(name)]
    if not both and not drawn:
        section.ignore("interpolation_algo_down", "interpolation_algo_up", "allow_upscale")  # of a size that is drawn
        return None
    crop = int(section.crop_size)
    if not crop:
        raise params.error(
            f"transform_param has {both[0].DESCRIPTOR.name if both else drawn[0]} and no crop_size, expected one"
        )
    if both and drawn:
        raise params.error(f"transform_param has {both[0].DESCRIPTOR.name} and {drawn[0]}, expected one of them")
    if drawn:
        return _read_stretching(params, section, crop)
    own = both[0]
    if section.has(_VARYING[0]):
        if own.max_size and own.min_size > own.max_size:
            raise params.error(f"random_resize_param has sizes {own.min_size} to {own.max_size}, expected min <= max")
        return Varying(crop, (own.min_size, own.max_size), None, own.resize_param)
    if not (0 < own.min_area_ratio <= own.max_area_ratio <= 1 and 0 < own.aspect_ratio_change <= 1):
        raise params.error(
            f"random_aspect_ratio_param has areas {own.min_area_ratio:g} to {own.max_area_ratio:g} and "
            f"aspect_ratio_change {own.aspect_ratio_change:g}, expected 0 < min <= max <= 1, and above 0, 1 at most"
        )
    return Varying(crop, None, own, own.resize_param)


def _read_stretching(params: Params, section: Section, crop: int) -> Stretching:
    low, high = int(section.img_rand_resize_lower), int(section.img_rand_resize_upper)
    if low > high > 0:
        raise params.error(f"transform_param: img_rand_resize_lower is {low}, expected at most the upper {high}")
    names = ("rand_resize_ratio", "vertical_stretch", "horizontal_stretch")
    ratio, vertical, horizontal = (
        (float(section.value(f"{name}_lower")), float(section.value(f"{name}_upper"))) for name in names
    )
    for name, pair in zip(names, (ratio, vertical, horizontal), strict=True):
        if not np.isfinite(pair).all():
            raise params.error(f"transform_param: {name}_lower and {name}_upper are {pair}, expected numbers")
    return Stretching(
        crop,
        (low, high),
        ratio,
        vertical,
        horizontal,
        int(section.interpolation_algo_down),
        int(section.interpolation_algo_up),
        bool(section.allow_upscale),
    )


_STRETCHING = tuple(
    f"{name}_{end}"
    for name in ("img_rand_resize", "rand_resize_ratio", "vertical_stretch", "horizontal_stretch")
    for end in ("lower", "upper")
)
_VARYING = ("random_resize_param", "random_aspect_ratio_param")


class Transformer(Transform):
    """A :class:`~caffe_compat.batches.transform.Transform` as a layer's ``transform_param`` has it.

    Args:
        rectangles: whether ``crop_height`` and ``crop_width`` mean something to the layer.

    Raises:
        LayerError: values that contradict each other.
    """

    def __init__(self, params: Params, rectangles: bool = False) -> None:
        section = params.section("transform_param")
        mean_file = str(section.mean_file) if section.has("mean_file") else ""
        super().__init__(
            params.phase == "TRAIN",
            np.float32(section.scale),
            bool(section.mirror),
            int(section.crop_size),
            bool(section.force_color),
            bool(section.force_gray),
            mean_file,
            np.array(section.mean_value, np.float32),
            int(section.negate_x_channel),
        )
        if not -1 <= self.negate_x <= 2:
            raise params.error(f"negate_x_channel is {self.negate_x}, expected 0, 1, 2 or -1 for none")
        if mean_file and self.mean_values.size:
            raise params.error(f"has mean_file ({mean_file}) and mean_value, expected one of them")
        self.mean = read_mean(mean_file) if mean_file else None
        self.flow, self.pad = bool(section.flow), int(section.pad)
        if self.pad and (mean_file or section.mirror and self.negate_x >= 0):
            raise params.error(f"transform_param has pad {self.pad} and mean_file or negate_x_channel, expected alone")
        self.varying = _read_varying(params)
        if rectangles:
            self.rectangle = (int(section.crop_height), int(section.crop_width))
        if self.varying is not None and any(self.rectangle):
            raise params.error("transform_param has crop_height or crop_width and sizes that vary, expected crop_size")
        if self.varying is not None and mean_file:
            raise params.error(f"has mean_file ({mean_file}) and sizes that vary, expected mean_value")

    @property
    def modality(self) -> str:
        """Of pictures of three channels: flow where that is what a mirror turns, else colour."""
        return "flow" if (self.negate_x,) == MODALITIES["flow"].negated else "color"

    def wants(self, channels: int, resize: tuple[int, int] | None = None) -> Preprocessing | None:
        """What a net that is fed so wants of a picture that it is tested on; None: pictures have other channels, or
        sizes that vary.

        Args:
            resize: height and width of what is cropped; None: any.
        """
        if channels not in (1, 3) or self.varying is not None:
            return None
        return Preprocessing(
            self.modality if channels == 3 else "gray",
            mean=tuple(map(plain, self.mean_values)),
            mean_file=self.mean_file,
            scale=plain(self.scale),
            resize=resize if self.mean is None else (self.mean.shape[1], self.mean.shape[2]),
            crop=self.window if all(self.window) else None,
            flip=self.mirror,
        )
