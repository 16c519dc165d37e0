"""Layers that the user writes in Python, as for Caffe's ``Python`` layer type.

Source: BVLC Caffe 1.0, ``python_layer.hpp`` and ``_caffe.cpp``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat import alias
from caffe_compat.layers.base import UNLIMITED, Layer, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.python_blobs import LayerBlob, LayerBlobs, ParamBlob, RawBlobVec
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread
from caffe_compat.python_policy import allow_python_layers, python_layers_allowed
from caffe_compat.ranks import Turns

__all__ = ["Python", "PythonLayer", "allow_python_layers"]


class PythonLayer:
    """Base of layers written in Python; scripts know it as ``caffe.Layer``.

    A subclass has the four methods below.  ``bottom`` and ``top`` are sequences of :class:`LayerBlob`.

    Attributes:
        param_str, param_str_: the text of ``python_param.param_str``.
        phase: 0 in TRAIN, 1 in TEST.
        running_metric: whether the tops cover all batches of a test since ``start_over``, so that none averages them.
        blobs: the learnable blobs; ``self.blobs.add_blob(*shape)`` in ``setup`` makes one.
    """

    type = "Python"
    param_str: str = ""
    param_str_: str = ""
    phase: int = 0
    running_metric: bool = False

    def __init__(self, layer_param: Any = None) -> None:
        self.layer_param = layer_param

    @property
    def blobs(self) -> LayerBlobs:
        """The learnable blobs."""
        blobs: LayerBlobs = self.__dict__.setdefault("_blobs", LayerBlobs())
        return blobs

    def setup(self, bottom: Sequence[LayerBlob], top: Sequence[LayerBlob]) -> None:
        """Called once; read ``param_str``, add blobs."""
        raise NotImplementedError(f"{type(self).__name__} has no method setup")

    def reshape(self, bottom: Sequence[LayerBlob], top: Sequence[LayerBlob]) -> None:
        """Called at the start and before every forward pass; shape the tops: ``top[0].reshape(2, 3)``."""
        raise NotImplementedError(f"{type(self).__name__} has no method reshape")

    def forward(self, bottom: Sequence[LayerBlob], top: Sequence[LayerBlob]) -> None:
        """Write ``top[i].data``."""
        raise NotImplementedError(f"{type(self).__name__} has no method forward")

    def backward(self, top: Sequence[LayerBlob], propagate_down: Sequence[bool], bottom: Sequence[LayerBlob]) -> None:
        """Write ``bottom[i].diff`` where ``propagate_down[i]``, and add to ``self.blobs[k].diff``."""
        raise NotImplementedError(f"{type(self).__name__} has no method backward")

    # The rest is of this package, not of Caffe; a layer that needs none of it says nothing.

    def seek(self, batches: int) -> None:
        """Go on as if ``batches`` forward passes had been made: called when a solver resumes.

        A layer that reads data must come to the batch that an uninterrupted run would read next.  Where several
        processes train one net, it is called before every pass of a layer without bottoms, unless that has a
        :meth:`take_turns` of its own.
        """

    def take_turns(self, turns: Turns) -> None:
        """Make only the passes that are this process's, of several: ``turns.batch(n)`` is what its pass n stands for.

        ``caffe.solver_rank()`` and ``caffe.solver_count()`` say the same in Caffe's words.
        """

    def forget(self) -> None:
        """Drop what the last forward pass left for the next one."""

    def start_over(self) -> None:
        """Begin a new test: drop what was gathered, if ``running_metric``."""


@register
class Python(Layer):
    """Runs a user's class, found by ``python_param.module`` and ``layer``, within the net.

    The module is imported by its dotted name from ``sys.path``.  What the user's code raises is passed on.  Everything
    runs on the CPU: blobs on a GPU are copied.  A gradient that ``backward`` does not write is 0.

    Attributes:
        instance: the user's object.
    """

    caffe_type = "Python"
    bottom_count = (0, UNLIMITED)
    top_count = (0, UNLIMITED)
    in_place = True
    survives_in_place = False
    has_blobs = True
    phase_dependent = True
    onnx_reason = "it runs Python code, which no ONNX runtime does"
    _like: Tensor  #: tells the device and the type of the tops where there are no bottoms

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("share_in_parallel")
        self.instance = self._create(str(section.module), str(section.layer))
        self.instance.param_str = self.instance.param_str_ = str(section.param_str)
        self.instance.phase = 0 if params.phase == "TRAIN" else 1
        self.running_metric = bool(self.instance.running_metric)
        self._bottoms = RawBlobVec(LayerBlob(shape) for shape in bottoms)
        shared = [index < len(bottoms) and params.bottoms[index] == top for index, top in enumerate(params.tops)]
        self._tops = RawBlobVec(self._bottoms[index] if same else LayerBlob() for index, same in enumerate(shared))
        self._in_place = shared
        self.register_buffer("_like", torch.empty(0), persistent=False)
        self._turns: Turns | None = None  # of a layer that is moved before every pass
        self._place = 0
        self.instance.setup(self._bottoms, self._tops)
        made = list(self.instance.blobs)
        for blob in made:
            self.blobs[self.add_blob(blob.shape)].data.copy_(torch.from_numpy(blob.data))
        self._own = [ParamBlob(self, index) for index in range(len(made))]
        self.instance.blobs.replace(self._own)

    def _create(self, module: str, name: str) -> PythonLayer:
        if not python_layers_allowed():
            raise self.error(f"would run {module}.{name}, but Python layers are not allowed here (allow_python_layers)")
        if not all(part.isidentifier() for part in module.split(".")):
            raise self.error(f"python_param.module is '{module}', expected the dotted name of a module")
        if "caffe" not in sys.modules:  # such modules say "import caffe"
            alias.install()
        try:
            found = getattr(import_module(module), name, None)
        except (ImportError, ValueError) as error:
            raise self.error(f"cannot import module '{module}': {error}") from error
        except SystemExit as error:
            raise self.error(f"module '{module}' ended the program while it was imported: exit {error.code}") from error
        if found is None:
            raise self.error(f"module '{module}' has no class '{name}'")
        if not (isinstance(found, type) and issubclass(found, PythonLayer)):
            raise self.error(f"{module}.{name} is not a class derived from Layer")
        return found(self.params.description.message)

    def seek(self, batches: int) -> None:
        """What the user's layer does."""
        self._place = batches
        if self._turns is None:
            self.instance.seek(batches)

    def take_turns(self, turns: Turns) -> None:
        """What the user's layer does; for one that reads data and can only be moved, move it before every pass.

        Raises:
            LayerError: a layer without bottoms that knows neither, so that all processes would read the same.
        """
        kind = type(self.instance)
        if kind.take_turns is not PythonLayer.take_turns:
            self.instance.take_turns(turns)
        elif turns != Turns() and not self.params.bottoms:
            if kind.seek is PythonLayer.seek:
                raise self.error(
                    f"{kind.__name__} has no bottoms, and neither seek(batches) nor take_turns(turns): every process "
                    "would read the same data"
                )
            self._turns = turns

    @property
    def carries(self) -> bool:  # type: ignore[override]
        """Whether the user's layer keeps something from pass to pass that it can forget."""
        return type(self.instance).forget is not PythonLayer.forget

    def forget(self) -> None:
        """What the user's layer does."""
        self.instance.forget()

    def start_over(self) -> None:
        """What the user's layer does."""
        self.instance.start_over()

    def fill(self, skip: frozenset[int] = frozenset()) -> None:
        """Nothing: ``setup`` has filled the blobs."""

    def backward_reads(self) -> Reads:
        """All that there is."""
        return Reads(tuple(range(len(self.params.bottoms))), tuple(range(len(self.params.tops))))

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """The tops as they are, with the user's backward behind them."""
        tops: tuple[Tensor, ...] = _Again.apply(self, memory.tops, *memory.bottoms, *self.blobs)
        return tops

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """What the user's ``reshape`` makes of the tops."""
        for blob, shape in zip(self._bottoms, bottoms, strict=True):
            blob.reshape(*shape)
        self.instance.reshape(self._bottoms, self._tops)
        return [blob.shape for blob in self._tops]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Run the user's ``reshape`` and ``forward``."""
        if self._like.device.type == "meta" or any(bottom.device.type == "meta" for bottom in bottoms):
            shapes = self.top_shapes([tuple(bottom.shape) for bottom in bottoms])
            return tuple(torch.empty(shape, device="meta", dtype=self._like.dtype) for shape in shapes)
        return _Run.apply(self, len(bottoms), *bottoms, *self.blobs) if self._tops else self._run_without_tops(bottoms)

    def _run_without_tops(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self.run_forward([_to_numpy(bottom) for bottom in bottoms])
        return ()

    def run_forward(self, bottoms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Call the user's code with these values; copies of what it wrote into the tops."""
        dtype = bottoms[0].dtype if bottoms else np.zeros(0, _numpy_type(self._like.dtype)).dtype
        self._show_bottoms(bottoms)
        for blob, same in zip(self._tops, self._in_place, strict=True):
            if not same and blob.data.dtype != dtype:
                blob.set_data(blob.data.astype(dtype))
        if self._turns is not None:
            self.instance.seek(self._turns.batch(self._place))
            self._place += 1
        self.instance.reshape(self._bottoms, self._tops)
        self.instance.forward(self._bottoms, self._tops)
        self._write_back()
        return [blob.data.copy() for blob in self._tops]

    def _show_bottoms(self, values: Sequence[np.ndarray]) -> None:
        for index, (blob, value) in enumerate(zip(self._bottoms, values, strict=True)):
            same = index < len(self._in_place) and self._in_place[index]
            blob.set_data(value.copy() if same else value)

    def _write_back(self) -> None:
        for blob in self._own:
            blob.write_back()

    def run_backward(
        self, bottoms: Sequence[np.ndarray], tops: Sequence[np.ndarray], diffs: Sequence[np.ndarray], down: list[bool]
    ) -> list[np.ndarray]:
        """Call the user's ``backward``; the gradients of the bottoms.  Those of the blobs are where it wrote them."""
        for blob, value in zip(self._bottoms, bottoms, strict=True):
            blob.set_data(value)  # its diff is what was last written, in forward or by an earlier backward
        for blob, value, diff in zip(self._tops, tops, diffs, strict=True):
            blob.set_data(value)
            blob.set_diff(diff.copy())
        self.instance.backward(self._tops, down, self._bottoms)
        self._write_back()
        return [blob.diff.copy() for blob in self._bottoms]


class _Run(torch.autograd.Function):
    """The user's forward and backward within torch's autograd.

    As in Caffe, backward sees what bottoms and tops hold by then: a layer after this one may have worked in place.
    """

    @staticmethod
    def forward(ctx: Any, layer: Python, bottom_count: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        bottoms = [_to_numpy(bottom) for bottom in inputs[:bottom_count]]
        tops = layer.run_forward(bottoms)
        ctx.layer, ctx.bottoms, ctx.tops = layer, bottoms, tops
        device = inputs[0].device if inputs else layer._like.device
        ctx.devices = [value.device for value in inputs]
        return tuple(torch.from_numpy(top).to(device) for top in tops)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Any, ...]:
        down = list(ctx.needs_input_grad[2 : 2 + len(ctx.bottoms)])
        values = [_to_numpy(diff) for diff in diffs]
        found = ctx.layer.run_backward(ctx.bottoms, ctx.tops, values, down)
        gradients = [
            torch.from_numpy(diff).to(device) if wanted else None
            for diff, device, wanted in zip(found, ctx.devices, down, strict=False)
        ]
        return (None, None, *gradients, *[None] * len(ctx.layer.blobs))


class _Again(_Run):
    """The user's backward behind tops that are there already."""

    @staticmethod
    def forward(ctx: Any, layer: Python, tops: tuple[Tensor, ...], *inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        bottoms = inputs[: len(inputs) - len(layer.blobs)]
        ctx.layer, ctx.bottoms = layer, [_to_numpy(bottom) for bottom in bottoms]
        ctx.tops, ctx.devices = [_to_numpy(top) for top in tops], [value.device for value in inputs]
        return tuple(top.detach().clone() for top in tops)


def _to_numpy(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy()


def _numpy_type(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
