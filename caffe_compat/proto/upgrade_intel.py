"""Nets that intel/caffe has compiled, as they were before: layers that its MKLDNN engine computes with another one.

Its compiler puts a ReLU, or a sum and a ReLU, into the convolution before them, and drops these layers for TEST; for
TRAIN it leaves the ReLU with a mark.  Here they are layers again, so everything else knows what they are.  Source: the
rules ``CompilationRuleConvReluFusion``, ``...ConvSumFusion``, ``...FuseBnRelu`` and ``...FuseFCRelu`` in ``net.cpp``,
``mkldnn_convolution_layer.cpp``, ``mkldnn_batch_norm_layer.cpp``, ``mkldnn_inner_product_layer.cpp`` and
``mkldnn_relu_layer.cpp``.  Other engines of the fork take no notice of these fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from caffe_compat.errors import NetError
from caffe_compat.proto import caffe_pb2

__all__ = ["upgrade_fused"]

_SECTIONS = ("convolution_param", "inner_product_param", "batch_norm_param")


def upgrade_fused(net: Any, origins: list[int | None], where: str = "") -> None:
    """Let layers of their own compute what ``relu`` and ``fusion_type: SUM_FUSION`` say; in place.

    Args:
        net: a V2 ``NetParameter``.
        origins: of its layers, changed with them: those that are new came from none.

    Raises:
        NetError: a sum with other weights than 1, or a ``fuse`` of a ReLU that no layer has computed.
    """
    if not any(_is_fused(layer) for layer in net.layer):
        return
    layers, found = list(net.layer), []
    for index, layer in enumerate(layers):
        if layer.relu_param.fuse:
            raise _refused(where, layer, "relu_param.fuse is true, but no layer before it has its relu")
        for part in _apart(layer, layers[index + 1 :], where):
            found.append((part, origins[index] if part is layer else None))
    del net.layer[:]
    net.layer.extend(part for part, _ in found)
    origins[:] = [origin for _, origin in found]


def _is_fused(layer: Any) -> bool:
    conv = layer.convolution_param
    return bool(layer.relu_param.fuse or conv.fusion_type or conv.coeff) or any(
        section.HasField(field)
        for section in [getattr(layer, name) for name in _SECTIONS]
        for field in ("relu", "negative_slope")
        if field in section.DESCRIPTOR.fields_by_name
    )


def _apart(layer: Any, later: list[Any], where: str) -> Iterator[Any]:
    """The layer, then a sum and a ReLU that it computes too."""
    relu = _taken_out(layer)
    conv = layer.convolution_param
    summed = conv.fusion_type == conv.SUM_FUSION and len(layer.bottom) > 1
    if any(weight != 1 for weight in conv.coeff):
        raise _refused(
            where, layer, f"convolution_param.coeff is {list(conv.coeff)}, expected 1: floats are added as is"
        )
    if layer.HasField("convolution_param"):
        conv.ClearField("fusion_type")
        conv.ClearField("coeff")
    top = layer.top[0] if layer.top else ""
    if summed:
        other = layer.bottom[1]
        del layer.bottom[1:]
        layer.top[0] = f"{layer.name}/own"
        yield layer
        yield _behind(layer, "Eltwise", [layer.top[0], other], top)
    else:
        yield layer
    still = [follower for follower in later if follower.relu_param.fuse and top in follower.bottom]
    if relu is not None and still:  # for TRAIN the ReLU was left where it was
        still[0].relu_param.ClearField("fuse")
    elif relu is not None:
        message = _behind(layer, "ReLU", [top], top)
        if relu:
            message.relu_param.negative_slope = relu
        yield message


def _taken_out(layer: Any) -> float | None:
    """The slope of the ReLU that a layer computes too, None without one; its fields are cleared."""
    found: float | None = None
    for name in _SECTIONS:
        if not layer.HasField(name):
            continue
        section = getattr(layer, name)
        fields = section.DESCRIPTOR.fields_by_name
        if section.relu:
            found = section.negative_slope if "negative_slope" in fields else 0.0
        for field in ("relu", "negative_slope"):
            if field in fields:
                section.ClearField(field)
    return found


def _behind(layer: Any, kind: str, bottoms: list[str], top: str) -> Any:
    """A layer of the same phases and stages that follows another one."""
    message = caffe_pb2.LayerParameter(name=f"{layer.name}/{kind.lower()}", type=kind, bottom=bottoms, top=[top])
    message.include.extend(layer.include)
    message.exclude.extend(layer.exclude)
    return message


def _refused(where: str, layer: Any, reason: str) -> NetError:
    return NetError(f"{where}layer '{layer.name}' ({layer.type}): {reason}")
