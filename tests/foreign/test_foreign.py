"""Features of torch modules and ONNX files: what they compute, their shapes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from foreign.modules import Fixed, tiny, write_onnx
from torch import nn

from caffe_compat.errors import DataError, MissingFileError, UsageError, WeightsError
from caffe_compat.foreign import (
    ForeignSpec,
    Normalization,
    is_foreign,
    load_features,
    own_normalization,
    read_state,
    split_feature,
)
from caffe_compat.python_policy import allow_python_layers

TINY = "foreign.modules:tiny"
IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def resnet() -> nn.Module:
    torch.manual_seed(4)
    net = torchvision.models.resnet18(weights=None).eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(resnet().state_dict(), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def test_names() -> None:
    assert split_feature("torchvision:resnet50@layer3") == ("torchvision:resnet50", ("layer3",))
    assert split_feature("a/b.onnx@x, y") == ("a/b.onnx", ("x", "y"))
    for text in ("timm:resnet18", "my.module:make@layer1", "net.onnx", "torchvision:vgg16@features.30"):
        assert is_foreign(text)
    for text in ("deploy.prototxt", "prototxt/vgg16/deploy.prototxt", "/a:b/c.prototxt", "x"):
        assert not is_foreign(text)
    with pytest.raises(UsageError, match="expected SOURCE@FEATURE"):
        split_feature("timm:resnet18@")


def test_torchvision_with_weights_of_a_file(weights: Path) -> None:
    found = load_features(ForeignSpec("torchvision:resnet18", ("layer1", "layer2.0.conv1"), str(weights)))
    net = resnet()
    stem = net.maxpool(net.relu(net.bn1(net.conv1(IMAGES))))
    layer1 = net.layer1(stem)
    expected = [layer1, net.layer2[0].conv1(layer1)]
    for value, wanted in zip(found(IMAGES), expected, strict=True):
        torch.testing.assert_close(value, wanted)
        assert not value.requires_grad
    assert found.shapes((2, 3, 24, 32)) == [tuple(value.shape) for value in expected]
    assert not any("layer3" in name or "fc" in name for name in found.state_dict()), "what comes after is not kept"


@pytest.mark.filterwarnings("error")
def test_shapes_alone_need_no_numbers(weights: Path) -> None:
    with torch.device("meta"):
        found = load_features(ForeignSpec("torchvision:resnet18", ("layer1",), str(weights)))
    assert found.shapes((1, 3, 24, 32)) == [(1, 64, 6, 8)]
    with torch.device("meta"), pytest.raises(WeightsError, match="does not fit torchvision:vgg11"):
        load_features(ForeignSpec("torchvision:vgg11", ("features.2",), str(weights)))


def test_checkpoints_and_safetensors_hold_the_same(weights: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = resnet().state_dict()
    folder = weights.parent
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "c.pth")
    safetensors.save_file(state, folder / "s.safetensors")
    for name in ("c.pth", "s.safetensors"):
        read = read_state(folder / name)
        assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


def test_random_weights_are_the_same_for_a_seed_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    nets = [load_features(ForeignSpec("torchvision:resnet18", ("layer1",), "random", seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    values = [net(IMAGES)[0] for net in nets]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


def test_a_feature_keeps_its_values_where_later_layers_work_in_place() -> None:
    found = load_features(ForeignSpec(TINY, ("conv", "act", "conv2")))
    conv, act, _ = found(IMAGES)
    assert (conv < 0).any()
    module = tiny().eval()
    module.load_state_dict({name.removeprefix("net.graph."): v for name, v in found.state_dict().items()})
    torch.testing.assert_close(conv, module.conv(IMAGES))
    torch.testing.assert_close(act, module.act(module.norm(module.conv(IMAGES))))


def test_a_module_that_fx_cannot_follow() -> None:
    found = load_features(ForeignSpec("foreign.modules:winding", ("conv", "act")))
    conv, act = found(IMAGES)
    assert (conv < 0).any() and torch.equal(act, conv.clamp(min=0)), "conv is caught before the ReLU in place"
    assert found.shapes((1, 3, 24, 32)) == [(1, 4, 12, 16)] * 2
    with pytest.raises(UsageError, match=r"winding has no feature 'heed' \(did you mean 'head'\?\); it has conv, act"):
        load_features(ForeignSpec("foreign.modules:winding", ("heed",)))


def test_it_stays_in_evaluation_mode() -> None:
    found = load_features(ForeignSpec(TINY, ("conv2",)))
    found.train()
    before = {name: value.clone() for name, value in found.state_dict().items()}
    assert torch.equal(found(IMAGES)[0], found(IMAGES)[0])
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())


def test_timm() -> None:
    timm = pytest.importorskip("timm")
    found = load_features(ForeignSpec("timm:resnet10t", ("layer2",), "random"))
    torch.manual_seed(0)
    module = timm.create_model("resnet10t").eval()
    stem = module.maxpool(module.act1(module.bn1(module.conv1(IMAGES))))
    torch.testing.assert_close(found(IMAGES)[0], module.layer2(module.layer1(stem)))
    assert own_normalization("timm:resnet10t") == Normalization(*map(tuple, module_numbers(module)))
    with pytest.raises(UsageError, match=r"timm has no net 'resnet10x' \(did you mean"):
        load_features(ForeignSpec("timm:resnet10x", ("layer2",), "random"))


def module_numbers(module: nn.Module) -> tuple[list[float], list[float]]:
    return module.pretrained_cfg["mean"], module.pretrained_cfg["std"]  # type: ignore[index, return-value]


def test_timm_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"'timm:resnet18' needs timm: pip install 'caffe_compat\[teachers\]'"):
        load_features(ForeignSpec("timm:resnet18", ("layer2",), "random"))
    assert load_features(ForeignSpec("torchvision:squeezenet1_1", ("features.2",), "random"))


def test_safetensors_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    (tmp_path / "w.safetensors").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UsageError, match=r"w.safetensors: needs safetensors: pip install 'caffe_compat\[teachers\]'"):
        read_state(tmp_path / "w.safetensors")
    monkeypatch.undo()
    pytest.importorskip("safetensors.torch")
    with pytest.raises(WeightsError, match="w.safetensors: is no safetensors file"):
        read_state(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["hf-hub:some/net", "hf_hub:some/net", "local-dir:there", "resnet18.tv_in1k:x"])
def test_timm_names_that_would_fetch_something(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="timm has no net"):
        load_features(ForeignSpec(f"timm:{name}", ("layer2",), "random"))


def test_what_each_source_was_trained_with() -> None:
    found = own_normalization("torchvision:resnet50")
    assert found == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) and found.rgb
    assert own_normalization(TINY) == Normalization((0.5, 0.25, 0.125), (0.5, 0.5, 0.25))
    assert own_normalization("foreign.modules:winding") is None and own_normalization("x.onnx") is None


def test_googlenet_turns_the_normalisation_as_its_published_weights_want() -> None:
    """torchvision does so only as it downloads them: ``transform_input``."""
    found = load_features(ForeignSpec("torchvision:googlenet", ("conv1.conv",), "random"))
    weight = found.state_dict()["net.graph.conv1.conv.weight"]
    pixels = (IMAGES[:, :, :16, :16] + 1) / 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = nn.functional.conv2d(pixels * 2 - 1, weight, stride=2, padding=3)
    torch.testing.assert_close(found((pixels - mean) / std)[0], expected, rtol=1e-4, atol=1e-5)


# -- ONNX -------------------------------------------------------------------------------------------------------------


def test_onnx_values_inside_the_graph(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "small.onnx")
    with torch.no_grad():
        expected = net(data=IMAGES, blobs=["conv1", "pool1"])
    names = ("pool1", "fc")
    found = load_features(ForeignSpec(str(tmp_path / "small.onnx"), names))
    for name, value in zip(names, found(IMAGES), strict=True):
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    assert found.shapes((2, 3, 24, 32)) == [(2, 5, 6, 8), (2, 4, 6, 8)]
    assert found.shapes((1, 3, 40, 48)) == [(1, 5, 10, 12), (1, 4, 10, 12)]
    assert found(IMAGES.double())[0].dtype == torch.float64


def test_onnx_of_one_image_at_a_time(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "one.onnx", ())
    found = load_features(ForeignSpec(str(tmp_path / "one.onnx"), ("pool1",)))
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES)[0], net(data=IMAGES, blobs=["pool1"])["pool1"], rtol=1e-4, atol=1e-5)
    assert found.shapes((2, 3, 24, 32)) == [(2, 5, 6, 8)]
    with pytest.raises(ValueError, match="the file takes images of 1 x 3 x 24 x 32, not 1 x 3 x 32 x 32"):
        found.shapes((1, 3, 32, 32))


def test_onnx_that_cannot_be_used(tmp_path: Path) -> None:
    write_onnx(tmp_path / "small.onnx")
    name = str(tmp_path / "small.onnx")
    with pytest.raises(UsageError, match=r"has no feature 'pool2' \(did you mean 'pool1'\?\); it has conv1"):
        load_features(ForeignSpec(name, ("pool2",)))
    with pytest.raises(UsageError, match="has its own weights, but 'random' is given too"):
        load_features(ForeignSpec(name, ("pool1",), "random"))
    with pytest.raises(MissingFileError):
        load_features(ForeignSpec(str(tmp_path / "none.onnx"), ("pool1",)))
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match="text.onnx: is no ONNX file"):
        load_features(ForeignSpec(str(tmp_path / "text.onnx"), ("pool1",)))


def test_onnx_that_takes_no_images(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    for name, shape, kind in (("rows", [2, 3], TensorProto.FLOAT), ("bytes", [1, 3, 8, 8], TensorProto.UINT8)):
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])], "g", [value("x", kind, shape)], [value("y", kind, shape)]
        )
        onnx.save(helper.make_model(graph), tmp_path / f"{name}.onnx")
        with pytest.raises(DataError, match=rf"{name}.onnx: input 'x' is .*, expected images: FLOAT N x 3 x H x W"):
            load_features(ForeignSpec(str(tmp_path / f"{name}.onnx"), ("y",)))


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "feature", "message"),
    [
        ("torchvision:resnet-50", "layer3", r"torchvision has no net 'resnet-50' \(did you mean 'resnet50'\?\)"),
        ("torchvision:resnet18", "layer33", r"resnet18 has no feature 'layer33' \(did you mean 'layer3"),
        ("foreign.modules:tinny", "conv", "module 'foreign.modules' has no function 'tinny'"),
        ("foreign.modules:NOT_CALLABLE", "conv", "has no function 'NOT_CALLABLE'"),
        ("foreign.modules:nothing", "conv", r"returned a int, expected a torch.nn.Module"),
        ("nowhere.at_all:make", "conv", "cannot import module 'nowhere.at_all'"),
        ("net.caffemodel", "conv", "expected torchvision:NAME, timm:NAME"),
    ],
)
def test_wrong_names(source: str, feature: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_features(ForeignSpec(source, (feature,), "random"))


def test_weights_must_be_given_or_asked_for_as_random() -> None:
    with pytest.raises(UsageError, match="no weights of its own: give a file .* or 'random' if random ones are meant"):
        load_features(ForeignSpec("torchvision:resnet18", ("layer1",)))


def test_weights_that_do_not_fit(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet18.pth: does not fit torchvision:vgg11: no 'features.0.weight' and"):
        load_features(ForeignSpec("torchvision:vgg11", ("features.2",), str(weights)))
    with pytest.raises(WeightsError, match=r"'layer1.0.conv1.weight' has the shape \[64, 64, 3, 3\], expected"):
        load_features(ForeignSpec("torchvision:resnet50", ("layer1.0.conv1",), str(weights)))
    wider = {**resnet().state_dict(), "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    torch.save(wider, tmp_path / "seven.pth")
    load_features(ForeignSpec("torchvision:resnet18", ("layer4",), str(tmp_path / "seven.pth")))  # other classes serve


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save(tiny(), tmp_path / "module.pth")
    for name, message in (
        ("text.pth", "is no state dict"),
        ("list.pth", "holds a list, expected a state dict"),
        ("empty.pth", "holds no tensors by name"),
        ("module.pth", "is no state dict that torch reads without running code"),
    ):
        with pytest.raises(WeightsError, match=f"{name}: {message}"):
            read_state(tmp_path / name)
    with pytest.raises(MissingFileError):
        read_state(tmp_path / "none.pth")


def test_code_of_an_entry_point_runs_only_where_it_may() -> None:
    with (
        allow_python_layers(False),
        pytest.raises(UsageError, match="would run foreign.modules:tiny, but Python layer"),
    ):
        load_features(ForeignSpec(TINY, ("conv",)))


def test_images_of_one_size_only() -> None:
    found = load_features(ForeignSpec("foreign.modules:fixed", ("rows", "head")))
    assert found.shapes((2, 3, 16, 16)) == [(2, 64), (2, 3)]
    with pytest.raises(ValueError, match=r"the net does not take images of \[1, 3, 24, 24\]"):
        found.shapes((1, 3, 24, 24))
    assert isinstance(Fixed(), nn.Module)
