"""CRF-RNN's layer against loops that follow modified_permutohedral.cpp and meanfield_iteration.cpp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.permutohedral import Lattice

f32 = np.float32


def _lattice(points: np.ndarray) -> tuple[list[list[int]], list[list[float]], list[tuple[int, ...]]]:
    """Vertices and weights of each point, and the keys of the vertices: one point after the other."""
    d = points.shape[1]
    canonical = [[i] * (d - i + 1) + [i - (d + 1)] * i for i in range(d + 1)]
    deviation = f32(np.sqrt(2.0 / 3.0) * (d + 1))
    table: dict[tuple[int, ...], int] = {}
    offsets, weights = [], []
    for point in points.astype(f32):
        elevated, sm = [f32(0)] * (d + 1), f32(0)
        for j in range(d, 0, -1):
            cf = point[j - 1] * f32(1.0 / np.sqrt((j + 1) * j) * deviation)
            elevated[j] = sm - f32(j) * cf
            sm = sm + cf
        elevated[0] = sm
        rounded = [np.rint(f32(1.0 / (d + 1)) * e) for e in elevated]
        rem0, total = [v * f32(d + 1) for v in rounded], int(sum(rounded))
        rank = [0] * (d + 1)
        for i in range(d):
            for j in range(i + 1, d + 1):
                less = elevated[i] - rem0[i] < elevated[j] - rem0[j]
                rank[i if less else j] += 1
        for i in range(d + 1):
            rank[i] += total
            if rank[i] < 0:
                rank[i], rem0[i] = rank[i] + d + 1, rem0[i] + f32(d + 1)
            elif rank[i] > d:
                rank[i], rem0[i] = rank[i] - d - 1, rem0[i] - f32(d + 1)
        barycentric = [f32(0)] * (d + 2)
        for i in range(d + 1):
            v = (elevated[i] - rem0[i]) * f32(1.0 / (d + 1))
            barycentric[d - rank[i]] += v
            barycentric[d - rank[i] + 1] -= v
        barycentric[0] += 1 + barycentric[d + 1]
        keys = [tuple(int(rem0[i]) + canonical[r][rank[i]] for i in range(d)) for r in range(d + 1)]
        offsets.append([table.setdefault(key, len(table)) for key in keys])
        weights.append([float(w) for w in barycentric[: d + 1]])
    return offsets, weights, list(table)


def _filtered(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """seqCompute of values [C, N]."""
    d = points.shape[1]
    offsets, weights, keys = _lattice(points)
    table = {key: number for number, key in enumerate(keys)}
    held = np.zeros((len(keys), len(values)))
    for i in range(len(points)):
        for o, w in zip(offsets[i], weights[i], strict=True):
            held[o] += w * values[:, i]
    for j in range(d + 1):
        new = np.zeros_like(held)
        for key, number in table.items():
            n1, n2 = [k - 1 for k in key], [k + 1 for k in key]
            if j < d:
                n1[j], n2[j] = key[j] + d, key[j] - d
            near = [held[table[tuple(n)]] if tuple(n) in table else 0 for n in (n1, n2)]
            new[number] = held[number] + 0.5 * (near[0] + near[1])
        held = new
    out = np.zeros(values.shape)
    for i in range(len(points)):
        for o, w in zip(offsets[i], weights[i], strict=True):
            out[:, i] += w * held[o] / (1 + 2.0**-d)
    return out


@pytest.mark.parametrize("d", [1, 2, 5])
def test_filter_and_its_adjoint(d: int) -> None:
    rng = np.random.default_rng(d)
    points = (rng.normal(size=(30, d)) * 1.5).astype(f32)
    points[3] = points[4]
    points[5] = 0  # ties
    values = rng.normal(size=(2, 30))
    lattice, given = Lattice(points), torch.tensor(values, requires_grad=True)
    top = lattice.filter(given)
    np.testing.assert_allclose(top.detach().numpy(), _filtered(values, points), rtol=1e-6, atol=1e-7)
    seed = rng.normal(size=values.shape)
    top.backward(torch.from_numpy(seed))
    columns = np.stack([_filtered(row[None], points)[0] for row in np.eye(30)])  # [i, o]: what point i gives point o
    np.testing.assert_allclose(given.grad.numpy(), seed @ columns.T, rtol=1e-5, atol=1e-6)  # type: ignore[union-attr]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def test_iterations() -> None:
    rng = np.random.default_rng(1)
    shape = (2, 3, 4, 5)
    unary, first, picture = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=(2, 3, 4, 5)) * 40
    blobs = [rng.normal(size=(3, 3)) for _ in range(3)]
    body = (
        "multi_stage_meanfield_param { num_iterations: 3 theta_alpha: 16 theta_beta: 30 theta_gamma: 3 threshold: 2 }"
    )
    layer = one_layer("MultiStageMeanfield", body, *[shape] * 3)
    layer.double()
    with torch.no_grad():
        for blob, values in zip(layer.blobs, blobs, strict=True):
            blob.copy_(torch.from_numpy(values).reshape(1, 1, 3, 3))
    top = layer(*(torch.from_numpy(array) for array in (unary, first, picture))).detach().numpy()
    places = np.array([[p % 5, p // 5] for p in range(20)], f32)
    for n in range(2):
        colours = (picture[n].reshape(3, 20).T / 30).astype(f32)
        kernels = [places / f32(3), np.concatenate([places / f32(16), colours], 1)]
        norms = [1 / (_filtered(np.ones((1, 20)), kernel) + 1e-20) for kernel in kernels]
        current = first[n].reshape(3, 20)
        for _ in range(3):
            chances = _softmax(current)
            parts = [_filtered(chances, kernel) * norm for kernel, norm in zip(kernels, norms, strict=True)]
            message = blobs[0] @ parts[0] + blobs[1] @ parts[1]
            current = unary[n].reshape(3, 20) - blobs[2] @ message
        np.testing.assert_allclose(top[n].reshape(3, 20), current, rtol=1e-5, atol=1e-6)


def test_blobs_and_refusals() -> None:
    head, shapes = "num_iterations: 5 spatial_filter_weight: 3", [(1, 2, 3, 3), (1, 2, 3, 3), (1, 3, 3, 3)]
    more = 'bilateral_filter_weights_str: "4 6"'
    layer = one_layer("MultiStageMeanfield", f"multi_stage_meanfield_param {{ {head} {more} }}", *shapes)
    found = [blob.detach().numpy().reshape(2, 2).tolist() for blob in layer.blobs]
    assert found == [[[3, 0], [0, 3]], [[4, 0], [0, 6]], [[-1, 0], [0, -1]]]
    for text, message in (
        ("num_iterations: 1", "num_iterations is 1, expected 2"),
        (f"{head} theta_beta: 0", "theta_beta is 0"),
        (f'{head} spatial_filter_weights_str: "1 2 3"', "has 3 numbers, expected one for each of 2"),
        (f'{head} spatial_filter_weights_str: "x"', "spatial_filter_weights_str"),
        (f"{head} forced_spatial_filter_weight: 1", "is not read by the fork"),
    ):
        with pytest.raises(CaffeCompatError, match=f"under_test.*{message}"):
            one_layer("MultiStageMeanfield", f"multi_stage_meanfield_param {{ {text} }}", *shapes)
    with pytest.raises(CaffeCompatError, match=r"bottom 2 has the shape \[1, 4, 3, 3\], expected \[1, 3, 3, 3\]"):
        one_layer("MultiStageMeanfield", f"multi_stage_meanfield_param {{ {head} }}", *shapes[:2], (1, 4, 3, 3))
    bad = torch.full((1, 3, 3, 3), float("nan"))
    with pytest.raises(CaffeCompatError, match="bottom 'x2' holds NaN"):
        layer(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), bad)
