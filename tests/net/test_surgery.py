"""Net surgery: copies, refusals, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat.errors import CaffeCompatError, MissingFileError, UsageError, WeightsError
from caffe_compat.net import load_net
from caffe_compat.net.surgery import operate, read_operations

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "%sconv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "%sfc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } bias_filler { value: 2 } } }
"""
FULLY_CONVOLUTIONAL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "fc_conv" type: "Convolution" bottom: "conv" top: "fc"
  convolution_param { num_output: 2 kernel_size: 2 } }
"""


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for prefix in ("a_", "b_"):
        Path(f"{prefix}net.prototxt").write_text(NET % (prefix, prefix))
        load_net(f"{prefix}net.prototxt").save(f"{prefix}net.caffemodel")
    Path("out.prototxt").write_text(NET % ("a_", "b_"))
    Path("full.prototxt").write_text(FULLY_CONVOLUTIONAL)


def entry(prefix: str, source: list[str], dest: list[str] | None = None, reshape: list[int] | None = None) -> Any:
    ops = {"source": source, "dest": dest or source, "reshape": reshape or [0] * len(source)}
    return {"prototxt": f"{prefix}net.prototxt", "model": f"{prefix}net.caffemodel", "copy_ops": ops}


def run(entries: Any, net: str = "out.prototxt", file: str = "out.caffemodel") -> Any:
    Path("surgery.json").write_text(json.dumps(entries))
    return operate(net, read_operations("surgery.json"), file)


def test_layers_of_two_models_become_one() -> None:
    report = run([entry("a_", ["a_conv"]), entry("b_", ["b_fc"])])
    assert report.lines() == []
    out = load_net("out.prototxt", "out.caffemodel")
    a, b = load_net("a_net.prototxt", "a_net.caffemodel"), load_net("b_net.prototxt", "b_net.caffemodel")
    for net, name in ((a, "a_conv"), (b, "b_fc")):
        for index in (0, 1):
            assert torch.equal(out.layer(name).blob(index), net.layer(name).blob(index))


def test_layers_not_copied_exactly_once_are_named() -> None:
    report = run([entry("a_", ["a_conv", "a_conv"])])
    assert report.lines() == [
        "layer 'a_conv' was copied 2 times",
        "layer 'b_fc' was not copied, it keeps its filler",
    ]


def test_layers_without_filler_that_nothing_is_copied_into_are_told_to_be_0() -> None:
    report = run([entry("a_", ["a_conv"], ["conv"])], "full.prototxt")
    assert report.lines() == ["layer 'fc_conv' was not copied, its weights are 0"]


def test_reshape_lets_a_fully_connected_layer_become_a_convolution() -> None:
    arguments = (["a_conv", "a_fc"], ["conv", "fc_conv"])
    with pytest.raises(WeightsError, match=r"'a_fc' .* to 'fc_conv' .*\[2, 12\], expected \[2, 3, 2, 2\].*reshape: 1"):
        run([entry("a_", *arguments)], "full.prototxt")
    run([entry("a_", *arguments, [0, 1])], "full.prototxt")
    images = torch.randn(2, 2, 4, 4)
    full, flat = load_net("full.prototxt", "out.caffemodel"), load_net("a_net.prototxt", "a_net.caffemodel")
    with torch.no_grad():
        torch.testing.assert_close(full(data=images)["fc"].flatten(1), flat(data=images)["fc"])


def test_hdf5_is_written_where_the_name_asks_for_it() -> None:
    run([entry("a_", ["a_conv"]), entry("b_", ["b_fc"])], file="out.caffemodel.h5")
    out = load_net("out.prototxt", "out.caffemodel.h5")
    assert torch.equal(out.layer("b_fc").blob(0), load_net("b_net.prototxt", "b_net.caffemodel").layer("b_fc").blob(0))


def test_scale_is_a_factor_on_what_a_layer_gives() -> None:
    scaled = entry("a_", ["a_conv"])
    scaled["copy_ops"]["scale"] = [0.25]
    run([scaled, entry("b_", ["b_fc"])])
    source, out = load_net("a_net.prototxt", "a_net.caffemodel"), load_net("out.prototxt", "out.caffemodel")
    data = torch.randn(1, 2, 4, 4)
    expected = source(data=data, blobs=["conv"])["conv"] * 0.25
    assert torch.allclose(out(data=data, blobs=["conv"])["conv"], expected, rtol=1e-6)
    for scales, message in (
        ([1, 2], "scale has 2 entries, expected 1"),
        (["x"], "scale is expected to be a list"),
    ):
        scaled["copy_ops"]["scale"] = scales
        with pytest.raises(UsageError, match=message):
            run([scaled])


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ([entry("a_", ["a_cov"])], WeightsError, "no weights of layer 'a_cov'.*did you mean 'a_conv'"),
        ([entry("a_", ["a_conv"], ["conv"])], WeightsError, "out.prototxt: no layer 'conv' with weights"),
        ([entry("a_", ["a_conv"], ["b_fc"], [1])], WeightsError, r"blob 0 has the shape \[3, 2, 3, 3\]"),
        (
            [entry("a_", ["a_conv"], ["a_conv", "b_fc"])],
            UsageError,
            "entry 0: source, dest and reshape have 1, 2 and 1",
        ),
        ([entry("c_", ["a_conv"])], MissingFileError, "c_net.prototxt"),
        ({"prototxt": "x"}, UsageError, "expected a list of objects"),
        ([{"prototxt": "x", "model": "y"}], UsageError, "exactly prototxt, model and copy_ops"),
        ([{"prototxt": 3, "model": "y", "copy_ops": {}}], UsageError, "prototxt is 3, expected a file name"),
        ([{"prototxt": "x", "model": "y", "copy_ops": {"source": "a", "dest": []}}], UsageError, "list of layer names"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_written(
    entries: Any, error: type[CaffeCompatError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(entries)
    assert not Path("out.caffemodel").exists()


def test_a_file_that_is_no_json_is_refused() -> None:
    Path("surgery.json").write_text("[{")
    with pytest.raises(UsageError, match="surgery.json: not JSON"):
        read_operations("surgery.json")
