"""LSTM and RNN against a slow reference; states and refusals."""

import numpy as np
import pytest
import torch
from one_layer import numbers, one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer

BODY = "recurrent_param { num_output: 3 weight_filler { type: 'uniform' min: -1 } bias_filler { type: 'gaussian' } }"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(blobs: list[np.ndarray], x: np.ndarray, cont: np.ndarray, h: np.ndarray, c: np.ndarray) -> np.ndarray:
    w, b, *static, u = blobs
    tops = []
    for step in range(len(x)):
        keep = cont[step][:, None]
        z = x[step] @ w.T + b + (keep * h) @ u.T + (static[0] if static else 0)
        i, f, o, g = np.split(z, 4, 1)
        c = keep * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        tops.append(h)
    return np.stack(tops)


def oracle_layer() -> Layer:
    return one_layer(
        "LSTM",
        "recurrent_param { num_output: 1 }",
        (2, 1, 1),
        (2, 1),
        blob0=numbers(".1 .2 .3 .4"),
        blob1=numbers(".5 .6 .7 .8"),
        blob2=numbers(".9 -.1 .2 -.3"),
    )


def test_oracle_values() -> None:
    layer = oracle_layer()
    for _ in range(2):
        (h,) = layer(torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[0.0], [1.0]]))
        torch.testing.assert_close(h.flatten(), numbers("0.359436 0.625022"), rtol=1e-5, atol=1e-6)


def test_state_is_carried_until_reset() -> None:
    torch.manual_seed(0)
    whole, parts = one_layer("LSTM", BODY, (4, 2, 5), (4, 2)), one_layer("LSTM", BODY, (2, 2, 5), (2, 2))
    parts.load_state_dict(whole.state_dict())
    x, cont = torch.randn(4, 2, 5), torch.tensor([[1.0, 1], [0, 1], [1, 1], [1, 0]])
    (expected,) = whole(x, cont)
    blobs = [blob.detach().numpy() for blob in whole.blobs]
    zeros = np.zeros((2, 3))
    np.testing.assert_allclose(expected.detach(), lstm(blobs, x.numpy(), cont.numpy(), zeros, zeros), atol=1e-6)
    halves = [parts(x[k : k + 2], cont[k : k + 2])[0] for k in (0, 2)]
    torch.testing.assert_close(torch.cat(halves), expected)
    assert not torch.allclose(parts(x[:2], cont[:2])[0], expected[:2])
    parts.forget()
    torch.testing.assert_close(parts(x[:2], cont[:2])[0], expected[:2])
    assert "state" not in parts.state_dict()


def test_no_gradient_crosses_passes() -> None:
    layer = one_layer("LSTM", BODY, (2, 1, 2), (2, 1))
    cont = torch.ones(2, 1)
    for _ in range(2):
        layer(torch.randn(2, 1, 2), cont)[0].sum().backward()  # a second pass through a freed graph would raise


def test_static_input_and_exposed_states() -> None:
    torch.manual_seed(1)
    body = BODY.replace("num_output: 3", "num_output: 3 expose_hidden: true")
    shapes = [(4, 2, 5), (4, 2), (2, 2), (1, 2, 3), (1, 2, 3)]
    layer = one_layer("LSTM", body, *shapes, tops=("h", "h_T", "c_T"))
    assert [tuple(blob.shape) for blob in layer.blobs] == [(12, 5), (12,), (12, 2), (12, 3)]
    x, static, h0, c0 = (torch.randn(shapes[k]) for k in (0, 2, 3, 4))
    cont = torch.ones(4, 2)
    h, last_h, last_c = layer(x, cont, static, h0.requires_grad_(), c0)
    blobs = [blob.detach().numpy() for blob in layer.blobs]
    blobs[2] = static.numpy() @ blobs[2].T
    expected = lstm(blobs, x.numpy(), cont.numpy(), h0.detach()[0].numpy(), c0[0].numpy())
    np.testing.assert_allclose(h.detach(), expected, atol=1e-6)
    torch.testing.assert_close(last_h[0], h[-1].detach())
    assert last_c.shape == (1, 2, 3)
    assert not last_h.requires_grad
    h.sum().backward()
    assert h0.grad is None


def test_rnn() -> None:
    torch.manual_seed(2)
    layer = one_layer("RNN", BODY, (3, 2, 2, 2), (3, 2))
    x, cont = torch.randn(3, 2, 2, 2), torch.tensor([[0.0, 0], [1, 0], [1, 1]])
    w, b, u, v, d = (blob.detach().numpy() for blob in layer.blobs)
    h, expected = np.zeros((2, 3)), []
    for step in range(3):
        h = np.tanh(x[step].flatten(1).numpy() @ w.T + b + (cont[step][:, None].numpy() * h) @ u.T)
        expected.append(np.tanh(h @ v.T + d))
    np.testing.assert_allclose(layer(x, cont)[0].detach(), expected, atol=1e-6)


def test_fractional_cont_in_the_unit_has_caffes_gradient() -> None:
    layer = one_layer("LSTMUnit", "", (1, 1, 1), (1, 1, 4), (1, 1), tops=("c", "h"))
    gates = torch.zeros(1, 1, 4, requires_grad=True)
    c, _ = layer(torch.ones(1, 1, 1), gates, torch.full((1, 1), 0.5))
    (gradient,) = torch.autograd.grad(c.sum(), gates)
    assert gradient[0, 0, 1].item() == pytest.approx(0.25 * 0.75)  # f (1 - f), f = 0.5 * 0.5; exact: 0.125


@pytest.mark.parametrize(
    ("body", "shapes", "tops", "message"),
    [
        ("", [(4, 2, 3), (4, 2)], 1, "num_output is 0"),
        (BODY, [(4, 2, 3), (3, 2)], 1, "expected cont as T x N"),
        (BODY, [(4, 2), (4, 2)], 1, "expected x as T x N x D"),
        (BODY, [(4, 2, 3), (4, 2), (3, 1)], 1, "static input"),
        (BODY, [(4, 2, 3), (4, 2), (2, 1), (1, 2, 3)], 1, "takes 2 or 3 bottom"),
        (BODY, [(4, 2, 3), (4, 2)], 2, "produces 1 top"),
    ],
)
def test_refusals(body: str, shapes: list[tuple[int, ...]], tops: int, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        one_layer("LSTM", body, *shapes, tops=[f"y{k}" for k in range(tops)])


def test_sizes_fixed_at_setup() -> None:
    layer = one_layer("LSTM", BODY, (4, 2, 3), (4, 2))
    assert layer.top_shapes([(4, 7, 3), (4, 7)]) == [(4, 7, 3)]
    with pytest.raises(ShapeError, match="was set up for 4 steps"):
        layer.top_shapes([(5, 2, 3), (5, 2)])
    with pytest.raises(ShapeError, match="was set up for 3 inputs"):
        layer.top_shapes([(4, 2, 4), (4, 2)])
