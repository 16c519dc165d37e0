"""What every layer is: parameters read, shapes known, numbers computed, ONNX nodes written.

A layer family is one file; in it every layer has its four facets in this order.  To add a layer, write the class,
decorate it with ``@register`` and give it a case in the layer tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from caffe_compat.errors import ExportError, LayerError, ShapeError
from caffe_compat.layers.fillers import CONSTANT_ZERO, Filler
from caffe_compat.layers.onnx_graph import OnnxGraph
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.sharing import Reads, Reread, Share, kept
from caffe_compat.memory import SMALL, available_memory, human_size
from caffe_compat.ranks import Turns

__all__ = [
    "Layer",
    "LossLayer",
    "NeuronLayer",
    "OnnxGraph",
    "Shape",
    "count",
    "as_rows",
]

Shape = tuple[int, ...]
Precision = Literal["half", "any", "single"]
UNLIMITED = 1 << 30


class Layer(nn.Module):
    """Base of all layers.

    A subclass sets the class attributes, reads all its parameters in ``__init__`` (calling ``super().__init__(params,
    bottoms)`` first, then ``self.add_blob`` for each learnable blob), and implements ``top_shapes``, ``forward`` and
    ``to_onnx``.

    Attributes:
        name, layer_phase: of the layer.
        may_overwrite: set by the net where the bottom may be overwritten (in place, producer does not need it).
    """

    caffe_type: ClassVar[str]
    bottom_count: ClassVar[tuple[int, int]] = (1, 1)  #: smallest and largest number of bottoms
    top_count: ClassVar[tuple[int, int]] = (1, 1)  #: smallest and largest number of tops
    equal_counts: ClassVar[bool] = False  #: as many tops as bottoms
    in_place: ClassVar[bool] = False  #: whether a top may be its bottom
    auto_top: ClassVar[bool] = False  #: missing tops are added by the net (loss layers)
    answer: ClassVar[str] = ""  #: type of the layer that gives, without labels, what a loss compares with them
    creates_layer: bool = False  #: Caffe makes a layer of the same name inside it, and says so in its log
    default_loss_weight: ClassVar[float] = 0.0
    keeps_loss_weight: ClassVar[bool] = True  #: False: the diff that holds it is another buffer by the forward pass
    survives_in_place: bool = True  #: in place, the backward pass finds in its own top what it needs of the bottom
    pointwise: bool = False  #: a pixel of a top depends on that very pixel of the bottoms, whatever the channel
    keeps_sign: bool = False  #: in place, it leaves positive what is, and only that, or passes no gradient there
    no_gradient: ClassVar[tuple[int, ...] | None] = None  #: bottoms whose gradient Caffe refuses; None: none refused
    unforced: ClassVar[tuple[int, ...]] = ()  #: bottoms that force_backward leaves alone
    onnx_reason: ClassVar[str] = ""  #: why there is no ONNX form, for the support table; "" if there is one
    has_blobs: ClassVar[bool] = False  #: whether layers of this kind can own learnable blobs
    vector_blobs: ClassVar[bool] = False  #: its blobs are vectors; files may have them with other axes of size 1
    takes_blobs: ClassVar[bool] = False  #: weights files hold its blobs in other shapes; it takes them itself
    gathers: ClassVar[bool] = False  #: its blobs are gathered in the forward pass; no solver updates them
    statistics_section: ClassVar[str] = ""  #: the message with ``use_global_stats``, of layers that gather statistics
    phase_dependent: ClassVar[bool] = False  #: it computes something else in TRAIN than in TEST
    judges_classes: ClassVar[bool] = False  #: bottom 0 holds scores of classes, bottom 1 the right ones
    filler_section: ClassVar[str] = ""  #: the message with its ``weight_filler`` and ``bias_filler``, if it has both
    fixes_size: ClassVar[bool] = False  #: the number of its weights depends on the height and width of the bottom
    drawn: bool = False  #: it was filled with what weights are to replace: at random, or zeros for want of a filler
    instance: Any = None  #: the user's own object, of a layer written in Python
    running_metric: bool = False  #: its top covers all batches since :meth:`start_over`
    carries: bool = False  #: what it gives depends on earlier passes, and so on who made them
    batches: float | None = None  #: how many batches it reads before its list starts again, if it reads one
    hopeless: str = ""  #: after a test: why training cannot go on, if a metric shows that
    affine: ClassVar[bool] = False  #: its blobs times a number give the top times it; only the first meets the bottom
    homogeneous: ClassVar[bool] = False  #: its bottoms (not boxes) times a positive number give its tops times it
    per_box: ClassVar[bool] = False  #: its tops have an item for each row of bottom 1, a box of an image of bottom 0
    sized_by_values: ClassVar[bool] = False  #: values decide a size of its tops; of rows there are at most those told
    rows_of_centres: ClassVar[bool] = False  #: its detections hold classes from 0, centres and sides, not corners
    rows_axis: ClassVar[int] = 0  #: which size of the tops that is
    precision: Precision = "single"  #: under mixed precision: of 16 bits, of the bottoms' type, or of 32 bits
    on_meta: ClassVar[bool] = True  #: whether ``forward`` gives the shapes on torch's meta device (it reads no files)

    forward: Callable[..., Any]  #: (bottoms as separate arguments) -> the top, or a tuple of all tops

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__()
        self.params = params
        self.name, self.layer_phase = params.name, params.phase
        self.may_overwrite = False
        self._blob_shapes: list[Shape] = []
        self._blob_owners: list[nn.Parameter] = []
        self._fillers: list[Filler | None] = []
        self._check_counts(len(bottoms))

    # -- blobs ------------------------------------------------------------------------------------------------

    def add_blob(self, shape: Sequence[int], filler: Filler | None = None, learnable: bool = True) -> int:
        """Append a blob (registered as ``weight``, ``bias``, ``blob2``, ...) and return its index.

        The blob is filled when the net knows that no weights will replace it; without a filler it starts at zero.
        """
        if any(dim < 0 for dim in shape) or count(shape) > 2**31 - 1:
            raise self.shape_error(f"a blob of shape {list(shape)} cannot be, expected less than 2^31 elements")
        self.require_memory("a blob", [shape])
        index = len(self._blob_owners)
        parameter = nn.Parameter(torch.empty(tuple(shape)), requires_grad=learnable)
        self.register_parameter(("weight", "bias")[index] if index < 2 else f"blob{index}", parameter)
        self._blob_owners.append(parameter)
        self._blob_shapes.append(tuple(shape))
        self._fillers.append(filler)
        return index

    @property
    def blobs(self) -> list[nn.Parameter]:
        """The learnable blobs in Caffe's order; a shared one is its owner's parameter."""
        return self._blob_owners

    @property
    def blob_shapes(self) -> list[Shape]:
        """Their shapes as this layer sees them (a shared blob may have another shape at its owner)."""
        return self._blob_shapes

    def blob(self, index: int) -> Tensor:
        """Blob ``index`` in this layer's own shape."""
        owner, shape = self._blob_owners[index], self._blob_shapes[index]
        return owner if owner.shape == shape else owner.view(shape)

    def replace_blob(self, index: int, owner: nn.Parameter) -> None:
        """Let blob ``index`` be another parameter of the same count (sharing, or weights read from a file)."""
        name = [name for name, value in self._parameters.items() if value is self._blob_owners[index]]
        for found in name[:1]:
            self._parameters[found] = owner
        self._blob_owners[index] = owner

    def reshape_blob(self, index: int, shape: Shape) -> None:
        """Give blob ``index`` another shape, as Caffe's ``Blob::Reshape`` does: what does not grow keeps its values,
        what grows is 0.  What the layer was set up for stays: a forward pass may refuse the new shape."""
        owner, size = self._blob_owners[index], count(shape)
        with torch.no_grad():
            for holder in (owner, owner.grad):
                if holder is not None:
                    flat = holder.data.reshape(-1)
                    holder.data = flat[:size].clone().view(shape) if size <= len(flat) else flat.new_zeros(shape)
        self._blob_shapes[index] = shape

    def fill(self, skip: frozenset[int] = frozenset()) -> None:
        """Fill the blobs with their fillers, except those in ``skip`` (weights will replace them)."""
        for index, filler in enumerate(self._fillers):
            if index in skip:
                continue
            filler = filler or CONSTANT_ZERO
            self.drawn = self.drawn or filler.draws or (index == 0 and filler == CONSTANT_ZERO)
            try:
                filler.fill_(self._blob_owners[index].data)
            except ValueError as error:
                raise self.error(f"blob {index}: {error}") from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        """Keep the list of blobs in step when torch replaces parameters (``.to``, ``.double``)."""
        names = {id(value): name for name, value in self._parameters.items()}
        order = [names.get(id(owner)) for owner in self._blob_owners]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for index, name in enumerate(order):
            if name is not None:
                self._blob_owners[index] = self._parameters[name]  # type: ignore[assignment]
        return self

    def take_blobs(self, blobs: Sequence[np.ndarray]) -> None:
        """Take over the blobs of a weights file by a rule of its own, where :attr:`takes_blobs` says so.

        Raises:
            ValueError: they cannot be its; the caller names file and layer.
        """

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Whether Caffe's backward pass overwrites the diff of blob ``index`` where others add to it.

        Args:
            bottoms: shapes of the bottoms of this pass.
        """
        return False

    # -- memory -----------------------------------------------------------------------------------------------

    def shared_memory(self) -> tuple[Share, ...]:
        """Tops that are the buffer of a bottom (in-place tops are not meant)."""
        return ()

    def backward_reads(self) -> Reads:
        """Bottoms and tops whose values Caffe's backward pass reads; what the layer keeps to itself does not count."""
        return Reads()

    def backward_form(self, memory: Reread) -> Tensor | tuple[Tensor, ...]:
        """Tops whose gradients are those of Caffe's backward pass where buffers that it reads were overwritten.

        Only the gradients with respect to ``memory.bottoms`` and the parameters count, not the values.  Running the
        layer on what the buffers hold now is right for layers that read nothing but bottoms and keep nothing.
        """
        result: Tensor | tuple[Tensor, ...] = self(*memory.bottoms)
        return result

    @property
    def fresh_top(self) -> bool:
        """Whether torch's graph of this layer does without the values of its top, so that they may be overwritten."""
        return False

    # -- what other rooms ask -----------------------------------------------------------------------------------

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiplications with addition in one forward pass; biases and elementwise functions are not counted."""
        return 0

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """Rows and columns of bottom ``bottom`` that decide the pixels ``spans`` of top ``top``; None: possibly all.

        Asked only where both are maps of 4 axes.  What windows read in padding counts, so a span may begin before the
        map, and end behind it.

        Args:
            bottoms: shapes of all bottoms.
        """
        return spans if self.pointwise else None

    def batch_axis(self, bottom: int) -> int:
        """The axis of bottom ``bottom`` along which the items of a minibatch lie."""
        return 0

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Random values that bottom ``bottom`` may hold: indices in range, boxes, marks; ``None`` if any number may.

        Args:
            shapes: of all bottoms.
        """
        return None

    def shapes_now(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """Shapes of the tops for these values: what Caffe's Reshape makes of a net that is set up.

        Differs from :meth:`top_shapes` only where values decide a size.
        """
        return self.top_shapes([tuple(bottom.shape) for bottom in bottoms])

    def seek(self, batches: int) -> None:
        """Go on as if ``batches`` forward passes had been made; only what reads data or counts passes need do so.

        Raises:
            LayerError: a negative number.
        """

    def take_turns(self, turns: Turns) -> None:
        """Make of all forward passes only those that are this process's; only what reads data need do so.

        Raises:
            LayerError: it cannot.
        """

    def forget(self) -> None:
        """Drop what the last forward pass left for the next one (the state of recurrent layers)."""

    def take_over(self, other: Layer) -> None:
        """Use what ``other``, which shares its blobs with this layer, holds besides them, so that it is there once."""

    def start_over(self) -> None:
        """Begin a new test: a layer with ``running_metric`` drops what it has gathered."""

    def unite(self, total: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The top of a layer with ``running_metric`` over the batches of all processes that tested together.

        Args:
            total: adds up a float64 tensor over the processes.

        Returns:
            None if it cannot say: then one process makes the whole test.
        """
        return None

    @property
    def unites(self) -> bool:
        """Whether :meth:`unite` gives something."""
        return type(self).unite is not Layer.unite

    # -- errors -----------------------------------------------------------------------------------------------

    def error(self, reason: str) -> LayerError:
        """An error that names this layer."""
        return self.params.error(reason)

    def shape_error(self, reason: str) -> ShapeError:
        """A shape error that names this layer."""
        return self.params.shape_error(reason)

    def export_error(self, reason: str) -> ExportError:
        """An ONNX error that names this layer."""
        return ExportError(f"layer '{self.name}' ({self.params.type}): {reason}")

    def require(self, met: bool, reason: str) -> None:
        """Raise a ShapeError with ``reason`` unless ``met``."""
        if not met:
            raise self.shape_error(reason)

    def require_memory(self, what: str, shapes: Sequence[Sequence[int]]) -> None:
        """Raise a ShapeError unless float32 values of all ``shapes`` fit into the memory that is left."""
        size = 4 * sum(count(shape) for shape in shapes)
        if size > SMALL and size > (left := available_memory()):
            listed = ", ".join(str(list(shape)) for shape in shapes)
            free = f"{human_size(left)} are free" + ("; a smaller batch or crop needs less" * (what != "a blob"))
            raise self.shape_error(f"{what} of shape {listed} needs {human_size(size)}, {free}")

    def _check_counts(self, bottoms: int) -> None:
        tops = len(self.params.tops)
        for have, (low, high), verb, noun in (
            (bottoms, self.bottom_count, "takes", "bottom"),
            (max(tops, self.top_count[0]) if self.auto_top else tops, self.top_count, "produces", "top"),
        ):
            if low <= have <= high:
                continue
            if low == high:
                wanted = f"{low}"
            else:
                wanted = f"at least {low}" if have < low else f"at most {high}"
            raise self.error(f"{verb} {wanted} {noun} blob(s), the prototxt gives {have}")
        if self.equal_counts and bottoms != tops:
            raise self.error(f"produces one top blob for each bottom blob, the prototxt gives {bottoms} and {tops}")
        if not self.in_place and self.params.in_place:
            raise self.error(f"cannot be computed in place: top '{self.params.tops[0]}' is also its bottom")

    # -- the four facets --------------------------------------------------------------------------------------

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops for given bottoms: Caffe's Reshape, with its refusals.

        Raises:
            ShapeError: the layer cannot take these bottoms.
        """
        raise NotImplementedError

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Write ONNX nodes that compute ``tops`` from ``bottoms``."""
        raise self.export_error(self.onnx_reason or "has no ONNX form")


class NeuronLayer(Layer):
    """One bottom, one top of the same shape, element by element; may be computed in place."""

    in_place = True
    pointwise = True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        return [tuple(bottoms[0])]


class LossLayer(Layer):
    """Prediction and label to one number; its top is added if missing and its loss weight is 1 by default."""

    bottom_count = (2, 2)
    auto_top = True
    default_loss_weight = 1.0
    unforced: ClassVar[tuple[int, ...]] = (1,)
    onnx_reason = "a loss is for training; export the deploy net instead"

    def backward_reads(self) -> Reads:
        """Labels and weights; what was made of the prediction is kept."""
        return Reads(tuple(range(1, len(self.params.bottoms))))

    def backward_form(self, memory: Reread) -> Tensor | tuple[Tensor, ...]:
        """The loss again, with the prediction of the forward pass."""
        result: Tensor | tuple[Tensor, ...] = self(kept(memory.then[0], memory.bottoms[0]), *memory.bottoms[1:])
        return result

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        self.require(
            bool(bottoms[0]) and bool(bottoms[1]) and bottoms[0][0] == bottoms[1][0],
            f"the data and label should have the same number: bottoms are {list(bottoms[0])} and {list(bottoms[1])}",
        )
        return [()]


def count(shape: Sequence[int], start: int = 0, end: int | None = None) -> int:
    """Number of elements in axes ``start`` to ``end`` of a shape."""
    result = 1
    for dim in shape[start:end]:
        result *= dim
    return result


def as_rows(values: Tensor) -> Tensor:
    """Items by values per item (Tensor[N, D]); unlike ``reshape(N, -1)`` also where there are no values."""
    return values.reshape(len(values), count(values.shape, 1))
