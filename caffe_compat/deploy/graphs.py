"""CUDA graphs: the launches of one run, recorded for inputs of fixed shapes and started at once later on."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from caffe_compat.deploy.binding import Buffer, bind
from caffe_compat.deploy.providers import Place
from caffe_compat.deploy.tensors import buffer_of, input_buffers, run_tensors, wait_for
from caffe_compat.deploy.values import Value

__all__ = ["Captured", "no_graph", "plain_run"]

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
GRAPH = "gpu_graph_id"
"""ONNX Runtime's name of the option that says which graph a run belongs to."""


@dataclass(frozen=True, eq=False)
class _Recorded:
    """Memory that a graph reads and writes, and the run that it belongs to."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    binding: Any
    options: Any


class Captured:
    """The graphs of a session, one for each choice of shapes that it was warmed up with.

    A graph reads and writes the memory that it was recorded with: inputs are copied there and outputs from there, on
    the GPU.  Calls from several threads wait for each other.

    Args:
        session: an ``onnxruntime.InferenceSession`` with ``enable_cuda_graph``.
        place: the GPU.
    """

    def __init__(self, session: Any, place: Place, values: Mapping[str, Value], outputs: Sequence[str]) -> None:
        self._session, self._place, self._values, self._outputs = session, place, values, tuple(outputs)
        self._graphs: dict[Shapes, _Recorded] = {}
        self._lock = threading.Lock()

    def record(self, inputs: Mapping[str, Tensor]) -> None:
        """Record a graph for the shapes of these inputs, unless there is one."""
        with self._lock:
            if _shapes(inputs) not in self._graphs:
                self._graphs[_shapes(inputs)] = self._recorded(inputs)

    def has(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether there is a graph for the shapes of these inputs."""
        return _shapes(inputs) in self._graphs

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Start the graph for these inputs; results are copies, or in the tensors that are given."""
        with self._lock:
            graph = self._graphs[_shapes(inputs)]
            for name, tensor in inputs.items():
                graph.inputs[name].copy_(tensor)
            wait_for(self._place)
            self._session.run_with_iobinding(graph.binding, graph.options)
            if isinstance(outputs, Mapping):
                found = {name: tensor.copy_(graph.outputs[name]) for name, tensor in outputs.items()}
            else:
                found = {name: graph.outputs[name].clone() for name in outputs}
            wait_for(self._place)  # the next run, from another thread and stream, writes into the same memory
            return found

    def _recorded(self, inputs: Mapping[str, Tensor]) -> _Recorded:
        device = torch.device("cuda", self._place.number)
        kept = {name: tensor.detach().to(device, copy=True).contiguous() for name, tensor in inputs.items()}
        buffers = input_buffers(kept, self._values, self._place)
        wait_for(self._place)
        first = plain_run(self._session, buffers, dict.fromkeys(self._outputs, self._place))
        made = {name: torch.empty_like(tensor) for name, tensor in first.items()}
        targets: dict[str, Buffer | Place] = {name: buffer_of(tensor) for name, tensor in made.items()}
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(GRAPH, str(len(self._graphs) + 1))
        binding = bind(self._session, buffers, targets)
        wait_for(self._place)
        self._session.run_with_iobinding(binding, options)  # records: ONNX Runtime repeats the run as it needs to
        return _Recorded(kept, made, binding, options)


def plain_run(session: Any, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer | Place]) -> dict[str, Tensor]:
    """A run without a graph, of a session that records them."""
    return run_tensors(session, inputs, outputs, no_graph())


def no_graph() -> Any:
    """Options of a run that neither records nor starts a graph."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH, "-1")
    return options


def _shapes(inputs: Mapping[str, Tensor]) -> Shapes:
    return tuple(sorted((name, tuple(tensor.shape)) for name, tensor in inputs.items()))
