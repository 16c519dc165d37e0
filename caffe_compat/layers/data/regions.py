"""fast-rcnn's data layers, which prototxts name as layers written in Python: minibatches of regions of images.

Source: ``roi_data_layer/layer_pi.py`` of the ``distillation`` branch, ``roi_data_layer/layer.py`` of fast-rcnn.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import yaml

from caffe_compat.documents import parse_yaml
from caffe_compat.errors import PrototxtError, nearest
from caffe_compat.layers.base import UNLIMITED, Layer, Shape
from caffe_compat.layers.data.fed import BatchSource, FedData
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = [
    "MinibatchSource",
    "ObjectData",
    "RegionData",
    "RoIDataLayer",
    "RoIDataLayerPi",
    "four_axes",
    "is_named",
    "read_flags",
    "read_yaml",
]

DIALECT = "fast-rcnn"
_SIDE = 100  #: height and width of the pictures before the first minibatch, as in fast-rcnn
_WHOLE_SIDE = 128  #: of nets that propose regions: TRAIN.SCALES and MAX_SIZE there, which fit all strides of a net


class MinibatchSource(BatchSource, Protocol):
    """Where minibatches come from: this layer reads no data set."""

    @property
    def num_classes(self) -> int:
        """Labels, with the background."""
        ...

    @property
    def num_data(self) -> int:
        """Blobs of pictures."""
        ...

    @property
    def regression(self) -> bool:
        """Whether there are regression targets and their weights."""
        ...


class RegionData(FedData[MinibatchSource]):
    """Minibatches of the source that is given to :meth:`feed`; before that there are none.

    Tops: ``num_data`` blobs of pictures [I, 3, H, W], rois [R, 5] (number of the image, x1 y1 x2 y2 in its pixels),
    labels [R], and if the prototxt names them, regression targets and their weights [R, 4 num_classes].
    """

    top_count = (3, UNLIMITED)
    outside: ClassVar[bool] = False  #: whether there may be weights of a second kind
    feeders = "detection training (train_net.py --imdb), or by feed()"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        self.num_classes, self.num_data = self._read_param_str(str(section.param_str))
        rest = len(params.tops) - self.num_data
        if rest not in (2, 4, 5 if self.outside else 4):
            raise self.error(
                f"has {len(params.tops)} tops, expected {self.num_data} for pictures, then rois and labels, and "
                "bbox_targets and bbox_loss_weights where boxes are learned"
            )
        self.regression = rest > 2
        self.shapes = [(1, 3, _SIDE, _SIDE)] * self.num_data
        shapes: list[Shape] = [(1, 5), (1,), *[(1, 4 * self.boxes_of)] * (rest - 2)]
        self.shapes += [four_axes(params, shape) for shape in shapes]

    @property
    def boxes_of(self) -> int:
        """How many classes have targets of their own."""
        return self.num_classes

    def _parse(self, text: str) -> Mapping[str, object]:
        """The settings in ``param_str``."""
        raise NotImplementedError

    def _read_param_str(self, text: str) -> tuple[int, int]:
        """Numbers of labels and of blobs of pictures."""
        values: dict[str, int] = {"num_data": 1}
        allowed = ("num_classes", "num_data")
        for name, value in self._parse(text).items():
            if name not in allowed:
                raise self.error(f"param_str has '{name}'{nearest(str(name), allowed)}, expected {', '.join(allowed)}")
            if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < 1:
                raise self.error(f"param_str: {name} is {value!r}, expected a positive whole number")
            values[name] = int(str(value))
        if "num_classes" not in values:
            raise self.error(f"param_str is {text!r}, expected num_classes in it")
        return values["num_classes"], values["num_data"]

    def check_source(self, source: MinibatchSource) -> None:
        """Refuse a source of other classes or pictures than ``param_str``, or without targets where they are tops.

        Raises:
            LayerError: it does not fit.
        """
        self.require_same("num_classes", self.num_classes, source.num_classes)
        self.require_same("num_data", self.num_data, source.num_data)
        if self.regression != source.regression:
            has, wants = ("bbox_targets", "makes none") if self.regression else ("no bbox_targets", "makes them")
            raise self.error(f"has {has} among its tops, but training {wants} (TRAIN.BBOX_REG)")


@register(
    when=lambda params: is_named(params, "roi_data_layer.layer_pi", "RoIDataLayerPi"),
    dialect=f"{DIALECT}: RoIDataLayerPi",
)
class RoIDataLayerPi(RegionData):
    """The branch's layer; ``param_str`` is a command line: ``--num_classes 20 --num_data 1``."""

    def _parse(self, text: str) -> Mapping[str, object]:
        return read_flags(self, text)


def _feeds_proposals(params: Params) -> bool:
    """Whether fast-rcnn's layer is meant as py-faster-rcnn has it for region proposal nets (TRAIN.HAS_RPN)."""
    return is_named(params, "roi_data_layer.layer", "RoIDataLayer") and "gt_boxes" in params.tops


def _feeds_regions(params: Params) -> bool:
    return is_named(params, "roi_data_layer.layer", "RoIDataLayer") and not _feeds_proposals(params)


@register(when=_feeds_regions, dialect=f"{DIALECT}: RoIDataLayer")
class RoIDataLayer(RegionData):
    """fast-rcnn's layer, for one kind of pictures; ``param_str`` is YAML: ``'num_classes': 21``.

    As in py-faster-rcnn, ``bbox_outside_weights`` may follow the weights: 1 where these are above 0.  In R-FCN's nets
    all but the pictures have 4 axes, see :func:`four_axes`, and targets and weights are of two classes, the background
    and all others (TRAIN.AGNOSTIC, which all configurations of YuwenXiong/py-R-FCN for these nets set).
    """

    outside = True

    @property
    def boxes_of(self) -> int:
        """Two in R-FCN's nets."""
        return 2 if self.params.description.dialect.name == "rfcn" else super().boxes_of

    def _parse(self, text: str) -> Mapping[str, object]:
        return read_yaml(self, text, "'num_classes': 21")

    def formed(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`FedData.formed`."""
        found = tuple(self._agnostic(blob) if index > self.num_data + 1 else blob for index, blob in enumerate(arrays))
        more = ((found[-1] > 0).astype(np.float32),) if len(found) < len(self.shapes) else ()
        rest = (blob.reshape(four_axes(self.params, blob.shape)) for blob in (*found[self.num_data :], *more))
        return (*found[: self.num_data], *rest)

    def _agnostic(self, columns: np.ndarray) -> np.ndarray:
        """Targets or weights [R, 4 num_classes], of which one class's are not 0, as those of two classes."""
        if self.boxes_of == self.num_classes:
            return columns
        classes = columns.reshape(len(columns), -1, 4)
        return np.concatenate([classes[:, 0], classes[:, 1:].sum(1)], 1)


class ObjectSource(BatchSource, Protocol):
    """Where images with objects come from."""

    @property
    def num_classes(self) -> int:
        """Labels, with the background."""
        ...


@register(when=_feeds_proposals, dialect="faster-rcnn: RoIDataLayer")
class ObjectData(FedData[ObjectSource]):
    """One image with its objects at a time, for nets that propose regions themselves; it is given to :meth:`feed`.

    Tops: the picture [1, 3, H, W], height, width and scale [1, 3], and objects [G, 5] (x1 y1 x2 y2 class) in pixels of
    the picture ([G, 5, 1, 1] in R-FCN's nets).  ``param_str`` is YAML: ``'num_classes': 21``.
    """

    top_count = (3, 3)
    feeders = "feed()"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        values = read_yaml(self, str(section.param_str), "'num_classes': 21")
        classes = values.get("num_classes")
        if set(values) != {"num_classes"} or isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise self.error(f"param_str is {str(section.param_str)!r}, expected num_classes, a whole number from 2")
        self.num_classes = classes
        self.shapes = [(1, 3, _WHOLE_SIDE, _WHOLE_SIDE), (1, 3), four_axes(params, (1, 5))]

    def formed(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`FedData.formed`."""
        picture, info, objects = arrays
        return picture, info, objects.reshape(four_axes(self.params, objects.shape))

    def check_source(self, source: ObjectSource) -> None:
        """Refuse a source of other classes.

        Raises:
            LayerError: it does not fit.
        """
        self.require_same("num_classes", self.num_classes, source.num_classes)


class _TupleLoader(yaml.SafeLoader):
    """Takes the tuples that Python 2 wrote into ``param_str`` for lists."""


def _listed(loader: _TupleLoader, node: yaml.SequenceNode) -> list[object]:
    return loader.construct_sequence(node, deep=True)


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _listed)


def read_yaml(layer: Layer, text: str, example: str) -> dict[str, object]:
    """A ``param_str`` that is YAML: values by name.

    Args:
        example: of such a text, for the error.

    Raises:
        PrototxtError: it is not YAML.
        LayerError: it is no mapping.
    """
    where = f"layer '{layer.name}' ({layer.params.type}): param_str"
    tree = parse_yaml(text, where, _TupleLoader, PrototxtError)
    if not isinstance(tree, Mapping):
        raise layer.error(f"param_str is {text!r}, expected YAML such as {example}")
    return {str(name): value for name, value in tree.items()}


def flag_words(text: str) -> list[str]:
    """The words of a command line, ``--name=value`` as two.

    Raises:
        ValueError: quotes that do not end.
    """
    return [part for word in shlex.split(text) for part in (word.split("=", 1) if word.startswith("--") else [word])]


def read_flags(layer: Layer, text: str) -> dict[str, str]:
    """A ``param_str`` that is a command line, such as ``--num_classes 20 --num_data=1``: values by name.

    Raises:
        LayerError: it is none.
    """
    try:
        words = flag_words(text)
    except ValueError as error:
        raise layer.error(f"param_str is {text!r}: {error}") from error
    names = words[::2]
    if len(words) % 2 or not all(name.startswith("--") for name in names):
        raise layer.error(f"param_str is {text!r}, expected words such as --num_classes 20 --num_data 1")
    return {name[2:]: value for name, value in zip(names, words[1::2], strict=True)}


def four_axes(params: Params, shape: Shape) -> Shape:
    """The shape of a blob with a row for each region: N x C x 1 x 1 in nets of the dialect rfcn, else as it is.

    py-R-FCN's layers written in Python bear the names of py-faster-rcnn's, but give their tops 4 axes: OHEM's losses
    of single regions, which have these, are added to each other.  Source: ``lib/rpn/proposal_target_layer.py`` and
    ``lib/roi_data_layer/layer.py`` of YuwenXiong/py-R-FCN.
    """
    if params.description.dialect.name != "rfcn":
        return tuple(shape)
    return (*shape, 1, 1, 1)[:4]


def is_named(params: Params, module: str, layer: str) -> bool:
    """Whether a prototxt names a class of a module."""
    section = params.section("python_param")
    return (str(section.module), str(section.layer)) == (module, layer)
