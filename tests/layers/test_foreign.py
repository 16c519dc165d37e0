"""The layer that holds a net of another framework."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import ExportError, LayerError, ShapeError
from caffe_compat.net import load_net
from caffe_compat.onnx import export_onnx
from caffe_compat.python_policy import allow_python_layers

SOURCE = "source: 'user_layers:tiny_module' feature: 'act'"
BODY = f"foreign_net_param {{ {SOURCE} mean: 0.5 mean: 0.4 mean: 0.3 std: 0.2 std: 0.3 std: 0.4 }}"
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 9, 8)).astype(np.float32))


def _module(layer: torch.nn.Module) -> torch.nn.Module:
    return layer.net.net.graph  # type: ignore[union-attr, return-value]


def test_the_net_sees_pixels_as_it_was_trained_with() -> None:
    layer = one_layer("ForeignNet", BODY, (2, 3, 9, 8))
    rgb = PIXELS[:, [2, 1, 0]] / 255
    images = (rgb - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(layer(PIXELS), _module(layer).conv(images).clamp(min=0))


def test_blue_first_and_whole_numbers() -> None:
    layer = one_layer("ForeignNet", f"foreign_net_param {{ {SOURCE} pixel_range: 1 rgb: false }}", (2, 3, 9, 8))
    torch.testing.assert_close(layer(PIXELS), _module(layer).conv(PIXELS).clamp(min=0))


def test_it_is_the_same_in_both_phases_and_never_trained(tmp_path) -> None:
    nets = [one_net("ForeignNet", BODY, [(2, 3, 9, 8)], phase=phase) for phase in ("TRAIN", "TEST")]
    nets[0].train()
    found = [net(x0=PIXELS)["y"] for net in nets]
    assert torch.equal(*found) and not found[0].requires_grad, "the same random seed is the same net"
    assert not nets[0].learnables and not nets[0].layer("under_test").blobs
    nets[0].save(tmp_path / "net.caffemodel")
    assert (tmp_path / "net.caffemodel").stat().st_size < 500, "no snapshot holds it"


def test_nets_that_share_their_weights_keep_it_once() -> None:
    nets = [one_net("ForeignNet", BODY, [(2, 3, 9, 8)], phase=phase) for phase in ("TRAIN", "TEST")]
    nets[1].share_with(nets[0])
    layers = [net.layer("under_test") for net in nets]
    assert layers[1].net is layers[0].net
    other = one_net("ForeignNet", BODY.replace("'act'", "'conv'"), [(2, 3, 9, 8)])
    other.share_with(nets[0])
    assert other.layer("under_test").net is not layers[0].net


def test_it_moves_and_changes_its_type_with_the_net() -> None:
    net = one_net("ForeignNet", BODY, [(2, 3, 9, 8)])
    single = net(x0=PIXELS)["y"]
    assert net.double()(x0=PIXELS.double())["y"].dtype == torch.float64
    assert net.to("meta")(x0=PIXELS.to("meta"))["y"].shape == single.shape


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{SOURCE} feature: 'conv'", "has 2 features and 1 tops"),
        ("source: 'user_layers:tiny_module' feature: 'cnv'", r"has no feature 'cnv' \(did you mean 'conv'\?\)"),
        ("source: 'torchvision:resnet18' feature: 'layer1'", "no weights of its own: give a file"),
        (f"{SOURCE} mean: 1", r"mean \[1.0\] of a net of another framework: expected 3 numbers"),
        (f"{SOURCE} std: 1 std: 0 std: 1", "expected positive numbers"),
        (f"{SOURCE} pixel_range: 0", "expected positive numbers"),
    ],
)
def test_refusals_name_the_layer(body: str, message: str) -> None:
    with pytest.raises(LayerError, match=f"layer 'under_test' .*{message}"):
        one_net("ForeignNet", f"foreign_net_param {{ {body} }}", [(2, 3, 9, 8)])


def test_bottoms_that_are_no_images() -> None:
    for shape in ((2, 1, 9, 8), (2, 3), (0, 3, 9, 8)):
        with pytest.raises(ShapeError, match="takes images of N x 3 x H x W"):
            one_net("ForeignNet", BODY, [shape])


def test_the_user_decides_whether_code_runs() -> None:
    with allow_python_layers(False), pytest.raises(LayerError, match="would run user_layers:tiny_module"):
        one_net("ForeignNet", BODY, [(2, 3, 9, 8)])


def test_onnx_says_why_not() -> None:
    with pytest.raises(ExportError, match="it runs a net of another framework; export the student"):
        export_onnx(one_net("ForeignNet", BODY, [(2, 3, 9, 8)]))


def test_weights_of_a_file_that_is_gone_name_the_prototxt(tmp_path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }\n'
        'layer { name: "t" type: "ForeignNet" bottom: "d" top: "y" foreign_net_param {'
        ' source: "torchvision:squeezenet1_1" feature: "features.2" weights: "gone.pth" } }'
    )
    with pytest.raises(FileNotFoundError, match="gone.pth"):
        load_net(path)
