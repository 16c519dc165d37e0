"""Nets from files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

import torch

from caffe_compat.description import NetDescription, State, describe_net
from caffe_compat.devices import choose
from caffe_compat.errors import UsageError
from caffe_compat.net import fast
from caffe_compat.net import weights as weight_files
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.net.net import Net
from caffe_compat.proto import read_net_text

__all__ = ["LoadOptions", "load_description", "load_net", "net_of"]

PathLike = str | os.PathLike[str]


class LoadOptions(TypedDict, total=False):
    """How :func:`load_net` loads.

    Attributes:
        mmap: let parameters be a private mapping of the weights files instead of a copy.  Loading then takes
            milliseconds, processes share the memory, and a page that is written to becomes this process's own.  The
            files must stay as they are: what is overwritten in place shows, what is truncated ends the process
            (:mod:`caffe_compat.proto.mapping`); this package always writes new files.  Blobs that cannot be mapped are
            copied, and a warning says how many; ``net.save(path, aligned=True)`` writes files of which all can be.
        device: where the net is to be: ``"cuda"``, ``"cuda:1"``, ``1``, or the CPU.  Files are read straight into
            pinned memory and travel from there while the next part is read.
        optimize: let it compute faster and without gradients (:func:`caffe_compat.net.fast.optimize`); phase TEST only.
        compile: let torch.compile make graphs of it, with gradients (:func:`caffe_compat.net.fast.compile_net`).
    """

    mmap: bool
    device: str | int | torch.device | None
    optimize: bool
    compile: bool


def load_description(prototxt: PathLike, state: State | None = None, dialect: str = "") -> NetDescription:
    """Read a net prototxt (V0, V1 or V2) and describe it in a state; no torch is needed for this."""
    message, lines = read_net_text(prototxt)
    return describe_net(message, state, source=str(prototxt), lines=lines, dialect=dialect)


def load_net(
    prototxt: PathLike,
    weights: PathLike | Sequence[PathLike] | None = None,
    phase: str = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
    strict: bool = True,
    dialect: str = "",
    **options: Unpack[LoadOptions],
) -> Net:
    """Build a net from a prototxt, with weights if given.

    On a GPU torch rounds the factors of convolutions to TF32, about 1e-3 off Caffe's numbers, unless it is told not
    to: ``device="cuda"`` tells it, as the tools do; with ``load_net(...).to("cuda")`` call
    :func:`caffe_compat.devices.full_precision` once.

    Args:
        prototxt: net definition, any format that Caffe ever had.
        weights: one or several ``.caffemodel`` or ``.caffemodel.h5`` files, copied by layer name in order.
        phase: ``"TEST"`` (deploy) or ``"TRAIN"``.
        level, stages: for nets with such rules.
        strict: whether weights of which no layer fits are an error; Caffe's own programs go on without them.
        dialect: which forks are meant where a type has several meanings: ``"ssd"``, ``"segnet"``, ``"rfcn"``,
            ``"nvidia"``, ``"intel"``, ``"yolo"`` or ``"pspnet"``; by default each layer's fields tell, then the net's.
        **options: how it is loaded, see :class:`LoadOptions`.

    Raises:
        NetError: ``optimize`` for phase TRAIN.
        WeightsError: a weights file of which no layer fits, or one with a layer of another shape.
        UsageError: no such dialect or device, or options that contradict each other.
        CaffeCompatError: naming the file, line, layer, blob or field that is wrong.
    """
    _check_options(options)
    return net_of(load_description(prototxt, State(phase, level, tuple(stages)), dialect), weights, strict, **options)


def net_of(
    description: NetDescription,
    weights: PathLike | Sequence[PathLike] | None = None,
    strict: bool = True,
    **options: Unpack[LoadOptions],
) -> Net:
    """Build a net that was described; as :func:`load_net`."""
    mapped, device = _check_options(options)
    files = [] if weights is None else [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    files = [file for file in files if not weight_files.is_nothing(file)]
    held = [(file, weight_files.blobs_in([file])) for file in files]
    filled: dict[str, set[int]] = {}
    for name, blobs in (item for _, one in held for item in one.items()):
        filled.setdefault(name, set()).update(blobs)
    net = Net(description, filled)
    check_fit(net.plan, description.name, held, strict)
    if device.type != "cpu":
        _move(net, filled, device)
    for file in files:
        ignored = net.copy_from(file, strict=None, mmap=mapped)
        if not strict:
            tell_ignored(ignored)
    if options.get("optimize", False):
        return fast.optimize(net)
    return fast.compile_net(net) if options.get("compile", False) else net


def _check_options(options: LoadOptions) -> tuple[bool, torch.device]:
    if unknown := sorted(set(options) - set(LoadOptions.__annotations__)):
        raise TypeError(f"load_net() got an unexpected keyword argument '{unknown[0]}'")
    mapped, device = options.get("mmap", False), choose(_text(options.get("device")), "device")
    if mapped and device.type != "cpu":
        raise UsageError(f"mmap=True maps files into the memory of the CPU, and device is '{device}': leave one out")
    if options.get("optimize", False) and options.get("compile", False):
        raise UsageError("optimize=True and compile=True are two ways to run a net: leave one out")
    return mapped, device


def _text(device: str | int | torch.device | None) -> str | int | None:
    return str(device) if isinstance(device, torch.device) else device


def _move(net: Net, filled: Mapping[str, set[int]], device: torch.device) -> None:
    """Give a new net its memory on a GPU; what weights will fill is not copied there first."""
    for node in net.nodes:
        for index in filled.get(node.name, ()):
            if index < len(node.layer.blobs):
                parameter = node.layer.blobs[index]
                parameter.data = torch.empty_like(parameter, device=device)
    net.to(device)
