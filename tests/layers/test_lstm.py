"""Lstm against loops that follow lstm_layer.cpp of junhyukoh/caffe-lstm; Transpose and Reverse against loops."""

import itertools

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer
from caffe_compat.layers.sharing import Reread

BODY = "num_output: 3 weight_filler { type: 'uniform' min: -1 } bias_filler { type: 'gaussian' }"
Arrays = list[np.ndarray]


def _forward(blobs: Arrays, x: np.ndarray, clip: np.ndarray | None, h0: np.ndarray, c0: np.ndarray) -> Arrays:
    """gates [T, N, 4, H], c and h [T, N, H]."""
    steps, number, size = *x.shape[:2], len(blobs[2]) // 4
    gates, cells, tops = np.zeros((steps, number, 4, size)), *np.zeros((2, steps, number, size))
    for t, n in itertools.product(range(steps), range(number)):
        h, c = (tops[t - 1, n], cells[t - 1, n]) if t else (h0[n], c0[n])
        goes_on = t > 0 if clip is None else bool(clip[t + n])
        pre = blobs[0] @ x[t, n] + blobs[2]
        if goes_on:
            pre = pre + blobs[1] @ h
        pre = pre.reshape(4, size)
        gates[t, n, :3] = 1 / (1 + np.exp(-pre[:3]))
        gates[t, n, 3] = np.tanh(pre[3])
        gates[t, n, 1] *= goes_on
        cells[t, n] = gates[t, n, 1] * c + gates[t, n, 0] * gates[t, n, 3]
        tops[t, n] = gates[t, n, 2] * np.tanh(cells[t, n])
    return [gates, cells, tops]


def _backward(
    blobs: Arrays, x: np.ndarray, clip: np.ndarray | None, state: Arrays, run: Arrays, seed: np.ndarray, bound: float
) -> Arrays:
    """Of W_x, W_h, bias and x."""
    (gates, cells, tops), (h0, c0) = run, state
    steps, number, size = tops.shape
    pre, dh, dc = np.zeros_like(gates), seed.copy(), np.zeros_like(cells)
    for t in reversed(range(steps)):
        for n in range(number):
            goes_on = t > 0 if clip is None else bool(clip[t + n])
            i, f, o, g = gates[t, n]
            tanh = np.tanh(cells[t, n])
            dc[t, n] += dh[t, n] * o * (1 - tanh * tanh)
            before = cells[t - 1, n] if t else c0[n]
            slopes = [dc[t, n] * g, dc[t, n] * before * goes_on, dh[t, n] * tanh, dc[t, n] * i]
            for k, (value, gate) in enumerate(zip(slopes, (i, f, o, g), strict=True)):
                pre[t, n, k] = value * (gate * (1 - gate) if k < 3 else 1 - gate * gate)
            if bound > 0:
                pre[t, n] = pre[t, n].clip(-bound, bound)
            if t and goes_on:
                dc[t - 1, n] += dc[t, n] * f
                dh[t - 1, n] += pre[t, n].reshape(-1) @ blobs[1]
    rows = pre.reshape(steps, number, -1)
    for_h = np.outer(rows[0, 0], h0[0])  # the first sequence's alone
    for t, n in itertools.product(range(1, steps), range(number)):
        for_h += np.outer(rows[t, n], tops[t - 1, n])
    for_x = sum(np.outer(rows[t, n], x[t, n]) for t in range(steps) for n in range(number))
    return [np.asarray(for_x), for_h, rows.sum((0, 1)), rows @ blobs[0]]


def _layer(body: str, *shapes: tuple[int, ...], seed: int = 0) -> tuple[Layer, Arrays]:
    torch.manual_seed(seed)
    layer = one_layer("Lstm", f"lstm_param {{ {BODY} {body} }}", *shapes, phase="TRAIN").double()
    with torch.no_grad():
        for blob in layer.blobs:
            blob.copy_(torch.randn_like(blob))
    return layer, [blob.detach().numpy() for blob in layer.blobs]


def _gradients(layer: Layer, x: torch.Tensor) -> Arrays:
    """Of W_x, W_h, bias and x [T, N, D]."""
    found = [value.grad for value in (*layer.blobs, x)]
    arrays = [value.numpy() for value in found if value is not None]
    return [*arrays[:3], arrays[3].reshape(4, -1, 5)]


@pytest.mark.parametrize("bound", [0, 0.0625])
@pytest.mark.parametrize(("rows", "number"), [(False, 2), (True, 2), (True, 1)])
def test_steps_and_gradients(rows: bool, number: int, bound: float) -> None:
    body = f"clipping_threshold: {bound} {f'batch_size: {number}' if rows else ''}"
    shape = (4 * number, 5) if rows else (4, number, 5)
    layer, blobs = _layer(body, shape)
    x, seed = torch.randn(shape).double().requires_grad_(), torch.randn(4, number, 3).double()
    for _ in range(2):  # nothing is carried
        top = layer(x)
    assert tuple(top.shape) == ((4 * number, 3) if rows else (4, number, 3)) and not layer.carries
    top.backward(seed.reshape(top.shape))
    steps, zeros = x.detach().numpy().reshape(4, number, 5), np.zeros((number, 3))
    run = _forward(blobs, steps, None, zeros, zeros)
    np.testing.assert_allclose(top.detach().reshape(4, number, 3), run[2], rtol=1e-9, atol=1e-12)
    wanted = _backward(blobs, steps, None, [zeros, zeros], run, seed.numpy(), bound)
    assert bound == 0 or np.abs(wanted[2]).max() <= bound * 4 * number
    for found, value in zip(_gradients(layer, x), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("number", [1, 2])
def test_marks_carry_the_state_and_gradients_are_the_forks(number: int) -> None:
    layer, blobs = _layer(f"batch_size: {number}", (4 * number, 5), (4 * number,))
    state = [np.zeros((number, 3))] * 2
    random = np.random.default_rng(number)
    for clip in (np.ones(4 * number), random.integers(0, 2, 4 * number), np.array([1, 0] * 2 * number)):
        x, seed = torch.randn(4 * number, 5).double().requires_grad_(), torch.randn(4 * number, 3).double()
        top = layer(x, torch.from_numpy(clip).double())
        layer.zero_grad()
        top.backward(seed)
        steps = x.detach().numpy().reshape(4, number, 5)
        run = _forward(blobs, steps, clip, *state)
        np.testing.assert_allclose(top.detach().reshape(4, number, 3), run[2], rtol=1e-9, atol=1e-12)
        wanted = _backward(blobs, steps, clip, state, run, seed.numpy().reshape(4, number, 3), 0)
        for found, value in zip(_gradients(layer, x), wanted, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-8, atol=1e-12)
        state = [run[2][-1], run[1][-1]]
    layer.forget()
    zeros = np.zeros((number, 3))
    top = layer(x, torch.ones(4 * number).double())
    wanted_top = _forward(blobs, steps, np.ones(4 * number), zeros, zeros)[2]
    np.testing.assert_allclose(top.detach().reshape(4, number, 3), wanted_top, rtol=1e-9, atol=1e-12)


def test_weights_see_what_was_written_over_the_bottom_and_the_top() -> None:
    layer, blobs = _layer("", (3, 1, 5))
    then, now = torch.randn(3, 1, 5).double(), torch.randn(3, 1, 5).double().requires_grad_()
    over = torch.randn(3, 1, 3).double()
    (form,) = layer.backward_form(Reread((then,), (now,), (over,)))
    seed = torch.randn(3, 1, 3).double()
    found = torch.autograd.grad(form, [*layer.blobs, now], seed)
    zeros = np.zeros((1, 3))
    run = _forward(blobs, then.numpy(), None, zeros, zeros)
    wanted = _backward(blobs, now.detach().numpy(), None, [zeros, zeros], [*run[:2], run[2]], seed.numpy(), 0)
    np.testing.assert_allclose(form.detach(), run[2], rtol=1e-9)
    for index in (0, 2, 3):
        np.testing.assert_allclose(found[index], wanted[index], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        found[1], _backward(blobs, then.numpy(), None, [zeros, zeros], [*run[:2], over.numpy()], seed.numpy(), 0)[1]
    )


@pytest.mark.parametrize(
    ("body", "shapes", "message"),
    [
        ("num_output: 0", [(4, 2, 5)], "num_output 0 and batch_size 1, expected positive"),
        ("batch_size: 3", [(4, 5)], "4 rows, expected a multiple of the batch_size 3"),
        ("", [(4,)], "expected 2 axes or more"),
        ("", [(4, 5), (2, 2)], "bottom 1 has the shape .2, 2., expected 4, one for each row"),
        ("", [(0, 2, 5)], "a step at least"),
    ],
)
def test_refusals(body: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        one_layer("Lstm", f"lstm_param {{ {BODY if 'num' not in body else ''} {body} }}", *shapes)


def test_transpose_and_reverse_number_by_number() -> None:
    x = torch.randn(2, 3, 4)
    top = one_layer("Transpose", "transpose_param { dim: 2 dim: 0 dim: 1 }", (2, 3, 4))(x)
    assert tuple(top.shape) == (4, 2, 3)
    turned = one_layer("Reverse", "reverse_param { axis: 1 }", (2, 3, 4))(x)
    both = one_layer("Reverse", "reverse_param { axis: 0 axis: 2 }", (2, 3, 4))(x)
    first = one_layer("Reverse", "", (2, 3, 4))(x)
    for i, j, k in np.ndindex(2, 3, 4):
        assert top[k, i, j] == x[i, j, k] == turned[i, 2 - j, k] == both[1 - i, j, 3 - k] == first[1 - i, j, k]
    for kind, body in (
        ("Transpose", "transpose_param { dim: 0 dim: 1 dim: 1 }"),
        ("Reverse", "reverse_param { axis: 3 }"),
    ):
        with pytest.raises(ShapeError, match="under_test"):
            one_layer(kind, body, (2, 3, 4))
