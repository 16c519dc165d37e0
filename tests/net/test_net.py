"""Nets as torch modules and as blobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import BlobNet, load_net
from caffe_compat.errors import LayerError, MissingFileError, NetError, ShapeError, WeightsError

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "a" type: "Power" bottom: "pool" top: "a" power_param { scale: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "a" top: "sum1" }
layer { name: "sum" type: "Eltwise" bottom: "sum1" bottom: "conv" top: "sum2" }
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.prototxt"
    path.write_text(SMALL.replace('bottom: "sum1" bottom: "conv"', 'bottom: "sum1" bottom: "sum1"'))
    return path


def test_any_size_and_batch(small: Path) -> None:
    net = load_net(small)
    for shape in ((2, 3, 9, 9), (5, 3, 9, 9), (1, 3, 20, 31)):
        out = net(data=torch.randn(shape), blobs=["conv"])
        assert out["sum2"].shape[0] == shape[0] and out["conv"].shape[2:] == (shape[2] - 2, shape[3] - 2)
        assert (out["conv"] >= 0).all(), "the blob of an in-place layer is what the last writer left"


def test_duplicate_layer_names(small: Path) -> None:
    net = load_net(small)
    assert [node.name for node in net.nodes].count("sum") == 2
    out = net(data=torch.randn(2, 3, 9, 9), blobs=["pool"])
    torch.testing.assert_close(out["sum2"], out["pool"] * 6)


def test_module_and_blobs_agree(small: Path) -> None:
    net = load_net(small)
    data = torch.randn(2, 3, 9, 9)
    expected = net(data=data)["sum2"]
    expected.sum().backward()
    gradients = [blob.grad.clone() for blob in net.layer("conv").blobs]
    net.zero_grad()
    message = SMALL.replace('bottom: "sum1" bottom: "conv"', 'bottom: "sum1" bottom: "sum1"') + "force_backward: true"
    small.write_text(message)
    engine = BlobNet(load_net(small))
    for mine, theirs in zip(engine.net.parameters(), net.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    engine.blob("data").data[...] = data.numpy()
    engine.forward()
    np.testing.assert_allclose(engine.blob("sum2").data, expected.detach().numpy(), rtol=1e-6)
    engine.blob("sum2").diff[...] = 1
    engine.backward()
    for blob, gradient in zip(engine.net.layer("conv").blobs, gradients, strict=True):
        torch.testing.assert_close(blob.grad, gradient, rtol=1e-5, atol=1e-6)


def test_views_stay_live(small: Path) -> None:
    engine = BlobNet(load_net(small))
    view = engine.blob("sum2").data
    engine.blob("data").data[...] = 1
    engine.forward()
    first = view.copy()
    engine.blob("data").data[...] = -3
    engine.forward()
    assert not np.array_equal(first, view)
    np.testing.assert_array_equal(view, engine.blob("sum2").tensor.numpy())


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "vgg16", "squeezenet"])
def test_reference_nets_build(name: str) -> None:
    net = load_net(ROOT / "prototxt" / name / "deploy.prototxt")
    assert net.input_names == ["data"]


def test_vgg_to_alexnet_maps_align() -> None:
    vgg = load_net(ROOT / "prototxt/vgg16/deploy.prototxt")
    for height, width in ((96, 128), (64, 96)):
        shapes = {}
        for name, prefix in (("vgg16/deploy", ""), ("students/alexnet_pad7/deploy", "da_")):
            net = vgg if prefix == "" else load_net(ROOT / f"prototxt/{name}.prototxt")
            with torch.no_grad():
                value = torch.zeros(1, 3, height, width)
                for node in net.nodes:  # fully convolutional part only
                    if node.type in ("Convolution", "ReLU", "Pooling", "LRN"):
                        value = node.layer(value)
                    if node.name == f"{prefix}pool5":
                        break
            shapes[prefix] = value.shape[2:]
        assert shapes[""] == shapes["da_"] == (height // 32, width // 32)


def test_weights_round_trip(small: Path, tmp_path: Path) -> None:
    net = load_net(small)
    net.save(tmp_path / "w.caffemodel")
    again = load_net(small, tmp_path / "w.caffemodel")
    for mine, theirs in zip(again.parameters(), net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_bad_input_names_who(small: Path, tmp_path: Path) -> None:
    net = load_net(small)
    with pytest.raises(NetError, match="missing.*data"):
        net()
    with pytest.raises(ShapeError, match="conv"):
        net(data=torch.zeros(1, 4, 9, 9))
    with pytest.raises(NetError, match="no blob 'pol'.*pool"):
        net(data=torch.zeros(1, 3, 9, 9), blobs=["pol"])
    with pytest.raises(MissingFileError, match=r"no\.caffemodel"):
        load_net(small, tmp_path / "no.caffemodel")
    net.save(tmp_path / "w.caffemodel")
    small.write_text(
        SMALL.replace("num_output: 4", "num_output: 5").replace(
            'bottom: "sum1" bottom: "conv"', 'bottom: "sum1" bottom: "sum1"'
        )
    )
    with pytest.raises(WeightsError, match=r"w\.caffemodel.*layer 'conv'.*blob 0"):
        load_net(small, tmp_path / "w.caffemodel")
    small.write_text(SMALL.replace('type: "Power"', 'type: "Powr"'))
    with pytest.raises(LayerError, match=r"layer 'a'.*Powr.*did you mean 'Power'.*line 8"):
        load_net(small)
    small.write_text(SMALL.replace("power_param { scale: 2 }", "relu_param { negative_slope: 2 }"))
    with pytest.raises(LayerError, match="layer 'a'.*relu_param"):
        load_net(small)
