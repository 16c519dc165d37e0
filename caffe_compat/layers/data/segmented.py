"""Pictures with a label for each pixel as DeepLab and PSPNet are trained on them: ImageSegData."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.segmented import SegJob, SegReader, WindowSegReader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing
from caffe_compat.media.lists import read_words

__all__ = ["ImageSegData", "WindowSegData"]


@register(dialect="pspnet")
class ImageSegData(DataLayer):
    """Pictures, resized by one of ``scale_factors`` at random, padded, cropped and mirrored together with their labels.

    Tops: (batch, channels, height, width) in BGR, (batch, 1, height, width), and if the prototxt names it, height and
    width (batch, 1, 1, 2) of the picture before it was scaled, at most those of the crop.  A line of ``source`` is a
    picture and, by ``label_type``, a gray picture of labels (PIXEL), the label of all pixels (IMAGE, the default) or
    nothing: ``ignore_label`` everywhere (NONE).  ``root_folder`` is put before paths as it is.

    Scaling labels takes the nearest pixel, but ``new_height`` and ``new_width`` resize them linearly, as in the fork,
    unless the net is of the dialect deconvnet (``image_seg_data_layer.cpp`` of HyeonwooNoh/caffe).  One top is the
    picture alone; ``has_label: false`` (DeepLab) is ``label_type: NONE``.
    Where a picture is smaller than the crop, below and on the right it is padded with the mean and the labels with
    ``ignore_label``.  The crop is random in TRAIN, central in TEST; mirroring and scaling happen in both.  Source:
    ``image_seg_data_layer.cpp`` and ``DataTransformer::TransformImgAndSeg`` of hszhao/PSPNet.
    """

    caffe_type = "ImageSegData"
    labelled = True
    top_count = (1, 3)
    reads: type[SegReader] = SegReader

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("image_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        self.source, self.size = str(section.source), self.batch_size(section)
        self.root, self.color = str(section.root_folder), bool(section.is_color)
        self.kind = section.enum("label_type") if section.has_label else "NONE"
        self.ignored = int(section.ignore_label)
        if not 0 <= self.ignored <= 255:
            raise self.error(f"image_data_param.ignore_label is {self.ignored}, expected 0 to 255")
        self.new_size = self._both(section, "new_height", "new_width")
        self._read_transform(params.section("transform_param"))
        for size in (self.new_size, self.crop):
            self.require_memory("a batch of pictures", [(self.size, 3, *size)])
        self.lines = read_words(self.source)
        rand_skip = int(section.rand_skip)
        self.samples = len(self.lines)
        self.order = Order(self.samples, bool(section.shuffle), self.seed)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(rand_skip)) if rand_skip else 0
        if self.skip >= len(self.lines):
            raise self.error(f"rand_skip {rand_skip} is too much for a list of {len(self.lines)} pictures")
        self.reader = reader = self._make_reader()
        picture, _ = reader.load(self.lines[self.order[self.skip]])
        high, wide = self.crop if self.crop[0] else picture.shape[:2]
        tops: list[Shape] = [
            (self.size, 1 if picture.ndim == 2 else picture.shape[2], high, wide),
            (self.size, 1, high, wide),
            (self.size, 1, 1, 2),
        ]
        self.shapes = tops[: len(params.tops)]

    def _both(self, section: Section, high: str, wide: str) -> tuple[int, int]:
        height, width = int(section.value(high)), int(section.value(wide))
        if bool(height) != bool(width):
            raise self.error(f"{section.field}: {high} is {height} and {wide} {width}, expected both or none")
        return height, width

    def _read_transform(self, section: Section) -> None:
        self.train_phase = self.params.phase == "TRAIN"
        self.scale, self.mirror = np.float32(section.scale), bool(section.mirror)
        self.mean = np.array(section.mean_value, np.float32)
        if section.has("mean_file"):
            raise self.error("transform_param.mean_file is not for this layer, as in the fork; expected mean_value")
        if len(self.mean) not in (0, 1, 3 if self.color else 1):
            raise self.error(f"transform_param has {len(self.mean)} mean_value, expected 1 or one for each channel")
        square, self.crop = int(section.crop_size), self._both(section, "crop_height", "crop_width")
        if square and self.crop[0]:
            raise self.error("transform_param has crop_size and crop_height, expected one of them")
        self.crop = (square, square) if square else self.crop
        self.factors = np.array(section.scale_factors, np.float32)
        if not (self.factors > 0).all() or not np.isfinite(self.factors).all():
            raise self.error(f"transform_param.scale_factors is {self.factors.tolist()}, expected positive numbers")
        if len(self.factors) and not self.crop[0]:
            raise self.error("transform_param has scale_factors without a crop, expected crop_size")

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        found = Preprocessing(
            "color" if self.color else "gray",
            mean=tuple(map(plain, self.mean)),
            scale=plain(self.scale),
            resize=self.new_size if self.new_size[0] else None,
            crop=self.crop if self.crop[0] else None,
            flip=self.mirror,
        )
        return {self.params.tops[0]: found}

    def job(self, number: int) -> SegJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return SegJob(self.random_seed(number), [self.lines[record] for record in records])

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]

    def _make_reader(self) -> SegReader:
        return self.reads(
            self.who,
            self.source,
            self.root,
            self.color,
            self.kind,
            self.ignored,
            self.new_size,
            self.train_phase,
            self.scale,
            self.mirror,
            self.mean,
            self.crop,
            self.factors,
            self.params.description.dialect.name == "deconvnet",
        )


@register(dialect="deconvnet")
class WindowSegData(ImageSegData):
    """ImageSegData of windows: a line of ``source`` goes on with x1, y1, x2 and y2, whose pixels still belong to it.

    Windows are cut out, black and ``ignore_label`` where they leave the picture, then resized to ``new_height`` and
    ``new_width``, the labels to the nearest pixel.  The fork's third top, sizes, is not given.  Source:
    ``window_seg_data_layer.cpp`` of HyeonwooNoh/caffe.
    """

    caffe_type = "WindowSegData"
    top_count = (1, 2)
    reads = WindowSegReader
