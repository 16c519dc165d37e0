"""ActionTubes' picture of flow: exact numbers, NumPy and torch alike."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from gpu import DEVICE, needs_gpu

from caffe_compat.errors import DataError
from caffe_compat.flow import decode, encode


def reference(u: float, v: float) -> list[int]:
    """In exact arithmetic: half away from zero, then saturated."""
    length = Decimal(float(Fraction(u) ** 2 + Fraction(v) ** 2)).sqrt()
    values = (Decimal(128) + 16 * part for part in (Decimal(u), Decimal(v), length))
    return [min(255, max(0, int(value.quantize(Decimal(1), ROUND_HALF_UP)))) for value in values]


@pytest.mark.parametrize(("u", "v"), [(0, 0), (3, -2), (-8, 7.9375), (8, -8.1), (0.03125, -0.03125), (1e-9, -1e-9)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_constant_flow(u: float, v: float, kind: type) -> None:
    planes = [np.full((4, 6), value, kind) for value in (u, v)]
    picture = encode(*planes)
    assert picture.dtype == np.uint8 and picture.shape == (4, 6, 3)
    assert (picture == reference(float(kind(u)), float(kind(v)))).all(), (picture[0, 0], reference(u, v))


def test_halves_go_away_from_zero_and_the_rest_to_the_nearest() -> None:
    """All halves there are, and the numbers next to them on both sides."""
    halves = np.arange(-255, 256, dtype=np.float64) / 32
    for kind in (np.float32, np.float64):
        u = halves.astype(kind)
        u = np.stack([u, np.nextafter(u, kind(9)), np.nextafter(u, kind(-9))])
        got = encode(u, np.zeros_like(u))
        wanted = [[reference(float(value), 0.0) for value in row] for row in u]
        if kind is np.float64:  # 128 is added in double, as Matlab does, which hides the neighbours
            got, wanted = got[:1], wanted[:1]
        np.testing.assert_array_equal(got, wanted)


def test_random_flow_in_batches_equals_exact_arithmetic() -> None:
    flow = np.random.default_rng(1).normal(0, 4, (3, 2, 9, 7, 2)).astype(np.float32)
    got = encode(flow[..., 0], flow[..., 1])
    wanted = np.array([reference(float(u), float(v)) for u, v in flow.reshape(-1, 2)]).reshape(*flow.shape[:-1], 3)
    np.testing.assert_array_equal(got, wanted)


def test_large_pictures_are_encoded_in_blocks() -> None:
    flow = np.random.default_rng(2).normal(0, 4, (300, 211, 2)).astype(np.float32)
    whole = encode(flow[..., 0], flow[..., 1])
    rows = np.stack([encode(row[None, :, 0], row[None, :, 1])[0] for row in flow])
    np.testing.assert_array_equal(whole, rows)
    assert encode(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0, 5, 3)
    assert encode(np.zeros((2, 0)), np.zeros((2, 0))).shape == (2, 0, 3)
    assert encode(np.zeros((1, 40000)), np.zeros((1, 40000))).shape == (1, 40000, 3)


@pytest.mark.parametrize("value", [1e3, 1e30, -1e200, 1.7e308])
def test_long_flow_saturates(value: float) -> None:
    for make in (np.array, torch.tensor):
        u = make([[value, 0.0]], dtype=(np if make is np.array else torch).float64)
        wanted = [255 if value > 0 else 0, 128, 255]
        assert np.asarray(encode(u, u * 0))[0].tolist() == [wanted, [128, 128, 128]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_flow_that_is_not_finite_is_refused(bad: float) -> None:
    for make in (np.zeros, torch.zeros):
        u, v = make((2, 3, 4)), make((2, 3, 4))
        v[1, 2, 3] = bad
        with pytest.raises(DataError, match="NaN or infinite at 1 of 24 pixels, the first at row 2, column 3"):
            encode(u, v)


@pytest.mark.parametrize(
    ("u", "v", "told"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"\[2, 3\] and \[3, 2\]"),
        (np.zeros(3), np.zeros(3), r"\[3\]"),
        (np.zeros((2, 3), bool), np.zeros((2, 3)), "type bool"),
        (np.zeros((2, 3), complex), np.zeros((2, 3)), "type complex"),
        (torch.zeros(2, 3), np.zeros((2, 3)), "cpu and on ndarray"),
        (torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3), "type torch.bool"),
    ],
)
def test_what_is_no_flow_is_refused(u: object, v: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        encode(u, v)


def test_decoding_gives_back_what_8_bits_keep() -> None:
    flow = np.random.default_rng(3).uniform(-8, 7.9375, (2, 30, 40, 2))
    u, v = decode(encode(flow[..., 0], flow[..., 1]))
    assert u.dtype == v.dtype == np.float32 and u.shape == (2, 30, 40)
    assert np.abs(np.stack([u, v], -1) - flow).max() <= 1 / 32 + 1e-6
    every = np.arange(256, dtype=np.uint8)
    picture = np.stack([every, every[::-1], every], -1)[None]
    u, v = decode(picture)
    np.testing.assert_array_equal(encode(u, v)[..., :2], picture[..., :2])
    for bad in (picture.astype(int), picture[..., :2], torch.zeros(2, 2, 4, dtype=torch.uint8)):
        with pytest.raises(DataError, match="expected uint8"):
            decode(bad)


def _alike(device: torch.device) -> None:
    flow = np.random.default_rng(4).normal(0, 5, (2, 33, 47, 2)).astype(np.float32)
    flow[0, 0, :, 0] = np.arange(47) / 32
    u, v = (torch.from_numpy(flow[..., at]).to(device) for at in (0, 1))
    got = encode(u, v)
    assert got.device == u.device and got.dtype == torch.uint8
    np.testing.assert_array_equal(got.cpu().numpy(), encode(flow[..., 0], flow[..., 1]))
    for mine, theirs in zip(decode(got), decode(got.cpu().numpy()), strict=True):
        assert mine.device == u.device
        np.testing.assert_array_equal(mine.cpu().numpy(), theirs)


def test_torch_gives_the_same_bits() -> None:
    _alike(torch.device("cpu"))
    half = torch.tensor([[0.03125, -3.0]], dtype=torch.float16)
    assert encode(half, half).tolist() == encode(half.numpy(), half.numpy()).tolist()


@needs_gpu
def test_a_gpu_gives_the_same_bits() -> None:
    _alike(DEVICE)


def test_numpy_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np; from caffe_compat.flow import encode, decode, read_flo, opencv_method\n"
        "decode(encode(np.ones((2, 2)), np.ones((2, 2)))); opencv_method(); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
