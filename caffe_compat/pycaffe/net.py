"""pycaffe's Net: the interface of Caffe's Python module over :class:`caffe_compat.net.BlobNet`.

Translation only.  Source: BVLC Caffe 1.0, ``python/caffe/pycaffe.py`` and ``_caffe.cpp`` (described in its
documentation); differences are that bad input raises an exception instead of ending the process.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from caffe_compat.description import State
from caffe_compat.errors import NetError, UsageError, nearest
from caffe_compat.net import Blob, BlobNet, load_net
from caffe_compat.net import Net as Module
from caffe_compat.net import weights as weight_files

__all__ = ["TEST", "TRAIN", "BlobView", "LayerView", "Net"]

TRAIN, TEST = 0, 1
PHASES = ("TRAIN", "TEST")


class BlobView:
    """A blob as pycaffe shows it: ``data`` and ``diff`` as live numpy views."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def data(self) -> np.ndarray:
        """Values, float32, writable."""
        return self._blob.data

    @property
    def diff(self) -> np.ndarray:
        """Gradient, float32, writable."""
        return self._blob.diff

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._blob.shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self._blob.shape, dtype=np.int64))

    def reshape(self, *shape: int) -> None:
        """Change the shape; the net follows at its next forward or reshape."""
        self._blob.reshape(*shape)

    def _legacy(self, axis: int) -> int:
        shape = self._blob.shape
        if len(shape) > 4:
            raise NetError(f"num, channels, height, width need a blob of at most 4 axes, this one has {len(shape)}")
        return shape[axis] if axis < len(shape) else 1

    num = property(lambda self: self._legacy(0), doc="Size of axis 0.")
    channels = property(lambda self: self._legacy(1), doc="Size of axis 1, or 1.")
    height = property(lambda self: self._legacy(2), doc="Size of axis 2, or 1.")
    width = property(lambda self: self._legacy(3), doc="Size of axis 3, or 1.")


class LayerView:
    """A layer as pycaffe shows it: ``type`` and ``blobs``."""

    def __init__(self, type_name: str, blobs: list[BlobView]) -> None:
        self.type, self.blobs = type_name, blobs


class Net:
    """A net with pycaffe's interface.

    ``Net(network_file, phase, level=0, stages=None, weights=None)`` or, as before 2016,
    ``Net(network_file, weights_file, phase)``.
    """

    def __init__(self, network_file: str, *args: Any, **kwargs: Any) -> None:
        phase, level, stages, weights = _constructor_arguments(args, kwargs)
        module = load_net(os.fspath(network_file), weights, PHASES[phase], level, stages)
        self._adopt(module)

    @classmethod
    def from_module(cls, module: Module, engine: BlobNet | None = None) -> Net:
        """The same interface over a module, and the engine that runs it, if they exist already."""
        net = cls.__new__(cls)
        net._adopt(module, engine)
        return net

    def _adopt(self, module: Module, engine: BlobNet | None = None) -> None:
        self.module = module
        self.engine = engine or BlobNet(module)
        self._hooks: dict[str, list[Callable[[int], Any]]] = {
            name: [] for name in ("before_forward", "after_forward", "before_backward", "after_backward")
        }
        self._blobs = [BlobView(blob) for blob in self.engine.blobs]
        self._blob_names = list(self.engine.names)
        self._layer_names = [node.name for node in module.nodes]
        self._inputs, self._outputs = list(module.plan.inputs), list(module.plan.outputs)
        self.blobs: OrderedDict[str, BlobView] = OrderedDict(zip(self._blob_names, self._blobs, strict=True))
        self.layers = [self._layer_view(number) for number in range(len(module.nodes))]
        self.layer_dict: OrderedDict[str, Any] = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        self.params: OrderedDict[str, Any] = OrderedDict(
            (name, layer.blobs) for name, layer in zip(self._layer_names, self.layers, strict=True) if len(layer.blobs)
        )

    def _layer_view(self, number: int) -> Any:
        node = self.module.nodes[number]
        instance = getattr(node.layer, "instance", None)  # a Python layer is the user's own object
        if instance is not None:
            return instance
        blobs = [BlobView(self.engine.param_blob(number, index)) for index in range(len(node.layer.blobs))]
        return LayerView(node.type, blobs)

    # -- structure --------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs that Input layers make."""
        return [self._blob_names[blob] for blob in self._inputs]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that nothing consumes, sorted."""
        return [self._blob_names[blob] for blob in self._outputs]

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Layer name to names of its tops."""
        return OrderedDict((node.name, [self._blob_names[b] for b in node.top_ids]) for node in self.module.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Layer name to names of its bottoms."""
        return OrderedDict((node.name, [self._blob_names[b] for b in node.bottom_ids]) for node in self.module.nodes)

    @property
    def _blob_loss_weights(self) -> list[float]:
        weights = [0.0] * len(self._blobs)
        for node in self.module.nodes:
            for blob, weight in zip(node.top_ids, node.loss_weights, strict=True):
                weights[blob] = weight
        return weights

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name to loss weight."""
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights, strict=True))

    def _top_ids(self, layer: int) -> list[int]:
        return list(self.module.nodes[layer].top_ids)

    def _bottom_ids(self, layer: int) -> list[int]:
        return list(self.module.nodes[layer].bottom_ids)

    # -- running ----------------------------------------------------------------------------------------------

    def _forward(self, start: int, end: int) -> float:
        total = 0.0
        for number in range(start, end + 1):
            self._call("before_forward", number)
            total += float(self.engine.forward_layer(number) or 0.0)
            self._call("after_forward", number)
        return total

    def _backward(self, start: int, end: int) -> None:
        for number in range(start, end - 1, -1):
            if self.module.nodes[number].needs_backward:
                self._call("before_backward", number)
                self.engine.backward_layer(number)
                self._call("after_backward", number)

    def _call(self, kind: str, number: int) -> None:
        for function in self._hooks[kind]:
            function(number)

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Run the net, or its layers ``start`` to ``end`` (names, inclusive).

        Args:
            blobs: blobs to return besides the outputs (or, with ``end``, besides the tops of that layer).
            **kwargs: all inputs, if any is given; batch sizes as the blobs have them.

        Returns:
            Views of the blobs, by name.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self.layers) - 1 if end is None else self._layer_index(end)
        names = set(self.outputs if end is None else self.top_names[end])
        for name in blobs or ():
            self._known_blob(name)
        if kwargs:
            self._set_all("input", kwargs, self.inputs, "data")
        self._forward(first, last)
        return {name: self.blobs[name].data for name in sorted(names | set(blobs or ()))}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Run the backward pass, or its layers ``start`` down to ``end`` (names, inclusive).

        Returns:
            Views of the gradients of the inputs (or, with ``end``, of the bottoms of that layer) and of ``diffs``.
        """
        first = len(self.layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        names = set(self.inputs if end is None else self.bottom_names[end])
        for name in diffs or ():
            self._known_blob(name)
        if kwargs:
            self._set_all("top diff", kwargs, self.outputs, "diff")
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in sorted(names | set(diffs or ()))}

    def _set_all(self, what: str, given: dict[str, np.ndarray], expected: Sequence[str], field: str) -> None:
        if set(given) != set(expected):
            raise UsageError(f"{what} blob arguments are {sorted(given)}, expected exactly {sorted(expected)}")
        for name, value in given.items():
            shape = self.blobs[name].shape
            if np.shape(value)[:1] != shape[:1]:
                raise UsageError(f"{what} '{name}' has batch size {np.shape(value)[:1]}, the blob has {shape[:1]}")
            getattr(self.blobs[name], field)[...] = value

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            raise NetError(f"the net has no layer '{name}'{nearest(name, self._layer_names)}")
        return self._layer_names.index(name)

    def _known_blob(self, name: str) -> None:
        if name not in self.blobs:
            raise NetError(f"the net has no blob '{name}'{nearest(name, self.blobs)}")

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the net over inputs of any length, in batches of the net's batch size."""
        results: dict[str, list[np.ndarray]] = {name: [] for name in set(self.outputs) | set(blobs or ())}
        for batch in self._batch(kwargs):
            for name, value in self.forward(blobs=blobs, **batch).items():
                results[name].extend(value.copy())
        return {name: np.asarray(values)[: _length(kwargs)] for name, values in results.items()}

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The same with the backward pass: results and gradients."""
        forward_in = {name: value for name, value in kwargs.items() if name in self.inputs}
        backward_in = {name: value for name, value in kwargs.items() if name in self.outputs}
        outs: dict[str, list[np.ndarray]] = {name: [] for name in set(self.outputs) | set(blobs or ())}
        grads: dict[str, list[np.ndarray]] = {name: [] for name in set(self.inputs) | set(diffs or ())}
        backward_batches = self._batch(backward_in) if backward_in else iter(lambda: {}, None)
        for batch, top in zip(self._batch(forward_in), backward_batches, strict=False):
            for name, value in self.forward(blobs=blobs, **batch).items():
                outs[name].extend(value.copy())
            for name, value in self.backward(diffs=diffs, **top).items():
                grads[name].extend(value.copy())
        length = _length(forward_in)
        return (
            {name: np.asarray(values)[:length] for name, values in outs.items()},
            {name: np.asarray(values)[:length] for name, values in grads.items()},
        )

    def _batch(self, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Batches of the net's batch size; the last one is padded with zeros."""
        size = self._blobs[0].shape[0]
        for start in range(0, _length(arrays), size):
            batch = {}
            for name, values in arrays.items():
                part = np.asarray(values[start : start + size], np.float32)
                padding = np.zeros((size - len(part), *part.shape[1:]), np.float32)
                batch[name] = np.concatenate([part, padding]) if len(padding) else part
            yield batch

    def reshape(self) -> None:
        """Let all blobs follow the shapes of the inputs."""
        self.engine.reshape()

    def clear_param_diffs(self) -> None:
        """Set the gradients of the learnable parameters to zero."""
        self.engine.clear_param_diffs()

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give a MemoryData layer (the first of the net) its images and labels; they are used in place."""
        layer = self.module.nodes[0].layer if self.module.nodes else None
        reset = getattr(layer, "reset", None)
        if layer is None or reset is None or self.module.nodes[0].type != "MemoryData":
            raise NetError("set_input_arrays needs a MemoryData layer as the first layer of the net")
        reset(data, labels)

    # -- weights ----------------------------------------------------------------------------------------------

    def copy_from(self, path: str) -> None:
        """Copy weights by layer name; binary or HDF5, whatever the file is."""
        self.module.copy_from(path)

    load_hdf5 = copy_from

    def save(self, path: str) -> None:
        """Write a binary ``.caffemodel``."""
        self.module.save(path)

    def save_hdf5(self, path: str) -> None:
        """Write a ``.caffemodel.h5``."""
        weight_files.save_hdf5(self.module, path)

    def share_with(self, other: Net) -> None:
        """Use the parameters of ``other``, by layer name."""
        weight_files.share(self.module, other.module)

    def before_forward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` before each layer's forward."""
        self._hooks["before_forward"].append(function)

    def after_forward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` after each layer's forward."""
        self._hooks["after_forward"].append(function)

    def before_backward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` before each layer's backward."""
        self._hooks["before_backward"].append(function)

    def after_backward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` after each layer's backward."""
        self._hooks["after_backward"].append(function)


def _length(arrays: dict[str, np.ndarray]) -> int:
    return len(next(iter(arrays.values())))


def _constructor_arguments(
    args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[int, int, tuple[str, ...], str | None]:
    """phase, level, stages, weights from either constructor."""
    args = list(args)
    weights = kwargs.pop("weights", None)
    if args and isinstance(args[0], str | os.PathLike):
        weights = os.fspath(args.pop(0))
        if not args and "phase" not in kwargs:
            raise TypeError("Net(network_file, weights_file, phase): the phase is missing")
    names = ("phase", "level", "stages")
    if len(args) > len(names) or any(isinstance(arg, str) for arg in args):
        raise TypeError("Net(network_file, phase, level=0, stages=None, weights=None): wrong arguments")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in given:
            raise TypeError(f"Net() got an unexpected argument '{name}'")
        given[name] = value
    if given.get("phase") not in (TRAIN, TEST):
        raise TypeError("Net(network_file, phase): phase must be caffe.TRAIN or caffe.TEST")
    state = State(PHASES[given["phase"]], int(given.get("level", 0)), tuple(given.get("stages") or ()))
    return given["phase"], state.level, state.stages, weights
