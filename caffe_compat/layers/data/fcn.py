"""The data layers of fully convolutional networks, which prototxts name as layers written in Python.

Source: ``voc_layers.py``, ``nyud_layers.py``, ``siftflow_layers.py`` and ``pascalcontext_layers.py`` of
shelhamer/fcn.berkeleyvision.org.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from caffe_compat.batches.reader import new_array
from caffe_compat.datasets import fcn
from caffe_compat.datasets.fcn import DrawnOrder, FolderReader, Part, read_names
from caffe_compat.errors import nearest
from caffe_compat.layers.base import UNLIMITED, Shape
from caffe_compat.layers.data.regions import is_named
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing

__all__ = ["ContextSegData", "NYUDSegData", "SBDDSegData", "SIFTFlowSegData", "VOCSegData"]

_AHEAD = 4
_OUTDOOR = "spatial_envelope_256x256_static_8outdoorcategories"
_NYUD_MEANS = {
    "color": np.array((116.190, 97.203, 92.318), np.float32),
    "hha": np.array((132.431, 94.076, 118.477), np.float32),
    "depth": np.array(7.844, np.float32),
}


class SegFolder(DataLayer):
    """One sample of a folder at a time, so that heights and widths change from batch to batch.

    ``param_str`` is a Python dict of plain values: the keys below, ``split``, ``randomize`` (true by default) and
    ``seed``.  Samples come in the order of the split's list, or, if ``randomize`` and the name of the split has
    ``train`` in it, each is drawn from all as Python 2 draws it after ``random.seed(seed)``; without a seed, from
    that of the random stream in use.  A user's module of the name is not asked.
    """

    caffe_type = "Python"
    labelled = True
    keys: ClassVar[tuple[str, ...]]  #: those that ``param_str`` must have, besides ``split``

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, _AHEAD)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        self.settings = self._read_param_str(str(section.param_str))
        self.split = self._text("split")
        seed = self.settings.get("seed")
        if isinstance(seed, bool) or not isinstance(seed, int | None):
            raise self.error(f"param_str: seed is {seed!r}, expected a whole number or None")
        randomize = self.settings.get("randomize", True)
        if not isinstance(randomize, bool):
            raise self.error(f"param_str: randomize is {randomize!r}, expected True or False")
        parts = self.parts()
        if len(parts) != len(params.tops):
            raise self.error(f"has {len(params.tops)} tops, expected {len(parts)}")
        self.source = self.list_file()
        self.names = read_names(self.source)
        self.samples = len(self.names)
        drawn = randomize and "train" in self.split
        self.order: DrawnOrder | Order = (
            DrawnOrder(len(self.names), self.seed if seed is None else seed)
            if drawn
            else Order(len(self.names), False, self.seed)
        )
        self.reader = reader = FolderReader(self.who, parts)
        self.shapes = [blob.shape for blob in reader.read(self.job(0), new_array)]

    def list_file(self) -> str:
        """The list of the split's samples."""
        raise NotImplementedError

    def parts(self) -> Sequence[Part]:
        """What the tops are."""
        raise NotImplementedError

    def job(self, number: int) -> str:
        """As :meth:`DataLayer.job`."""
        return self.names[self.order[number]]

    def _read_param_str(self, text: str) -> Mapping[str, Any]:
        needed = (*self.keys, "split")
        allowed = (*needed, "randomize", "seed")
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise self.error(f"param_str is {text!r}, expected a dict such as {{'split': 'train'}}: {error}") from error
        if not isinstance(found, dict):
            raise self.error(f"param_str is {text!r}, expected a dict such as {{'split': 'train'}}")
        for name in found:
            if name not in allowed:
                raise self.error(f"param_str has {name!r}{nearest(str(name), allowed)}, expected {', '.join(allowed)}")
        for name in needed:
            if name not in found:
                raise self.error(f"param_str is {text!r}, expected {name} in it")
        return found

    def _text(self, name: str) -> str:
        value = self.settings[name]
        if not isinstance(value, str):
            raise self.error(f"param_str: {name} is {value!r}, expected a text")
        return value

    def _mean(self) -> np.ndarray:
        """Blue, green, red, in double precision."""
        value = self.settings["mean"]
        numbers = value if isinstance(value, tuple | list) else (value,)
        if len(numbers) not in (1, 3) or not all(type(number) in (int, float) for number in numbers):
            raise self.error(f"param_str: mean is {value!r}, expected three numbers")
        mean = np.array(value, np.float64)
        if not np.isfinite(mean).all():
            raise self.error(f"param_str: mean is {value!r}, expected finite numbers")
        return mean

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        return {self.params.tops[0]: _color(self.picture_mean())}

    def picture_mean(self) -> np.ndarray:
        """What is subtracted from blue, green and red."""
        return self._mean()


def _color(mean: np.ndarray, modality: str = "color", channels: tuple[str, ...] = ()) -> Preprocessing:
    return Preprocessing(modality, channels, mean=tuple(map(plain, np.atleast_1d(mean))), flip=False)


def _registered(module: str, layer: str) -> Any:
    return register(when=lambda params: is_named(params, module, layer), dialect=f"fcn: {layer}")


@_registered("voc_layers", "VOCSegDataLayer")
class VOCSegData(SegFolder):
    """Pictures of PASCAL VOC [1, 3, H, W] in BGR less ``mean``, and their classes [1, 1, H, W], 255 on borders.

    ``voc_dir`` is the folder of a year.  Source: ``voc_layers.py``.
    """

    top_count = (2, 2)
    keys = ("voc_dir", "mean")

    def list_file(self) -> str:
        """In ``ImageSets/Segmentation``."""
        return f"{self._text('voc_dir')}/ImageSets/Segmentation/{self.split}.txt"

    def parts(self) -> Sequence[Part]:
        """Picture and palette picture."""
        folder = self._text("voc_dir")
        return (
            Part(folder + "/JPEGImages/{}.jpg", partial(fcn.picture, mean=self._mean())),
            Part(folder + "/SegmentationClass/{}.png", fcn.png_labels),
        )


@_registered("voc_layers", "SBDDSegDataLayer")
class SBDDSegData(SegFolder):
    """The same of the semantic boundaries data set, whose folder ``dataset`` is ``sbdd_dir``.

    Source: ``voc_layers.py``.
    """

    top_count = (2, 2)
    keys = ("sbdd_dir", "mean")

    def list_file(self) -> str:
        """In the folder itself."""
        return f"{self._text('sbdd_dir')}/{self.split}.txt"

    def parts(self) -> Sequence[Part]:
        """Picture and Matlab file."""
        folder = self._text("sbdd_dir")
        return (
            Part(folder + "/img/{}.jpg", partial(fcn.picture, mean=self._mean())),
            Part(folder + "/cls/{}.mat", fcn.sbdd_labels),
        )


@_registered("nyud_layers", "NYUDSegDataLayer")
class NYUDSegData(SegFolder):
    """What the list ``tops`` of ``param_str`` says, of NYUD2.

    ``color`` [1, 3, H, W] in BGR and ``hha`` in the file's order (disparity, height, angle), both less their means,
    ``depth`` [1, 1, H, W], the logarithm of millimetres less its mean, and ``label`` [1, 1, H, W]: 0 to 39 of the 40
    classes, 255 for none.  A depth of 0 is refused: it would be infinite.  Source: ``nyud_layers.py``.
    """

    labelled = False
    top_count = (1, UNLIMITED)
    keys = ("nyud_dir", "tops")

    def list_file(self) -> str:
        """In the folder itself."""
        return f"{self._text('nyud_dir')}/{self.split}.txt"

    def parts(self) -> Sequence[Part]:
        """One for each of ``tops``."""
        data = self._text("nyud_dir") + "/data/"
        known = {
            "color": Part(data + "images/img_{}.png", partial(fcn.picture, mean=_NYUD_MEANS["color"])),
            "depth": Part(data + "depth/img_{}.png", partial(fcn.depth_picture, mean=_NYUD_MEANS["depth"])),
            "hha": Part(data + "hha/img_{}.png", partial(fcn.picture, mean=_NYUD_MEANS["hha"], rgb=True)),
            "label": Part(
                self._text("nyud_dir") + "/segmentation/img_{}.mat", partial(fcn.map_labels, variable="segmentation")
            ),
        }
        tops = self.settings["tops"]
        if not isinstance(tops, tuple | list) or not tops or not all(isinstance(top, str) for top in tops):
            raise self.error(f"param_str: tops is {tops!r}, expected a list of {', '.join(known)}")
        for top in tops:
            if top not in known:
                raise self.error(f"param_str: tops has {top!r}{nearest(top, known)}, expected {', '.join(known)}")
        return [known[top] for top in tops]

    def wants(self) -> dict[str, Preprocessing]:
        """Of colour and HHA."""
        hha = ("disparity", "height", "angle")
        made = {
            "color": _color(_NYUD_MEANS["color"]),
            "hha": _color(_NYUD_MEANS["hha"], "hha", hha),
        }
        named = zip(self.params.tops, self.settings["tops"], strict=True)
        return {top: made[kind] for top, kind in named if kind in made}


@_registered("siftflow_layers", "SIFTFlowSegDataLayer")
class SIFTFlowSegData(SegFolder):
    """Pictures of SIFT Flow [1, 3, H, W] in BGR less their mean, and [1, 1, H, W] twice: classes 0 to 32, geometry 0 to
    2, 255 for none.  Source: ``siftflow_layers.py``.
    """

    top_count = (3, 3)
    keys = ("siftflow_dir",)
    MEAN = np.array((114.578, 115.294, 108.353), np.float32)

    def list_file(self) -> str:
        """In the folder itself."""
        return f"{self._text('siftflow_dir')}/{self.split}.txt"

    def parts(self) -> Sequence[Part]:
        """Picture and two Matlab files; of the geometry, -1 stands for none as 0 does."""
        folder = self._text("siftflow_dir")
        return (
            Part(f"{folder}/Images/{_OUTDOOR}/{{}}.jpg", partial(fcn.picture, mean=self.MEAN)),
            Part(f"{folder}/SemanticLabels/{_OUTDOOR}/{{}}.mat", partial(fcn.map_labels, variable="S")),
            Part(f"{folder}/GeoLabels/{_OUTDOOR}/{{}}.mat", partial(fcn.map_labels, variable="S", void=-1)),
        )

    def picture_mean(self) -> np.ndarray:
        """The data set's."""
        return self.MEAN


@_registered("pascalcontext_layers", "PASCALContextSegDataLayer")
class ContextSegData(SegFolder):
    """Pictures of PASCAL VOC 2010, below ``voc_dir``, [1, 3, H, W] in BGR less their mean, and the 59 classes of
    PASCAL-Context, below ``context_dir``, from 1, 0 for all others [1, 1, H, W].  Source: ``pascalcontext_layers.py``.
    """

    top_count = (2, 2)
    keys = ("voc_dir", "context_dir")
    MEAN = np.array((104.007, 116.669, 122.679), np.float32)

    def list_file(self) -> str:
        """In ``VOC2010/ImageSets/Main``."""
        return f"{self._text('voc_dir')}/VOC2010/ImageSets/Main/{self.split}.txt"

    def parts(self) -> Sequence[Part]:
        """Picture and Matlab file."""
        table = fcn.context_table(self._text("context_dir"))
        return (
            Part(self._text("voc_dir") + "/VOC2010/JPEGImages/{}.jpg", partial(fcn.picture, mean=self.MEAN)),
            Part(self._text("context_dir") + "/trainval/{}.mat", partial(fcn.context_labels, table=table)),
        )

    def picture_mean(self) -> np.ndarray:
        """The data set's."""
        return self.MEAN
