"""pycaffe's Net: the interface of Caffe's Python module over :class:`caffe_compat.net.BlobNet`.

Translation only.  Source: BVLC Caffe 1.0, ``python/caffe/pycaffe.py`` and ``_caffe.cpp`` (described in its
documentation); differences are that bad input raises an exception instead of ending the process.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from caffe_compat import log
from caffe_compat.errors import ModelFileError, NetError, UsageError, nearest
from caffe_compat.layers.data.memory import MemoryData
from caffe_compat.net import BlobNet, Observer, load_net
from caffe_compat.net.debug import DebugInfo
from caffe_compat.proto import is_hdf5
from caffe_compat.proto.schema import PHASES
from caffe_compat.pycaffe.blob import BlobVec, BlobView, LayerView
from caffe_compat.pycaffe.mode import current_device, uses_gemm

__all__ = ["TEST", "TRAIN", "Net"]

TRAIN, TEST = 0, 1


class Net:
    """A net with pycaffe's interface.

    ``Net(network_file, phase, level=0, stages=None, weights=None)`` or, as before 2016,
    ``Net(network_file, weights_file, phase)``.
    """

    def __init__(self, network_file: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        phase, level, stages, weights = _constructor_arguments(args, kwargs)
        module = load_net(os.fspath(network_file), weights, PHASES[phase], level, stages, strict=False)
        self._adopt(BlobNet(module, reference_arithmetic=uses_gemm()), self._follow_mode)

    @classmethod
    def from_engine(cls, engine: BlobNet, before_run: Callable[[], None]) -> Net:
        """The same interface over a net that exists already; ``before_run`` is called before each pass."""
        net = cls.__new__(cls)
        net._adopt(engine, before_run)
        return net

    def _follow_mode(self) -> None:
        self.engine.to(current_device())

    def _adopt(self, engine: BlobNet, before_run: Callable[[], None]) -> None:
        module = engine.net
        self.module, self.engine, self._before_run = module, engine, before_run
        if module.description.debug_info:
            DebugInfo(engine, enabled=True)
        self._hooks = _Hooks()
        engine.observers.append(self._hooks)
        self._blobs = [BlobView(blob) for blob in self.engine.blobs]
        self._blob_names = list(self.engine.names)
        self._layer_names = [node.name for node in module.nodes]
        self._last = {name: number for number, name in enumerate(self._layer_names)}
        self._first = {name: number for number, name in reversed(list(enumerate(self._layer_names)))}
        self._inputs, self._outputs = list(module.plan.inputs), list(module.plan.outputs)
        self.blobs: OrderedDict[str, BlobView] = OrderedDict(zip(self._blob_names, self._blobs, strict=True))
        self.layers = [self._layer_view(number) for number in range(len(module.nodes))]
        self.layer_dict: OrderedDict[str, Any] = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        self.params: OrderedDict[str, Any] = OrderedDict(
            (node.name, self._param_vec(number)) for number, node in enumerate(module.nodes) if len(node.layer.blobs)
        )

    def _layer_view(self, number: int) -> Any:
        node = self.module.nodes[number]
        if node.layer.instance is not None:  # a Python layer is the user's own object
            return node.layer.instance
        return LayerView(node.type, self._param_vec(number))

    def _param_vec(self, number: int) -> BlobVec:
        node = self.module.nodes[number]
        blobs = [BlobView(self.engine.param_blob(number, index)) for index in range(len(node.layer.blobs))]
        return BlobVec(node.name, blobs)

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
        return [self.module.plan.losses.get(blob, 0.0) for blob in range(len(self._blobs))]

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name to loss weight."""
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights, strict=True))

    def _named(self, blobs: Sequence[int]) -> list[str]:
        return [self._blob_names[blob] for blob in blobs]

    def _top_ids(self, layer: int) -> list[int]:
        return list(self.module.nodes[layer].top_ids)

    def _bottom_ids(self, layer: int) -> list[int]:
        return list(self.module.nodes[layer].bottom_ids)

    # -- running ----------------------------------------------------------------------------------------------

    def _forward(self, start: int, end: int) -> float:
        self._before_run()
        return self.engine.forward(start, end)

    def _backward(self, start: int, end: int) -> None:
        self._before_run()
        self.engine.backward(start, end)

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
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
        names = set(self.outputs if end is None else self._named(self._top_ids(self._last[end])))
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
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Run the backward pass, or its layers ``start`` down to ``end`` (names, inclusive).

        Returns:
            Views of the gradients of the inputs (or, with ``end``, of the bottoms of that layer) and of ``diffs``.
        """
        first = len(self.layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        names = set(self.inputs if end is None else self._named(self._bottom_ids(self._last[end])))
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
        if name not in self._first:
            raise NetError(f"the net has no layer '{name}'{nearest(name, self._layer_names)}")
        return self._first[name]

    def _known_blob(self, name: str) -> None:
        if name not in self.blobs:
            raise NetError(f"the net has no blob '{name}'{nearest(name, self.blobs)}")

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> dict[str, np.ndarray]:
        """Run the net over inputs of any length, in batches of the net's batch size."""
        results: dict[str, list[np.ndarray]] = {name: [] for name in set(self.outputs) | set(blobs or ())}
        for batch in self._batch(kwargs):
            for name, value in self.forward(blobs=blobs, **batch).items():
                results[name].extend(value.copy())
        return {name: np.asarray(values)[: _length(kwargs)] for name, values in results.items()}

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The same with the backward pass: results and gradients."""
        forward_in = {name: value for name, value in kwargs.items() if name in self.inputs}
        backward_in = {name: value for name, value in kwargs.items() if name in self.outputs}
        outs: dict[str, list[np.ndarray]] = {name: [] for name in set(self.outputs) | set(blobs or ())}
        grads: dict[str, list[np.ndarray]] = {name: [] for name in set(self.inputs) | set(diffs or ())}
        backward_batches: Iterator[dict[str, Any]] = self._batch(backward_in) if backward_in else repeat({})
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

    def _batch(self, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
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
        if not isinstance(layer, MemoryData):
            raise NetError("set_input_arrays needs a MemoryData layer as the first layer of the net")
        layer.reset(data, labels)

    _set_input_arrays = set_input_arrays

    # -- weights ----------------------------------------------------------------------------------------------

    def copy_from(self, path: str) -> None:
        """Copy weights by layer name; binary or HDF5, whatever the file is."""
        self.engine.write_back()
        self.module.copy_from(path, strict=False)

    def load_hdf5(self, path: str) -> None:
        """Copy weights by layer name from an HDF5 file.

        Raises:
            ModelFileError: the file is no HDF5 file.
        """
        if not is_hdf5(path):
            raise ModelFileError(f"{os.fspath(path)}: is no HDF5 file; copy_from reads binary weights too")
        self.engine.write_back()
        self.module.copy_from(path, strict=False)

    def save(self, path: str) -> None:
        """Write a binary ``.caffemodel``."""
        self.engine.write_back()
        self.module.save(path)

    def save_hdf5(self, path: str) -> None:
        """Write a ``.caffemodel.h5``."""
        self.engine.write_back()
        self.module.save_hdf5(path)

    def share_with(self, other: Net) -> None:
        """Use the parameters of ``other``, by layer name."""
        other.engine.write_back()
        self.engine.write_back()
        self.module.share_with(other.module)

    def before_forward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` before each layer's forward."""
        self._hooks.before_forward_functions.append(function)

    def after_forward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` after each layer's forward."""
        self._hooks.after_forward_functions.append(function)

    def before_backward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` before each layer's backward."""
        self._hooks.before_backward_functions.append(function)

    def after_backward(self, function: Callable[[int], Any]) -> None:
        """Call ``function(layer_index)`` after each layer's backward."""
        self._hooks.after_backward_functions.append(function)


class _Hooks(Observer):
    """The functions that a script wants called around every layer, in the solver's passes too."""

    def __init__(self) -> None:
        self.before_forward_functions: list[Callable[[int], Any]] = []
        self.after_forward_functions: list[Callable[[int], Any]] = []
        self.before_backward_functions: list[Callable[[int], Any]] = []
        self.after_backward_functions: list[Callable[[int], Any]] = []

    def before_forward(self, number: int) -> None:
        """Call them in the order in which they came."""
        for function in self.before_forward_functions:
            function(number)

    def after_forward(self, number: int) -> None:
        """The same."""
        for function in self.after_forward_functions:
            function(number)

    def before_backward(self, number: int) -> None:
        """The same."""
        for function in self.before_backward_functions:
            function(number)

    def after_backward(self, number: int) -> None:
        """The same."""
        for function in self.after_backward_functions:
            function(number)


def _length(arrays: dict[str, np.ndarray]) -> int:
    if not arrays:
        raise UsageError("no input arrays were given, expected one per input of the net")
    return len(next(iter(arrays.values())))


def _constructor_arguments(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[int, int, tuple[str, ...], str | None]:
    """phase, level, stages, weights from either constructor."""
    names = ("phase", "level", "stages", "weights")
    if len(args) == 2 and isinstance(args[0], str | os.PathLike) and not kwargs:
        log.warning("Net(network_file, weights_file, phase) is deprecated: use weights=", "_caffe.cpp:130")
        args, kwargs = args[1:], {"weights": args[0]}
    if len(args) > len(names):
        raise TypeError(f"Net() takes at most {1 + len(names)} arguments, got {1 + len(args)}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in given:
            raise TypeError(f"Net() got an unexpected or repeated argument '{name}'")
        given[name] = value
    phase, level, weights = given.get("phase"), given.get("level", 0), given.get("weights")
    stages = given.get("stages") or ()
    if isinstance(phase, bool) or phase not in (TRAIN, TEST):
        raise TypeError(f"Net(network_file, phase): phase is {phase!r}, expected caffe.TRAIN or caffe.TEST")
    if not isinstance(level, int | np.integer):
        raise TypeError(f"Net(network_file, phase, level): level is {level!r}, expected a whole number")
    if isinstance(stages, str) or not all(isinstance(stage, str) for stage in stages):
        raise TypeError(f"Net(network_file, phase, level, stages): stages is {stages!r}, expected a list of names")
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise TypeError(f"Net(network_file, phase, weights=): weights is {weights!r}, expected a file name")
    return int(phase), int(level), tuple(stages), None if weights is None else os.fspath(weights)
