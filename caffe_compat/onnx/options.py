"""What a caller may say of an export: one list of options for all functions that export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from caffe_compat.layers import Shape
from caffe_compat.media import Preparation
from caffe_compat.onnx.postprocess import Boxes
from caffe_compat.onnx.preprocess import Pictures

__all__ = ["Dynamic", "ExportOptions", "Options"]

Dynamic = bool | Sequence[str]


@dataclass(frozen=True)
class Options:
    """What to export and how, with what is done by default.

    Attributes:
        inputs: other shapes for inputs than those in the prototxt.
        outputs: blobs to compute; by default those that nothing consumes.
        dynamic: sizes that are left open until run time, out of ``"batch"``, ``"boxes"``, ``"height"`` and
            ``"width"``; ``True`` leaves open what the net allows, ``False`` or ``()`` nothing.  The batch is the number
            of items of every input, boxes included where a layer takes boxes (regions of interest); ``"boxes"`` is
            their number alone.  Height and width are axes 2 and 3 of inputs with four axes.
        opset: 17 to 21.
        roi: ``"cpu"`` pools regions by MaxRoiPool, which no GPU has; ``"gpu"`` by other operators, to the same bits.
            A model for a GPU has no opset that takes the CUDA kernel of one of its nodes away.
        fold: whether BatchNorm, Scale and Bias behind a convolution or an inner product become part of its weights; see
            :mod:`caffe_compat.onnx.fold`.
        metadata: facts to store in the model (``{"trained_by": "..."}``).
        preparation: what the net wants of its inputs, to store in the model.
        preprocess: what the graph does with pictures; see :mod:`caffe_compat.onnx.preprocess`.
        postprocess: what it does with a detector's boxes; see :mod:`caffe_compat.onnx.postprocess`.
    """

    inputs: Mapping[str, Shape] | None = None
    outputs: Sequence[str] | None = None
    dynamic: Dynamic = ("batch",)
    opset: int = 17
    roi: str = "cpu"
    fold: bool = False
    metadata: Mapping[str, Any] | None = None
    preparation: Preparation | None = None
    preprocess: Pictures | None = None
    postprocess: Boxes | None = None


class ExportOptions(TypedDict, total=False):
    """The same as keyword arguments; see :class:`Options`."""

    inputs: Mapping[str, Shape] | None
    outputs: Sequence[str] | None
    dynamic: Dynamic
    opset: int
    roi: str
    fold: bool
    metadata: Mapping[str, Any] | None
    preparation: Preparation | None
    preprocess: Pictures | None
    postprocess: Boxes | None
