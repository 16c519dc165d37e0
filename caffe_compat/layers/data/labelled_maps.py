"""Pictures with a label for each pixel: DenseImageData of SegNet, ImageLabelmapData of HED."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_compat.batches.labelled_maps import DenseReader, MapJob, MapReader, ThresholdReader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing
from caffe_compat.media.lists import read_path_pairs

__all__ = ["DenseImageData", "ImageLabelmapData"]


class _LabelledMaps(DataLayer):
    """Pictures and labels that a list names, two words for each; ``root_folder`` is put before them as it is.

    Tops: (batch, channels, height, width) in BGR, and (batch, 1, height, width), labels out of a gray picture of the
    same size, of which neither mean nor scale is taken.  Pictures of a batch have one size.
    """

    labelled = True
    top_count = (2, 2)
    field: ClassVar[str]

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section(self.field)
        self.source, self.size = str(section.source), self.batch_size(section)
        self.new_size = self._both(section, "new_height", "new_width")
        self.require_memory("a batch of resized pictures", [(self.size, 3, *self.new_size)])
        self.color, rand_skip = bool(section.is_color), int(section.rand_skip)
        self.transformer = Transformer(params)
        self._read_more(section)
        self.pairs = read_path_pairs(self.source, str(section.root_folder))
        self.samples = len(self.pairs)
        self.order = Order(self.samples, bool(section.shuffle), self.seed)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(rand_skip)) if rand_skip else 0
        if self.skip >= len(self.pairs):
            raise self.error(f"rand_skip {rand_skip} is too much for a list of {len(self.pairs)} pictures")
        self.reader = reader = self._make_reader()
        first = self.pairs[self.order[self.skip]]
        _, channels, high, wide = reader.blank(reader.load(first)[0], first).shape
        self.shapes = [(self.size, channels, high, wide), (self.size, 1, *reader.label_size((high, wide)))]

    def _both(self, section: Section, high: str, wide: str) -> tuple[int, int]:
        height, width = int(section.value(high)), int(section.value(wide))
        if bool(height) != bool(width):
            raise self.error(f"{section.field}: {high} is {height} and {wide} {width}, expected both or none")
        return height, width

    def _read_more(self, section: Section) -> None:
        """The fields that the other layer does not have."""
        raise NotImplementedError

    def _make_reader(self) -> MapReader:
        raise NotImplementedError

    def job(self, number: int) -> MapJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return MapJob(self.random_seed(number), [self.pairs[record] for record in records])

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        found = self.transformer.wants(3 if self.color else 1, self.new_size if self.new_size[0] else None)
        return {} if found is None else {self.params.tops[0]: found}


@register(dialect="segnet")
class DenseImageData(_LabelledMaps):
    """Labels are gray values; resized they are those of the nearest pixel.

    ``mirror`` and ``crop_height`` x ``crop_width`` are the message's own, at random in both phases; those of
    ``transform_param`` are refused, as in the fork.  Source: ``dense_image_data_layer.cpp`` of
    alexgkendall/caffe-segnet.  ENet's ``label_divide_factor`` (TimoSaemann/caffe-enet) makes labels of the so manieth
    part of ``new_height`` and ``new_width``, cut to whole numbers; without these sizes, and with a crop, it is refused,
    where the fork reads past its labels.
    """

    caffe_type = "DenseImageData"
    field = "dense_image_data_param"

    def _read_more(self, section: Section) -> None:
        ignore_transform_fields(self.params, section, "mean_file")
        self.mirror, self.crop = bool(section.mirror), self._both(section, "crop_height", "crop_width")
        if self.transformer.mirror or self.transformer.crop:
            raise self.error("transform_param has mirror or crop_size, expected those of dense_image_data_param")
        self.factor = int(section.label_divide_factor)
        if not 1 <= self.factor <= (min(self.new_size) or self.factor):
            raise self.error(
                f"{section.field}.label_divide_factor is {self.factor}, expected 1 to the size {min(self.new_size)}"
            )
        if self.factor > 1 and (self.crop[0] or not self.new_size[0]):
            raise self.error(
                f"{section.field}.label_divide_factor is {self.factor}, expected new_height and new_width with it, and "
                "no crop"
            )

    def _make_reader(self) -> MapReader:
        return DenseReader(
            self.who,
            self.source,
            self.new_size,
            self.color,
            self.transformer.plain(),
            mirror=self.mirror,
            crop=self.crop,
            factor=self.factor,
        )


@register(dialect="hed")
class ImageLabelmapData(_LabelledMaps):
    """Labels are 1 where a gray picture is 128 or more, else 0; resized linearly before that.

    ``transform_param``'s mirror and crop fall on both alike.  Source: ``image_labelmap_data_layer.cpp`` of s9xie/hed.
    """

    caffe_type = "ImageLabelmapData"
    field = "image_data_param"

    def _read_more(self, section: Section) -> None:
        ignore_transform_fields(self.params, section, "scale", "mean_file", "crop_size", "mirror")

    def _make_reader(self) -> MapReader:
        return ThresholdReader(self.who, self.source, self.new_size, self.color, self.transformer.plain())
