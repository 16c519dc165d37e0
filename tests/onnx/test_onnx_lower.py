"""Models in low precision: measured with pictures, compared with float32, refused where they are broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from conftest import needs
from onnx import TensorProto, numpy_helper
from onnx_nets import conv, ip, layer, make_net, operators, source
from program import call

from caffe_compat.errors import DataError, ExportError, MissingFileError, UsageError
from caffe_compat.media import Preparation, Preprocessing, write_preparation
from caffe_compat.net import Net, load_net
from caffe_compat.onnx import Lower, Session, export_onnx, export_verified, to_int8
from caffe_compat.onnx.lower import Agreement, compare_models
from caffe_compat.onnx.metadata import PRECISION
from caffe_compat.onnx.pictures import Feed, find_pictures

PICTURE = Preprocessing(mean=(128.0,), scale=1 / 64, resize=(12, 12))
WANTS = Preparation({"data": PICTURE})
GRID = "roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 1 }"
NET = (
    source("data", 1, 3, 12, 12)
    + conv("a", "data", "a", 8)
    + layer("ReLU", "ra", "a", "a")
    + conv("b", "a", "b", 8)
    + layer("ReLU", "rb", "b", "b")
    + layer("Pooling", "p", "b", "p", "pooling_param { kernel_size: 2 stride: 2 }")
    + ip("c", "p", "c", 16)
    + layer("ReLU", "rc", "c", "c")
    + ip("d", "c", "d", 6)
    + layer("Softmax", "prob", "d", "prob")
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve smooth pictures in two folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(12):
        small = random.integers(0, 255, (4, 5, 3), dtype=np.uint8)
        path = folder / f"{'ab'[number % 2]}" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(small, (40, 30)))
    (folder / "notes.txt").write_text("x")
    return folder


@pytest.fixture(scope="module")
def net() -> Net:
    return make_net(NET)


def samples(number: int = 8) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"data": random.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(number)]


def test_int8_takes_all_but_the_last(net: Net):
    model = export_onnx(net)
    before = model.SerializeToString(deterministic=True)
    lower = to_int8(model, samples())
    assert model.SerializeToString(deterministic=True) == before
    types = {tensor.name: tensor.data_type for tensor in lower.graph.initializer}
    assert {name for name, kind in types.items() if name.endswith(".weight_quantized")} == {
        "a.weight_quantized",
        "b.weight_quantized",
        "c.weight_quantized",
    }
    assert types["b.weight_quantized"] == TensorProto.INT8 and types["b.bias_quantized"] == TensorProto.INT32
    assert types["d.weight"] == TensorProto.FLOAT
    scales = {tensor.name: list(tensor.dims) for tensor in lower.graph.initializer if tensor.name.endswith("_scale")}
    assert scales["b.weight_scale"] == [8] and scales["c.weight_scale"] == [16]  # one for each output channel
    facts = {entry.key: entry.value for entry in lower.metadata_props}
    assert facts[PRECISION] == "int8" and facts["caffe_sizes"] == '{"batch": 1}' and len(facts) == 3
    found, agreements, largest = compare_models(model, lower, samples())
    assert largest is None and 1e-4 < found["prob"].relative < 0.2 and agreements["prob"].all == 8
    batch = {"data": np.concatenate([sample["data"] for sample in samples(3)])}
    assert Session(lower)(batch)["prob"].shape == (3, 6)


def weight_range(model: onnx.ModelProto) -> int:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "b.weight_quantized"]
    return int(np.abs(numpy_helper.to_array(tensor).astype(int)).max())


def test_int8_targets(net: Net):
    model = export_onnx(net)
    results = {target: to_int8(model, samples(), target=target) for target in ("any", "vnni", "tensorrt")}
    assert [weight_range(result) for result in results.values()] == [64, 127, 127]
    zeros = {
        numpy_helper.to_array(tensor).dtype.name
        for tensor in results["tensorrt"].graph.initializer
        if tensor.name.endswith("_zero_point") and not numpy_helper.to_array(tensor).any()
    }
    assert zeros <= {"int8", "int32"} and "int8" in zeros
    points = [t for t in results["tensorrt"].graph.initializer if t.name.endswith("_zero_point")]
    assert not any(numpy_helper.to_array(tensor).any() for tensor in points)
    with pytest.raises(UsageError, match="target is 'arm', expected one of any, vnni, tensorrt"):
        to_int8(model, samples(), target="arm")  # type: ignore[arg-type]


def test_int8_leaves_what_needs_float32():
    """LRN, box heads and regions; a net of which nothing is left is refused."""
    text = source("data", 1, 3, 20, 20) + source("rois", 2, 5) + conv("a", "data", "a") + conv("b", "a", "b")
    text += layer("LRN", "norm", "b", "norm", "lrn_param { local_size: 3 alpha: 1 beta: 0.75 }")
    text += layer(
        "ROIPooling", "roi", "norm rois", "roi", "roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 1 }"
    )
    text += ip("fc", "roi", "fc", 8) + ip("score", "fc", "score") + ip("bbox_pred", "fc", "bbox_pred", 20)
    net = make_net(text)
    model = export_onnx(net)
    random = np.random.default_rng(0)
    values = [
        {"data": random.standard_normal((1, 3, 20, 20)).astype("f4"), "rois": np.float32([[0, 2, 2, 15, 18]])}
        for _ in range(4)
    ]
    lower = to_int8(model, values)
    integers = {
        t.name.removesuffix("_quantized") for t in lower.graph.initializer if t.name.endswith("weight_quantized")
    }
    assert integers == {"a.weight", "b.weight", "fc.weight"}
    assert compare_models(model, lower, values)[0]["score"].within(0.1)
    one = make_net(source("data", 1, 3, 12, 12) + conv("a", "data", "a") + layer("ReLU", "r", "a", "a"))
    with pytest.raises(ExportError, match="no layer is left for 8-bit integers"):
        to_int8(export_onnx(one), samples())
    with pytest.raises(ExportError, match="there are no samples to measure ranges with"):
        to_int8(export_onnx(make_net(NET)), [])


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_a_model_is_lowered_and_compared(kind: str, net: Net, pictures: Path, tmp_path: Path):
    wanted = Lower(kind, str(pictures) if kind == "int8" else None, str(pictures / "a"), WANTS)  # type: ignore[arg-type]
    report = export_verified(net, tmp_path / "net.onnx", precision=wanted)
    assert report.passed and report.path == tmp_path / "net.onnx" and report.lowered is not None
    assert report.lowered.agreements["prob"] == Agreement(6, 6)
    text = "\n".join(report.lines())
    assert f"{kind} against float32 on 6 pictures of {pictures / 'a'}:\nprob: error " in text
    assert "; top-1 agrees on 6 of 6 (100.0 %)" in text and ("largest value in float16: " in text) == (
        kind == "float16"
    )
    assert report.nodes == len(onnx.load(tmp_path / "net.onnx").graph.node)
    low = Session(tmp_path / "net.onnx")(samples(1)[0])["prob"]
    assert 0 < np.abs(low - Session(export_onnx(net))(samples(1)[0])["prob"]).max() < 0.1


def test_some_pictures_are_held_out(net: Net, pictures: Path, tmp_path: Path):
    report = export_verified(net, tmp_path / "net.onnx", precision=Lower("int8", str(pictures), wants=WANTS))
    assert report.lowered is not None
    assert report.lowered.compared == f"3 pictures of {pictures} that were not measured with"
    assert report.lowered.agreements["prob"].all == 3


@pytest.mark.parametrize("tolerance", [None, float("inf")])
def test_overflow_is_refused(tolerance: float | None, pictures: Path, tmp_path: Path):
    """Infinity in float16, whatever the tolerance; the file that was there stays."""
    net = make_net(NET.replace('"Softmax"', '"ReLU"'))
    with torch.no_grad():
        net.layer("c").blobs[0].mul_(2e4)
    (tmp_path / "net.onnx").write_text("old")
    precision = Lower("float16", None, str(pictures), WANTS, tolerance=tolerance)
    report = export_verified(net, tmp_path / "net.onnx", precision=precision)
    assert report.refusal.startswith("float16: value 'c__c' leaves the range of float16 (65504); keep the layer")
    assert report.path == tmp_path / "net.unverified.onnx" and (tmp_path / "net.onnx").read_text() == "old"
    assert not export_verified(net, tmp_path / "net.onnx", precision=Lower("float16", tolerance=tolerance)).passed
    kept = export_verified(net, tmp_path / "net.onnx", precision=replace(precision, keep=("c", "d"), tolerance=0.1))
    assert kept.passed and kept.lowered is not None and kept.lowered.largest is not None, kept.refusal
    assert kept.lowered.largest.size < 1000


def test_tolerance_is_relative_to_the_output(net: Net, tmp_path: Path):
    report = export_verified(net, tmp_path / "net.onnx", precision=Lower("float16", tolerance=1e-7))
    assert report.refusal.startswith("float16: output 'prob' is off: ") and report.refusal.endswith("(tolerance 1e-07)")
    assert report.lowered is not None and report.lowered.compared == "random inputs"


def test_pictures_that_cannot_be_used(net: Net, pictures: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match="folder of pictures"):
        find_pictures(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no picture, expected some that end in \.bmp"):
        find_pictures(tmp_path)
    assert [Path(path).name for path in find_pictures(pictures)][:3] == ["00.png", "02.png", "04.png"]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    model = export_onnx(net)
    with pytest.raises(DataError, match=r"bad\.jpg: is no image"):
        list(Feed(net, model, WANTS).batches(Feed(net, model, WANTS).find(tmp_path)))
    small = Preparation({"data": Preprocessing(resize=(10, 12))})
    with pytest.raises(DataError, match=r"00\.png: becomes 3 x 10 x 12, input 'data' takes 3 x 12 x 12; the prepr"):
        list(Feed(net, model, small).batches(Feed(net, model, small).find(pictures)))
    vectors = make_net(source("x", 1, 7) + ip("a", "x", "a"))
    with pytest.raises(UsageError, match=r"takes x batch x 7, expected pictures \(N x C x H x W\)"):
        Feed(vectors, export_onnx(vectors), WANTS).find(pictures)
    with pytest.raises(UsageError, match="int8 needs a folder"):
        Lower("int8")
    with pytest.raises(UsageError, match="not how they become inputs"):
        Lower("float16", agree="x")


def test_batches_are_filled_and_other_inputs_made(pictures: Path):
    net = make_net(
        source("data", 5, 3, 12, 12) + source("rois", 4, 5) + layer("ROIPooling", "r", "data rois", "r", GRID)
    )
    feed = Feed(net, export_onnx(net, dynamic=False), WANTS)
    items = feed.find(pictures)
    batches = list(feed.batches(items))
    assert len(batches) == feed.count(items) == 3
    assert all(batch["data"].shape == (5, 3, 12, 12) and batch["rois"].shape == (4, 5) for batch in batches)
    last = batches[2]["data"]
    assert (last[1:] == last[1]).all() and not (last[0] == last[1]).all()  # twelve pictures, five at a time
    np.testing.assert_array_equal(last[1], PICTURE.blob(PICTURE.picture(items[-1]["data"])))
    assert batches[0]["rois"][:, 1:].max() <= 12 and batches[0]["rois"][:, 0].max() < 5


def test_two_inputs_of_pictures(pictures: Path, tmp_path: Path):
    """Each has a folder of its own."""
    text = source("color", 1, 3, 12, 12) + source("hha", 1, 3, 12, 12)
    text += conv("a", "color", "a") + conv("b", "hha", "b") + layer("Concat", "j", "a b", "j") + ip("c", "j", "c")
    net = make_net(text)
    both = Preparation({"color": PICTURE, "hha": Preprocessing("hha", resize=(12, 12))})
    feed = Feed(net, export_onnx(net), both)
    with pytest.raises(MissingFileError):
        feed.find(pictures)
    for name in ("color", "hha"):
        (tmp_path / name).mkdir()
        for path in sorted((pictures / "a").iterdir()):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    items = feed.find(tmp_path)
    assert len(items) == 6 and items[1] == {name: str(tmp_path / name / "02.png") for name in ("color", "hha")}
    report = export_verified(net, tmp_path / "net.onnx", precision=Lower("int8", str(tmp_path), wants=both))
    assert report.passed and report.lowered is not None and report.lowered.agreements["c"].all == 1
    (tmp_path / "hha" / "04.png").unlink()
    with pytest.raises(DataError, match="picture '04' is not in both color and hha"):
        feed.find(tmp_path)
    with pytest.raises(DataError, match="says nothing of the input 'hha'"):
        Feed(net, export_onnx(net), Preparation({"color": PICTURE, "depth": PICTURE})).find(tmp_path)


def test_the_command(net: Net, pictures: Path, tmp_path: Path):
    (tmp_path / "net.prototxt").write_text(NET)
    net.save(tmp_path / "net.caffemodel")
    words = ("--model", "net.prototxt", "--weights", "net.caffemodel", "--output", "out.onnx")
    done = call("export_onnx", *words, "--int8", pictures, folder=tmp_path)
    assert done.status == 2 and "there is no preprocessing.json beside the weights" in done.stderr
    fields = ("--prepare", "mean=[128]", "--prepare", "scale=0.015625", "--prepare", "resize=[12,12]")
    done = call("export_onnx", *words, "--int8", pictures, *fields, folder=tmp_path)
    assert done.status == 0 and "int8 against float32 on 3 pictures" in done.stdout, done.stderr
    write_preparation(tmp_path / "preprocessing.json", WANTS)
    done = call("export_onnx", *words, "--fp16", "--agree", pictures, folder=tmp_path)
    assert done.status == 0 and "top-1 agrees on 12 of 12" in done.stdout, done.stderr
    done = call("export_onnx", *words, "--fp16", "--precision-tolerance", "1e-9", folder=tmp_path)
    assert done.status == 1 and "error: float16: output 'prob' is off" in done.stderr
    assert "kept as out.unverified.onnx, out.onnx not written" in done.stderr
    done = call("export_onnx", *words, "--agree", pictures, folder=tmp_path)
    assert done.status == 2 and "--agree goes with --fp16 or --int8" in done.stderr
    done = call("export_onnx", *words, "--fp16", "--agree", pictures, "--prepare", "menu=3", folder=tmp_path)
    assert done.status == 2 and "--prepare menu: expected one of modality, " in done.stderr


@pytest.mark.parametrize(("kind", "agreed"), [("float16", 1.0), ("int8", 0.7)])
def test_squeezenet_agrees_on_real_pictures(kind: str, agreed: float, tmp_path: Path):
    folder, photos = needs("real/models", "squeezenet_v1.0_deepcomp"), needs("real/photos")
    net = load_net(folder / "SqueezeNet_deploy.prototxt", folder / "squeezenet_v1.0_decoded.caffemodel")
    wants = Preparation({"data": Preprocessing(resize=(227, 227))})
    precision = Lower(kind, str(photos) if kind == "int8" else None, str(photos), wants)  # type: ignore[arg-type]
    report = export_verified(net, tmp_path / "net.onnx", precision=precision)
    assert report.passed and report.lowered is not None
    found = report.lowered.agreements["pool_final"]
    assert found.all == len(find_pictures(photos)) >= 10 and found.same >= agreed * found.all
    assert report.size < 0.6 * 5.1e6
    assert ("QuantizeLinear" in operators(onnx.load(tmp_path / "net.onnx"))) == (kind == "int8")
