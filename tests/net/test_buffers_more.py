"""Chains of all in-place layers against BVLC Caffe's loops on shared buffers; loss weights in shared diffs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat import BlobNet, load_net
from caffe_compat.net.net import Net

Array = np.ndarray
SHAPE = (3, 4, 2, 2)
X = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
Keep = dict[str, Any]
FILL = '{ type: "gaussian" std: 1 }'


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def column(values: Array) -> Array:
    return values[:, None, None]


def windows(x: Array) -> Array:
    """Sums over three channels."""
    wide = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    return wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]


@dataclass(frozen=True)
class Kind:
    """A layer's loops: ``forward(bottom, keep)``; ``backward(keep, bottom, top, diff)`` sees the buffers of then.

    ``keep`` holds what the layer keeps to itself, and its blobs; ``alone`` is a gradient in place that is made before
    the top diff is read, which it overwrites.
    """

    type: str
    text: str
    forward: Callable[[Array, Keep], Array]
    backward: Callable[[Keep, Array, Array, Array], Array]
    alone: bool = False
    in_place: bool = True


def elementwise(kind: str, text: str, forward: Callable, slope: Callable, alone: bool = False) -> Kind:
    return Kind(kind, text, lambda x, k: forward(x), lambda k, b, t, d: d * slope(b, t), alone)


def bn_forward(x: Array, k: Keep) -> Array:
    k["deviation"] = np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    k["norm"] = (x - x.mean((0, 2, 3), keepdims=True)) / k["deviation"]
    return k["norm"]


def normal_backward(axes: tuple[int, ...]) -> Callable:
    def backward(k: Keep, b: Array, t: Array, d: Array) -> Array:
        y = k.get("norm", t)
        means = d.mean(axes, keepdims=True) + y * (d * y).mean(axes, keepdims=True)
        return (d - means) / k["deviation"]

    return backward


def mvn_forward(x: Array, k: Keep) -> Array:
    centred = x - x.mean((2, 3), keepdims=True)
    k["deviation"] = np.sqrt((centred**2).mean((2, 3), keepdims=True)) + 1e-9
    return centred / k["deviation"]


def lrn_forward(x: Array, k: Keep) -> Array:
    k["s"] = 1 + 0.5 / 3 * windows(x * x)
    return x * k["s"] ** -0.75


def lrn_backward(k: Keep, b: Array, t: Array, d: Array) -> Array:
    return d * k["s"] ** -0.75 - 2 * 0.5 * 0.75 / 3 * b * windows(d * t / k["s"])


def copying(forward: Callable) -> Callable:
    """Layers that keep a copy of their bottom, which counts in place only."""

    def run(x: Array, k: Keep) -> Array:
        k["copy"] = x.copy()
        return forward(x, k)

    return run


def swish_forward(x: Array, k: Keep) -> Array:
    k["sigmoid"] = sigmoid(1.5 * x)
    return x * k["sigmoid"]


def prelu_backward(k: Keep, b: Array, t: Array, d: Array) -> Array:
    seen = k["copy"] if k["in_place"] else b
    return d * np.where(seen > 0, 1, column(k["blobs"][0]))


KINDS = {
    "ReLU": elementwise("ReLU", "", lambda x: np.maximum(x, 0), lambda b, t: b > 0),
    "Leaky": elementwise("ReLU", "relu_param { negative_slope: 0.2 }", lambda x: np.where(x > 0, x, 0.2 * x),
                         lambda b, t: np.where(b > 0, 1, 0.2)),
    "Turned": elementwise("ReLU", "relu_param { negative_slope: -0.2 }", lambda x: np.where(x > 0, x, -0.2 * x),
                          lambda b, t: np.where(b > 0, 1, -0.2)),
    "ELU": elementwise("ELU", "elu_param { alpha: 0.7 }", lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)),
                       lambda b, t: np.where(b > 0, 1, 0.7 + t)),
    "Sigmoid": elementwise("Sigmoid", "", sigmoid, lambda b, t: t * (1 - t)),
    "TanH": elementwise("TanH", "", np.tanh, lambda b, t: 1 - t * t),
    "Exp": elementwise("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.1 }", lambda x: 2 ** (0.1 + 0.5 * x),
                       lambda b, t: t * 0.5 * np.log(2)),
    "Log": elementwise("Log", "log_param { scale: 0.1 shift: 3 }", lambda x: np.log(3 + 0.1 * x),
                       lambda b, t: 0.1 / (3 + 0.1 * b), alone=True),
    "BNLL": elementwise("BNLL", "", lambda x: np.log1p(np.exp(x)), lambda b, t: sigmoid(b)),
    "Clip": elementwise("Clip", "clip_param { min: -0.5 max: 0.8 }", lambda x: np.clip(x, -0.5, 0.8),
                        lambda b, t: (b >= -0.5) & (b <= 0.8)),
    "Square": elementwise("Power", "power_param { power: 2 scale: 0.7 shift: 0.2 }", lambda x: (0.2 + 0.7 * x) ** 2,
                          lambda b, t: 1.4 * (0.2 + 0.7 * b), alone=True),
    "Cube": elementwise("Power", "power_param { power: 3 scale: 0.2 shift: 2 }", lambda x: (2 + 0.2 * x) ** 3,
                        lambda b, t: 0.6 * t / (2 + 0.2 * b), alone=True),
    "Linear": elementwise("Power", "power_param { scale: -1.5 shift: 0.4 }", lambda x: 0.4 - 1.5 * x,
                          lambda b, t: -1.5 + 0 * b, alone=True),
    "Dropout": elementwise("Dropout", "", lambda x: x, lambda b, t: 1),
    "Softmax": Kind("Softmax", "", lambda x, k: np.exp(x) / np.exp(x).sum(1, keepdims=True),
                    lambda k, b, t, d: t * (d - (d * t).sum(1, keepdims=True))),
    "Swish": Kind("Swish", "swish_param { beta: 1.5 }", swish_forward,
                  lambda k, b, t, d: d * (1.5 * t + k["sigmoid"] * (1 - 1.5 * t))),
    "PReLU": Kind("PReLU", f"prelu_param {{ filler {FILL} }}",
                  copying(lambda x, k: np.where(x > 0, x, column(k["blobs"][0]) * x)), prelu_backward),
    "Scale": Kind("Scale", f"scale_param {{ filler {FILL} bias_term: true bias_filler {FILL} }}",
                  lambda x, k: x * column(k["blobs"][0]) + column(k["blobs"][1]),
                  lambda k, b, t, d: d * column(k["blobs"][0])),
    "Bias": Kind("Bias", f"bias_param {{ filler {FILL} }}", lambda x, k: x + column(k["blobs"][0]),
                 lambda k, b, t, d: d),
    "BatchNorm": Kind("BatchNorm", "batch_norm_param { use_global_stats: false }", bn_forward,
                      normal_backward((0, 2, 3))),
    "LRN": Kind("LRN", "lrn_param { local_size: 3 alpha: 0.5 }", lrn_forward, lrn_backward, in_place=False),
    "MVN": Kind("MVN", "", mvn_forward, normal_backward((2, 3)), in_place=False),
}  # fmt: skip


@dataclass
class Step:
    """A layer of a chain, with the numbers of its buffers."""

    name: str
    bottom: int
    top: int
    keep: Keep = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def text(self, number: int) -> str:
        names = f'bottom: "b{self.bottom}" top: "b{self.top}"'
        return f'layer {{ name: "l{number}" type: "{self.kind.type}" {names} {self.kind.text} }}\n'


def chain(names: tuple[str, ...], first_own: bool) -> list[Step]:
    """Layers on one blob, in place; the first with a top of its own if asked."""
    blob, result = 1, []
    for index, name in enumerate(names):
        own = index == 0 and first_own
        result.append(Step(name, blob, blob + own))
        blob += own
    return result


def caffe(steps: list[Step], net: Net) -> tuple[Array, Array]:
    """The last blob and the diff of blob 1 for a loss of half the sum of squares."""
    data = {1: X.astype(np.float64)}
    for number, step in enumerate(steps):
        step.keep["blobs"] = [blob.detach().numpy().astype(np.float64) for blob in net.layer(f"l{number}").blobs]
        step.keep["in_place"] = step.bottom == step.top
        data[step.top] = step.kind.forward(data[step.bottom], step.keep)
    diff = out = data[steps[-1].top]
    for step in reversed(steps):
        if step.kind.alone and step.bottom == step.top:
            diff = step.kind.backward(step.keep, data[step.bottom], data[step.top], 1.0)
            diff = diff * diff
        else:
            diff = step.kind.backward(step.keep, data[step.bottom], data[step.top], diff)
    return out, diff


def check(folder: Path, steps: list[Step]) -> None:
    path = folder / "net.prototxt"
    shape = " ".join(f"dim: {dim}" for dim in SHAPE)
    path.write_text(
        f'force_backward: true layer {{ name: "in" type: "Input" top: "in" input_param {{ shape {{ {shape} }} }} }}\n'
        + 'layer { name: "first" type: "Power" bottom: "in" top: "b1" }\n'
        + "".join(step.text(number) for number, step in enumerate(steps))
        + f'layer {{ name: "loss" type: "Reduction" bottom: "b{steps[-1].top}" top: "loss" loss_weight: 0.5\n'
        + "  reduction_param { operation: SUMSQ } }\n"
    )
    torch.manual_seed(2)
    net = load_net(path)
    out, expected = caffe(steps, net)
    values = torch.from_numpy(X.copy()).requires_grad_()
    net.loss(net(**{"in": values})).backward()
    engine = BlobNet(net)
    engine.blob("in").data[...] = X
    engine.forward()
    np.testing.assert_allclose(engine.blob(f"b{steps[-1].top}").data, out, rtol=1e-3, atol=1e-4)
    engine.backward()
    limits = {"rtol": 2e-3, "atol": 2e-4 * max(1.0, float(np.abs(expected).max()))}
    assert values.grad is not None
    np.testing.assert_allclose(values.grad.numpy(), expected, **limits)
    np.testing.assert_allclose(engine.blob("in").diff, expected, **limits)


IN_PLACE = [name for name, kind in KINDS.items() if kind.in_place]
PAIRS = [(a, b, own) for a, b, own in itertools.product(KINDS, IN_PLACE, (True, False)) if own or KINDS[a].in_place]


@pytest.mark.parametrize(("first", "second", "own"), PAIRS)
def test_pair(tmp_path: Path, first: str, second: str, own: bool) -> None:
    check(tmp_path, chain((first, second), own))


TRIPLES = list(itertools.product(("ReLU", "Scale", "ELU", "Swish", "PReLU"), ("Bias", "Dropout", "BatchNorm", "TanH"),
                                 ("Scale", "Sigmoid", "Softmax", "Clip", "Square")))  # fmt: skip


@pytest.mark.parametrize("names", TRIPLES)
def test_three_in_place(tmp_path: Path, names: tuple[str, ...]) -> None:
    check(tmp_path, chain(names, False))
    check(tmp_path, chain(names, True))


def built(folder: Path, text: str, force: bool = True, **shapes: tuple[int, ...]) -> BlobNet:
    """An engine with inputs of these shapes."""
    path = folder / "net.prototxt"
    inputs = ""
    for name, shape in shapes.items():
        dims = " ".join(f"dim: {dim}" for dim in shape)
        inputs += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    path.write_text(("force_backward: true\n" if force else "") + inputs + text)
    torch.manual_seed(4)
    return BlobNet(load_net(path))


WEIGHTED = {
    "Reshape": 'type: "Reshape" bottom: "e" top: "r" reshape_param { shape { dim: -1 } }',
    "Concat": 'type: "Concat" bottom: "e" top: "r"',
    "Slice": 'type: "Slice" bottom: "e" top: "r"',
    "Flatten": 'type: "Flatten" bottom: "e" top: "r"',
    "Split": 'type: "Split" bottom: "e" top: "r"',
    "ReLU": 'type: "ReLU" bottom: "e" top: "e"',
}


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize(("batches", "weights"), [((4, 2, 4), (2, 2, 2)), ((4, 6, 2), (2, 0, 0))])
def test_weight_of_a_top_in_a_shared_diff(
    tmp_path: Path, kind: str, batches: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    """The weight is written into the diff that the top shows at setup, and counts for the layer that has it only."""
    text = 'layer { name: "e" type: "Exp" bottom: "x" top: "e" }'
    engine = built(tmp_path, f'{text} layer {{ name: "r" {WEIGHTED[kind]} loss_weight: 2 }}', x=(4, 3))
    for batch, weight in zip(batches, weights, strict=True):
        engine.blob("x").reshape(batch, 3)
        engine.reshape()
        engine.blob("x").data[...] = 0.0
        assert engine.forward() == weight * batch * 3
        engine.backward()
        assert (engine.blob("x").diff == weight).all()


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_recurrent_layer_reads_its_input_again(tmp_path: Path, kind: str) -> None:
    """ReLU behind an alias of x overwrites it: the input weights get the gates' gradient times what x is then."""
    recurrent = f'layer {{ name: "r" type: "{kind}" bottom: "a" bottom: "cont" top: "h" recurrent_param {{\n'
    recurrent += f"  num_output: 2 weight_filler {FILL} bias_filler {FILL} }} }}\n"
    end = 'layer { name: "l" type: "Reduction" bottom: "h" top: "l" loss_weight: 1 reduction_param {operation: SUMSQ}}'
    split = 'layer { name: "copy" type: "Power" bottom: "x" top: "y" }\n'
    split += 'layer { name: "s" type: "Split" bottom: "y" top: "a" top: "b" }\n'
    relu = (
        'layer { name: "f" type: "Flatten" bottom: "b" top: "f" } layer { name: "t" type: "ReLU" bottom: "f" top: "f" }'
    )
    values = np.random.default_rng(1).standard_normal((3, 2, 4)).astype(np.float32)
    diffs = []
    for text in (split + recurrent + relu + end, split + recurrent + end):
        engine = built(tmp_path, text, x=values.shape, cont=values.shape[:2])
        for _ in range(2):  # the second pass goes on from the state of the first
            engine.blob("x").data[...] = values
            engine.blob("cont").data[...] = 1.0
            engine.forward()
        engine.blob("f" if "f" in engine.ids else "b").diff[...] = 0.0
        engine.backward()
        layer = engine.net.layer("r")
        diffs.append([blob.grad.numpy().copy() for blob in layer.blobs] + [engine.blob("a").diff.copy()])
        state = layer.state.clone()
    overwritten, plain = diffs
    for one, other in zip(overwritten[1:], plain[1:], strict=True):  # all but the input weights see what was kept
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    weight = layer.blobs[0].detach().numpy()
    gates = plain[-1].reshape(6, 4) @ np.linalg.pinv(weight)
    if weight.shape[0] <= weight.shape[1]:  # else the gates' gradient does not follow from that of x
        np.testing.assert_allclose(overwritten[0], gates.T @ np.maximum(values, 0).reshape(6, 4), rtol=1e-3, atol=1e-4)
    assert not np.allclose(overwritten[0], plain[0])
    torch.testing.assert_close(layer.state, state)


def test_pooling_follows_its_mask_as_it_is_then(tmp_path: Path) -> None:
    """A layer in place on the mask moves the gradients."""
    text = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }'
    )
    text += 'layer { name: "c" type: "Clip" bottom: "m" top: "m" clip_param { min: 0 max: 3 } }'
    engine = built(tmp_path, text, x=(1, 1, 4, 4))
    engine.blob("x").data[...] = np.arange(16).reshape(1, 1, 4, 4)
    engine.forward()
    engine.blob("p").diff[...] = [[[[1, 2], [3, 4]]]]
    engine.blob("m").diff[...] = 0
    engine.backward()
    expected = np.zeros(16)
    expected[3] = 10  # 5, 7, 13 and 15, all limited to 3
    np.testing.assert_array_equal(engine.blob("x").diff.ravel(), expected)


def test_infogain_reads_its_softmax_as_it_is_then(tmp_path: Path) -> None:
    text = 'layer { name: "b" type: "Bias" bottom: "x" top: "b" }'  # something to learn: Caffe refuses force_backward
    text += 'layer { name: "i" type: "InfogainLoss" bottom: "b" bottom: "y" bottom: "h" top: "l" top: "p"\n'
    text += "  loss_weight: 1 loss_weight: 0 loss_param { ignore_label: 2 } }\n"
    text += 'layer { name: "s" type: "Power" bottom: "p" top: "p" power_param { scale: 2 shift: 1 } }'
    engine = built(tmp_path, text, force=False, x=(4, 3), y=(4,), h=(3, 3))
    values = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    matrix = np.random.default_rng(2).random((3, 3)).astype(np.float32)
    label = np.array([0, 1, 2, 1])
    for name, value in (("x", values), ("y", label), ("h", matrix)):
        engine.blob(name).data[...] = value
    engine.forward()
    engine.blob("p").diff[...] = 0
    engine.backward()
    p = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    rows = matrix[label] * (label != 2)[:, None]
    expected = ((2 * p + 1) * rows.sum(1, keepdims=True) - rows) / 3
    np.testing.assert_allclose(engine.blob("b").diff, expected, rtol=1e-5, atol=1e-6)
