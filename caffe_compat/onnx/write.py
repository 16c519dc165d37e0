"""A net's layers as one ONNX graph.

Caffe's blobs are buffers: an in-place layer behind a Flatten changes what later readers of the bottom of that Flatten
find.  ONNX has values, so a reader of a blob whose buffer was overwritten through another one (the plan of the net says
where) gets the newest value of that buffer, in the blob's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffe_compat.net import Net, Node
from caffe_compat.onnx.graph import Dim, GraphBuilder
from caffe_compat.onnx.metadata import RENAMED, add_facts
from caffe_compat.onnx.parts import Parts
from caffe_compat.onnx.shapes import NetShapes

__all__ = ["Writer"]

Place = tuple[int, int]


class Writer:
    """Lets each layer write its nodes.

    The last layer that writes a blob writes its name; a graph input keeps its name, so layers that change it in place
    all write others, and the metadata say so if such a blob is an output.

    Args:
        nodes: the layers to write, in order, all that they depend on among them.
        shapes: of their bottoms and tops.

    Attributes:
        values: name and sizes of the value at each place (number of the layer in the net, and of its top), as it was
            right after the layer.
    """

    def __init__(self, net: Net, nodes: Sequence[Node], shapes: NetShapes, opset: int, roi: str = "cpu") -> None:
        self.net, self.plan, self.shapes = net, net.plan, shapes
        self.builder = GraphBuilder(net.description.name, opset, net.plan.names, roi)
        self.values: dict[Place, tuple[str, list[Dim]]] = {}
        self._inputs: dict[str, list[Dim]] = {}
        self._made: dict[int, tuple[str, list[Dim]]] = {}  # by blob, as it was made
        self._held: dict[int, tuple[str, list[Dim]]] = {}  # by buffer, now
        last = {blob: number for number, node in enumerate(nodes) for blob in node.top_ids}
        numbers = {id(node): number for number, node in enumerate(net.nodes)}
        for position, node in enumerate(nodes):
            final = [blob for blob in node.top_ids if last[blob] == position]
            self._write(numbers[id(node)], node, position, final)

    def _write(self, number: int, node: Node, position: int, final: Sequence[int]) -> None:
        """Write one layer; of the blobs ``final`` it makes the last value."""
        bottoms = [
            self._shown(blob) if index in node.outdated else self._made[blob][0]
            for index, blob in enumerate(node.bottom_ids)
        ]
        shared = {share.top for share in node.shares if share.bottom is not None}
        for index, (blob, sizes) in enumerate(zip(node.top_ids, self.shapes.dims[position], strict=True)):
            name = self.plan.names[blob]
            value = name
            if not node.is_input and (blob not in final or blob in self.plan.inputs or blob in self.plan.outdated):
                value = self.builder.fresh(f"{name}__{node.name}")
            dims: list[Dim] = list(sizes)
            self._made[blob] = self.values[number, index] = (value, dims)
            if index not in shared:
                self._held[self.plan.buffers[blob]] = (value, dims)
            if node.is_input and name in self.shapes.inputs:
                self._inputs[name] = dims
        if node.is_input:
            return
        for bottom, shape in zip(bottoms, self.shapes.bottoms[position], strict=True):
            self.builder.set_shape(bottom, shape)
        self.builder.write(node.layer, bottoms, [self._made[blob][0] for blob in node.top_ids])

    def _shown(self, blob: int) -> str:
        """What the buffer of a blob holds now, in the shape of the blob."""
        (held, held_dims), (made, dims) = self._held[self.plan.buffers[blob]], self._made[blob]
        if held_dims == dims:
            return held
        static = [dim for dim in dims if isinstance(dim, int)]
        shape = self.builder.constant(static) if len(static) == len(dims) else self.builder.add("Shape", [made])
        return self.builder.add("Reshape", [held, shape])

    def parts(self, outputs: Sequence[int]) -> Parts:
        """The model that computes these blobs, as they are at the end."""
        names = self.plan.names
        tops: dict[str, list[Dim]] = {}
        renamed: dict[str, str] = {}
        for blob in outputs:
            value, dims = self._made[blob]
            if blob in self.plan.outdated:
                value = names[blob] if blob not in self.plan.inputs else self.builder.fresh(f"{names[blob]}__end")
                self.builder.node("Identity", [self._shown(blob)], [value])
            open_sizes = self.shapes.sizes
            tops[value] = [
                dim if isinstance(dim, int) or dim in open_sizes else f"{names[blob]}_axis{axis}"
                for axis, dim in enumerate(dims)
            ]
            if value != names[blob]:
                renamed[value] = names[blob]
        parts = self._finish(tops)
        if renamed:
            add_facts(parts.model, {RENAMED: renamed})
        return parts

    def parts_of(self, places: Sequence[Place]) -> Parts:
        """The model that computes the values at these places."""
        return self._finish(dict(self.values[place] for place in places))

    def _finish(self, outputs: Mapping[str, Sequence[Dim]]) -> Parts:
        values = dict(self.values.values())
        return self.builder.parts(self._inputs, outputs, values, f"Caffe net '{self.net.description.name}'")
