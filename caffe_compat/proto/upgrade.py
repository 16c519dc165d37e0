"""Bring old nets and solvers to the current format, step by step in Caffe's order.

Nets: V0 (``layers { layer {..} }``) -> V1 (``layers``), fields of forks that Caffe 1.0 spells otherwise or that change
no result, data transform fields, V1 -> V2 (``layer``), ``input`` fields -> an Input layer, BatchNorm's three ``param``
entries.  Solvers: the ``solver_type`` enum, ``snapshot_prefix``.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import Any

from caffe_compat import log
from caffe_compat.errors import NetError, SolverError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.forks import accepted_in, owners
from caffe_compat.proto.upgrade_c3d import upgrade_c3d
from caffe_compat.proto.upgrade_intel import upgrade_fused
from caffe_compat.proto.upgrade_v0 import upgrade_v0

__all__ = ["SOLVER_TYPES", "UpgradedNet", "V1_TYPES", "upgrade_net", "upgrade_solver"]

_log = logging.getLogger(__name__)

_CAMEL = (
    "AbsVal Accuracy ArgMax BNLL Concat ContrastiveLoss Convolution Data Deconvolution Dropout DummyData EuclideanLoss"
    " Eltwise Exp Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct LRN MemoryData"
    " MultinomialLogisticLoss MVN Pooling Power ReLU Sigmoid SigmoidCrossEntropyLoss Silence Softmax Split Slice TanH"
    " WindowData Threshold BN Crop Convolution3D Pooling3D Deconvolution3D VideoData VideoSegmentationData"
    " VideoWithVoxelTruthData VoxelCustomLoss DownSampling"
    " ImageDataAffine ImageDataMultipleInference AvgProbs AvgProbsMultiSources"
    " Unpooling ImageSegData WindowSegData EltwiseAccuracy Interp SegAccuracy MatWrite"
    " Padding MultiStageMeanfield"
)
_BY_KEY = {name.upper(): name for name in _CAMEL.split()}

V1_TYPES: dict[int, str] = {
    number: _BY_KEY.get(name.replace("_", ""), "") for name, number in caffe_pb2.V1LayerParameter.LayerType.items()
}
"""V2 type string of every V1 layer type number (NONE gives an empty string)."""
V1_TYPES[caffe_pb2.V1LayerParameter.SOFTMAX_LOSS] = "SoftmaxWithLoss"
V1_TYPES[caffe_pb2.V1LayerParameter.VOXEL_SOFTMAX] = "Softmax"  # over the channels, whatever the axes
V1_TYPES[caffe_pb2.V1LayerParameter.VOXEL_SOFTMAX_LOSS] = "VoxelSoftmaxWithLoss"

SOLVER_TYPES = {0: "SGD", 1: "Nesterov", 2: "AdaGrad", 3: "RMSProp", 4: "AdaDelta", 5: "Adam"}
"""Type string of every ``solver_type`` number."""

_MOVED_TO_TRANSFORM = {
    caffe_pb2.V1LayerParameter.DATA: "data_param",
    caffe_pb2.V1LayerParameter.IMAGE_DATA: "image_data_param",
    caffe_pb2.V1LayerParameter.WINDOW_DATA: "window_data_param",
}


@dataclass
class UpgradedNet:
    """Result of :func:`upgrade_net`.

    Attributes:
        net: the ``NetParameter``, in V2 format.
        origins: for each layer of ``net``, the index of the layer it came from in the original list, or None.
        problems: parts of the old net that have no place in the new format.  Caffe logs them and goes on.
    """

    net: Any
    origins: list[int | None]
    problems: list[str] = field(default_factory=list)


def upgrade_net(net: Any, filename: str = "") -> UpgradedNet:
    """Upgrade a ``NetParameter`` of any age.  The argument is not changed.

    Args:
        net: the message as read.
        filename: named in errors.

    Raises:
        NetError: the net mixes ``layer`` and ``layers``, or an old part of it has no meaning.
    """
    where = f"{filename}: " if filename else ""
    if net.layer and net.layers:
        raise NetError(
            f"{where}the net has both 'layer' (e.g. '{net.layer[0].name}') and 'layers' (e.g. '{net.layers[0].name}') "
            "blocks; use one of them"
        )
    problems: list[str] = []
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    origins: list[int | None] = list(range(len(net.layers) or len(net.layer)))
    if any(layer.HasField("layer") for layer in result.layers):
        result, origins = upgrade_v0(result, problems, where)
    _upgrade_forks(result, where)
    _upgrade_data_transform(result)
    if result.layers:
        _upgrade_v1(result, problems, where)
    if result.input:
        _upgrade_input(result, origins, where)
    _upgrade_batch_norm(result)
    _upgrade_parts(result)
    upgrade_fused(result, origins, where)
    for problem in problems:
        _log.error("%s%s", where, problem)
    return UpgradedNet(result, origins, problems)


def _upgrade_forks(net: Any, where: str) -> None:
    """Drop what changes no result, saying so once, and write ``ceil_mode`` as Caffe 1.0's ``round_mode``.

    In a net of intel/caffe poolings with a kernel of 1 are marked: there no window lies beyond the image.
    """
    intel = _drop_accepted(net, where) or net.HasField("bn_stats_batch_size")
    for layer in (*net.layer, *net.layers):
        if layer.HasField("convolution_param"):
            _upgrade_holes(layer, where)
        pooling = layer.pooling_param if layer.HasField("pooling_param") else None
        if pooling is not None and intel and 1 in (pooling.kernel_size, pooling.kernel_h, pooling.kernel_w):
            pooling.last_inside = True
        if pooling is None or not pooling.HasField("ceil_mode"):
            continue
        wanted = pooling.RoundMode.Value("CEIL" if pooling.ceil_mode else "FLOOR")
        if pooling.HasField("round_mode") and pooling.round_mode != wanted:
            raise NetError(
                f"{where}layer '{layer.name}' (Pooling): pooling_param has ceil_mode: "
                f"{str(pooling.ceil_mode).lower()} and round_mode: {pooling.RoundMode.Name(pooling.round_mode)}, which "
                "contradict each other; expected one of them"
            )
        pooling.round_mode = wanted
        pooling.ClearField("ceil_mode")


def _drop_accepted(message: Any, where: str) -> bool:
    """Clear the fields of forks that name only a kernel, a precision or a machine, with one warning.

    Returns:
        Whether one of them is intel/caffe's alone.
    """
    dropped: dict[str, None] = {}
    intel = False
    for owner, name, fork in accepted_in(message):
        owner.ClearField(name)
        dropped[f"{name} ({fork})"] = None
        intel = intel or owners(owner.DESCRIPTOR.name, name) == ["intel/caffe"]
    if dropped:
        _log.warning("%sread without effect, everything is computed in float32: %s", where, ", ".join(dropped))
    return intel


def _upgrade_data_transform(net: Any) -> None:
    for layer in net.layers:
        param_name = _MOVED_TO_TRANSFORM.get(layer.type) if layer.HasField("type") else None
        if param_name is None:
            continue
        param = getattr(layer, param_name)
        for name in ("scale", "mean_file", "crop_size", "mirror"):
            if param.HasField(name):
                setattr(layer.transform_param, name, getattr(param, name))
                param.ClearField(name)


def _upgrade_v1(net: Any, problems: list[str], where: str) -> None:
    for old in net.layers:
        _upgrade_v1_layer(old, net.layer.add(), problems)
        upgrade_c3d(net.layer[-1], where)
    net.ClearField("layers")


def _upgrade_v1_layer(old: Any, new: Any, problems: list[str]) -> None:
    if old.HasField("layer"):
        problems.append(f"layer '{old.name}': a V0 'layer' inside a V1 'layers' block is ignored")
    if old.HasField("type"):
        new.type = V1_TYPES[old.type]
    for index, value in enumerate(old.param):
        _param(new, index).name = value
    for index, value in enumerate(old.blob_share_mode):
        _param(new, index).share_mode = value
    for index, value in enumerate(old.blobs_lr):
        _param(new, index).lr_mult = value
    for index, value in enumerate(old.weight_decay):
        _param(new, index).decay_mult = value
    for descriptor, value in old.ListFields():
        name = descriptor.name
        if name in ("layer", "type", "param", "blob_share_mode", "blobs_lr", "weight_decay"):
            continue
        if not descriptor.has_presence:  # bottom, top, blobs, include, exclude, loss_weight
            getattr(new, name).MergeFrom(value)
        elif descriptor.message_type is not None:
            getattr(new, name).CopyFrom(value)
        else:
            setattr(new, name, value)


def _param(layer: Any, index: int) -> Any:
    while len(layer.param) <= index:
        layer.param.add()
    return layer.param[index]


def _upgrade_input(net: Any, origins: list[int | None], where: str) -> None:
    if net.input_shape or net.input_dim:
        layer = caffe_pb2.LayerParameter(name="input", type="Input", top=list(net.input))
        for index, name in enumerate(net.input):
            shape = layer.input_param.shape.add()
            if net.input_shape:
                if index >= len(net.input_shape):
                    raise NetError(
                        f"{where}input '{name}' is number {index + 1}, but there are {len(net.input_shape)} "
                        "input_shape blocks"
                    )
                shape.CopyFrom(net.input_shape[index])
                continue
            dims = net.input_dim[4 * index : 4 * index + 4]
            if len(dims) < 4:
                raise NetError(
                    f"{where}input '{name}' needs four input_dim values; {len(net.input_dim)} are given for "
                    f"{len(net.input)} inputs"
                )
            shape.dim.extend(dims)
        layers = [layer, *net.layer]
        del net.layer[:]
        net.layer.extend(layers)
        origins.insert(0, None)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)


def _upgrade_batch_norm(net: Any) -> None:
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = 0.0
                spec.decay_mult = 0.0


def _upgrade_holes(layer: Any, where: str) -> None:
    """Write DeepLab's ``hole``, or ``hole_h`` and ``hole_w``, as Caffe 1.0's ``dilation``."""
    section = layer.convolution_param
    both = section.HasField("hole_h"), section.HasField("hole_w")
    if not (section.HasField("hole") or any(both)):
        return
    if any(both) and (section.HasField("hole") or not all(both)):
        raise NetError(
            f"{where}layer '{layer.name}' (Convolution): convolution_param has hole, hole_h or hole_w, expected hole, "
            "or hole_h and hole_w"
        )
    holes = [section.hole_h, section.hole_w] if all(both) else [section.hole]
    if section.dilation and list(section.dilation) != holes:
        raise NetError(
            f"{where}layer '{layer.name}' (Convolution): convolution_param has dilation {list(section.dilation)} and "
            f"hole {holes}, expected one of them"
        )
    section.dilation[:] = holes
    for name in ("hole", "hole_h", "hole_w"):
        section.ClearField(name)


def _upgrade_parts(net: Any) -> None:
    """``bn_stats_batch_size`` of intel/caffe: what every BatchNorm layer has, whatever its own field says."""
    if not net.HasField("bn_stats_batch_size"):
        return
    for layer in net.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.stats_batch_size = net.bn_stats_batch_size
    net.ClearField("bn_stats_batch_size")


def upgrade_solver(solver: Any, filename: str | None = None) -> None:
    """Upgrade a ``SolverParameter`` in place.

    Args:
        solver: the message.
        filename: the file it was read from; gives ``snapshot_prefix`` its default.  None leaves the prefix alone, as
            Caffe does for a solver that is not read from a file.

    Raises:
        SolverError: both ``type`` and ``solver_type`` are set.
    """
    where = f"{filename}: " if filename else ""
    _drop_accepted(solver, where)
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise SolverError(f"{where}both 'type' ({solver.type}) and the old 'solver_type' are set; keep 'type'")
        solver.type = SOLVER_TYPES[solver.solver_type]
        solver.ClearField("solver_type")
    if filename is None:
        return
    without_extension = os.path.splitext(filename)[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = without_extension
        log.info(f"snapshot_prefix was not specified and is set to {without_extension}", "upgrade_proto.cpp:1108")
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(without_extension))
        log.info(
            f"snapshot_prefix was a directory and is replaced to {solver.snapshot_prefix}", "upgrade_proto.cpp:1113"
        )
