"""The data layer of hypercolumn nets, which prototxts name as a layer written in Python: boxes of one image with masks.

Source: ``lib/sds/hypercolumn_data_layer.py`` of the ``sds-distillation`` branch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from caffe_compat.errors import DataError, nearest
from caffe_compat.layers.base import UNLIMITED, Shape
from caffe_compat.layers.data.fed import BatchSource, FedData
from caffe_compat.layers.data.regions import DIALECT, flag_words, is_named, read_flags
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["BoxBatchSource", "HypercolumnData", "HypercolumnSettings"]

_SIDE = 100  #: height and width of the pictures before the first batch
_GRID = 50  #: and side of the labels


@dataclasses.dataclass(frozen=True)
class HypercolumnSettings:
    """What ``param_str`` says, with the branch's defaults.

    Args:
        imdb_name: the images.
        ov_thresh: overlap with an object from which on a box shows it.
        train_samples_per_img: boxes in a batch, all of one image and one class; the same may come twice.
        num_classes: without the background.
        max_size: pixels of the **short** side of the scaled image.
        num_images: pictures of an image, one a modality.
    """

    imdb_name: str = "nyud2_images_2015_train"
    ov_thresh: float = 0.7
    train_samples_per_img: int = 5
    num_classes: int = 19
    max_size: int = 688
    num_images: int = 1


class BoxBatchSource(BatchSource, Protocol):
    """Where batches come from: the layer reads no data set."""

    @property
    def num_classes(self) -> int:
        """Classes, without the background."""
        ...

    @property
    def num_images(self) -> int:
        """Blobs of pictures."""
        ...


@register(
    when=lambda params: is_named(params, "lib.sds.hypercolumn_data_layer", "HypercolumnDataLayer"),
    dialect=f"{DIALECT}: HypercolumnDataLayer",
)
class HypercolumnData(FedData[BoxBatchSource]):
    """Batches of the source that is given to :meth:`feed`; before that there are none.

    Tops, in this order: ``num_images`` pictures [1, 3, H, W], normalizedboxes [N, 6, 1, 1], sppboxes [N, 5, 1, 1],
    categids [N, 1, 1, 1], labels [N, 1, 50, 50] (0 or 1) and instance_wts [N, 1, 1, 1].  ``param_str`` is a command
    line: ``--imdb_name nyud2_hha_2015_trainval --max_size 688``.

    Attributes:
        settings: what ``param_str`` says.
    """

    top_count = (6, UNLIMITED)
    feeders = "feed(), with segmentation's box_batches for instance"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        self.settings = self._settings(read_flags(self, str(section.param_str)))
        images = self.settings.num_images
        if len(params.tops) != images + 5:
            raise self.error(
                f"has {len(params.tops)} tops, expected {images + 5}: {images} for pictures, then normalizedboxes, "
                "sppboxes, categids, labels and instance_wts"
            )
        number = self.settings.train_samples_per_img
        boxes: list[Shape] = [(number, count, 1, 1) for count in (6, 5, 1)]
        self.shapes = [(1, 3, _SIDE, _SIDE)] * images + [*boxes, (number, 1, _GRID, _GRID), (number, 1, 1, 1)]

    @staticmethod
    def database(param_str: str) -> str:
        """The images that a ``param_str`` names.

        Raises:
            DataError: quotes in it do not end.
        """
        try:
            words = flag_words(param_str)
        except ValueError as error:
            raise DataError(f"param_str is {param_str!r}: {error}") from error
        named = words.index("--imdb_name") + 1 if "--imdb_name" in words[:-1] else None
        return HypercolumnSettings().imdb_name if named is None else words[named]

    def _settings(self, flags: Mapping[str, str]) -> HypercolumnSettings:
        fields = {field.name: field.default for field in dataclasses.fields(HypercolumnSettings)}
        values: dict[str, object] = {}
        for name, text in flags.items():
            if name not in fields:
                raise self.error(f"param_str has '{name}'{nearest(name, fields)}, expected {', '.join(fields)}")
            default = fields[name]
            values[name] = text if isinstance(default, str) else self._number(name, text, isinstance(default, int))
        return HypercolumnSettings(**values)  # type: ignore[arg-type]

    def _number(self, name: str, text: str, whole: bool) -> int | float:
        if whole:
            if not text.isdecimal() or int(text) < 1:
                raise self.error(f"param_str: {name} is {text!r}, expected a positive whole number")
            return int(text)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= 1:
            raise self.error(f"param_str: {name} is {text!r}, expected a number above 0, up to 1")
        return value

    def check_source(self, source: BoxBatchSource) -> None:
        """Refuse a source of other classes or pictures than ``param_str``.

        Raises:
            LayerError: it does not fit.
        """
        self.require_same("num_classes", self.settings.num_classes, source.num_classes)
        self.require_same("num_images", self.settings.num_images, source.num_images)
