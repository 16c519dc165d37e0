"""MultiLabelImageData: images with several labels each, named by a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.images import ImageJob
from caffe_compat.batches.many_labels import ManyLabelsReader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import read_label_rows

__all__ = ["MultiLabelImageData"]


@register
class MultiLabelImageData(DataLayer):
    """Batches of images and ``label_num`` whole numbers of each, of a list of lines ``path label ... label``.

    Tops: (batch, channels, height, width) in BGR, and (batch, ``label_num``).  Names have no blanks.  The fork reads
    the list word by word, whatever the lines; here a line with another number of words is an error.  Source:
    ``multi_label_image_data_layer.cpp`` of mysee1989/PG-CNN.
    """

    caffe_type = "MultiLabelImageData"
    labelled = True
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("multi_label_image_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        source, self.size, number = str(section.source), self.batch_size(section), int(section.label_num)
        size = (int(section.new_height), int(section.new_width))
        if bool(size[0]) != bool(size[1]):
            raise self.error(f"new_height and new_width are {size[0]} and {size[1]}, expected both or none")
        if number < 1:
            raise self.error(f"multi_label_image_data_param.label_num is {number}, expected a positive number")
        self.require_memory("a batch of resized images and their labels", [(self.size, 3, *size), (self.size, number)])
        self.transformer = Transformer(params)
        self.images, labels = read_label_rows(source, str(section.root_folder), number)
        self.samples = len(self.images)
        most = int(section.rand_skip)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(most)) if most else 0
        if self.skip >= len(self.images):
            raise self.error(f"rand_skip {most} is too much for a list of {len(self.images)} images")
        self.order = Order(len(self.images), bool(section.shuffle), self.seed)
        plain = self.transformer.plain()
        self.reader = ManyLabelsReader(self.who, plain, source, size, bool(section.is_color), labels=labels)
        first = self.images[self.order[self.skip]]
        self.shapes = [(self.size, *self.reader.load(first).shape), (self.size, number)]

    def job(self, number: int) -> ImageJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return ImageJob(self.random_seed(number), [self.images[record] for record in records])
