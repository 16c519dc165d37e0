"""Blobs are buffers: what in-place layers overwrite, and what backward passes read then.

The reference is a few lines that do on arrays what BVLC Caffe's loops do on its buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import BlobNet, load_net

Array = np.ndarray


class Kind:
    """A layer: its prototxt, and Caffe's loops.  ``backward`` sees what bottom and top hold by then."""

    def __init__(self, text: str, forward: Callable, backward: Callable) -> None:
        self.text, self.forward, self.backward = text, forward, backward


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


KINDS = {
    "ReLU": Kind("", lambda x: np.maximum(x, 0), lambda b, t, d: d * (b > 0)),
    "LeakyReLU": Kind("relu_param { negative_slope: 0.3 }", lambda x: np.where(x > 0, x, 0.3 * x),
                      lambda b, t, d: d * np.where(b > 0, 1, 0.3)),
    "ELU": Kind("elu_param { alpha: 0.5 }", lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1)),
                lambda b, t, d: d * np.where(b > 0, 1, 0.5 + t)),
    "Sigmoid": Kind("", sigmoid, lambda b, t, d: d * t * (1 - t)),
    "TanH": Kind("", np.tanh, lambda b, t, d: d * (1 - t * t)),
    "Exp": Kind("exp_param { scale: 0.5 }", lambda x: np.exp(0.5 * x), lambda b, t, d: d * t * 0.5),
    "BNLL": Kind("", lambda x: np.log1p(np.exp(x)), lambda b, t, d: d * sigmoid(b)),
    "Clip": Kind("clip_param { min: -0.4 max: 0.6 }", lambda x: np.clip(x, -0.4, 0.6),
                 lambda b, t, d: d * ((b >= -0.4) & (b <= 0.6))),
    "Power": Kind("power_param { power: 2 scale: 0.7 shift: 0.2 }", lambda x: (0.2 + 0.7 * x) ** 2,
                  lambda b, t, d: d * 1.4 * (0.2 + 0.7 * b)),
    "Linear": Kind("power_param { scale: -1.5 shift: 0.4 }", lambda x: 0.4 - 1.5 * x, lambda b, t, d: -1.5 * d),
    "Softmax": Kind("", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
                    lambda b, t, d: t * (d - (d * t).sum(1, keepdims=True))),
}  # fmt: skip
X = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)


def caffe_type(name: str) -> str:
    return {"LeakyReLU": "ReLU", "Linear": "Power"}.get(name, name)


def layer(name: str, kind: str, bottom: str, top: str) -> str:
    return f'layer {{ name: "{name}" type: "{caffe_type(kind)}" bottom: "{bottom}" top: "{top}" {KINDS[kind].text} }}\n'


def gradients(folder: Path, text: str) -> tuple[Array, Array, dict[str, Array]]:
    """Gradient of half the sum of squares of blob ``out``: from the module, from the engine; and the blobs."""
    path = folder / "net.prototxt"
    path.write_text(
        'force_backward: true layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 3 dim: 4 } } }\n'
        + 'layer { name: "first" type: "Power" bottom: "in" top: "x" }\n'
        + text
        + 'layer { name: "loss" type: "Reduction" bottom: "out" top: "loss" loss_weight: 0.5\n'
        + "  reduction_param { operation: SUMSQ } }\n"
    )
    net = load_net(path)
    values = torch.from_numpy(X.copy()).requires_grad_()
    net.loss(net(**{"in": values})).backward()
    engine = BlobNet(net)
    engine.blob("in").data[...] = X
    engine.forward()
    engine.backward()
    assert values.grad is not None
    blobs = {name: engine.blob(name).data.copy() for name in engine.names}
    named = net(blobs=list(engine.names), **{"in": values.detach()})
    for name in engine.names:
        np.testing.assert_array_equal(named[name].detach().numpy(), blobs[name], err_msg=name)
    return values.grad.numpy(), engine.blob("in").diff.copy(), blobs


# Power overwrites its own diff in place: tests/layers/test_arithmetic.py
PAIRS = [
    (first, second, own)
    for first, second, own in itertools.product(KINDS, KINDS, (True, False))
    if second not in ("Power", "Linear") and (own or first not in ("Power", "Linear"))
]


@pytest.mark.parametrize(("first", "second", "own"), PAIRS)
def test_chain(tmp_path: Path, first: str, second: str, own: bool) -> None:
    """The first layer with a top of its own or in place, the second in place on that."""
    name = "out" if own else "x"
    text = layer("a", first, "x", name) + layer("b", second, name, name)
    text = text if own else text.replace('"x"', '"out"')
    if not own:
        text = 'layer { name: "copy" type: "Power" bottom: "x" top: "out" }\n' + text
    module, engine, _ = gradients(tmp_path, text)
    middle = KINDS[first].forward(X.astype(np.float64))
    last = KINDS[second].forward(middle)
    diff = KINDS[second].backward(last, last, last)
    expected = KINDS[first].backward(X.astype(np.float64) if own else last, last, diff)
    np.testing.assert_allclose(module, expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(engine, expected, rtol=2e-4, atol=1e-5)


ALIASES = {
    "Flatten": "",
    "Reshape": "reshape_param { shape { dim: 4 dim: 3 } }",
    "Concat": "",
    "Slice": "",
}


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("kind", ["TanH", "Sigmoid", "Clip", "LeakyReLU"])
def test_an_in_place_layer_behind_an_alias_is_seen_by_the_layer_before(tmp_path: Path, alias: str, kind: str) -> None:
    """TanH makes t, the alias shows it as ``out``, and what happens to ``out`` happens to t."""
    text = layer("a", "TanH", "x", "t")
    text += f'layer {{ name: "alias" type: "{alias}" bottom: "t" top: "out" {ALIASES[alias]} }}\n'
    module, engine, blobs = gradients(tmp_path, text + layer("b", kind, "out", "out"))
    last = KINDS[kind].forward(np.tanh(X.astype(np.float64)))
    np.testing.assert_allclose(blobs["t"], last, rtol=1e-5)
    expected = KINDS["TanH"].backward(None, last, KINDS[kind].backward(last, last, last))
    np.testing.assert_allclose(module, expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(engine, expected, rtol=2e-4, atol=1e-5)


def test_an_in_place_layer_on_one_branch_changes_the_other(tmp_path: Path) -> None:
    """The tops of a split are one buffer: InnerProduct reads what ReLU left, in the forward and the backward pass."""
    text = """
    layer { name: "split" type: "Split" bottom: "x" top: "a" top: "b" }
    layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
    layer { name: "ip" type: "InnerProduct" bottom: "b" top: "c"
      inner_product_param { num_output: 4 bias_term: false weight_filler { type: "gaussian" std: 1 } } }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "c" top: "out" }
    """
    torch.manual_seed(1)
    module, engine, blobs = gradients(tmp_path, text)
    torch.manual_seed(1)
    net = load_net(tmp_path / "net.prototxt")
    weight = net.layer("ip").blobs[0].detach().numpy()
    y = np.maximum(X, 0)
    out = y + y @ weight.T
    np.testing.assert_allclose(blobs["b"], y)
    np.testing.assert_allclose(blobs["out"], out, rtol=1e-5, atol=1e-6)
    expected = out * (y > 0) + out @ weight
    np.testing.assert_allclose(module, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(engine, expected, rtol=1e-4, atol=1e-5)
    trained = BlobNet(net)
    trained.blob("in").data[...] = X
    trained.forward()
    trained.backward()
    number = [node.name for node in net.nodes].index("ip")
    np.testing.assert_allclose(trained.param_blob(number, 0).diff, out.T @ y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alias", ["Reshape", "Concat", "Slice"])
def test_flatten_takes_the_diff_away(tmp_path: Path, alias: str) -> None:
    """BVLC issue 6769: below Flatten directly after an alias no gradient arrives."""
    text = f'layer {{ name: "alias" type: "{alias}" bottom: "x" top: "s" {ALIASES[alias]} }}\n'
    text += 'layer { name: "flat" type: "Flatten" bottom: "s" top: "out" }\n'
    module, engine, _ = gradients(tmp_path, text)
    assert not module.any() and not engine.any()


def test_scripts_see_one_buffer(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }'
        'layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: -1 dim: 4 } } }'
        'layer { name: "relu" type: "ReLU" bottom: "r" top: "r" }'
    )
    engine = BlobNet(load_net(path))
    x, r = engine.blob("x"), engine.blob("r")
    view = x.data
    view[...] = -1.0
    assert (r.data == -1).all()
    engine.forward()
    assert (view == 0).all() and (r.data == 0).all()
    r.data[...] = 5.0
    assert (view == 5).all()
    x.reshape(4, 6)
    engine.reshape()
    x.data[...] = 7.0
    assert r.data.shape == (6, 4) and (r.data == 7).all()


@pytest.mark.parametrize(
    ("batches", "weights"), [((4, 2, 4), (2, 2, 2)), ((4, 6, 2), (2, 0, 0)), ((4, 6, 4), (2, 0, 0))]
)
def test_a_loss_weight_lives_as_long_as_its_allocation(
    tmp_path: Path, batches: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'force_backward: true layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }'
        'layer { name: "e" type: "Exp" bottom: "x" top: "e" loss_weight: 2 }'
    )
    engine = BlobNet(load_net(path))
    for batch, weight in zip(batches, weights, strict=True):
        engine.blob("x").reshape(batch, 3)
        engine.blob("x").data[...] = 0.0
        engine.reshape()
        assert engine.forward() == weight * batch * 3
        engine.backward()
        assert (engine.blob("x").diff == weight).all()


def test_a_top_of_its_own_shares_no_memory_with_a_bottom(tmp_path: Path) -> None:
    """torch's views and identities are no aliases in Caffe."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }'
        'layer { name: "d" type: "Dropout" bottom: "x" top: "d" }'
        'layer { name: "s" type: "Slice" bottom: "d" top: "a" top: "b" slice_param { axis: 0 } }'
    )
    engine = BlobNet(load_net(path))
    engine.blob("x").data[...] = 1.0
    engine.forward()
    engine.blob("a").data[...] = 2.0
    engine.blob("d").data[...] = 3.0
    assert (engine.blob("x").data == 1).all() and (engine.blob("b").data == 1).all()
