"""What layers compute, or refuse, on input that once ended in a foreign exception or in other numbers than Caffe's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError
from caffe_compat.net import BlobNet, Net
from caffe_compat.onnx import export_onnx
from caffe_compat.onnx.samples import random_inputs


@pytest.mark.parametrize("eps", [0.0, -0.25])
def test_batch_norm_without_eps_trains(eps: float) -> None:
    layer = one_layer("BatchNorm", f"batch_norm_param {{ eps: {eps} }}", (4, 2, 3), phase="TRAIN")
    bottom = torch.randn(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    bottom.requires_grad_()
    layer = layer.double()
    centred = bottom.detach() - bottom.detach().mean((0, 2), keepdim=True)
    expected = centred / (centred.square().mean((0, 2), keepdim=True) + eps).sqrt()
    torch.testing.assert_close(layer(bottom), expected)
    assert torch.autograd.gradcheck(lambda x: layer(x), [bottom], eps=1e-6, atol=1e-5)
    layer.eval()
    assert layer(bottom).isfinite().all()


def test_batch_norm_by_hand_gathers_what_torch_gathers() -> None:
    bottom = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))
    gathered = []
    for eps in ("0", "1e-30"):
        layer = one_layer("BatchNorm", f"batch_norm_param {{ eps: {eps} }}", (4, 2, 3), phase="TRAIN")
        layer(bottom)
        gathered.append([blob.detach().clone() for blob in layer.blobs])
    torch.testing.assert_close(*gathered)


@pytest.mark.parametrize("in_place", [False, True])
def test_relu_sends_no_gradient_where_it_is_nan(in_place: bool) -> None:
    layer = one_layer("ReLU", "", (4,))
    layer.may_overwrite = in_place
    bottom = torch.tensor([float("nan"), -1.0, 2.0, 0.0], requires_grad=True)
    top = layer(bottom * 1)
    top.backward(torch.tensor([3.0, 5.0, 7.0, 11.0]))
    assert bottom.grad is not None and bottom.grad.tolist() == [0, 0, 7, 0]
    assert top.isnan().tolist() == [True, False, False, False]


def test_argmax_of_no_rows() -> None:
    layer = one_layer("ArgMax", "argmax_param { top_k: 2 out_max_val: true }", (0, 5))
    assert layer(torch.zeros(0, 5)).shape == (0, 2, 2)


def test_uniform_filler_upside_down() -> None:
    body = 'inner_product_param { num_output: 2 weight_filler { type: "uniform" min: 1 max: -1 } }'
    with pytest.raises(LayerError, match=r"under_test.*min is 1 and max is -1"):
        one_layer("InnerProduct", body, (1, 3))


def test_convolution_of_nothing_but_padding_is_its_bias() -> None:
    body = "convolution_param { num_output: 2 kernel_h: 1 kernel_w: 4 pad_w: 2 pad_h: 0 }"
    layer = one_layer("Convolution", body, (1, 3, 5, 0), blob1=torch.tensor([1.0, 2.0]))
    top = layer(torch.zeros(1, 3, 5, 0))
    assert top.shape == (1, 2, 5, 1)
    assert top[0, :, :, 0].tolist() == [[1.0] * 5, [2.0] * 5]


@pytest.mark.parametrize("name", ["Softmax", "ReLU", "Convolution"])
def test_messages_of_all_losses_and_all_data_layers_mean_nothing_elsewhere(name: str) -> None:
    body = "convolution_param { num_output: 2 kernel_size: 1 }" if name == "Convolution" else ""
    shared = "loss_param { ignore_label: -1 normalize: true } transform_param { mirror: true }"
    one_layer(name, f"{body} {shared}", (1, 3, 2, 2))
    with pytest.raises(LayerError, match="pooling_param means nothing"):
        one_layer(name, f"{body} {shared} pooling_param {{ kernel_size: 2 }}", (1, 3, 2, 2))


def test_filter_after_reshape_has_the_rows_that_are_chosen() -> None:
    net = BlobNet(one_net("Filter", "", [(4, 2), (4,)], ["y"]))
    top = net.blobs[net.names.index("y")]
    assert top.shape == (4, 2)
    net.blobs[net.names.index("x1")].data[...] = [1, 0, 2, 0]
    net.reshape()
    assert top.shape == (2, 2)
    net.blobs[net.names.index("x1")].data[...] = 0
    net.reshape()
    assert top.shape == (0, 2)


def _pick(items: int, picks: int) -> Net:
    return one_net("PickItems", "", [(items, 3, 2, 2), (picks,)], ["y"])


def test_pick_items_exports_and_draws_indices_in_range() -> None:
    net = _pick(2, 20)
    drawn = random_inputs(net, {"x0": (2, 3, 2, 2), "x1": (20,)}, np.random.default_rng(0))
    assert set(drawn["x1"].tolist()) == {0, 1}
    assert export_onnx(net).graph.node


def test_lrn_over_more_channels_than_there_are() -> None:
    bottom = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    wide = one_layer("LRN", "lrn_param { local_size: 2147483647 alpha: 2147483647 }", (1, 3, 2, 2))
    torch.testing.assert_close(wide(bottom), bottom * (1 + bottom.square().sum(1, keepdim=True)) ** -0.75)


def test_pooling_windows_far_apart_are_refused_for_their_memory() -> None:
    with pytest.raises(LayerError, match="under_test.*image with all windows"):
        one_layer("Pooling", "pooling_param { kernel_size: 3 stride: 2147483647 }", (2, 3, 8, 6))
