"""FlowNet2's deploy nets on two small pictures: they run, and ONNX Runtime agrees."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from flow_nets import FlowNets, flow_net

from caffe_compat.description import State, describe_net
from caffe_compat.layers.flow_losses import FlowNetL1Loss
from caffe_compat.net.net import Net
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.forks import guess_dialect
from caffe_compat.proto.text import parse

SIZE = (70, 100)


def _net(kind: str) -> Net:
    torch.manual_seed(0)
    net = Net(describe_net(parse(flow_net(kind, *SIZE), caffe_pb2.NetParameter), State("TEST")))
    with torch.no_grad():
        for node in net.nodes:
            if node.type == "DataAugmentation":  # as trained nets have it
                for blob, value in zip(node.layer.blobs, (1e5, 0.0, 0.4), strict=True):
                    blob.fill_(value)
    return net


def _pictures() -> dict[str, torch.Tensor]:
    smooth = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(1))
    first = 255 * torch.nn.functional.interpolate(smooth, SIZE, mode="bilinear")
    return {"img0": first, "img1": first.roll(2, 3)}


@pytest.mark.parametrize("kind", ["C", "S", "SD", "CSS", "2"])
def test_two_pictures(kind: str) -> None:
    net = _net(kind)
    with torch.no_grad():
        flow = net(**_pictures())["flow"]
        again = net(**_pictures())["flow"]
    assert flow.shape == (1, 2, *SIZE) and flow.isfinite().all() and flow.std() > 0
    torch.testing.assert_close(flow, again)  # the mean does not move
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["flow"], {name: value.numpy() for name, value in _pictures().items()})
    np.testing.assert_allclose(found, flow.numpy(), rtol=1e-3, atol=1e-4 * float(flow.abs().max()))


def test_gradients_reach_every_weight_below_the_last_resizing() -> None:
    nets = FlowNets(*SIZE)
    flow = nets.stacked(nets.stacked(nets.net_c()))
    net = Net(describe_net(parse(nets.text, caffe_pb2.NetParameter), State("TRAIN")))
    net(**_pictures())[flow].square().mean().backward()
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert len(weights) > 60 and all(one.grad is not None and one.grad.isfinite().all() for one in weights)
    assert all(one.grad.any() for one in weights if one.dim() > 1)


def test_the_dialect_is_guessed() -> None:
    assert guess_dialect(parse(flow_net("2", *SIZE), caffe_pb2.NetParameter)) == "flownet"


def test_l1_loss_in_a_net_of_the_fork_is_the_forks() -> None:
    text = flow_net("S", *SIZE) + 'layer { name: "loss" type: "L1Loss" bottom: "flow" bottom: "flow" top: "loss" }'
    net = Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TRAIN")))
    assert isinstance(net.layer("loss"), FlowNetL1Loss)
