"""Optimized nets: what is joined, that nothing goes stale, that NaN, errors and refusals are the net's own."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat import Net, load_net
from caffe_compat.errors import CaffeCompatError, NetError
from caffe_compat.net.fast import kernels
from caffe_compat.random import seed_thread

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }\n'
NORMAL = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 1 }'


def layer(kind: str, bottom: str, top: str, body: str = "") -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom.split())
    return f'layer {{ name: "{kind}_{top}" type: "{kind}" {bottoms} top: "{top}" {body} }}\n'


def conv(bottom: str, top: str, body: str = "num_output: 8 kernel_size: 3 pad: 1") -> str:
    return layer("Convolution", bottom, top, f"convolution_param {{ {body} {NORMAL} }}")


def norm(bottom: str, top: str) -> str:
    scale = 'scale_param { bias_term: true filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } }'
    return layer("BatchNorm", bottom, f"{top}n") + layer("Scale", f"{top}n", top, scale)


RESIDUAL = (
    INPUT + conv("data", "c1") + norm("c1", "n1") + layer("ReLU", "n1", "n1")
    + conv("n1", "c2") + norm("c2", "n2") + conv("n1", "c3", "num_output: 8 kernel_size: 1") + norm("c3", "n3")
    + layer("Eltwise", "n2 n3", "sum") + layer("ReLU", "sum", "sum")
    + layer("Pooling", "sum", "pool", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("LRN", "pool", "lrn") + layer("Dropout", "lrn", "lrn")
    + conv("lrn", "left", "num_output: 4 kernel_size: 1") + layer("ReLU", "left", "left")
    + conv("lrn", "right", "num_output: 4 kernel_size: 3 pad: 1 group: 2") + layer("ReLU", "right", "right")
    + layer("Concat", "left right", "both") + norm("both", "last")
    + layer("ReLU", "last", "last", "relu_param { negative_slope: 0.1 }")
    + layer("InnerProduct", "last", "ip", f"inner_product_param {{ num_output: 6 {NORMAL} }}")
    + layer("ReLU", "ip", "ip")
    + layer("InnerProduct", "ip", "score", f"inner_product_param {{ num_output: 5 {NORMAL} }}")
    + layer("Softmax", "score", "prob")
)  # fmt: skip


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(RESIDUAL)
    return path


def make(path: Path, fast: bool = True) -> Net:
    """The net with statistics in its BatchNorms; the same numbers every time."""
    torch.manual_seed(3)
    net = load_net(path, optimize=fast)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for node in net.nodes:
            for index, blob in enumerate(node.layer.blobs):
                values = torch.randn(blob.shape, generator=random)
                if node.type == "BatchNorm":
                    values = (values, values.abs() + 0.5, torch.full((1,), 2.0))[index]
                blob.copy_(values)
    return net


def program(net: Net) -> Any:
    """What the net ran last."""
    return list(net._runner._programs.values())[-1]  # type: ignore[union-attr]


def near(value: torch.Tensor, wanted: torch.Tensor, name: str, limit: float = 1e-5) -> None:
    """To ``limit`` of the largest number."""
    largest = float(wanted.abs().nan_to_num(0, 0).max()) if wanted.numel() else 0.0
    torch.testing.assert_close(
        value, wanted, rtol=limit, atol=limit * largest, equal_nan=True, msg=lambda text: f"{name}: {text}"
    )


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, value in found.items():
        near(value, wanted[name], name)
        assert value.is_contiguous() and not value.requires_grad


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_net_of_everything(residual: Path, monkeypatch: pytest.MonkeyPatch, onednn: bool, batch: int) -> None:
    if not onednn:
        monkeypatch.setattr(kernels.torch.backends.mkldnn, "is_available", lambda: False)
    plain, fast = make(residual, False), make(residual)
    data = torch.randn(batch, 3, 12, 12)
    names = list(plain.blob_shapes)
    with torch.no_grad():
        same(fast(data=data), plain(data=data))
        for blobs in (names, ["sum"], ["c2", "n2", "lrn"], ["data"]):
            same(fast(data=data, blobs=blobs), plain(data=data, blobs=blobs))
        assert fast(data=data, blobs=["data"])["data"] is data


def test_what_is_joined(residual: Path) -> None:
    """Three convolutions with all behind them, pooling, LRN, two convolutions, Concat with its norm, products."""
    net = make(residual)
    data = torch.randn(2, 3, 12, 12)
    net(data=data)
    steps = [step.node.name for step in program(net).steps]
    assert steps == [
        "Convolution_c1", "Convolution_c2", "Convolution_c3", "Pooling_pool", "LRN_lrn", "Convolution_left",
        "Convolution_right", "Concat_both", "BatchNorm_lastn", "InnerProduct_ip", "InnerProduct_score", "Softmax_prob",
    ]  # fmt: skip
    net(data=data, blobs=["c2", "sum"])
    assert "BatchNorm_n2n" in [step.node.name for step in program(net).steps]
    assert sum(step.look for step in program(net).steps) == 1  # of the input: the rest is proved


def test_sizes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        INPUT
        + conv("data", "c")
        + layer("ReLU", "c", "c")
        + layer("Pooling", "c", "p", "pooling_param { global_pooling: true }")
    )
    plain, fast = make(path, False), make(path)
    for shape in ((1, 3, 9, 7), (4, 3, 12, 12), (1, 3, 30, 5), (0, 3, 8, 8), (4, 3, 12, 12)):
        data = torch.randn(shape)
        with torch.no_grad():
            same(fast(data=data, blobs=["c"]), plain(data=data, blobs=["c"]))


def test_weights_that_change(residual: Path, tmp_path: Path) -> None:
    plain, fast, other = make(residual, False), make(residual), make(residual, False)
    data = torch.randn(6, 3, 12, 12)

    def check(reference: Net) -> None:
        with torch.no_grad():
            same(fast(data=data), reference(data=data))

    check(plain)
    with torch.no_grad():
        for node in other.nodes:
            for blob in node.layer.blobs:
                blob.mul_(1.3)
    other.save(tmp_path / "other.caffemodel")
    fast.copy_from(tmp_path / "other.caffemodel")
    check(other)
    for net in (fast, other):
        with torch.no_grad():
            net.layer("Scale_n2").blobs[0].add_(0.5)
    check(other)
    fast.share_with(plain)
    check(plain)
    for value in (plain.layer("InnerProduct_ip").blobs[0], plain.layer("Convolution_c2").blobs[1]):
        value.detach().numpy()[...] *= 2
    fast.weights_changed()
    check(plain)
    fast.load_state_dict(other.state_dict())
    check(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e20])
@pytest.mark.parametrize("where", ["data", "Convolution_c1", "Convolution_c2", "Scale_n3", "InnerProduct_ip"])
def test_nan_is_not_rectified_away(residual: Path, value: float, where: str) -> None:
    plain, fast = make(residual, False), make(residual)
    data = torch.randn(5, 3, 12, 12)
    if where == "data":
        data[1, 2, 5, 5] = value
    else:
        for net in (plain, fast):
            with torch.no_grad():
                net.layer(where).blobs[0].view(-1)[3] = value
    with torch.no_grad():
        names = ["n1", "sum", "pool", "left", "both", "ip", "prob"]
        found, wanted = fast(data=data, blobs=names[1::2]), plain(data=data, blobs=names[1::2])
    for name in found:
        assert torch.equal(found[name].isnan(), wanted[name].isnan()), name
        usual = wanted[name].abs() < 1e30
        near(found[name][usual], wanted[name][usual], name, 1e-4)


def test_errors_are_those_of_the_net(residual: Path) -> None:
    plain, fast = make(residual, False), make(residual)
    data = torch.randn(2, 3, 12, 12)
    for inputs in (
        {"data": data[:, :2]},
        {"data": torch.randn(2, 3, 14, 14)},
        {"data": data[0]},
        {"data": data.double()},
        {"data": data.long()},
        {"data": data.bool()},
        {"data": data, "blobs": ["sun"]},
        {"data": data, "blobs": "sum"},
        {"date": data},
        {},
    ):
        told = []
        for net in (plain, fast):
            with pytest.raises((CaffeCompatError, RuntimeError)) as caught, torch.no_grad():
                net(**inputs)
            told.append((type(caught.value), str(caught.value)))
        assert told[0] == told[1]
    with torch.no_grad():
        same(fast(data=data), plain(data=data))


def test_out_of_memory_names_the_layer(residual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = make(residual)
    data = torch.randn(2, 3, 12, 12)
    fast(data=data)

    def refuse(*values: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(kernels.F, "max_pool2d", refuse)
    with pytest.raises(CaffeCompatError, match=r"Pooling_pool.*ran out of memory in the forward pass.*2, 8, 12, 12"):
        fast(data=data)


def test_no_gradients(residual: Path) -> None:
    fast = make(residual)
    data = torch.randn(2, 3, 12, 12, requires_grad=True)
    with pytest.raises(NetError, match="computes no gradients, input 'data' requires one"):
        fast(data=data)
    with torch.no_grad():
        assert not fast(data=data)["prob"].requires_grad
    with pytest.raises(NetError, match="phase TRAIN, expected TEST"):
        load_net(residual, phase="TRAIN", optimize=True)


def test_training_mode_is_left_to_the_net(residual: Path) -> None:
    plain, fast = make(residual, False), make(residual)
    data = torch.randn(6, 3, 12, 12)
    fast(data=data)
    for net in (plain, fast):
        net.train()
    torch.manual_seed(1)
    wanted = plain(data=data, blobs=["n1"])["n1"]
    torch.manual_seed(1)
    torch.testing.assert_close(fast(data=data, blobs=["n1"])["n1"], wanted)
    for net in (plain, fast):
        net.eval()
    with torch.no_grad():
        same(fast(data=data), plain(data=data))


def test_copies_and_types(residual: Path) -> None:
    plain, fast = make(residual, False), make(residual)
    data = torch.randn(2, 3, 12, 12)
    fast(data=data)
    twin = copy.deepcopy(fast)
    with torch.no_grad():
        twin.layer("Convolution_c1").blobs[0].mul_(2)
        plain_twin = copy.deepcopy(plain)
        plain_twin.layer("Convolution_c1").blobs[0].mul_(2)
        same(twin(data=data), plain_twin(data=data))
        same(fast(data=data), plain(data=data))
        same(fast.double()(data=data.double()), plain.double()(data=data.double()))


def test_buffers_that_others_overwrite(tmp_path: Path) -> None:
    """Split and Flatten share memory: in place, what one does shows in the other."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        INPUT + conv("data", "c") + layer("Split", "c", "a").replace('top: "a"', 'top: "a" top: "b"')
        + layer("Power", "a", "a", "power_param { scale: -2 shift: 1 }") + conv("b", "d") + layer("Eltwise", "a d", "e")
    )  # fmt: skip
    plain, fast = make(path, False), make(path)
    assert not plain.plan.plain
    data = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        same(fast(data=data, blobs=["b", "d"]), plain(data=data, blobs=["b", "d"]))


def test_nets_that_read_their_data(tmp_path: Path) -> None:
    """What a data layer makes is there before the sizes are known; each call reads one batch, whatever runs it."""
    path = tmp_path / "net.prototxt"
    filler = 'dummy_data_param { shape { dim: 5 dim: 3 dim: 12 dim: 12 } data_filler { type: "uniform" } }'
    path.write_text(layer("DummyData", "", "data", filler) + RESIDUAL.removeprefix(INPUT))
    plain, fast = make(path, False), make(path)
    for _ in range(2):
        seed_thread(5)
        wanted = plain(blobs=["data"])
        seed_thread(5)
        same(fast(blobs=["data"]), {name: value.detach() for name, value in wanted.items()})
    assert "BatchNorm_n2n" not in [step.node.name for step in program(fast).steps]
    with torch.autocast("cpu", torch.bfloat16):
        assert fast()["prob"].shape == (5, 5)


def test_random_nets(tmp_path: Path) -> None:
    """In-place layers, splits and aliases of all kinds, as :mod:`tests.net.test_random_nets` draws them."""
    spec = importlib.util.spec_from_file_location("drawn", Path(__file__).with_name("test_random_nets.py"))
    assert spec is not None and spec.loader is not None
    drawn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawn)
    tried = 0
    for seed in range(40):
        path = tmp_path / "net.prototxt"
        path.write_text("\n".join(drawn.Writer(seed).lines))
        try:
            plain = load_net(path)
        except CaffeCompatError:
            continue
        fast = load_net(path, optimize=True)
        fast.load_state_dict(plain.state_dict())
        data = torch.randn(2, 3, 2, 2)
        names = list(plain.blob_shapes)
        with torch.no_grad():
            for blobs in ([], names):
                wanted, found = plain(blobs=blobs, **{"in": data}), fast(blobs=blobs, **{"in": data})
                assert list(found) == list(wanted)
                for name in wanted:
                    torch.testing.assert_close(found[name], wanted[name], rtol=2e-5, atol=2e-5, equal_nan=True)
        tried += 1
    assert tried > 20
