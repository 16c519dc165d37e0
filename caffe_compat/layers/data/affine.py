"""ImageDataAffine and ImageDataMultipleInference: labelled images that are turned, stretched and moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.affine import AffineReader
from caffe_compat.batches.images import ImageJob
from caffe_compat.batches.turning import Affine
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import read_image_list

__all__ = ["ImageDataAffine", "ImageDataMultipleInference"]


def _read_affine(params: Params, size: int) -> Affine:
    """``transform_param.affine_param``, with its defaults where there is none."""
    section = params.section("transform_param").affine_param
    stretch = (float(section.x_stretch_unirnd_range), float(section.y_stretch_unirnd_range))
    rotation, moved = float(section.rotation_unirnd_range), float(section.max_translation)
    if not all(0 <= part < 1 for part in stretch) or not 0 <= rotation < np.inf or not 0 <= moved < np.inf:
        raise params.error(
            f"affine_param has stretches {stretch}, rotation {rotation:g} and max_translation {moved:g}, expected "
            "parts from 0 to below 1 and numbers from 0 on"
        )
    if section.background_color > 255:
        raise params.error(f"affine_param.background_color is {section.background_color}, expected 0 to 255")
    return Affine(size, rotation, stretch, moved, int(section.background_color))


@register
class ImageDataAffine(DataLayer):
    """Batches of images, each turned, stretched and moved as ``affine_param`` says, in both phases, and their labels.

    Tops: (batch, channels, ``new_size``, ``new_size``), or a crop of that, in BGR, and (batch).  The mean of a
    ``mean_file`` has ``new_size``.  Source: lim0606/ndsb, ``image_data_affine_layer.cpp``; an image that cannot be read
    is an error here, there what an earlier batch left in its place.
    """

    caffe_type = "ImageDataAffine"
    own_section = "image_data_affine_param"
    labelled = True
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.own_section)
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        self.source, self.size, side = str(section.source), self.batch_size(section), int(section.new_size)
        self.times = int(section.multi_infer_size) if section.has("multi_infer_size") else 1
        if side < 1 or self.times < 1:
            raise self.error(f"new_size is {side} and multi_infer_size {self.times}, expected positive numbers")
        self.require_memory("a batch of images", [(self.size * self.times, 3, side, side)])
        color = bool(section.is_color)
        self.transformer = Transformer(params)
        self.transformer.varying = _read_affine(params, side)
        if self.transformer.crop > side:
            raise self.error(f"transform_param.crop_size is {self.transformer.crop}, expected at most new_size {side}")
        self.images = read_image_list(self.source, section.root_folder)
        self.samples = len(self.images)
        most = int(section.rand_skip)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(most)) if most else 0
        if self.skip >= len(self.images):
            raise self.error(f"rand_skip {most} is too much for a list of {len(self.images)} images")
        self.order = Order(len(self.images), bool(section.shuffle), self.seed)
        plain = self.transformer.plain()
        self.reader = AffineReader(self.who, plain, self.source, (side, side), color, self.times)
        first = self.images[self.order[self.skip]]
        self.shapes = [(self.size * self.times, *self.reader.load(first).shape), (self.size,)]

    def job(self, number: int) -> ImageJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return ImageJob(self.random_seed(number), [self.images[record] for record in records])


@register
class ImageDataMultipleInference(ImageDataAffine):
    """The same with each image ``multi_infer_size`` times, each time drawn anew; AvgProbs takes their mean.

    Tops: (batch ``multi_infer_size``, channels, height, width) and (batch).
    """

    caffe_type = "ImageDataMultipleInference"
    own_section = "image_data_multi_infer_param"
