"""Layers that bring blobs into a net without reading files: Input, Parameter, DummyData."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape
from caffe_compat.layers.base import count as size_of
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register

__all__ = ["DummyData", "Input", "Parameter"]


@register
class Input(Layer):
    """Blobs that the caller fills; one shape for all tops, or one for each, or none."""

    caffe_type = "Input"
    bottom_count = (0, 0)
    top_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        shapes = [tuple(int(dim) for dim in shape.dim) for shape in params.section("input_param").shape]
        if len(shapes) not in (0, 1, len(params.tops)):
            raise params.error(f"has {len(shapes)} shapes, expected 1 or one per top ({len(params.tops)})")
        self.shapes = (shapes or [()]) * (len(params.tops) if len(shapes) < 2 else 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shapes of the prototxt; a blob without one has no axes until it is reshaped."""
        return self.shapes

    def forward(self) -> tuple[Tensor, ...]:
        """Never called: the net puts the caller's tensors in place."""
        raise self.error("an Input layer has nothing to compute")

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Nothing: the exporter declares the graph's inputs."""


@register
class Parameter(Layer):
    """A learnable blob as top, zero at first unless ``blob_filler``, which happynear/caffe-windows has, says otherwise.

    Top and blob are the same memory in Caffe, so a backward pass sets the diff instead of adding to it, and a loss
    weight, which Caffe keeps in the diff of the top, is lost.
    """

    caffe_type = "Parameter"
    bottom_count = (0, 0)
    keeps_loss_weight = False
    has_blobs = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("parameter_param")
        self.add_blob(tuple(int(dim) for dim in section.shape.dim), section.filler("blob_filler", Filler()))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the blob."""
        return [self.blob_shapes[0]]

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Always."""
        return True

    def forward(self) -> Tensor:
        """The blob itself."""
        return self.blob(0).view(torch.Size(self.blob_shapes[0]))

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Identity of an initializer."""
        graph.node("Identity", [graph.parameter(self, 0)], tops)


@register
class DummyData(Layer):
    """Tops made by fillers: constant ones are filled once, at setup; all others anew at every forward pass.

    One shape for all tops or one for each, as ``shape`` or as the legacy ``num``, ``channels``, ``height``, ``width``;
    no filler (constant 0), one for all tops or one for each.  A ``transform_param`` does nothing, as in Caffe: such a
    layer stands in for a real data layer.
    """

    caffe_type = "DummyData"
    bottom_count = (0, 0)
    top_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section, tops = params.section("dummy_data_param"), len(params.tops)
        transform = params.section("transform_param")
        transform.ignore(*(field.name for field in transform.message.DESCRIPTOR.fields))
        self.shapes = self._read_shapes(section, tops)
        fillers = [
            Filler.from_message(message, params.error, "dummy_data_param.data_filler")
            for message in section.data_filler
        ]
        if len(fillers) not in (0, 1, tops):
            raise self.error(f"has {len(fillers)} entries of data_filler, expected none, 1 or one per top ({tops})")
        fillers = fillers or [Filler()]
        self.fillers = fillers * tops if len(fillers) == 1 else fillers
        for shape in self.shapes:
            self.require(
                size_of(shape) < 2**31, f"a top of shape {list(shape)} cannot be, expected below 2^31 elements"
            )
        self.require_memory("tops", self.shapes)
        for index, (shape, filler) in enumerate(zip(self.shapes, self.fillers, strict=True)):
            value = torch.empty(shape)
            self._fill(value, filler)
            self.register_buffer(f"top{index}", value, persistent=False)

    def _read_shapes(self, section: Section, tops: int) -> list[Shape]:
        legacy = [section.value(name) for name in ("num", "channels", "height", "width")]
        shapes = [tuple(int(dim) for dim in shape.dim) for shape in section.shape]
        if any(legacy):
            if shapes:
                raise self.error("dummy_data_param has both shape and num/channels/height/width, expected one form")
            if any(len(values) not in (1, tops) for values in legacy):
                raise self.error(
                    f"dummy_data_param.num, channels, height and width need 1 entry or one per top ({tops})"
                )
            columns = [values * tops if len(values) == 1 else values for values in legacy]
            return [tuple(int(dim) for dim in dims) for dims in zip(*columns, strict=True)]
        if len(shapes) not in (1, tops):
            raise self.error(f"dummy_data_param has {len(shapes)} shapes, expected 1 or one per top ({tops})")
        for shape in shapes:
            self.require(
                min(shape, default=0) >= 0, f"dummy_data_param.shape is {list(shape)}, expected no negative dim"
            )
        return shapes * tops if len(shapes) == 1 else shapes

    def _fill(self, value: Tensor, filler: Filler) -> None:
        try:
            filler.fill_(value)
        except ValueError as error:
            raise self.error(f"data_filler: {error}") from error

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shapes of the prototxt."""
        return self.shapes

    def forward(self) -> tuple[Tensor, ...]:
        """The values kept since setup, or new random ones."""
        tops = []
        for index, filler in enumerate(self.fillers):
            value: Tensor = getattr(self, f"top{index}")
            if filler.type != "constant":
                value = torch.empty_like(value)
                self._fill(value, filler)
            tops.append(value)
        return tuple(tops)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Constants; random fillers have no ONNX form."""
        for index, top in enumerate(tops):
            filler = self.fillers[index]
            if filler.type not in ("constant", "bilinear"):
                raise self.export_error(f"data_filler '{filler.type}' is random, expected constant or bilinear")
            graph.node("Identity", [graph.constant(getattr(self, f"top{index}").cpu().numpy())], [top])
