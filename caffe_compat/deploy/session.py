"""Run an exported model with ONNX Runtime on the device that was asked for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from caffe_compat.deploy.binding import array_buffer, bind, check_output
from caffe_compat.deploy.facts import NET, PREPARATION, read_rois
from caffe_compat.deploy.opening import open_model, read_description
from caffe_compat.deploy.providers import (
    Place,
    default_threads,
    options_of,
    parse_device,
    refuse_missing,
    wanted_providers,
)
from caffe_compat.deploy.values import (
    Value,
    check_finite,
    check_names,
    check_rois,
    check_shapes,
    plain_array,
)
from caffe_compat.errors import CaffeCompatError, ExportError, UsageError, nearest, one_line

if TYPE_CHECKING:
    from caffe_compat.media import Preparation

__all__ = ["Session"]

Outputs = Sequence[str] | Mapping[str, Any]


class Session:
    """A loaded model::

        session = Session("net.onnx", device="cuda")
        prob = session({"data": images})["prob"]

    Nothing is converted on the way: an input of another type, shape or device than the model takes is refused, and so
    is a provider that does not start.  Calls from several threads are fine.

    Args:
        model: a file, its bytes, or an ``onnx.ModelProto`` of less than 2 GB.
        device: ``cpu``, ``cuda``, ``cuda:1``: where outputs are, and where it runs unless ``providers`` say so;
            ``tensorrt`` (or ``tensorrt:1``) leaves to CUDA what TensorRT does not take.
        providers: ONNX Runtime's execution providers in order of preference (the CPU comes last by itself), by its
            names or as ``cpu``, ``cuda``, ``tensorrt``.
        threads: threads for one node on the CPU; by default as many as torch uses where it is loaded, else as
            OMP_NUM_THREADS says, else one for each core.
        provider_options: of the first provider, such as ``{"cudnn_conv_algo_search": "HEURISTIC"}``, which a net of
            open sizes wants: the default measures all algorithms anew for each size.
        cuda_graph: record the launches of the shapes that :meth:`warm_up` is given, and start them at once when tensors
            of these shapes come; every node must run on the GPU.
        check_finite: refuse inputs with NaN or infinities, which costs a pass over them.

    Attributes:
        inputs, outputs: what the model takes and gives, by name.
        metadata: what is stored in it, by key.

    Raises:
        MissingFileError, ModelFileError: the file, or that of its weights, is missing, cut or no model.
        UsageError: a provider is not in this build of ONNX Runtime, or did not start; says what to install.
        ExportError: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        model: Any,
        device: str = "cpu",
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        provider_options: Mapping[str, Any] | None = None,
        cuda_graph: bool = False,
        check_finite: bool = False,
    ) -> None:
        self.place, by_device = parse_device(str(device))
        wanted = wanted_providers(by_device if providers is None else providers)
        given = dict(provider_options or {})
        if cuda_graph:
            if self.place.kind != "cuda":
                raise UsageError("cuda_graph is asked for on the CPU, expected device='cuda'")
            given["enable_cuda_graph"] = True
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _checked_threads(threads)
        options.log_severity_level = 4  # what goes wrong is in the exceptions too
        arguments = [options_of(name, self.place, given, name == wanted[0]) for name in wanted]
        self._session = open_model(model, options, arguments)
        self._session.disable_fallback()
        self._name = os.fspath(model) if isinstance(model, str | os.PathLike) else "the model"
        refuse_missing(wanted, self._session.get_providers())
        self.inputs, self.outputs, self.metadata = read_description(self._session, self._name)
        self._rois = read_rois(self.metadata, self.inputs)
        self._stream = str(given.get("user_compute_stream", ""))
        self._finite = check_finite
        self._graphs = self._make_graphs() if str(given.get("enable_cuda_graph", "0")) not in ("0", "False") else None

    @property
    def providers(self) -> list[str]:
        """Execution providers in use."""
        return list(self._session.get_providers())

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in the model's order."""
        return list(self.inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in the model's order."""
        return list(self.outputs)

    @property
    def net(self) -> str:
        """Name of the Caffe net that was exported; empty for other models."""
        return self.metadata.get(NET, "")

    @property
    def preparation(self) -> Preparation | None:
        """What the net wants of its pictures, as the model carries it; None: it carries nothing.

        Raises:
            DataError: what it carries is damaged.
        """
        text = self.metadata.get(PREPARATION)
        if text is None:
            return None
        media = import_module("caffe_compat.media")  # which brings OpenCV
        found: Preparation = media.parse_preparation(text, f"{self._name}: metadata '{PREPARATION}'")
        return found

    def __call__(self, inputs: Mapping[str, Any], outputs: Outputs | None = None) -> dict[str, Any]:
        """Compute outputs.

        Args:
            inputs: all of the model's by name, all NumPy arrays (or lists of numbers) or all torch tensors.  Tensors
                are read where they are, on the CPU or this session's GPU, without copies unless not contiguous.
            outputs: names of those that are wanted (default: all), or for each the contiguous array or tensor that it
                is to be written into.

        Returns:
            Outputs by name: arrays for arrays; for tensors, tensors on this session's device.

        Raises:
            UsageError: an input or output is missing, unknown, of another type or shape, or on another device; arrays
                and tensors are mixed.
            DataError: a region of an image that is not in the batch; with ``check_finite`` numbers that are none.
            ExportError: ONNX Runtime cannot run the model on these inputs.
        """
        check_names(list(inputs), list(self.inputs.values()))
        asked = self._asked(outputs)
        values = [*inputs.values(), *(asked.values() if isinstance(asked, Mapping) else ())]
        if inputs and _same_kind(values):
            return self._run_tensors(inputs, asked)
        return self._run_arrays(inputs, asked)

    def warm_up(self, shapes: Mapping[str, Sequence[int]] | None = None, runs: int = 2) -> None:
        """Run on zeros, so that the first request need not wait for memory and choices of algorithms.

        Args:
            shapes: of the inputs, of those at least that have open sizes.
            runs: how often.

        Raises:
            UsageError: shapes that the model does not take.
        """
        given = dict(shapes or {})
        check_names([*given, *(name for name in self.inputs if name not in given)], list(self.inputs.values()))
        zeros = {name: np.zeros(self._shape(value, given.get(name)), value.kind) for name, value in self.inputs.items()}
        feed: dict[str, Any] = zeros
        if self._graphs is not None:
            torch = import_module("torch")
            feed = {name: torch.from_numpy(array).to(str(self.place)) for name, array in zeros.items()}
            with self._telling(feed):
                self._graphs.record(feed)
        for _ in range(runs):
            self(feed)

    # -- arrays -------------------------------------------------------------------------------------------------

    def _run_arrays(self, inputs: Mapping[str, Any], asked: Outputs) -> dict[str, Any]:
        arrays = {name: plain_array(value, self.inputs[name]) for name, value in inputs.items()}
        self._check(arrays, {name: array.shape for name, array in arrays.items()}, _odd_numbers, _extremes)
        with self._telling(arrays):
            if isinstance(asked, Mapping) or self._graphs is not None:
                return self._run_bound_arrays(arrays, asked)
            return dict(zip(asked, self._session.run(list(asked), arrays), strict=True))

    def _run_bound_arrays(self, arrays: Mapping[str, np.ndarray], asked: Outputs) -> dict[str, Any]:
        targets: dict[str, Any] = dict.fromkeys(asked, Place("cpu"))
        if isinstance(asked, Mapping):
            for name, array in asked.items():
                buffer = array_buffer(_writable(name, array))
                check_output(buffer, self.outputs[name], self.place, array.flags.c_contiguous)
                targets[name] = buffer
        binding = bind(self._session, {name: array_buffer(array) for name, array in arrays.items()}, targets)
        options = import_module("caffe_compat.deploy.graphs").no_graph() if self._graphs is not None else None
        self._session.run_with_iobinding(binding, options)
        if isinstance(asked, Mapping):
            return dict(asked)
        return dict(zip(asked, binding.copy_outputs_to_cpu(), strict=True))

    # -- tensors ------------------------------------------------------------------------------------------------

    def _run_tensors(self, inputs: Mapping[str, Any], asked: Outputs) -> dict[str, Any]:
        tensors = import_module("caffe_compat.deploy.tensors")
        buffers = tensors.input_buffers(inputs, self.inputs, self.place)
        targets = tensors.bound_tensors(asked, self.outputs, self.place)
        shapes = {name: buffer.shape for name, buffer in buffers.items()}
        self._check(inputs, shapes, tensors.count_odd, tensors.lowest_and_highest)
        with self._telling(inputs):
            if self._graphs is None:
                tensors.wait_for(self.place, self._stream)
                found: dict[str, Any] = tensors.run_tensors(self._session, buffers, targets)
            elif self._graphs.has(inputs):
                found = self._graphs.run(inputs, asked)
            else:
                tensors.wait_for(self.place, self._stream)
                found = import_module("caffe_compat.deploy.graphs").plain_run(self._session, buffers, targets)
        return {name: asked[name] for name in found} if isinstance(asked, Mapping) else found

    def _make_graphs(self) -> Any:
        captured = import_module("caffe_compat.deploy.graphs").Captured
        return captured(self._session, self.place, self.inputs, self.output_names)

    # -- checks -------------------------------------------------------------------------------------------------

    def _asked(self, outputs: Outputs | None) -> Outputs:
        if outputs is None:
            return self.output_names
        if isinstance(outputs, str):
            raise UsageError(f"outputs is the text '{outputs}', expected a list of names")
        for name in outputs:
            if name not in self.outputs:
                raise UsageError(
                    f"the model has no output '{name}'{nearest(str(name), self.outputs)}; it gives "
                    f"{', '.join(map(str, self.outputs.values()))}"
                )
        if not outputs:
            raise UsageError("no output is asked for, expected one at least")
        return outputs if isinstance(outputs, Mapping) else list(dict.fromkeys(outputs))

    def _check(self, values: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], odd: Any, extremes: Any) -> None:
        check_shapes(shapes, list(self.inputs.values()))
        if self._finite:
            for name, value in values.items():
                odd(name, value)
        for name, of in self._rois.items():
            if shapes[name] and 0 not in shapes[name]:
                batch = shapes[of][0] if shapes[of] else 1
                check_rois((name, of), extremes(values[name].reshape(shapes[name][0], -1)[:, 0]), batch)

    def _shape(self, value: Value, given: Sequence[int] | None) -> tuple[int, ...]:
        if given is None:
            if value.open_axes:
                raise UsageError(f"input {value} has open sizes, give warm_up its shape")
            return tuple(size for size in value.shape if isinstance(size, int))
        if any(not isinstance(size, int) or size < 0 for size in given):
            raise UsageError(f"input '{value.name}': {list(given)} is no shape")
        check_shapes({value.name: given}, [value])
        return tuple(given)

    @contextlib.contextmanager
    def _telling(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Make one of our errors of whatever ONNX Runtime raises."""
        try:
            yield
        except CaffeCompatError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
            shapes = {name: list(value.shape) for name, value in inputs.items()}
            raise ExportError(
                f"ONNX Runtime cannot run the model on inputs of shapes {shapes}: {one_line(error, 400)}"
            ) from error


def _checked_threads(threads: int | None) -> int:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"threads is {threads!r}, expected 1 or more")
    return default_threads() if threads is None else threads


def _same_kind(values: Sequence[Any]) -> bool:
    """Whether all values are tensors (or none is).

    Raises:
        UsageError: some are.
    """
    torch = sys.modules.get("torch")
    kinds = {torch is not None and isinstance(value, torch.Tensor) for value in values}
    if kinds == {True, False}:
        raise UsageError("inputs or outputs are arrays and tensors mixed, expected one kind")
    return kinds == {True}


def _writable(name: str, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray) or not array.flags.writeable:
        raise UsageError(f"output '{name}' is to be written into {type(array).__name__}, expected a writable array")
    return array


def _odd_numbers(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f":
        check_finite(name, int(array.size - np.isfinite(array).sum()), array.size)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
