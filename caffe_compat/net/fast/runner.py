"""Nets that run as flat lists of joined layers: inference without gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.net.fast.kernels import Packs, has_onednn, is_wide
from caffe_compat.net.fast.program import Program, make_program
from caffe_compat.net.net import Net
from caffe_compat.net.plan import Node
from caffe_compat.net.running import run_layer

__all__ = ["Optimized", "optimize"]

PROGRAMS = 16
"""So many combinations of sizes and blobs are remembered; weights made ready are shared by all of them."""


def optimize(net: Net) -> Net:
    """Let a net of phase TEST compute without gradients from now on, faster; the net itself is returned.

    BatchNorm and Scale go into the weights before them, rectifiers and sums into the convolutions; on a CPU weights are
    kept in oneDNN's formats too and maps in torch's ``channels_last``.  Numbers differ from the net's own in the last
    digits (1e-5 of the largest number of a blob), shapes, names, errors and NaN do not.  Weights are made ready at the
    first call for sizes that are new; a change to a parameter by torch, or by the net's own methods, is seen.  After a
    change that torch does not see (through ``.data`` or a numpy view) call :meth:`Net.weights_changed`.

    Raises:
        NetError: the net is not one of phase TEST.
    """
    if net.training:
        raise NetError(f"net '{net.description.name}' is of phase TRAIN, expected TEST for optimize=True")
    net.run_by(Optimized(net))
    return net


class Optimized:
    """Runs a net by programs made for the sizes that come."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._packs: Packs | None = None
        self._seen: list[Any] = []

    @cached_property
    def _sources(self) -> list[tuple[Node, list[Any]]]:
        """Layers without bottoms, each with the list that ``run_layer`` keeps."""
        return [(node, [None]) for node in self.net.plan.nodes if not (node.bottom_ids or node.is_input)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimized:
        """For the copy of the net, which makes its weights ready itself."""
        return Optimized(memo.get(id(self.net), self.net))

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was made ready."""
        return Optimized, (self.net,)

    def forget(self) -> None:
        """Make weights ready anew at the next call."""
        self._programs.clear()
        self._packs = None

    def __call__(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> dict[str, Tensor] | None:
        """What the net returns; None if it has to compute it itself.

        Raises:
            NetError: a gradient is wanted.
            LayerError: a layer cannot take the shape of its bottom.
        """
        if self.net.training:
            return None
        if torch.is_grad_enabled() and any(value.requires_grad for value in inputs.values()):
            wanted = next(name for name, value in inputs.items() if value.requires_grad)
            raise NetError(
                f"net '{self.net.description.name}' was optimized and computes no gradients, input '{wanted}' requires "
                "one: load it without optimize=True"
            )
        if torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu"):
            return None
        self._look_at_weights()
        with torch.no_grad():
            given = self._given(inputs)
            key = (tuple(blobs), *((blob, value.shape, value.dtype, value.device) for blob, value in given.items()))
            if key not in self._programs:
                self._programs[key] = self._make(given, blobs)
                if len(self._programs) > PROGRAMS:
                    self._programs.popitem(last=False)
            return self._programs[key](given)

    def _given(self, inputs: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """The blobs that there are before anything is computed: what the caller gives, and what is read from files."""
        plan = self.net.plan
        given = {blob: inputs[plan.names[blob]] for blob in plan.inputs}
        for node, checked in self._sources:
            given.update(zip(node.top_ids, run_layer(checked, 0, node, ()), strict=True))
        return given

    def _look_at_weights(self) -> None:
        """Forget what was made ready if a parameter is another one, elsewhere, or was written to."""
        seen: list[Any] = []
        for node in self.net.plan.nodes:
            layer = node.layer
            for blob in layer.blobs:
                seen.append((blob.data_ptr(), 0 if blob.is_inference() else blob._version))
            if layer.phase_dependent:
                seen.append(layer.training)
        if seen != self._seen:
            self.forget()
            self._seen = seen

    def _make(self, given: Mapping[int, Tensor], blobs: Sequence[str]) -> Program:
        plan = self.net.plan
        weights = [(blob.dtype, blob.device) for node in plan.nodes for blob in node.layer.blobs]
        kinds = {*weights, *((value.dtype, value.device) for value in given.values() if value.is_floating_point())}
        kept = {*plan.outputs, *plan.losses, *(i for i, name in enumerate(plan.names) if name in blobs)}
        if len(kinds) != 1 or len({device for _, device in kinds} | {value.device for value in given.values()}) != 1:
            return make_program(plan, self.net.result_keys, given, kept, None)
        ((dtype, device),) = kinds
        if self._packs is None:
            wide = any(is_wide(blob) for node in plan.nodes for blob in node.layer.blobs[:1])
            self._packs = Packs(has_onednn(device, dtype) and not wide)
        return make_program(plan, self.net.result_keys, given, kept, self._packs)
