"""ImageData: labelled images named by a list."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.images import ImageJob, ImageReader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, read_image_list

__all__ = ["ImageData", "ignore_transform_fields"]


def ignore_transform_fields(params: Params, section: Section, *names: str) -> None:
    """Accept fields that Caffe's data layers have had no use for since ``transform_param`` exists, with a warning."""
    found = [name for name in names if section.has(name)]
    if found:
        logging.getLogger(__name__).warning(
            "layer '%s' (%s): %s.%s is ignored, as in Caffe; its place is transform_param",
            params.name,
            params.type,
            section.field,
            ", ".join(found),
        )


@register
class ImageData(DataLayer):
    """Batches of images and their labels.

    Tops: (batch, channels, height, width) in BGR, and (batch).  Without ``new_height``, ``new_width`` or ``crop_size``
    all images of a batch must have one size.  intel/caffe's are ``bgr2rgb`` and (LisaAnne's) ``min_height`` and
    ``min_width``: a smaller image is enlarged, its proportions kept.  ``data_param.prefetch`` says how many batches are
    read ahead.
    """

    caffe_type = "ImageData"
    labelled = True
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("image_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        self.source, self.size = str(section.source), self.batch_size(section)
        self.new_size = (int(section.new_height), int(section.new_width))
        if bool(self.new_size[0]) != bool(self.new_size[1]):
            raise self.error(
                f"new_height and new_width are {self.new_size[0]} and {self.new_size[1]}, expected both or none"
            )
        self.require_memory("a batch of resized images", [(self.size, 3, *self.new_size)])
        least = (int(section.min_height), int(section.min_width))
        if bool(least[0]) != bool(least[1]):
            raise self.error(f"min_height and min_width are {least[0]} and {least[1]}, expected both or none")
        self.color, self.shuffle = bool(section.is_color), bool(section.shuffle)
        self.rgb = bool(params.section("transform_param").bgr2rgb)
        if self.rgb and not self.color:
            raise self.error("transform_param.bgr2rgb and is_color: false, expected one of them")
        self.transformer = Transformer(params, rectangles=True)
        if self.transformer.flow:
            logging.getLogger(__name__).warning(
                "layer '%s' (%s): transform_param.flow does nothing to decoded pictures, as in the forks",
                params.name,
                params.type,
            )
        self.images = read_image_list(self.source, section.root_folder)
        self.samples = len(self.images)
        self.rand_skip = int(section.rand_skip)
        self._shuffle()
        self.reader = ImageReader(
            *(self.who, self.transformer.plain(), self.source, self.new_size, self.color), least=least, rgb=self.rgb
        )
        first = self.images[self.order[self.skip]]
        self.shapes = [(self.size, *self.reader.load(first).shape), (self.size,)]

    def _shuffle(self) -> None:
        """Decide the order, and what to skip at the start."""
        self.order = Order(len(self.images), self.shuffle, self.seed)
        skip = int(np.random.default_rng((self.seed, 2)).integers(self.rand_skip)) if self.rand_skip else 0
        if skip >= len(self.images):
            raise self.error(f"rand_skip {self.rand_skip} is too much for a list of {len(self.images)} images")
        self.skip = skip

    def job(self, number: int) -> ImageJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return ImageJob(self.random_seed(number), [self.images[record] for record in records])

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`; of RGB nothing is said."""
        if self.rgb:
            return {}
        found = self.transformer.wants(3 if self.color else 1, self.new_size if self.new_size[0] else None)
        return {} if found is None else {self.params.tops[0]: found}
