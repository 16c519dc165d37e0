"""A model in half precision: weights and the trunk in float16, inputs, outputs and what needs it in float32.

Converters for this exist (onnxconverter_common.float16, onnxruntime.transformers.float16), but they cast to float16 and
back between two neighbouring nodes that are to stay in float32 (so the squares of an LRN become infinite above 255),
clip weights that do not fit without a word, and move those under 6e-8 up to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import ExportError
from caffe_compat.onnx.metadata import PRECISION, add_facts
from caffe_compat.onnx.roles import BOX_HEADS, element_types, fragile_nodes, in_layers, weighted_nodes

__all__ = ["to_half"]

# they compute in the type of what they are given
_FOLLOWERS = frozenset(
    """
    Relu PRelu LeakyRelu Elu Tanh Sigmoid Softplus Clip Abs Neg Add Sub Mul Sum Max Min Where MaxPool
    AveragePool GlobalMaxPool GlobalAveragePool BatchNormalization Concat Split Slice Reshape Flatten Squeeze
    Unsqueeze Transpose Tile Expand Gather GatherND Compress Pad Identity DepthToSpace SpaceToDepth Resize
    """.split()  # noqa: SIM905
)
_FINAL = frozenset("Softmax LogSoftmax".split())  # noqa: SIM905  #: what they make is not rounded
_ONLY_FIRST = {"Resize"}  #: only input 0 is of the type of the output
_SIZES = frozenset("Shape Size".split())  # noqa: SIM905  #: take any type
_SATURATE = frozenset("Pad Clip Max Min Where".split())  # noqa: SIM905  #: their constants may be beyond all numbers
_LARGEST = float(np.finfo(np.float16).max)
_COARSE = 2.0**-10  #: largest relative error of a tensor that counts as fitting
_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def to_half(model: onnx.ModelProto, keep: Collection[str] = BOX_HEADS) -> onnx.ModelProto:
    """The model with weights and trunk in float16; the one that is given stays as it is.

    Inputs and outputs stay float32, and values keep their names (an output that is computed in float16 has it after
    its cast).  In float32 are computed: LRN, softmax, normalizations and reductions; what is made of regions and of no
    features (coordinates); region pooling where its operator knows no float16; layers of ``keep`` and what only they
    and regions decide (moved boxes); layers whose weights float16 cannot hold.

    Args:
        model: in float32, without control flow.
        keep: names of layers that stay in float32; ``*`` in them stands for anything.

    Raises:
        ExportError: the model has control flow, or its types cannot be told.
    """
    return _Half(model, keep).result()


class _Half:
    """Walks the nodes in order and decides for each.

    Attributes:
        trunk: values that descend from weights in half precision, whatever type they have where they are made.
        half: values that are float16 where they are made.
        cast: names of values in the other type, by (name, type).
    """

    def __init__(self, model: onnx.ModelProto, keep: Collection[str]) -> None:
        self.model, self.graph = model, model.graph
        self.types = element_types(model)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.taken = UniqueNames({*self.types, *(name for node in self.graph.node for name in node.output)})
        self.node_names = UniqueNames(node.name for node in self.graph.node)
        self.outputs = {value.name for value in self.graph.output}
        self.trunk: set[str] = set()
        self.half: set[str] = set()
        self.cast: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.single: set[str] = set()  # initializers that are needed in float32
        self.halved: dict[str, bool] = {}  # initializers that are needed in float16: whether they may saturate
        nodes = list(self.graph.node)
        for node in nodes:
            if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
                raise ExportError(
                    f"node '{node.name}' ({node.op_type}) holds a graph, which half precision cannot take"
                )
        fragile = fragile_nodes(model, self.types)
        weighted = weighted_nodes(nodes, self.weights)
        for node, delicate, heavy in zip(nodes, fragile, weighted, strict=True):
            kept = in_layers(node, keep)
            self._add(node, heavy and not (delicate or kept), delicate or kept, kept or node.op_type in _FINAL)

    def _floats(self, node: onnx.NodeProto) -> list[str]:
        """Inputs that are computed in floating point."""
        return [name for name in node.input if self.types.get(name) == _SINGLE and name not in self.weights]

    def _add(self, node: onnx.NodeProto, heavy: bool, single: bool, final: bool) -> None:
        """Append a node.

        Args:
            heavy: it takes its input to half precision.
            single: it must not compute in half precision.
            final: what it makes is not to be rounded afterwards.
        """
        follows = any(name in self.trunk for name in self._floats(node))
        half = (heavy or (follows and node.op_type in _FOLLOWERS)) and not single and self._fits(node)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for index, name in enumerate(node.input):
            if self.types.get(name) == _SINGLE:
                wanted = _HALF if half and (index == 0 or node.op_type not in _ONLY_FIRST) else _SINGLE
                if node.op_type in _SIZES:
                    wanted = _HALF if name in self.half else _SINGLE
                new.input[index] = self._in(name, wanted, node.op_type in _SATURATE)
        self.nodes.append(new)
        for index, name in enumerate(node.output):
            if self.types.get(name) != _SINGLE:
                continue
            if (half or follows) and not final:
                self.trunk.add(name)
            if half:
                self.half.add(name)
            if half and name in self.outputs:
                new.output[index] = self.cast[name, _HALF] = self.taken.fresh(f"{name}__half")
                self._cast(new.output[index], name, _SINGLE)

    def _fits(self, node: onnx.NodeProto) -> bool:
        """Whether float16 can hold the weights of a node."""
        own = [self.weights[name] for name in node.input if self.types.get(name) == _SINGLE and name in self.weights]
        if node.op_type in _SATURATE:
            return True
        return all(_holds(numpy_helper.to_array(tensor), node.op_type == "BatchNormalization") for tensor in own)

    def _in(self, name: str, wanted: int, saturate: bool) -> str:
        """What a value or weight is called in the type that is wanted."""
        if name in self.weights:
            if wanted == _SINGLE:
                self.single.add(name)
            else:
                self.halved[name] = self.halved.get(name, False) or saturate
            return name if wanted == _SINGLE else self.cast.setdefault((name, _HALF), self.taken.fresh(f"{name}__half"))
        made = _HALF if name in self.half else _SINGLE
        if (name, wanted) not in self.cast:
            if wanted == made or (wanted == _SINGLE and name in self.outputs):
                return name
            self.cast[name, wanted] = self.taken.fresh(f"{name}__{'half' if wanted == _HALF else 'float'}")
            self._cast(name, self.cast[name, wanted], wanted)
        return self.cast[name, wanted]

    def _cast(self, source: str, target: str, wanted: int) -> None:
        name = self.node_names.fresh(f"{target}/Cast")
        self.nodes.append(helper.make_node("Cast", [source], [target], name=name, to=wanted))

    def result(self) -> onnx.ModelProto:
        """The new model; a weight that only half precision needs keeps its name."""
        model = onnx.ModelProto()
        for name in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
            setattr(model, name, getattr(self.model, name))
        model.opset_import.extend(self.model.opset_import)
        model.metadata_props.extend(self.model.metadata_props)
        add_facts(model, {PRECISION: "float16"})
        model.graph.name, model.graph.doc_string = self.graph.name, self.graph.doc_string
        model.graph.input.extend(self.graph.input)
        model.graph.output.extend(self.graph.output)
        back = {self.cast[name, _HALF]: name for name in self.halved if name not in self.single}
        for node in self.nodes:
            node.input[:] = [back.get(name, name) for name in node.input]
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend(self._initializers())
        for value in self.graph.value_info:
            new = model.graph.value_info.add()
            new.CopyFrom(value)
            if value.name in self.half and value.name not in self.outputs:
                new.type.tensor_type.elem_type = _HALF
        return model

    def _initializers(self) -> Iterator[onnx.TensorProto]:
        for name, tensor in self.weights.items():
            if name in self.single or name not in self.halved:
                yield tensor
            if name in self.halved:
                values = numpy_helper.to_array(tensor)
                if self.halved[name]:
                    values = values.clip(-_LARGEST, _LARGEST)
                new = self.cast[name, _HALF] if name in self.single else name
                yield numpy_helper.from_array(values.astype(np.float16), new)


def _holds(values: np.ndarray, each: bool) -> bool:
    """Whether float16 can hold an array: to a part in a thousand of its largest number, or of ``each``."""
    largest = np.abs(values).max(initial=0.0)
    if not largest <= _LARGEST:
        return False
    with np.errstate(invalid="ignore"):
        error = np.abs(values - values.astype(np.float16).astype(np.float32))
    return bool((error <= _COARSE * (np.abs(values) if each else largest)).all())
