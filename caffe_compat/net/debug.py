"""What Caffe logs about nets: their structure when they are built, and with ``debug_info`` every pass.

Source: BVLC Caffe 1.0, ``Net::Init``, ``ForwardDebugInfo``, ``BackwardDebugInfo``.  Magnitudes are means of absolute
values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.layers import count
from caffe_compat.net.engine import BlobNet
from caffe_compat.net.net import Net
from caffe_compat.net.observers import Observer
from caffe_compat.net.plan import Node
from caffe_compat.net.precision import widened
from caffe_compat.proto import caffe_pb2, text
from caffe_compat.proto.schema import PHASES

__all__ = ["DebugInfo", "log_structure", "memory_required"]


def _mean_abs(value: Tensor | None) -> str:
    if value is None or not value.numel():
        return log.number(0.0)
    return log.number(widened(value.detach()).abs().sum() / value.numel())


def _param_name(node: Node, index: int) -> str:
    name = node.param_specs[index].name if index < len(node.param_specs) else ""
    return name or str(index)


class DebugInfo(Observer):
    """Logs magnitudes of blobs and gradients in every pass, while ``enabled``.

    Adds itself to the engine's observers.
    """

    def __init__(self, engine: BlobNet, enabled: bool) -> None:
        self.engine, self.enabled = engine, enabled
        engine.observers.append(self)

    def after_forward(self, number: int) -> None:
        """Magnitudes of the tops and parameters of a layer that has just run forward."""
        if not self.enabled:
            return
        engine, node = self.engine, self.engine.net.nodes[number]
        for blob in node.top_ids:
            log.info(
                f"    [Forward] Layer {node.name}, top blob {engine.names[blob]} "
                f"data: {_mean_abs(engine.blobs[blob].tensor)}",
                "net.cpp:591",
            )
        for index, parameter in enumerate(node.layer.blobs):
            log.info(
                f"    [Forward] Layer {node.name}, param blob {_param_name(node, index)} data: {_mean_abs(parameter)}",
                "net.cpp:603",
            )

    def after_backward(self, number: int) -> None:
        """Magnitudes of the gradients that a layer has just computed."""
        engine, node = self.engine, self.engine.net.nodes[number]
        if not (self.enabled and node.needs_backward):
            return
        for blob, wanted in zip(node.bottom_ids, node.bottom_grads, strict=True):
            if wanted:
                log.info(
                    f"    [Backward] Layer {node.name}, bottom blob {engine.names[blob]} "
                    f"diff: {_mean_abs(engine.blobs[blob].gradient)}",
                    "net.cpp:619",
                )
        for index, (parameter, wanted) in enumerate(zip(node.layer.blobs, node.param_grads, strict=True)):
            if wanted:
                log.info(
                    f"    [Backward] Layer {node.name}, param blob {index} diff: {_mean_abs(parameter.grad)}",
                    "net.cpp:630",
                )

    def after_backward_pass(self) -> None:
        """Norms over all learnable parameters and their gradients."""
        if not self.enabled:
            return
        learnables = self.engine.net.learnables
        data = [learnable.parameter.detach() for learnable in learnables]
        diff = [torch.zeros_like(value) if (grad := learnable.parameter.grad) is None else grad
                for value, learnable in zip(data, learnables, strict=True)]  # fmt: skip
        one = [log.number(sum(float(value.abs().sum()) for value in values)) for values in (data, diff)]
        two = [log.number(sum(float(value.square().sum()) for value in values) ** 0.5) for values in (data, diff)]
        log.error(
            f"    [Backward] All net params (data, diff): L1 norm = ({one[0]}, {one[1]}); "
            f"L2 norm = ({two[0]}, {two[1]})",
            "net.cpp:719",
        )


def memory_required(net: Net, layers: int | None = None) -> int:
    """Bytes that Caffe says it needs for the data of the first ``layers`` layers: every top counts, in place or not."""
    shapes = net.plan.shapes
    return 4 * sum(count(shapes[blob]) for node in net.nodes[:layers] for blob in node.top_ids)


def log_structure(net: Net) -> None:
    """Log what Caffe logs while it builds a net."""
    if not log.enabled():
        return
    message = caffe_pb2.NetParameter(name=net.description.name)
    state = net.description.state
    message.state.phase = PHASES.index(state.phase)
    message.state.level = state.level
    message.state.stage.extend(state.stages)
    message.layer.extend(node.description.message for node in net.nodes if not node.description.is_split)
    for layer in message.layer:
        layer.ClearField("blobs")
    log.info("Initializing net from parameters: \n" + text.format(message), "net.cpp:51")
    owners = {id(learnable.parameter): learnable for learnable in net.learnables}
    memory = 0
    for number, node in enumerate(net.nodes):
        memory += 4 * sum(count(net.plan.shapes[blob]) for blob in node.top_ids)
        _log_layer(net, node, memory)
        for index, parameter in enumerate(node.layer.blobs):
            if (number, index) in net.plan.shared:
                owner = owners[id(parameter)]
                log.info(
                    f"Sharing parameters '{_param_name(node, index)}' owned by layer '{owner.layer}', param index "
                    f"{owner.index}",
                    "net.cpp:465",
                )
    for node in reversed(net.nodes):
        if node.needs_backward:
            log.info(f"{node.name} needs backward computation.", "net.cpp:198")
        else:
            log.info(f"{node.name} does not need backward computation.", "net.cpp:200")
    for blob in net.plan.outputs:
        log.info(f"This network produces output {net.plan.names[blob]}", "net.cpp:242")
    log.info("Network initialization done.", "net.cpp:255")


def _log_layer(net: Net, node: Node, memory: int) -> None:
    plan = net.plan
    log.info(f"Creating layer {node.name}", "layer_factory.hpp:77")
    log.info(f"Creating Layer {node.name}", "net.cpp:84")
    for blob in node.bottom_ids:
        log.info(f"{node.name} <- {plan.names[blob]}", "net.cpp:406")
    for blob in node.top_ids:
        place = " (in-place)" if blob in node.bottom_ids else ""
        log.info(f"{node.name} -> {plan.names[blob]}{place}", "net.cpp:380")
    if node.layer.creates_layer:
        log.info(f"Creating layer {node.name}", "layer_factory.hpp:77")
    log.info(f"Setting up {node.name}", "net.cpp:122")
    for blob, weight in zip(node.top_ids, node.loss_weights, strict=True):
        shape = plan.shapes[blob]
        log.info("Top shape: " + "".join(f"{dim} " for dim in shape) + f"({count(shape)})", "net.cpp:129")
        if weight:
            log.info(f"    with loss weight {log.number(weight)}", "net.cpp:132")
    log.info(f"Memory required for data: {memory}", "net.cpp:137")
