"""Pads, strides and dilations that a weights file keeps, against those of the net that takes the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_compat.errors import ModelFileError
from caffe_compat.net import load_net
from caffe_compat.net.pads import other_pads
from caffe_compat.proto.weights import varint
from caffe_compat.proto.windows import StoredWindow, stored_windows

NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 20 dim: 20 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 2 {conv} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ {pool} }} }}
layer {{ name: "whole" type: "Pooling" bottom: "pool" top: "whole" pooling_param {{ global_pooling: true }} }}
"""


def net_of(folder: Path, conv: str, pool: str):
    (folder / "n.prototxt").write_text(NET.format(conv=conv, pool=pool))
    return load_net(folder / "n.prototxt")


def test_what_a_file_keeps(tmp_path):
    file = tmp_path / "n.caffemodel"
    pool = "kernel_h: 2 kernel_w: 3 stride: 2 pad_h: 0 pad_w: 1"
    net_of(tmp_path, "kernel_size: 3 pad: 2 pad: 1 stride: 2", pool).save(file)
    assert stored_windows(file) == {
        "conv": StoredWindow((3, 3), (2, 2), (2, 1), (1, 1)),
        "pool": StoredWindow((2, 3), (2, 2), (0, 1)),
    }


def test_what_differs_is_named(tmp_path):
    file = tmp_path / "trained.caffemodel"
    net_of(tmp_path, "kernel_size: 3 pad: 7", "kernel_size: 3 stride: 2").save(file)
    same = net_of(tmp_path, "kernel_h: 3 kernel_w: 3 pad_h: 7 pad_w: 7", "kernel_size: 3 stride: 2 pad: 0")
    assert other_pads(same.nodes, [file]) == []
    other = net_of(tmp_path, "kernel_size: 3 pad: 5 pad: 4", "kernel_size: 3 stride: 2 pad: 1")
    assert other_pads(other.nodes, [file]) == [
        "conv has pad 5 x 4, trained.caffemodel was trained with 7",
        "pool has pad 1, trained.caffemodel was trained with 0",
    ]
    dilated = net_of(tmp_path, "kernel_size: 3 pad: 7 dilation: 2 stride: 2", "kernel_size: 3 stride: 2")
    told = other_pads(dilated.nodes, [file])
    assert [line.split(", ")[0] for line in told] == ["conv has stride 2", "conv has dilation 2"]


def test_files_that_say_nothing(tmp_path):
    net = net_of(tmp_path, "kernel_size: 3 pad: 7", "kernel_size: 3")
    net.save_hdf5(tmp_path / "n.caffemodel.h5")
    other = net_of(tmp_path, "kernel_size: 3 pad: 5", "kernel_size: 3")
    assert other_pads(other.nodes, [tmp_path / "n.caffemodel.h5"]) == []


def record(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


@pytest.mark.parametrize(("body", "fits"), [(b"\x18\x05", True), (b"\x1a\x01", False)])
def test_a_forks_own_message_says_nothing(tmp_path, body, fits):
    """Field 3 is ``pad``; cut off in its second byte it is no ConvolutionParameter."""
    file = tmp_path / "n.caffemodel"
    file.write_bytes(record(100, record(1, b"conv") + record(2, b"Convolution") + record(106, body)))
    assert list(stored_windows(file)) == (["conv"] if fits else [])


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "n.caffemodel"
    net_of(tmp_path, "kernel_size: 3 pad: 7", "kernel_size: 3").save(file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match=r"n\.caffemodel: byte \d+"):
        stored_windows(file)
