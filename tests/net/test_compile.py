"""``torch.compile`` of a net makes one graph, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from caffe_compat import Net, load_net, log
from caffe_compat.errors import NetError, ShapeError, UsageError
from caffe_compat.net.fast import compile_net
from caffe_compat.net.fast.compiled import parts
from caffe_compat.resources import prototxt

INCEPTION = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 5 } }
layer { name: "1x1" type: "Convolution" bottom: "norm" top: "1x1" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu_1x1" type: "ReLU" bottom: "1x1" top: "1x1" }
layer { name: "3x3" type: "Convolution" bottom: "norm" top: "3x3"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu_3x3" type: "ReLU" bottom: "3x3" top: "3x3" }
layer { name: "side" type: "Pooling" bottom: "norm" top: "side" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "output" type: "Concat" bottom: "1x1" bottom: "3x3" bottom: "side" top: "output" }
layer { name: "ave" type: "Pooling" bottom: "output" top: "ave" pooling_param { pool: AVE global_pooling: true } }
layer { name: "drop" type: "Dropout" bottom: "ave" top: "ave" }
layer { name: "ip" type: "InnerProduct" bottom: "ave" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


ZOO = sorted(path for path in prototxt().rglob("deploy*.prototxt"))


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("name", ["caffenet", "squeezenet", "inception"])
def test_one_graph(name: str, grad: bool, tmp_path: Path) -> None:
    if name == "inception":  # the parts of GoogLeNet
        path = tmp_path / "net.prototxt"
        path.write_text(INCEPTION)
    else:
        path = prototxt(f"{name}/deploy.prototxt")
    net = load_net(path)
    (image,) = net.input_names
    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    torch.manual_seed(0)
    for _ in range(3):
        images = torch.randn(2, *net.blob_shapes[image][1:])
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(compiled(**{image: images}), net(**{image: images}))
    assert counter.frame_count == 1
    if grad:
        (result,) = compiled(**{image: images}).values()
        result.square().sum().backward()
        assert all(learnable.parameter.grad is not None for learnable in net.learnables)


TRAINED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 16 dim: 16 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" param { lr_mult: 0 } param { lr_mult: 0 }
  param { lr_mult: 0 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "side" type: "Convolution" bottom: "pool" top: "side" propagate_down: false
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "main" type: "Convolution" bottom: "pool" top: "main"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "side" bottom: "main" top: "sum" }
layer { name: "picked" type: "BatchReindex" bottom: "sum" bottom: "order" top: "picked" }
layer { name: "ip" type: "InnerProduct" bottom: "picked" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
ORDER = 'layer { name: "order" type: "Input" top: "order" input_param { shape { dim: 2 } } }'


def pair(path: Path, phase: str = "TRAIN", backend: str = "aot_eager") -> tuple[Net, Net]:
    """A net as it is, and compiled, with the same weights."""
    plain, compiled = load_net(path, phase=phase), compile_net(load_net(path, phase=phase), backend=backend)
    compiled.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    return plain, compiled


def batch(size: int) -> dict[str, torch.Tensor]:
    return {
        "data": torch.randn(size, 3, 16, 16),
        "label": torch.arange(size).float() % 5,
        "order": torch.arange(size).flip(0).float(),
    }


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(ORDER + TRAINED)
    return path


def test_gradients_are_those_of_the_net(trained: Path) -> None:
    """In two parts around BatchReindex, which looks at its indices; statistics are gathered as ever."""
    plain, compiled = pair(trained)
    for size in (2, 2):
        inputs = batch(size)
        found, wanted = compiled(**inputs, blobs=["pool"]), plain(**inputs, blobs=["pool"])
        torch.testing.assert_close(found, wanted)
        compiled.loss(found).backward()
        plain.loss(wanted).backward()
    for one, other in zip(compiled.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one[1], other[1])
        assert (one[1].grad is None) == (other[1].grad is None), one[0]
        if one[1].grad is not None:
            torch.testing.assert_close(one[1].grad, other[1].grad, msg=one[0])
    made = next(iter(compiled._runner._made.values()))  # type: ignore[union-attr]
    assert [len(group) for group in parts(made.graph)] == [10, 1, 2]


def test_errors_come_before_the_graph(trained: Path) -> None:
    plain, compiled = pair(trained, "TEST")
    inputs = batch(2)
    for wrong in ({"data": torch.randn(2, 4, 16, 16)}, {"label": torch.zeros(3)}):
        for net in (plain, compiled):
            with pytest.raises(ShapeError), torch.no_grad():
                net(**(inputs | wrong))
    with pytest.raises(NetError, match="missing"):
        compiled(data=inputs["data"])
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs), plain(**inputs))
    with pytest.raises(UsageError, match="leave one out"):
        load_net(trained, optimize=True, compile=True)


def test_memory_that_blobs_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Values are compiled, gradients that depend on it are not, which is told once."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        'force_backward: true layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "square" type: "Power" bottom: "in" top: "square" power_param { power: 2 } }\n'
        'layer { name: "split" type: "Split" bottom: "square" top: "a" top: "b" }\n'
        'layer { name: "exp" type: "Exp" bottom: "a" top: "a" }\n'
        'layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }\n'
    )
    plain, compiled = pair(path, "TEST", "eager")
    assert not plain.plan.plain
    data = torch.randn(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**{"in": data}), plain(**{"in": data}))
    assert "not compiled" not in caplog.text
    grads = []
    for net in (plain, compiled, compiled):
        given = data.clone().requires_grad_()
        net(**{"in": given})["sum"].sum().backward()
        grads.append(given.grad)
    torch.testing.assert_close(grads[1:], grads[:1] * 2)
    assert caplog.text.count("is not compiled: its gradients depend on memory that blobs share") == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", ZOO, ids=lambda path: str(path.relative_to(prototxt())))
def test_zoo(path: Path) -> None:
    """Each part is one graph, which numbers of other images fit."""
    with log.only_errors():
        plain, compiled = pair(path, "TEST", "eager")
    with torch.no_grad():  # statistics of a normal distribution, or numbers grow beyond all bounds
        for node in (*plain.nodes, *compiled.nodes):
            for blob in node.layer.blobs[1:] if node.layer.gathers else ():
                blob.fill_(1)
    torch.manual_seed(1)
    for _ in range(2):
        inputs = {name: torch.rand(plain.blob_shapes[name]) * 2 for name in plain.input_names}
        with torch.no_grad():
            wanted, found = plain(**inputs), compiled(**inputs)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, msg=name, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_inductor(trained: Path) -> None:
    plain, compiled = pair(trained, backend="inductor")
    inputs = batch(2)
    found, wanted = compiled(**inputs), plain(**inputs)
    torch.testing.assert_close(found, wanted)
    compiled.loss(found).backward()
    plain.loss(wanted).backward()
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
