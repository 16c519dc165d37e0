"""tools/import_weights.py: the caffemodel computes what the net of torchvision or timm does, from the same pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from caffe_compat.commands import import_weights
from caffe_compat.errors import MissingFileError, UsageError, WeightsError
from caffe_compat.importing import ARCHITECTURES, find_architecture
from caffe_compat.media import read_preprocessing
from caffe_compat.net import load_net
from caffe_compat.resources import prototxt

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = np.random.default_rng(2).integers(0, 256, (2, 3, 75, 91)).astype(np.float32)


def lively(net: nn.Module) -> nn.Module:
    """Normalizations that do something."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.2, 0.2)
    return net.eval()


def make(name: str) -> nn.Module:
    torch.manual_seed(6)
    options = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    return lively(torchvision.models.get_model(name, weights=None, **options))


def expected(net: nn.Module, pixels: np.ndarray) -> torch.Tensor:
    """Scores of pixels, blue first, with torchvision's preprocessing."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    with torch.no_grad():
        return net((torch.from_numpy(pixels[:, ::-1].copy()) / 255 - mean) / std)


def run(*arguments: str) -> int:
    return import_weights.main([*arguments, "--size", "64", "80"])


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "scores", "blobs"),
    [("resnet50", "fc1000", 174), ("squeezenet1_0", "pool_final", 64), ("googlenet", "loss3/classifier", 195)],
)
def test_the_caffemodel_computes_the_same(
    name: str, scores: str, blobs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    module = make(name)
    torch.save(module.state_dict(), "w.pth")
    assert run("--source", f"torchvision:{name}", "--weights", "w.pth", "--output", "net.caffemodel") == 0
    printed = capsys.readouterr().out
    assert f"{blobs} blobs agree within 0.0001" in printed and "wrote net.caffemodel" in printed

    wanted = read_preprocessing("net.preprocessing.json")
    mean = np.array(wanted.mean, np.float32).reshape(3, 1, 1)
    net = load_net(prototxt(ARCHITECTURES[f"torchvision:{name}"].prototxt), "net.caffemodel")
    with torch.no_grad():
        found = net(data=torch.from_numpy(PIXELS - mean), blobs=[scores])[scores].flatten(1)
    reference = expected(module, PIXELS)
    assert float(reference.std()) > 0
    torch.testing.assert_close(found, reference, rtol=1e-3, atol=1e-4 * float(reference.abs().max()))
    assert wanted.channels == ("blue", "green", "red") and wanted.scale == 1
    pixel_mean = [127.5] * 3 if name == "googlenet" else [255 * value for value in IMAGENET[0][::-1]]
    assert wanted.mean == pytest.approx(pixel_mean, rel=1e-4)


def test_timm_and_safetensors() -> None:
    timm, files = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch")
    torch.manual_seed(6)
    files.save_file(lively(timm.create_model("resnet50")).state_dict(), "w.safetensors")
    given = ["--source", "timm:resnet50.tv_in1k", "--weights", "w.safetensors", "--output", "net.caffemodel"]
    assert run(*given) == 0


def test_mobilenet_of_timm(capsys: pytest.CaptureFixture[str]) -> None:
    """Its activations end at 6; with ReLU, as the usual prototxt has it, the layers diverge."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(6)
    state = lively(timm.create_model("mobilenetv1_100")).state_dict()
    state["bn1.weight"] *= 8  # so that some are above 6
    torch.save(state, "w.pth")
    given = ["--source", "timm:mobilenetv1_100.ra4_e3600_r224_in1k", "--weights", "w.pth", "--output", "net.caffemodel"]
    assert run(*given) == 0
    assert "83 blobs agree" in capsys.readouterr().out
    assert run(*given, "--model", str(prototxt("mobilenet/deploy.prototxt"))) == 1
    assert "first divergence: layer 'relu" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("source", ["torchvision:vgg16", "timm:vgg16"])
def test_vgg16(source: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(6)
    module = make("vgg16") if source.startswith("torch") else timm.create_model("vgg16")
    torch.save(module.state_dict(), "w.pth")
    given = ["--source", source, "--weights", "w.pth", "--output", "net.caffemodel"]
    assert import_weights.main(given) == 0


def test_vgg16_s_parts_are_those_of_the_prototxt() -> None:
    """The whole takes a while; the names are quick."""
    from caffe_compat.proto import read_net

    with torch.device("meta"):
        state = torchvision.models.vgg16(weights=None, init_weights=False).state_dict()
    layers = {layer.name for layer in read_net(prototxt("vgg16/deploy.prototxt")).layer}
    for source in ("torchvision:vgg16", "timm:vgg16"):
        parts = find_architecture(source).parts
        assert {part.layer for part in parts} == layers - {"data", "drop6", "drop7", "prob"}
    wanted = {f"{part.node}.{name}" for part in find_architecture("torchvision:vgg16").parts if part.blobs
              for name in ("weight", "bias")}  # fmt: skip
    assert wanted == set(state)


def test_the_border_is_right_for_every_mean_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean folded into the biases would show in the first layer: its windows reach over the border."""
    torch.save(make("resnet50").state_dict(), "w.pth")
    run("--source", "torchvision:resnet50", "--weights", "w.pth", "--output", "net.caffemodel")
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("conv1 "))
    assert float(row.split()[-1]) < 1e-5


def test_a_layer_that_differs_is_named_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """The authors' SqueezeNet has a border of 1 around conv_final's input; its weights fit torchvision's."""
    torch.save(make("squeezenet1_0").state_dict(), "w.pth")
    given = ["--source", "torchvision:squeezenet1_0", "--weights", "w.pth", "--output", "new/net.caffemodel"]
    assert run(*given, "--model", str(prototxt("squeezenet/deploy.prototxt"))) == 1
    printed = capsys.readouterr().out
    assert "first divergence: layer 'conv_final'" in printed and "wrote" not in printed
    assert not Path("new").exists()
    assert run(*given, "--tolerance", "1e-12") == 1


def test_what_does_not_fit() -> None:
    module = make("squeezenet1_0")
    state = module.state_dict()
    torch.save({name: value for name, value in state.items() if name != "features.3.squeeze.weight"}, "less.pth")
    torch.save({**state, "classifier.1.weight": torch.zeros(7, 512, 1, 1)}, "seven.pth")
    base = ["--source", "torchvision:squeezenet1_0", "--output", "net.caffemodel", "--weights"]
    with pytest.raises(WeightsError, match="less.pth: no 'features.3.squeeze.weight' for layer 'fire2/conv1x1_1'"):
        run(*base, "less.pth")
    with pytest.raises(WeightsError, match=r"seven.pth: 'classifier.1' has the shape \[7, 512, 1, 1\], layer"):
        run(*base, "seven.pth")
    with pytest.raises(MissingFileError):
        run(*base, "none.pth")
    with pytest.raises(UsageError, match=r"no prototxt here is 'torchvision:squeezenet1_1' \(did you mean"):
        run("--source", "torchvision:squeezenet1_1", "--weights", "less.pth", "--output", "x")
    assert not Path("net.caffemodel").exists()


def test_a_prototxt_without_the_layers() -> None:
    torch.save(make("squeezenet1_0").state_dict(), "w.pth")
    shutil.copy(prototxt("alexnet/deploy.prototxt"), "other.prototxt")
    with pytest.raises(UsageError, match="other.prototxt has no layer 'relu_conv1'"):
        run("--source", "torchvision:squeezenet1_0", "--weights", "w.pth", "--output", "x", "--model", "other.prototxt")
