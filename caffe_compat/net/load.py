"""Nets from files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from caffe_compat.description import NetDescription, State, describe_net
from caffe_compat.net import weights as weight_files
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.net.net import Net
from caffe_compat.proto import read_net_text

__all__ = ["load_description", "load_net", "net_of"]

PathLike = str | os.PathLike[str]


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
) -> Net:
    """Build a net from a prototxt, with weights if given.

    On a GPU (``load_net(...).to("cuda")``) torch rounds the factors of convolutions to TF32, about 1e-3 off Caffe's
    numbers; call :func:`caffe_compat.devices.full_precision` once for float32, as the tools do.

    Args:
        prototxt: net definition, any format that Caffe ever had.
        weights: one or several ``.caffemodel`` or ``.caffemodel.h5`` files, copied by layer name in order.
        phase: ``"TEST"`` (deploy) or ``"TRAIN"``.
        level, stages: for nets with such rules.
        strict: whether weights of which no layer fits are an error; Caffe's own programs go on without them.
        dialect: which forks are meant where a type has several meanings: ``"ssd"``, ``"segnet"``, ``"rfcn"``,
            ``"nvidia"``, ``"intel"``, ``"yolo"`` or ``"pspnet"``; by default each layer's fields tell, then the net's.

    Raises:
        WeightsError: a weights file of which no layer fits, or one with a layer of another shape.
        UsageError: no such dialect.
        CaffeCompatError: naming the file, line, layer, blob or field that is wrong.
    """
    return net_of(load_description(prototxt, State(phase, level, tuple(stages)), dialect), weights, strict)


def net_of(
    description: NetDescription, weights: PathLike | Sequence[PathLike] | None = None, strict: bool = True
) -> Net:
    """Build a net that was described; as :func:`load_net`."""
    files = [] if weights is None else [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    files = [file for file in files if not weight_files.is_nothing(file)]
    held = [(file, weight_files.blobs_in([file])) for file in files]
    filled: dict[str, set[int]] = {}
    for name, blobs in (item for _, one in held for item in one.items()):
        filled.setdefault(name, set()).update(blobs)
    net = Net(description, filled)
    check_fit(net.plan, description.name, held, strict)
    for file in files:
        ignored = net.copy_from(file, strict=None)
        if not strict:
            tell_ignored(ignored)
    return net
