"""A Caffe net as a torch module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from caffe_compat.description import NetDescription
from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import NetError, in_file, nearest
from caffe_compat.layers import Layer, Shape
from caffe_compat.net import weights as weight_files
from caffe_compat.net.build import build
from caffe_compat.net.exhausted import in_weights, is_out_of_memory
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.net.plan import AUTOMATIC, Learnable, Node, Plan
from caffe_compat.net.running import Buffers, run_layer
from caffe_compat.net.show import show
from caffe_compat.net.untrained import Untrained

__all__ = ["Net", "Runner"]

PathLike = str | os.PathLike[str]

_TAKEN = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64})
"""What inputs may be; integers are labels and indices."""


class Runner(Protocol):
    """Computes what a net returns in a way of its own (:mod:`caffe_compat.net.fast`)."""

    def __call__(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> dict[str, Tensor] | None:
        """What the net returns; None: the net is to compute it."""
        ...

    def forget(self) -> None:
        """Weights have changed."""


class Net(nn.Module):
    """A net built from a description.

    Calling it runs all layers under torch's autograd and returns a dict of blobs by name::

        net = load_net("deploy.prototxt", "net.caffemodel")
        prob = net(data=images)["prob"]

    Attributes:
        description: what it was built from.
        nodes: the layers in order, Split layers included.
        learnables: the parameters that a solver updates, in Caffe's order.
        result_keys: by number of the blob, its name in what is returned.
    """

    def __init__(
        self, description: NetDescription, filled: Mapping[str, Iterable[int]] | None = None, fill: bool = True
    ) -> None:
        super().__init__()
        self.description = description
        with in_file(description.source):
            self.plan: Plan = build(description, filled, fill)
        for name, layer in zip(_module_names(self.plan.nodes), (node.layer for node in self.plan.nodes), strict=True):
            self.add_module(name, layer)
            layer.train(layer.layer_phase == "TRAIN")
        self.training = description.state.phase == "TRAIN"
        self._untrained = None if self.training or not fill else Untrained(self.plan)
        self.result_keys = _result_keys(self.plan)
        self._runner: Runner | None = None
        self._checked: list[tuple[Shape, ...] | None] = [None] * len(self.plan.nodes)

    def __repr__(self) -> str:
        """A table of the layers with their sizes."""
        return show(self.plan)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The layers in order, Split layers included."""
        return self.plan.nodes

    @property
    def learnables(self) -> tuple[Learnable, ...]:
        """The parameters that a solver updates, in Caffe's order."""
        return self.plan.learnables

    @property
    def input_names(self) -> list[str]:
        """Blobs that the caller must give."""
        return [self.plan.names[blob] for blob in self.plan.inputs]

    @property
    def output_names(self) -> list[str]:
        """Blobs that no layer consumes, sorted by name."""
        return [self.plan.names[blob] for blob in self.plan.outputs]

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """Shape of every blob for the sizes written in the prototxt."""
        return dict(zip(self.plan.names, self.plan.shapes, strict=True))

    def layer(self, name: str) -> Layer:
        """The (last) layer of that name.

        Raises:
            NetError: there is none.
        """
        for node in reversed(self.plan.nodes):
            if node.name == name:
                return node.layer
        known = [node.name for node in self.plan.nodes]
        raise NetError(f"net '{self.description.name}' has no layer '{name}'{nearest(name, known)}")

    def forward(self, *unnamed: Any, blobs: Sequence[str] = (), **inputs: Tensor) -> dict[str, Tensor]:
        """Run the net.

        Args:
            *unnamed: nothing; inputs are given by name.
            blobs: names of blobs to return besides the outputs; of an in-place blob the last value is returned.
            **inputs: one tensor per input, of any size that the layers can take.

        Returns:
            The outputs (blobs that no layer consumes) and the blobs asked for.  ``net.loss(result)`` sums the losses.

        Raises:
            NetError: an input is missing, unknown or of another type, or a blob asked for does not exist.
            LayerError: a layer cannot take the shape of its bottom (ShapeError), its type of numbers, or its device.
        """
        plan, names = self.plan, self.plan.names
        if unnamed:
            given = ", ".join(f"{name}=..." for name in self.input_names)
            raise NetError(f"net '{self.description.name}' takes its inputs by name: net({given})")
        self._check_names(inputs, blobs)
        self.tell_untrained()
        if self._runner is not None and not torch.compiler.is_compiling():
            found = self._runner(inputs, blobs)
            if found is not None:
                return found
        asked = set(blobs)
        kept = {*plan.outputs, *plan.losses, *(i for i, name in enumerate(names) if name in asked)}
        values: list[Tensor | None] = [None] * len(names)
        buffers = None if plan.plain else Buffers(plan)
        for number, node in enumerate(plan.nodes):
            if node.is_input:
                tops = tuple(inputs[names[blob]] for blob in node.top_ids)
            elif buffers is None:
                tops = run_layer(self._checked, number, node, [values[blob] for blob in node.bottom_ids])
            else:
                tops = buffers.run(self._checked, number, node, values)
            for blob, top in zip(node.top_ids, tops, strict=True):
                values[blob] = top
            if buffers is not None:
                buffers.write(node, tops)
            for blob in node.done:
                if blob not in kept:
                    values[blob] = None
        if buffers is not None:
            values = [buffers.current(blob, value) for blob, value in enumerate(values)]
        return {self.result_keys[blob]: value for blob in sorted(kept) if (value := values[blob]) is not None}

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses among ``blobs`` (what :meth:`forward` returned), a scalar."""
        total: Tensor | None = None
        for blob, weight in self.plan.losses.items():
            term = blobs[self.result_keys[blob]].sum() * weight
            total = term if total is None else total + term
        return torch.zeros(()) if total is None else total

    def copy_from(self, path: PathLike, strict: bool | None = True, mmap: bool = False) -> list[str]:
        """Copy weights by layer name from a ``.caffemodel`` (V0 to V2) or ``.caffemodel.h5``; layers without a source
        keep theirs, which is told in one line.

        Args:
            strict: whether a file of which no layer fits is an error; Caffe's own programs go on without it.  None: the
                caller has looked already (:func:`~caffe_compat.net.fit.check_fit`), and nothing is told.
            mmap: let parameters be a private mapping of the file, as :func:`~caffe_compat.net.load.load_net` says.
                They get new memory: other nets that share the old keep that.

        Returns:
            Names of the layers of the file that the net does not have.

        Raises:
            WeightsError: no layer of the file fits, or a layer of that name has other blobs.
            ModelFileError, MissingFileError: the file cannot be read.
        """
        if strict is not None and not weight_files.is_nothing(path):
            check_fit(self.plan, self.description.name, [(path, weight_files.blobs_in([path]))], strict)
        ignored = weight_files.copy_from(self.plan, path, mmap)
        self.weights_changed()
        if not weight_files.is_nothing(path):
            self._untrained = None
        if strict is False:
            tell_ignored(ignored)
        return ignored

    def save(self, path: PathLike, diffs: bool = False, aligned: bool = False) -> None:
        """Write a ``.caffemodel`` that BVLC Caffe reads; with ``diffs`` gradients go along.

        Args:
            aligned: let all numbers begin at a multiple of 4 bytes, so that ``load_net(..., mmap=True)`` can map them.
        """
        weight_files.save(self.plan, path, diffs, aligned)

    def save_hdf5(self, path: PathLike, diffs: bool = False) -> None:
        """Write a ``.caffemodel.h5``: what each layer owns, and the gradients of all if asked.

        Raises:
            ModelFileError: HDF5 cannot name the layers (duplicate names, or a ``/`` in a name), as in Caffe.
        """
        weight_files.save_hdf5(self.plan, path, diffs)

    def share_with(self, other: Net) -> None:
        """Let the parameters be those of ``other``, by layer name (Caffe's ShareTrainedLayersWith).

        Raises:
            WeightsError: number or shape of blobs differ.
        """
        weight_files.share(self.plan, other.plan)
        self._untrained = None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What ``to``, ``cuda``, ``half`` and their like do; a device that is too small is told by layer.

        Raises:
            LayerError: the weights of that layer no longer fit.
        """
        for node in self.plan.nodes if recurse else ():
            try:
                node.layer._apply(fn)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise in_weights(node, error) from error
        super()._apply(fn, recurse=False)  # type: ignore[no-untyped-call]
        return self

    def run_by(self, runner: Runner | None) -> None:
        """Let somebody else compute what :meth:`forward` returns."""
        self._runner = runner

    def weights_changed(self) -> None:
        """Say that parameters were written to in a way that torch does not see: through ``.data`` or numpy views."""
        if self._runner is not None:
            self._runner.forget()

    def tell_untrained(self) -> None:
        """Warn, once, if this is a net of phase TEST that never got weights (see :mod:`caffe_compat.net.untrained`)."""
        if torch.compiler.is_compiling() or self._untrained is None or self.training:
            return  # in this order: torch.compile is not to compile again when the net was called without it
        untrained, self._untrained = self._untrained, None
        untrained.tell(self.description.name, self.description.source)

    def _check_names(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> None:
        expected = self.input_names
        if set(inputs) != set(expected):
            missing = [name for name in expected if name not in inputs]
            unknown = [name for name in inputs if name not in expected]
            raise NetError(
                f"net '{self.description.name}' takes the inputs {expected}; "
                + "; ".join(f"{what} {which}" for what, which in (("missing", missing), ("unknown", unknown)) if which)
            )
        for name, value in inputs.items():
            if not isinstance(value, Tensor):
                raise NetError(
                    f"input '{name}' is a {type(value).__name__}, expected a torch.Tensor (torch.from_numpy)"
                )
            if value.dtype not in _TAKEN:
                raise NetError(f"input '{name}' is {value.dtype}, expected torch.float32: pixels with .float(), minus "
                               "the mean")  # fmt: skip
        if isinstance(blobs, str):
            raise NetError(f"blobs is '{blobs}', expected a list of names: ['{blobs}']")
        for name in sorted(set(blobs).difference(self.plan.names)) if blobs else ():
            raise NetError(f"net '{self.description.name}' has no blob '{name}'{nearest(name, self.plan.names)}")


def _module_names(nodes: Sequence[Node]) -> list[str]:
    names = UniqueNames({*dir(Net), "plan", "description"})
    return [names.fresh(node.name.replace(".", "_") or node.type) for node in nodes]


def _result_keys(plan: Plan) -> list[str]:
    """Names of the blobs; those that Caffe calls "(automatic)" are told apart by their layer."""
    keys = list(plan.names)
    for node in plan.nodes:
        for blob in node.top_ids:
            if keys[blob] == AUTOMATIC:
                keys[blob] = f"{node.name} {AUTOMATIC}"
    return keys
