"""Where ONNX Runtime runs the nodes of a model on a machine with a GPU, and what it copies between the devices.

Told from a table of kernels and two rules of ONNX Runtime: a node goes to the GPU if the CUDA provider has a kernel
for that form of its operator and its types (``kernel_registry.cc``); one that computes with shapes, which are on the
CPU, stays there (``GetCpuPreferredNodes`` in ``fallback_cpu_capability.cc``).
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import onnx

from caffe_compat.errors import ExportError
from caffe_compat.onnx.cuda_kernels import CPU_INPUTS, CPU_OUTPUTS, TYPES, VERSIONS, kernels
from caffe_compat.onnx.measured import Measured, measure, read_model, sizes_of

__all__ = ["CPU", "CPU_BY_SHAPE", "CUDA", "LIMIT", "Copy", "Placed", "Placement", "place", "refuse_lost_kernels"]

CUDA, CPU, CPU_BY_SHAPE = "CUDA", "CPU", "CPU by shape rule"
LIMIT = 1024  #: bytes that may be copied between the devices
_SMALL = 100  #: elements of an initializer that does not keep a node on the GPU
_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)  # these are never computed on the CPU by the shape rule
_LAST_SAFE = 18  #: opset up to which the CUDA provider has what it has at all
_CUDNN_CELL = re.compile("LSTM|GRU|RNN")
_LETTERS = {getattr(onnx.TensorProto, name): letter for name, letter in TYPES.items()}


@dataclass(frozen=True)
class Placed:
    """A node and where it runs.

    Attributes:
        since: the opset that brought this form of the operator.
        where: ``CUDA``, ``CPU`` or ``CPU_BY_SHAPE``.
        reason: why not on the GPU.
        lost: the model's opset is to blame: at opset 18 there is a kernel.
    """

    name: str
    op: str
    since: int
    where: str
    reason: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Copy:
    """A value that goes from one device to the other.

    Attributes:
        source, target: ``CUDA`` or ``CPU``.
        size: in bytes, ``None`` if unknown.
    """

    value: str
    source: str
    target: str
    size: int | None


@dataclass(frozen=True)
class Placement:
    """What ONNX Runtime does with a model.

    Attributes:
        source: where this is known from.
        limit: bytes of the largest copy that is let pass.
        sizes: how large open sizes were taken.
    """

    source: str
    nodes: list[Placed]
    copies: list[Copy]
    limit: int = LIMIT
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def too_large(self) -> list[Copy]:
        """Copies over the limit, or of unknown size."""
        return [copy for copy in self.copies if copy.size is None or copy.size > self.limit]

    @property
    def passed(self) -> bool:
        """Whether nothing large is copied between the devices, and the opset takes no node from the GPU."""
        return not self.too_large and not any(node.lost for node in self.nodes)

    @property
    def refusal(self) -> str:
        """Why it did not pass; empty if it did."""
        lost = [node for node in self.nodes if node.lost]
        if lost:
            return f"node '{lost[0].name}' runs on the CPU: {lost[0].reason}; export with opset {_LAST_SAFE} or 17"
        if not self.too_large:
            return ""
        there = [node for node in self.nodes if node.where == CPU]
        because = f"; node '{there[0].name}' runs on the CPU: {there[0].reason}" if there else ""
        return f"{_copy_line(self.too_large[0])}, over {self.limit} bytes{because}"

    def lines(self, brief: bool = False) -> list[str]:
        """For the terminal: every node (``brief``: that is not on the GPU), every copy, and a summary."""
        shown = [node for node in self.nodes if not brief or node.where != CUDA]
        width = max((len(node.name) for node in shown), default=0)
        forms = max((len(_form(node)) for node in shown), default=0)
        lines = [
            f"{node.name:{width}s}  {_form(node):{forms}s}  {node.where}{f' ({node.reason})' if node.reason else ''}"
            for node in shown
        ]
        sizes = ", ".join(f"{name or 'an axis'} {size}" for name, size in self.sizes.items())
        taken = [f"at {sizes}"] if sizes else []
        return [*lines, *map(_copy_line, self.copies), *taken, self.summary()]

    def summary(self) -> str:
        """One line."""
        counts = {where: sum(node.where == where for node in self.nodes) for where in (CUDA, CPU, CPU_BY_SHAPE)}
        shown = ", ".join(f"{count} {where}" for where, count in counts.items())
        sizes = [copy.size for copy in self.copies if copy.size is not None]
        copied = f"{len(self.copies)} copies between them, the largest {max(sizes, default=0)} bytes"
        return f"{self.source}: {len(self.nodes)} nodes: {shown}; {copied if self.copies else 'no copies between them'}"


def _form(node: Placed) -> str:
    return f"{node.op}-{node.since}" if node.since else node.op


def _copy_line(copy: Copy) -> str:
    size = "of unknown size" if copy.size is None else f"{copy.size} bytes"
    return f"copy of '{copy.value}', {size}, {copy.source} to {copy.target}"


def place(
    model: onnx.ModelProto | str | os.PathLike[str],
    version: str = VERSIONS[-1],
    sizes: Mapping[str, int] | None = None,
    limit: int = LIMIT,
) -> Placement:
    """Where the nodes run and what is copied.

    Bodies of Loop, If and Scan are not looked into.  Inputs of the model count as being where most of their readers
    are, outputs as wanted where they are made.

    Args:
        model: a model or its file; weights in a file of their own are not read.
        version: of ONNX Runtime, one of ``VERSIONS``.
        sizes: for open sizes; by default those of the prototxt, else 300.
        limit: see :class:`Placement`.

    Raises:
        UsageError: no table for this version; a size that is not open.
    """
    proto = model if isinstance(model, onnx.ModelProto) else read_model(model)
    found = _Placer(proto, version, measure(proto, sizes or {})).placement(limit)
    return replace(found, sizes=sizes_of(proto, sizes or {}))


def refuse_lost_kernels(model: onnx.ModelProto, version: str = VERSIONS[-1]) -> None:
    """Refuse a model for a GPU whose opset takes away a kernel that a node has at opset 18.

    Raises:
        ExportError: names the node.
    """
    opset = _opset(model)
    if opset <= _LAST_SAFE:
        return
    for node in model.graph.node:
        if _lost(node, opset, version):
            raise ExportError(
                f"opset is {opset}: node '{node.name}' ({node.op_type}-{_since(node, opset)}) has no CUDA kernel in "
                f"ONNX Runtime {version}, but one at opset {_LAST_SAFE}; export with that or 17"
            )


def _lost(node: onnx.NodeProto, opset: int, version: str) -> bool:
    """Whether there is a CUDA kernel for a node at opset 18, but not at this later one."""
    known = kernels(version).get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ()
    now, before = _since(node, opset), _since(node, _LAST_SAFE)
    had = opset > _LAST_SAFE and before and any(kernel.fits(before) for kernel in known)
    return bool(had) and not any(kernel.fits(now) for kernel in known)


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _since(node: onnx.NodeProto, opset: int) -> int:
    """The opset that brought the form of an operator; 0 if ONNX does not know it."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset, domain=domain):
        return 0
    return int(onnx.defs.get_schema(node.op_type, opset, domain).since_version)


@dataclass
class _Placer:
    """The rules at work on one model."""

    model: onnx.ModelProto
    version: str
    values: Mapping[str, Measured]
    reasons: dict[int, str] = field(default_factory=dict)  # of nodes without a kernel
    shapes: set[int] = field(default_factory=set)  # nodes that the shape rule keeps on the CPU

    def __post_init__(self) -> None:
        self.opset = _opset(self.model)
        self.nodes = list(self.model.graph.node)
        self.constants = {tensor.name: prod(tensor.dims) for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = prod(self.value(node.output[0]).shape or (1,))
        self.readers: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(number)
            reason = self.missing(node)
            if reason:
                self.reasons[number] = reason
        self.apply_shape_rule()

    def value(self, name: str) -> Measured:
        """What is known of a value."""
        return self.values.get(name, Measured())

    # -- kernels ----------------------------------------------------------------------------------------------

    def missing(self, node: onnx.NodeProto) -> str:
        """Why the CUDA provider has no kernel for a node; empty if it has."""
        if node.domain not in ("", "ai.onnx"):
            return f"no table for operators of {node.domain}"
        if node.op_type == "Constant":
            return ""
        known = kernels(self.version).get(node.op_type, ())
        since = _since(node, self.opset)
        fitting = [kernel for kernel in known if kernel.fits(since)]
        if not known:
            return "no CUDA kernel at any opset"
        if not fitting:
            forms = ", ".join(f"{k.first}" if k.first == k.last else f"{k.first} to {k.last}" for k in known)
            return f"no CUDA kernel for {node.op_type}-{since}, only for {forms}"
        wrong = [self.wrong_type(node, kernel.types) for kernel in fitting]
        return min(wrong, key=bool) or _refused(node)

    def wrong_type(self, node: onnx.NodeProto, types: Mapping[str, str]) -> str:
        """The type of a value that a kernel does not take; empty if it takes all."""
        for constraint, letters in types.items():
            for name in self.constrained(node, constraint):
                kind = self.value(name).kind
                if kind and _LETTERS.get(kind, "") not in letters:
                    return f"no CUDA kernel for {onnx.TensorProto.DataType.Name(kind).lower()}"
        return ""

    def constrained(self, node: onnx.NodeProto, constraint: str) -> Iterator[str]:
        """Values whose type a constraint speaks of, by the name of a type or of a parameter."""
        schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        for formal, actual in ((schema.inputs, node.input), (schema.outputs, node.output)):
            for number, name in enumerate(actual):
                parameter = formal[min(number, len(formal) - 1)]
                if name and constraint in (parameter.type_str, parameter.name):
                    yield name

    # -- the shape rule ---------------------------------------------------------------------------------------

    def apply_shape_rule(self) -> None:
        """Keep on the CPU what follows from shapes and small constants alone, or from the CPU's results."""
        here: set[str] = set()  # values on the CPU, as far as this rule sees
        waiting: list[int] = []
        for number, node in enumerate(self.nodes):
            if number not in self.reasons:
                for output in self.cpu_outputs(node):
                    here.add(output)
                    waiting += self.readers.get(output, [])
        heapq.heapify(waiting)
        seen: set[int] = set()
        while waiting:
            number = heapq.heappop(waiting)
            if number in seen:
                continue
            seen.add(number)
            if number not in self.reasons:
                if not self.stays(self.nodes[number], here):
                    continue
                self.shapes.add(number)
            for output in self.nodes[number].output:
                here.add(output)
                for reader in self.readers.get(output, []):
                    heapq.heappush(waiting, reader)

    def stays(self, node: onnx.NodeProto, here: set[str]) -> bool:
        """Whether all that a node reads is small or on the CPU, and the GPU's kernel does not read it there anyway."""
        inputs = {value.name for value in self.model.graph.input}
        for index, name in enumerate(node.input):
            if not name or self.value(name).kind in _HALVES:
                return False
            if self.constants.get(name, _SMALL + 1) <= _SMALL or name in inputs:
                continue
            if name not in here or index in CPU_INPUTS.get(node.op_type, ()):
                return False
        return True

    def cpu_outputs(self, node: onnx.NodeProto) -> list[str]:
        """Outputs that a kernel on the GPU writes on the CPU."""
        return [node.output[index] for index in CPU_OUTPUTS.get(node.op_type, ())]

    # -- copies -----------------------------------------------------------------------------------------------

    def on_cpu(self, number: int) -> bool:
        """Whether a node runs there."""
        return number in self.reasons or number in self.shapes

    def copies(self) -> list[Copy]:
        """Values that are read on another device than they are made on, once for each."""
        made: dict[str, str] = {}
        for number, node in enumerate(self.nodes):
            for name in node.output:
                made[name] = CPU if self.on_cpu(number) or name in self.cpu_outputs(node) else CUDA
        found = []
        for name, readers in self.readers.items():
            wanted = {self.read_on(number, name) for number in readers} - {""}
            if name in self.constants or not wanted:
                continue
            source = made.get(name, CUDA if CUDA in wanted else CPU)
            found += [Copy(name, source, target, self.value(name).size) for target in sorted(wanted - {source})]
        return found

    def read_on(self, number: int, name: str) -> str:
        """The device that a node wants a value on."""
        node = self.nodes[number]
        if self.on_cpu(number):
            return CPU
        places = {CPU if i in CPU_INPUTS.get(node.op_type, ()) else CUDA for i, n in enumerate(node.input) if n == name}
        return CUDA if CUDA in places else CPU

    def placement(self, limit: int) -> Placement:
        """All of it."""
        placed = []
        for number, node in enumerate(self.nodes):
            if node.op_type == "Constant":
                continue
            where = CPU if number in self.reasons else CPU_BY_SHAPE if number in self.shapes else CUDA
            since = _since(node, self.opset)
            lost = _lost(node, self.opset, self.version)
            name, reason = node.name or node.output[0], self.reasons.get(number, "")
            placed.append(Placed(name, node.op_type, since, where, reason, lost))
        return Placement(f"ONNX Runtime {self.version}", placed, self.copies(), limit)


def _refused(node: onnx.NodeProto) -> str:
    """What the CUDA provider leaves to the CPU in spite of a kernel (``GetCapability``)."""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "ConvTranspose":
        pads = list(attributes.get("pads", ()))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :] or attributes.get("auto_pad", b"").startswith(b"SAME"):
            return "pads that differ at begin and end"
    if _CUDNN_CELL.fullmatch(node.op_type):
        odd = {"activation_alpha", "activation_beta", "clip", "activations"} & set(attributes)
        if odd or attributes.get("input_forget") or not attributes.get("linear_before_reset", 1):
            return f"attributes that cuDNN does not have ({', '.join(sorted(odd)) or 'gates'})"
    return ""
