"""Receptive fields against brute force: every pixel is changed by itself, and one looks which units notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_compat.description import State, describe_net
from caffe_compat.errors import NetError, ShapeError
from caffe_compat.net import Net
from caffe_compat.net.receptive import Field, ReceptiveFields
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

SIZE = (21, 17)
HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: %d dim: %d } } }\n'


def _net(layers: str, size: tuple[int, int] = SIZE) -> Net:
    torch.manual_seed(0)
    net = Net(describe_net(parse(HEAD % size + layers, caffe_pb2.NetParameter), State("TEST"))).double()
    for parameter in net.parameters():  # positive, so that nothing cancels and no ReLU is closed
        parameter.data = torch.rand(parameter.shape, dtype=torch.float64) + 0.5
    return net


def _noticed(net: Net, blob: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """bool [units high, units wide, height, width]: which pixels a unit notices; one picture for each pixel."""
    pixels = size[0] * size[1]
    pictures = torch.ones(pixels + 1, 1, *size, dtype=torch.float64)
    pictures[1:].view(pixels, pixels)[range(pixels), range(pixels)] = 1e4
    with torch.no_grad():
        found = net(data=pictures, blobs=[blob])[blob]
    found = found.reshape(*found.shape[:2], *(found.shape[2:] or (1, 1)))
    changed = ((found[1:] - found[:1]).abs() > 1e-9 * found[:1].abs()).any(1)
    return changed.permute(1, 2, 0).reshape(*found.shape[2:], *size).numpy()


def _check(layers: str, blob: str, size: tuple[int, int] = SIZE) -> ReceptiveFields:
    net = _net(layers, size)
    fields, noticed = ReceptiveFields(net.plan, blob, (1, 1, *size)), _noticed(net, blob, size)
    assert fields.units == noticed.shape[:2] and fields.image == size
    for row, column in np.ndindex(*fields.units):
        field = fields.field(row, column)
        pixels = np.argwhere(noticed[row, column])
        (y1, x1), (y2, x2) = pixels.min(0), pixels.max(0)
        assert field.inside == ((y1, y2), (x1, x2)), (row, column)
        for (first, last), (near, far), limit in zip(field.window, field.inside, size, strict=True):
            assert first <= near <= far <= last
            assert near == max(first, 0) and far <= min(last, limit - 1)
    return fields


def _conv(bottom: str, top: str, k: int, s: int, p: int) -> str:
    return (
        f'layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param {{ '
        f"num_output: 2 kernel_size: {k} stride: {s} pad: {p} }} }}\n"
    )


def _pool(bottom: str, top: str, k: int, s: int, p: int, kind: str = "MAX", mode: str = "CEIL") -> str:
    return (
        f'layer {{ name: "{top}" type: "Pooling" bottom: "{bottom}" top: "{top}" pooling_param {{ pool: {kind} '
        f"kernel_size: {k} stride: {s} pad: {p} round_mode: {mode} }} }}\n"
    )


def _random(seed: int) -> tuple[str, str]:
    """A random net: 2 to 5 layers with windows, with ReLUs, normalisations and side branches among them."""
    random = np.random.default_rng(seed)
    text, blob = "", "data"
    mean = random.random() < 0.5  # beside a normalisation, which makes neighbours smaller: a maximum would hide that
    for number in range(random.integers(2, 6)):
        top, k = f"b{number}", int(random.integers(1, 5))
        s, p = int(random.integers(1, min(k, 3) + 1)), int(random.integers(0, k))
        match random.integers(6):
            case 0 | 1:
                text += _conv(blob, top, k, s, p)
            case 2 | 3:
                kind, mode = "AVE" if mean else "MAX", random.choice(["CEIL", "FLOOR"])
                text += _pool(blob, top, k, s, p, kind, mode)
            case 4:
                text += _conv(blob, f"{top}_a", k, 1, 0) + _conv(blob, f"{top}_b", k + 2, 1, 1)
                text += f'layer {{ name: "{top}" type: "Concat" bottom: "{top}_a" bottom: "{top}_b" top: "{top}" }}\n'
            case 5:
                text += (
                    f'layer {{ name: "{top}" type: "Deconvolution" bottom: "{blob}" top: "{top}" convolution_param {{ '
                    f"num_output: 2 kernel_size: {k + 1} stride: {min(s, 2)} pad: {min(p, 1)} }} }}\n"
                )
        text += f'layer {{ name: "relu{number}" type: "ReLU" bottom: "{top}" top: "{top}" }}\n'
        if mean and random.random() < 0.4:
            text += (
                f'layer {{ name: "norm{number}" type: "LRN" bottom: "{top}" top: "{top}_n" lrn_param {{ '
                "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 } }\n"
            )
            top = f"{top}_n"
        blob = top
    return text, blob


@pytest.mark.parametrize("seed", range(60))
def test_random_nets(seed: int) -> None:
    text, blob = _random(seed)
    try:
        _net(text)
    except ShapeError:
        pytest.skip("the kernel became larger than the map")
    _check(text, blob)


def test_grid_of_a_padded_net_with_a_partial_last_window() -> None:
    layers = _conv("data", "c", 5, 2, 2) + _pool("c", "p", 3, 2, 0) + _conv("p", "d", 3, 1, 1)
    fields = _check(layers, "d", (22, 18))
    grid = fields.grid
    assert grid is not None and (grid.size, grid.jump, grid.offset) == ((17, 17), (4, 4), (-6, -6))
    assert str(grid) == "fields of 17 pixels, one every 4, the first from -6, -6 on"


def test_fields_differ_where_two_positions_share_a_pixel() -> None:
    up = (
        'layer { name: "u" type: "Deconvolution" bottom: "p" top: "u" convolution_param { num_output: 2 kernel_size: 3 '
        "stride: 2 } }\n"
    )
    assert _check(_pool("data", "p", 2, 2, 0) + up, "u").grid is None


def test_whole_pictures() -> None:
    layers = (
        _conv("data", "c", 3, 2, 1)
        + 'layer { name: "g" type: "Pooling" bottom: "c" top: "g" pooling_param { pool: AVE global_pooling: true } }\n'
        + 'layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 3 } }\n'
    )
    for blob in ("g", "fc"):
        fields = _check(layers, blob)
        assert fields.units == (1, 1) and fields.grid is None


def test_values_of_an_in_place_blob_are_those_of_the_end() -> None:
    layers = _conv("data", "c", 3, 1, 0) + (
        'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }\n'
        'layer { name: "n" type: "LRN" bottom: "c" top: "c" lrn_param { norm_region: WITHIN_CHANNEL local_size: 5 } }\n'
    )
    fields = ReceptiveFields(_net(layers).plan, "c", (1, 1, *SIZE))
    assert fields.field(5, 6) == Field(((3, 9), (4, 10)), ((3, 9), (4, 10)))


def test_bad_input() -> None:
    net = _net(_conv("data", "conv1", 3, 2, 1))
    with pytest.raises(NetError, match="no blob 'conf1' .*conv1"):
        ReceptiveFields(net.plan, "conf1", (1, 1, *SIZE))
    fields = ReceptiveFields(net.plan, "conv1", (1, 1, *SIZE))
    with pytest.raises(NetError, match="map of 11 x 9, it has no unit \\(11, 0\\)"):
        fields.field(11, 0)
    two = HEAD.replace("data", "other") % SIZE
    net = _net(two + _conv("data", "conv1", 3, 2, 1))
    with pytest.raises(NetError, match="2 inputs"):
        ReceptiveFields(net.plan, "conv1", (1, 1, *SIZE))
    with pytest.raises(NetError, match="'conv1' does not depend on 'other'"):
        ReceptiveFields(net.plan, "conv1", (1, 1, *SIZE), "other")
