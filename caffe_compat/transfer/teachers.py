"""Teachers that no prototxt describes: a feature of a torch module or of an ONNX file as a branch of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from caffe_compat.description import describe_net
from caffe_compat.errors import UsageError
from caffe_compat.foreign import ForeignFeatures, ForeignSpec, load_features
from caffe_compat.foreign.spec import blob_name
from caffe_compat.proto import caffe_pb2
from caffe_compat.transfer.boxes import read_features
from caffe_compat.transfer.branch import Branch, input_layer
from caffe_compat.transfer.recipe import Recipe

__all__ = ["ForeignBranch", "foreign_branch", "read_teacher"]

NAME = "teacher"
IMAGES = "data"
GROWN = 64  # pixels; enough for any stride


@dataclass(frozen=True)
class ForeignBranch(Branch):
    """A teacher of another framework, in one layer; its input takes pixels from which nothing is subtracted.

    Attributes:
        spec: which net, and which of its features.
        wanted: height and width of the images that it is to take.
    """

    spec: ForeignSpec
    wanted: tuple[int, int]

    @cached_property
    def features(self) -> ForeignFeatures:
        """The net itself."""
        return load_features(self.spec)

    @property
    def fixed(self) -> bool:
        """Whether it takes images of one size only.

        Raises:
            UsageError: it does not take the size that is wanted.
        """
        height, width = self.wanted
        try:
            self.features.shapes((1, 3, height, width))
        except ValueError as error:
            raise UsageError(f"{self.path}: {error}; choose the size with --crop or --image-size") from error
        try:
            self.features.shapes((1, 3, height + GROWN, width + GROWN))
        except ValueError:
            return True
        return False


def foreign_branch(spec: ForeignSpec, size: tuple[int, int]) -> ForeignBranch:
    """A net of another framework up to some of its features.

    Args:
        size: height and width of the images.

    Raises:
        UsageError: two features whose blobs would have one name.
    """
    blobs = tuple(map(blob_name, spec.features))
    if len({*blobs, IMAGES}) <= len(blobs):
        raise UsageError(f"{spec.source}: the features {', '.join(spec.features)} would be blobs of one name")
    layer = _layer(spec, blobs)
    message = caffe_pb2.NetParameter(name=spec.source)
    message.layer.add().CopyFrom(input_layer(IMAGES, (1, 3, *size)))
    message.layer.add().CopyFrom(layer)
    return ForeignBranch(
        path=spec.source,
        name=spec.source,
        layers=(layer,),
        everything=tuple(describe_net(message, source=spec.source).layers),
        input=IMAGES,
        size=None,
        blobs=blobs,
        channels=3,
        spec=spec,
        wanted=size,
    )


def read_teacher(recipe: Recipe) -> Branch:
    """The teacher's branch, whatever describes it.

    Raises:
        CaffeCompatError: a file, net or feature that is not there.
    """
    if recipe.foreign is None:
        return read_features(recipe.teacher, recipe.layers, "TEST", bool(recipe.proposals))
    return foreign_branch(recipe.foreign, recipe.size)


def _layer(spec: ForeignSpec, blobs: tuple[str, ...]) -> Any:
    layer = caffe_pb2.LayerParameter(name=NAME, type="ForeignNet", bottom=[IMAGES], top=list(blobs))
    param, takes = layer.foreign_net_param, spec.takes
    param.source = spec.source
    param.feature.extend(spec.features)
    if spec.weights:
        param.weights = spec.weights
    if spec.random_seed:
        param.random_seed = spec.random_seed
    param.mean.extend(takes.mean)
    param.std.extend(takes.std)
    if takes.pixel_range != 255:
        param.pixel_range = takes.pixel_range
    if not takes.rgb:
        param.rgb = False
    return layer
