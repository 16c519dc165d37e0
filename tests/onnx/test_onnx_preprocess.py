"""Preprocessing in the graph: bytes in, and the numbers of Preprocessing.blob."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.commands import export_onnx as tool
from caffe_compat.deploy.facts import IN_GRAPH
from caffe_compat.errors import DataError, ExportError, MissingFileError, UsageError
from caffe_compat.media import Preparation, Preprocessing, describe_weights, write_mean, write_preprocessing
from caffe_compat.net import Net, load_net
from caffe_compat.onnx import Session, any_preparation, export_onnx, export_verified, onnx_preparation
from caffe_compat.onnx.metadata import read_fact
from caffe_compat.onnx.preprocess import Pictures, net_inputs

RNG = np.random.default_rng(0)
INPUT = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ dim: 1 dim: {1} dim: 8 dim: 9 }} }} }}\n'
OUT = 'layer { name: "out" type: "Power" bottom: "data" top: "out" power_param { scale: 2 } }\n'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5
  weight_filler { type: "gaussian" std: 0.05 } } }
"""


def write_net(folder: Path, text: str = INPUT.format("data", 3) + OUT) -> Path:
    path = folder / "net.prototxt"
    path.write_text(f'name: "t"\n{text}')
    return path


def net_of(folder: Path, text: str = INPUT.format("data", 3) + OUT) -> Net:
    return load_net(write_net(folder, text))


def run(net: Net, asked: Pictures, pictures: np.ndarray, **options) -> np.ndarray:
    model = export_onnx(net, preprocess=asked, **options)
    given = model.graph.input[0].type.tensor_type
    assert given.elem_type == 2 and len(model.graph.input) == 1  # uint8
    return np.asarray(Session(model)({"data_picture": pictures})["out"]) / 2


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize(
    "wanted, size, options",
    [
        (Preprocessing(), (8, 9), {"dynamic": False}),
        (Preprocessing(), (13, 7), {"dynamic": True}),
        (Preprocessing("hha", scale=0.017), (8, 9), {}),
        (Preprocessing(mean=(0.0,), channels=("red", "green", "blue")), (8, 9), {}),
        (Preprocessing(mean=(3.0,), scale=2.0, crop=(8, 9)), (13, 12), {}),
        (Preprocessing(mean=(3.0,), crop=(8, 9)), (8, 9), {"opset": 21}),
    ],
)
def test_without_resizing_the_bits_are_those_of_inference(tmp_path, order, wanted, size, options) -> None:
    asked = Pictures(Preparation({"data": wanted}), order)
    pictures = RNG.integers(0, 256, (1, *size, 3), np.uint8)
    found = run(net_of(tmp_path), asked, pictures, **options)
    blue_first = pictures if order == "bgr" else pictures[..., ::-1]
    assert np.array_equal(found[0], wanted.blob(np.ascontiguousarray(blue_first[0])))


def test_mean_of_every_pixel(tmp_path: Path) -> None:
    mean = RNG.normal(100, 20, (3, 12, 14)).astype(np.float32)
    write_mean(tmp_path / "m.binaryproto", mean)
    wanted = Preprocessing(mean_file=str(tmp_path / "m.binaryproto"), crop=(8, 9))
    pictures = RNG.integers(0, 256, (2, 12, 14, 3), np.uint8)
    asked = Pictures(Preparation({"data": wanted}))
    found = run(net_of(tmp_path), asked, pictures)
    assert np.array_equal(found, np.stack([wanted.blob(picture) for picture in pictures]))
    model = export_onnx(net_of(tmp_path), preprocess=asked, preparation=asked.preparation)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:] == [12, 14, 3]
    (tmp_path / "m.binaryproto").unlink()  # the model carries it
    held = onnx_preparation(model)
    assert held is not None and np.array_equal(held.first.blob(pictures[0]), found[0])
    with pytest.raises(MissingFileError, match=r"m\.binaryproto"):
        export_onnx(net_of(tmp_path), preprocess=Pictures(Preparation({"data": dataclasses.replace(wanted)})))


@pytest.mark.parametrize("shape", [(30, 40), (16, 18), (5, 6), (8, 9)])
def test_resizing_is_opencvs_but_for_the_rounding(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Of bytes one in eight is another by one code, in float32 all by less than a thousandth."""
    pictures = RNG.integers(0, 256, (2, *shape, 3), np.uint8)
    for rule, limit, share in (("caffe", 1.0, 0.25), ("fast-rcnn", 1e-3, 1.0)):
        wanted = Preprocessing(mean=(100.0,), resize_rule=rule)
        asked = Pictures(Preparation({"data": wanted}), size=(8, 9))
        for dynamic in (("batch",), ()):
            given = pictures if dynamic else pictures[:1]
            found = run(net_of(tmp_path), asked, given, dynamic=dynamic)
            expected = net_inputs(asked, {"data_picture": given})["data"]
            away = np.abs(found - expected)
            assert away.max() <= limit and (away > 1e-3).mean() <= share, rule
    resized = Preprocessing(mean=(100.0,), resize=(8, 9)).blob(pictures[0])
    asked = Pictures(Preparation({"data": Preprocessing(mean=(100.0,))}), size=(8, 9))
    assert np.array_equal(net_inputs(asked, {"data_picture": pictures})["data"][0], resized)


def test_one_channel(tmp_path: Path) -> None:
    wanted = Preprocessing("gray", scale=1 / 256)
    pictures = RNG.integers(0, 256, (3, 8, 9, 1), np.uint8)
    found = run(net_of(tmp_path, INPUT.format("data", 1) + OUT), Pictures(Preparation({"data": wanted})), pictures)
    assert np.array_equal(found, pictures.transpose(0, 3, 1, 2) / np.float32(256))


def test_two_inputs_each_as_it_wants(tmp_path: Path) -> None:
    net = net_of(
        tmp_path,
        INPUT.format("data", 3)
        + INPUT.format("data_1", 3)
        + 'layer { name: "out" type: "Concat" bottom: "data" bottom: "data_1" top: "out" }\n',
    )
    both = {"data": Preprocessing(mean=(1.0, 2.0, 3.0)), "data_1": Preprocessing("hha", mean=(128.0,))}
    model = export_onnx(net, preprocess=Pictures(Preparation(both), "rgb"))
    pictures = {f"{name}_picture": RNG.integers(0, 256, (1, 8, 9, 3), np.uint8) for name in both}
    found = Session(model)(pictures)["out"]
    shown = [np.ascontiguousarray(picture[0, ..., ::-1]) for picture in pictures.values()]
    expected = [wanted.blob(picture) for wanted, picture in zip(both.values(), shown, strict=True)]
    assert np.array_equal(found[0], np.concatenate(expected))
    assert read_fact(model, IN_GRAPH) == {
        f"{name}_picture": {"of": name, "order": "rgb", "size": None} for name in both
    }
    with pytest.raises(ExportError, match=r"nothing of the input 'data_1', only of data \(color\), depth \(hha\)"):
        wrong = Preparation({"data": both["data"], "depth": both["data_1"]})
        export_onnx(net, preprocess=Pictures(wrong))


@pytest.mark.parametrize(
    "wanted, size, message",
    [
        (Preprocessing("gray"), None, r"input 'data': has 3 channels, the preprocessing is of 1: 'gray'"),
        (Preprocessing(crop=(7, 9)), None, "takes 8 x 9, a crop gives 7 x 9"),
        (Preprocessing(), (9, 9), "takes 8 x 9, --resize gives 9 x 9"),
        (Preprocessing(crop=(8, 9)), (7, 20), "a picture is 20x7, smaller than a crop of 9x8"),
        (Preprocessing(resize=(8, 9), resize_rule="skimage"), (8, 9), "the rule 'skimage', which no ONNX operator"),
    ],
)
def test_refused(tmp_path: Path, wanted: Preprocessing, size, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(net_of(tmp_path), dynamic=False, preprocess=Pictures(Preparation({"data": wanted}), size=size))


def test_too_small_pictures_fail_at_the_crop(tmp_path: Path) -> None:
    model = export_onnx(net_of(tmp_path), preprocess=Pictures(Preparation({"data": Preprocessing(crop=(8, 9))})))
    with pytest.raises(ExportError):
        Session(model)({"data_picture": np.zeros((1, 7, 20, 3), np.uint8)})


def test_verified_on_pictures(tmp_path: Path) -> None:
    net = net_of(tmp_path, INPUT.format("data", 3) + CONV)
    for size in (None, (20, 21)):
        asked = Pictures(Preparation({"data": Preprocessing(scale=0.02, crop=(8, 9))}), "rgb", size)
        report = export_verified(net, tmp_path / "n.onnx", preprocess=asked)
        assert report.passed and report.inputs["data_picture"][-1] == 3 and report.differences["fc"].relative < 1e-5
    shown = {"data_picture": RNG.integers(0, 256, (1, 40, 40, 3), np.uint8)}
    report = export_verified(net, tmp_path / "n.onnx", preprocess=asked, samples=shown, tolerance=0.1)
    assert report.passed and report.differences["fc"].relative > 1e-7  # the rounding of OpenCV's bytes


# -- the command ------------------------------------------------------------------------------------------------------


def words(folder: Path, *more: str) -> list[str]:
    model = write_net(folder, INPUT.format("data", 3) + CONV)
    if not (folder / "n.caffemodel").exists():
        load_net(model).save(folder / "n.caffemodel")
    paths = ["--model", str(model), "--weights", str(folder / "n.caffemodel"), "--output", str(folder / "n.onnx")]
    return [*paths, *more]


def test_the_command_stores_what_stands_beside_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="No preprocessing.json stands beside .*n.caffemodel: give --preprocessing"):
        tool.main(words(tmp_path, "--preprocess"))
    assert tool.main(words(tmp_path)) == 0 and onnx_preparation(tmp_path / "n.onnx") is None
    with pytest.raises(DataError, match="n.onnx: carries no preprocessing"):
        any_preparation(tmp_path / "n.onnx")
    wanted = Preparation({"data": Preprocessing(resize=(8, 9), classes=("a", "b", "c", "d", "e"))})
    describe_weights(tmp_path / "n.caffemodel", wanted)
    assert tool.main(words(tmp_path)) == 0
    held = any_preparation(tmp_path / "n.onnx")
    assert held.inputs == wanted.inputs and list(held.weights) == ["n.caffemodel"]
    assert tool.main(words(tmp_path, "--preprocess", "rgb", "--resize")) == 0
    assert "inputs: data_picture batch x data_rows x data_columns x 3" in capsys.readouterr().out
    other = tmp_path / "other.json"
    write_preprocessing(other, Preprocessing(mean=(7.0,)))
    assert tool.main(words(tmp_path, "--preprocessing", str(other))) == 0
    assert any_preparation(tmp_path / "n.onnx").first.mean == (7.0,)


def test_the_command_tells_a_file_of_other_weights(tmp_path: Path) -> None:
    arguments = words(tmp_path)
    describe_weights(tmp_path / "n.caffemodel", Preparation({"data": Preprocessing()}))
    load_net(tmp_path / "net.prototxt").save(tmp_path / "n.caffemodel")
    with pytest.raises(DataError, match=r"preprocessing.json: was written for other weights: .*n\.caffemodel has"):
        tool.main(arguments)
    content = json.loads((tmp_path / "preprocessing.json").read_text())
    content["inputs"]["data"]["modality"] = "hha"
    (tmp_path / "preprocessing.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"preprocessing.json: .*expected those of 'hha'|units: expected"):
        tool.main(arguments)
    for more, message in (
        (("--resize", "3,4"), "--resize goes with --preprocess"),
        (("--cfg", "x"), "--cfg goes with --postprocess"),
    ):
        with pytest.raises(UsageError, match=message):
            tool.main([*arguments, *more])
    write_preprocessing(tmp_path / "preprocessing.json", Preprocessing(short_side=8))
    for more, message in ((("--resize",), "to which size"), (("--resize", "3x4"), "--resize is '3x4', expected H,W")):
        with pytest.raises(UsageError, match=message):
            tool.main([*arguments, "--preprocess", *more])
