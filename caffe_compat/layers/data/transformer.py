"""Caffe's ``transform_param``."""

from __future__ import annotations

import numpy as np

from caffe_compat.batches.transform import Transform
from caffe_compat.layers.params import Params
from caffe_compat.media import MODALITIES, Preprocessing, read_mean

__all__ = ["Transformer", "plain"]


def plain(value: np.floating) -> float:
    """A number of float32 as a prototxt has it: 0.017, not 0.017000000923871994."""
    return float(f"{value:.8g}")


class Transformer(Transform):
    """A :class:`~caffe_compat.batches.transform.Transform` as a layer's ``transform_param`` has it.

    Raises:
        LayerError: values that contradict each other.
    """

    def __init__(self, params: Params) -> None:
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

    @property
    def modality(self) -> str:
        """Of pictures of three channels: flow where that is what a mirror turns, else colour."""
        return "flow" if (self.negate_x,) == MODALITIES["flow"].negated else "color"

    def wants(self, channels: int, resize: tuple[int, int] | None = None) -> Preprocessing | None:
        """What a net that is fed so wants of a picture that it is tested on; None: pictures have other channels.

        Args:
            resize: height and width of what is cropped; None: any.
        """
        if channels not in (1, 3):
            return None
        return Preprocessing(
            self.modality if channels == 3 else "gray",
            mean=tuple(map(plain, self.mean_values)),
            mean_file=self.mean_file,
            scale=plain(self.scale),
            resize=resize if self.mean is None else (self.mean.shape[1], self.mean.shape[2]),
            crop=(self.crop, self.crop) if self.crop else None,
            flip=self.mirror,
        )
