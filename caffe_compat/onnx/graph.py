"""An ONNX graph under construction: what a layer's ``to_onnx`` writes itself into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import ExportError
from caffe_compat.layers import Layer, Shape
from caffe_compat.onnx.parts import Parts, Weight, join, make_tensor
from caffe_compat.onnx.tidy import prune, remove_aliases

__all__ = ["OPSETS", "ROIS", "Dim", "GraphBuilder"]

OPSETS = (17, 21)  #: smallest and largest opset written; ONNX Runtime lacks kernels for some nodes above 21
ROIS = ("cpu", "gpu")  #: ways to pool regions
_MAX_IR_VERSION = 10  #: what ONNX Runtime 1.18 and later read
_SUFFIXES = ("weight", "bias")

Dim = int | str  #: a size, or the name of one that is only known at run time


class GraphBuilder:
    """Collects nodes; implements :class:`caffe_compat.layers.OnnxGraph`.

    Args:
        name: of the graph.
        opset: ONNX operator set, 17 to 21.
        blobs: names that belong to blobs of the net; fresh names avoid them.
        roi: how regions are pooled, see ``Options``.

    Raises:
        ExportError: an opset that is not supported, or no such way to pool regions.
    """

    def __init__(self, name: str, opset: int = 17, blobs: Iterable[str] = (), roi: str = "cpu") -> None:
        if not OPSETS[0] <= opset <= OPSETS[1]:
            raise ExportError(f"opset is {opset}, expected {OPSETS[0]} to {OPSETS[1]}")
        if roi not in ROIS:
            raise ExportError(f"roi is {roi!r}, expected {' or '.join(ROIS)}")
        self.name, self.opset, self.roi = name, opset, roi
        self.blobs = set(blobs)
        self._taken = UniqueNames(self.blobs)
        self._node_names = UniqueNames()
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, np.ndarray] = {}  # of the initializers
        self._constants: dict[tuple[Any, ...], str] = {}
        self._parameters: dict[int, str] = {}
        self._owners: list[Any] = []  # keeps the parameters alive whose id is a key above
        self._shapes: dict[str, tuple[int | None, ...]] = {}
        self._layer: Layer | None = None

    # -- for layers (see OnnxGraph) ---------------------------------------------------------------------------

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append a node that writes the blobs ``outputs``; an attribute that is ``None`` is left out."""
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), **given))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output and return the fresh name of that output."""
        output = self.fresh(f"{self._layer.name}/{op}" if self._layer is not None else op)
        self.node(op, inputs, [output], **attributes)
        return output

    def constant(self, value: np.ndarray | float | int | Sequence[int], dtype: Any = None) -> str:
        """A constant, named after the layer; equal constants share one initializer, that of the first.

        Without ``dtype`` integers become int64 and floating-point numbers float32 (arrays of integers keep their type).
        """
        array = np.asarray(value)
        if dtype is not None:
            array = array.astype(dtype)
        elif not isinstance(value, np.ndarray) and (array.size == 0 or array.dtype.kind == "i"):
            array = array.astype(np.int64)
        elif array.dtype == np.float64:
            array = array.astype(np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.fresh(f"{self._layer.name}/constant" if self._layer is not None else "constant")
            self._initializers[self._constants[key]] = array
        return self._constants[key]

    def parameter(self, layer: Layer, index: int) -> str:
        """The initializer that holds blob ``index`` of the layer, in float32.

        A parameter that several layers share is stored once, under the name of the first; a layer that sees it in
        another shape gets a Reshape of it.
        """
        owner, shape = layer.blobs[index], layer.blob_shapes[index]
        if id(owner) not in self._parameters:
            suffix = _SUFFIXES[index] if index < len(_SUFFIXES) else f"blob{index}"
            values = owner.detach().float().cpu().numpy().reshape(shape)
            self._parameters[id(owner)] = self.fresh(f"{layer.name}.{suffix}")
            self._initializers[self._parameters[id(owner)]] = values
            self._owners.append(owner)
        name = self._parameters[id(owner)]
        if self._initializers[name].shape == tuple(shape):
            return name
        return self.add("Reshape", [name, self.constant(np.array(shape, np.int64))])

    def shape(self, blob: str) -> tuple[int | None, ...]:
        """Shape of a bottom; ``None`` for an axis whose size is only known at run time."""
        if blob not in self._shapes:
            raise self._error(f"the shape of '{blob}' is not known, only those of bottoms are")
        return self._shapes[blob]

    def static_shape(self, blob: str, why: str) -> Shape:
        """The same, or an ExportError that names ``why`` if an axis is dynamic."""
        shape = self.shape(blob)
        sizes = tuple(dim for dim in shape if dim is not None)
        if len(sizes) != len(shape):
            axes = [axis for axis, dim in enumerate(shape) if dim is None]
            raise self._error(
                f"blob '{blob}' has sizes that are only known at run time (axes {axes}), but ONNX needs fixed ones for "
                f"{why}; export with fixed sizes"
            )
        return sizes

    # -- for the exporter -------------------------------------------------------------------------------------

    def fresh(self, base: str) -> str:
        """A name that nothing has yet, ``base`` itself if possible."""
        return self._taken.fresh(base)

    def aliases(self, value: str) -> list[str]:
        """Other names for a value, which Identity nodes give it: one of them is the one that the model keeps."""
        sources: dict[str, str] = {}
        for node in self._nodes:
            if node.op_type == "Identity":
                sources[node.output[0]] = sources.get(node.input[0], node.input[0])
        source = sources.get(value, value)
        return [name for name in (source, *(n for n, of in sources.items() if of == source)) if name != value]

    def set_shape(self, blob: str, shape: Sequence[int | None]) -> None:
        """Make the shape of a blob known."""
        self._shapes[blob] = tuple(shape)

    def write(self, layer: Layer, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Let a layer write its nodes.

        They are named after the layer: the one that writes a top ``layer``, others ``layer/Operator``; a name that is
        taken gets a number.
        """
        first = len(self._nodes)
        self._layer = layer
        with self._naming_errors():
            layer.to_onnx(self, bottoms, tops)
        self._layer = None
        for node in self._nodes[first:]:
            last = not set(tops).isdisjoint(node.output)
            node.name = self._node_names.fresh(layer.name if last else f"{layer.name}/{node.op_type}")

    def parts(
        self,
        inputs: Mapping[str, Sequence[Dim]],
        outputs: Mapping[str, Sequence[Dim]],
        between: Mapping[str, Sequence[Dim]] | None = None,
        doc: str = "",
    ) -> Parts:
        """The finished model, without aliases, dead nodes and unused initializers.

        Its weights are the memory of the layers' parameters where these are float32 on the CPU.

        Args:
            inputs, outputs: float32 tensors by name, with sizes or names of sizes.
            between: the same of other values, for ``value_info``; those that are not left in the end do not matter.
        """
        nodes = remove_aliases(self._nodes, {*inputs, *self._initializers}, list(outputs), self.blobs)
        nodes = prune(nodes, outputs)
        for node in nodes:
            node.name = node.name or self._node_names.fresh(node.op_type)
        used = {name for node in nodes for name in node.input}
        made = {name for node in nodes for name in node.output} - {*inputs, *outputs}
        graph = helper.make_graph(
            nodes,
            self.name or "caffe",
            _float_values(inputs),
            _float_values(outputs),
            value_info=_float_values({name: dims for name, dims in (between or {}).items() if name in made}),
        )
        weights: dict[str, Weight] = {}
        for name in (name for name in self._initializers if name in used):
            tensor, filled = make_tensor(name, self._initializers[name])
            graph.initializer.append(tensor)
            if not filled:
                weights[name] = self._initializers[name]
        opsets = [helper.make_opsetid("", self.opset)]
        version = min(_MAX_IR_VERSION, helper.find_min_ir_version_for(opsets))
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=version, producer_name="caffe_compat", doc_string=doc
        )
        return Parts(model, weights)

    def model(
        self, inputs: Mapping[str, Sequence[Dim]], outputs: Mapping[str, Sequence[Dim]], doc: str = ""
    ) -> onnx.ModelProto:
        """:meth:`parts` in one."""
        return join(self.parts(inputs, outputs, doc=doc))

    def _error(self, reason: str) -> ExportError:
        return ExportError(reason) if self._layer is None else self._layer.export_error(reason)

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Name the layer when the onnx library refuses an attribute."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise self._error(f"writes a node that ONNX does not know: {error}") from error


def _float_values(values: Mapping[str, Sequence[Dim]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)) for name, dims in values.items()]
