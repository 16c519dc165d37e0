"""Boxes in the graph: what test_net leaves of a detector's numbers, and of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from caffe_compat import load_net
from caffe_compat.commands import export_onnx as tool
from caffe_compat.config import Config, load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.detection.images import read_modalities
from caffe_compat.detection.inference import Detector, Question, answer, ask
from caffe_compat.detection.nms import apply_nms
from caffe_compat.detection.testing import BestScores
from caffe_compat.errors import ExportError
from caffe_compat.evaluation.detections import Detections
from caffe_compat.media import Preparation, Preprocessing, short_side_factor
from caffe_compat.net import Net
from caffe_compat.onnx import Session, export_onnx, export_verified
from caffe_compat.onnx.delivered import read_delivered
from caffe_compat.onnx.parts import split
from caffe_compat.onnx.postprocess import Boxes, add_postprocessing
from caffe_compat.onnx.preprocess import Pictures

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection"
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def options(**test: object) -> Config:
    """Every region is seen: the nets here have strides of 1 and 2, DEDUP_BOXES is made for 16."""
    base = Config()
    return dataclasses.replace(base, dedup_boxes=0, test=dataclasses.replace(base.test, **test))


def as_test_net(scores: np.ndarray, boxes: np.ndarray, config: Config) -> Found:
    """Boxes, scores and labels of one image that test_net keeps."""
    classes = scores.shape[1] - 1
    best = BestScores(classes, 10**6, config).best(scores, boxes)
    every = Detections(tuple(map(str, range(classes))), ("i",), [[found] for found in best])
    kept = [row[0] for row in apply_nms(every, config.test.nms, False, config.test.max_per_image_all).boxes]
    labels = np.concatenate([np.full(len(found), label) for label, found in enumerate(kept, 1)])
    return np.concatenate(kept)[:, :4], np.concatenate(kept)[:, 4], labels


def bare(labels: int) -> onnx.ModelProto:
    """A model that passes its inputs on."""
    sizes = {"s": ["r", labels], "d": ["r", 4 * labels], "rois": ["r", 5]}
    inputs = [helper.make_tensor_value_info(name, 1, dims) for name, dims in sizes.items()]
    names = {"cls_prob": "s", "bbox_pred": "d"}
    nodes = [helper.make_node("Identity", [source], [name]) for name, source in names.items()]
    outputs = [helper.make_tensor_value_info(name, 1, sizes[source]) for name, source in names.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def suppressed(scores: np.ndarray, deltas: np.ndarray, boxes: np.ndarray, size: Sequence[int], config: Config) -> Found:
    model = add_postprocessing(split(bare(scores.shape[1])), Boxes.of(config)).model
    given = {"s": scores, "d": deltas, "proposals": boxes, "image_info": np.array([*size, 1.0])}
    got = Session(model)(given)
    return got["boxes"], got["scores"], got["classes"]


def reference(scores: np.ndarray, deltas: np.ndarray, boxes: np.ndarray, size, config: Config) -> Found:
    rows = np.arange(len(boxes))
    question = Question({}, boxes.astype(np.float64), rows, rows, tuple(size))
    return as_test_net(*answer(question, (scores, deltas), config), config)


def draw(rng: np.random.Generator, count: int, size: Sequence[int], whole: bool) -> np.ndarray:
    sides = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * [size[1] - 1, size[0] - 1]
    boxes = sides.reshape(count, 4).astype(np.float32)
    return np.round(boxes) if whole else boxes


@pytest.mark.parametrize("seed", range(60))
def test_the_boxes_that_stay_are_those_of_test_net(seed: int) -> None:
    """Random numbers, ties of scores, equal boxes, boxes beyond the image, no boxes, every limit."""
    rng = np.random.default_rng(seed)
    labels, count, size = int(rng.integers(2, 6)), (seed * 7) % 200, rng.integers(40, 400, 2)
    boxes = draw(rng, count, size, bool(seed % 2))
    if seed % 5 == 0:
        boxes[::2] = boxes[:1]
    scores = rng.uniform(0, 1, (count, labels)).astype(np.float32)
    if seed % 3 == 0:
        scores = np.round(scores * 8) / 8
    deltas = (rng.normal(size=(count, 4 * labels)) * (0, 0.3, 2)[seed % 4 % 3]).astype(np.float32)
    config = options(
        nms=float(rng.choice([0.3, 0.5, 0.7, 0.25, 0.0, 1.0])),
        max_per_image=int(rng.choice([1, 5, 100, 400])),
        max_per_image_all=int(rng.choice([0, 1, 7, 50])),
        score_thresh=float(rng.choice([-np.inf, 0.5, 0.05, 0.3])),
        bbox_reg=bool(seed % 7),
    )
    got = suppressed(scores, deltas, boxes, size, config)
    expected = reference(scores, deltas, boxes, size, config)
    assert np.array_equal(got[2], expected[2]) and np.array_equal(got[1], expected[1])
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6, atol=1e-4)


def test_an_overlap_of_the_threshold_suppresses_and_a_score_of_the_threshold_goes() -> None:
    """10 x 10 pixels, and the same shifted: overlaps that are exact fractions, at thresholds beside them."""
    for shift, overlap in ((5, 1 / 3), (1, 9 / 11), (3, 7 / 13), (0, 1.0)):
        boxes = np.float32([[0, 0, 9, 9], [shift, 0, 9 + shift, 9]])
        scores, deltas = np.float32([[0, 0.9], [0, 0.8]]), np.zeros((2, 8), np.float32)
        exact = float(np.float32(overlap))
        for nms in (exact, np.nextafter(exact, 2), np.nextafter(np.float32(overlap), np.float32(2)).item(), 0.3):
            if nms > 1:
                continue
            config = options(nms=nms)
            got, expected = (f(scores, deltas, boxes, (50, 50), config) for f in (suppressed, reference))
            assert len(got[1]) == len(expected[1]), (shift, nms)
        assert len(suppressed(scores, deltas, boxes, (50, 50), options(nms=exact))[1]) == 1
    inside = np.float32([[0, 0, 9, 9], [0, 0, 6, 9]])  # 0.7, which float32 has below 0.7
    for nms, kept in ((0.7, 2), (float(np.float32(0.7)), 1), (0.69, 1)):
        config = options(nms=nms)
        assert [len(f(scores, deltas, inside, (50, 50), config)[1]) for f in (suppressed, reference)] == [kept, kept]
    for thresh in (0.8, float(np.float32(0.8)), float(np.nextafter(np.float32(0.8), np.float32(0)))):
        config = options(score_thresh=thresh)
        far = np.float32([[0, 0, 9, 9], [20, 0, 29, 9]])
        got, expected = (f(scores, deltas, far, (50, 50), config) for f in (suppressed, reference))
        assert np.array_equal(got[1], expected[1])


# -- whole detectors --------------------------------------------------------------------------------------------------

HEAD = """name: "detector"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 60 dim: 90 }} }} }}
{more}layer {{ name: "rois" type: "Input" top: "rois" input_param {{ shape {{ dim: 1 dim: 5 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 pad: 1
    weight_filler {{ type: "gaussian" std: 0.02 }} }} }}
layer {{ name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_h: 3 pooled_w: 3 spatial_scale: 0.5 }} }}
{pool_1}layer {{ name: "cls_score" type: "InnerProduct" bottom: "{top}" top: "cls_score"
  inner_product_param {{ num_output: 4 weight_filler {{ type: "gaussian" std: 0.02 }} }} }}
layer {{ name: "bbox_pred" type: "InnerProduct" bottom: "{top}" top: "bbox_pred"
  inner_product_param {{ num_output: 16 weight_filler {{ type: "gaussian" std: 0.004 }} }} }}
layer {{ name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }}
"""
DATA_1 = """layer { name: "data_1" type: "Input" top: "data_1" input_param { shape { dim: 1 dim: 3 dim: 60 dim: 90 } } }
layer { name: "rois_1" type: "Input" top: "rois_1" input_param { shape { dim: 1 dim: 5 } } }
"""
POOL_1 = """layer { name: "pool_1" type: "ROIPooling" bottom: "data_1" bottom: "rois_1" top: "pool_1"
  roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 1 } }
layer { name: "join" type: "Concat" bottom: "pool" bottom: "pool_1" top: "join" }
"""


def write_net(folder: Path, several: bool = False) -> Path:
    path = folder / "test.prototxt"
    parts = {"more": DATA_1, "pool_1": POOL_1, "top": "join"} if several else {"more": "", "pool_1": "", "top": "pool"}
    path.write_text(HEAD.format(**parts))
    return path


def read_net(folder: Path, several: bool = False) -> Net:
    """With the same weights every time: among many boxes some overlap by nearly the threshold."""
    net = load_net(write_net(folder, several))
    rng = np.random.default_rng(0)
    for name, std in (("conv", 0.02), ("cls_score", 0.02), ("bbox_pred", 0.004)):
        weights = net.layer(name).blob(0)
        with torch.no_grad():
            weights.copy_(torch.from_numpy(rng.normal(0, std, tuple(weights.shape))))
    return net


def image(seed: int, size: tuple[int, int] = (60, 90)) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (size[0] // 6, size[1] // 6, 3), np.uint8)
    return np.ascontiguousarray(small.repeat(6, 0).repeat(6, 1))


def close(got, expected: Found, pixels: float, score: float = 1e-5) -> None:
    assert np.array_equal(got["classes"], expected[2]) and len(expected[2]) > 10
    np.testing.assert_allclose(got["scores"], expected[1], rtol=0, atol=score)
    np.testing.assert_allclose(got["boxes"], expected[0], rtol=0, atol=pixels)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("roi", ["cpu", "gpu"])
def test_a_detector_is_that_of_test_net(tmp_path: Path, several: bool, roi: str) -> None:
    net = read_net(tmp_path, several)
    scales = {"modality_scales": ((90,), (45,))} if several else {"scales": (90,)}
    config = options(score_thresh=0.05, max_per_image=40, **scales)
    images = [image(0), image(1)][: 1 + several]
    boxes = draw(np.random.default_rng(3), 150, (60, 90), whole=True)
    question = ask(images, boxes, config, several)
    detector = Detector(net, 4, len(images), config)
    expected = as_test_net(*answer(question, detector(question), config), config)
    model = export_onnx(net, dynamic=True, roi=roi, postprocess=Boxes.of(config))
    pictures = {name: blob for name, blob in question.blobs.items() if name.startswith("data")}
    factors = [1.5, 0.75][: 1 + several]
    close(Session(model)({**pictures, "proposals": boxes, "image_info": np.array([60, 90, *factors])}), expected, 1e-3)


@pytest.mark.parametrize("opset", [17, 21])
def test_a_trained_detector_on_its_pictures(opset: int) -> None:
    """Regions that fall together at stride 16 have what the net says of the first, with the options' default."""
    imdb = find_imdb("nyud2_hha_2015_test", str(GOLDEN / "tree"))
    assert imdb.proposals is not None
    net = load_net(GOLDEN / "trace" / "test.prototxt", GOLDEN / "trace" / "fast_rcnn_iter_20.caffemodel")
    config = dataclasses.replace(options(scales=(96,), score_thresh=0.04), dedup_boxes=1 / 16)
    detector = Detector(net, 20, 1, config)
    session = Session(export_onnx(net, dynamic=True, opset=opset, postprocess=Boxes.of(config)))
    for record in imdb.records:
        images, boxes = read_modalities([record.paths["hha"]], record.size), imdb.proposals(record).astype(np.float32)
        question = ask(images, boxes, config)
        assert len(question.first) < len(boxes)
        expected = as_test_net(*answer(question, detector(question), config), config)
        factor = short_side_factor(*images[0].shape[:2], 96, config.test.max_size)
        info = np.array([*images[0].shape[:2], factor])
        close(session({"data": question.blobs["data"], "proposals": boxes, "image_info": info}), expected, 1e-3)


def test_with_pictures_in_the_graph(tmp_path: Path) -> None:
    """From bytes and proposals to boxes; the graph resizes as Fast R-CNN does, in float32."""
    net = read_net(tmp_path)
    config = options(scales=(80,))
    boxes = draw(np.random.default_rng(3), 100, (60, 90), whole=True)
    question = ask([image(0)], boxes, config)
    expected = as_test_net(*answer(question, Detector(net, 4, 1, config)(question), config), config)
    wanted = Preprocessing(mean=config.pixel_means, resize_rule="fast-rcnn")
    shape, factor = question.blobs["data"].shape[2:], short_side_factor(60, 90, 80, 1000)
    asked = Pictures(Preparation({"data": wanted}), "rgb", shape)
    model = export_onnx(net, dynamic=True, preprocess=asked, postprocess=Boxes.of(config))
    given = {"data_picture": image(0)[None, ..., ::-1], "proposals": boxes, "image_info": np.array([60, 90, factor])}
    assert {node.domain for node in model.graph.node} == {""} and given["data_picture"].dtype == np.uint8
    close(Session(model)({name: np.ascontiguousarray(value) for name, value in given.items()}), expected, 0.01, 1e-4)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, model = read_net(tmp_path), tmp_path / "test.prototxt"
    weights, output = tmp_path / "fast_rcnn_iter_5.caffemodel", tmp_path / "n.onnx"
    net.save(weights)
    (tmp_path / "config.yml").write_text("DEDUP_BOXES: 0\nTEST:\n  NMS: 0.5\n  SCORE_THRESH: 0.1\n")
    words = ["--model", str(model), "--weights", str(weights), "--output", str(output), "--dynamic", "--postprocess"]
    assert tool.main(words) == 0
    said = capsys.readouterr().out
    assert "cls_prob: largest difference to PyTorch" in said and "outputs: boxes found x 4, scores found" in said
    config = load_config(tmp_path / "config.yml", [])
    boxes = draw(np.random.default_rng(3), 80, (60, 90), whole=True)
    question = ask([image(0)], boxes, config)
    expected = as_test_net(*answer(question, Detector(net, 4, 1, config)(question), config), config)
    factor = short_side_factor(60, 90, 600, 1000)
    given = {"data": question.blobs["data"], "proposals": boxes, "image_info": np.array([60, 90, factor])}
    close(Session(output)(given), expected, 1e-3)
    (tmp_path / "other.yml").write_text("PARITY: True\n")
    with pytest.raises(ExportError, match="rules without PARITY"):
        tool.main([*words, "--cfg", str(tmp_path / "other.yml")])


def test_the_delivered_file_is_compared_without_what_is_around_the_net(tmp_path: Path) -> None:
    net = read_net(tmp_path)
    asked = Pictures(Preparation({"data": Preprocessing()}), "rgb", (60, 90))
    export_onnx(net, tmp_path / "n.onnx", dynamic=True, preprocess=asked, postprocess=Boxes())
    found = read_delivered(net, tmp_path / "n.onnx")
    assert set(found.inputs) == {"data", "rois"} and not found.absent and len(found.values) == 5


def test_no_proposals(tmp_path: Path) -> None:
    labels = 3
    none = np.zeros((0, 4), np.float32)
    got = suppressed(np.zeros((0, labels), np.float32), np.zeros((0, 12), np.float32), none, (9, 9), options())
    assert [part.shape for part in got] == [(0, 4), (0,), (0,)]
    alike = dataclasses.replace(options(), dedup_boxes=1 / 16)
    got = suppressed(np.zeros((0, labels), np.float32), np.zeros((0, 12), np.float32), none, (9, 9), alike)
    assert [part.shape for part in got] == [(0, 4), (0,), (0,)]


def test_refused(tmp_path: Path) -> None:
    net = read_net(tmp_path)
    for asked, message in (
        (Boxes(scores="cls_prop"), r"no blob 'cls_prop'.*cls_prob"),
        (Boxes(deltas="conv"), "'conv' has|an output of the sizes"),
        (Boxes(deltas="cls_score"), "'cls_score' has 4 numbers for a region, expected 16: four for each of the 4"),
    ):
        with pytest.raises(ExportError, match=message):
            export_onnx(net, postprocess=asked)
    with pytest.raises(ExportError, match="needs the output 'bbox_pred' of a detector; the model gives cls_prob"):
        export_onnx(net, postprocess=Boxes(), outputs=["cls_prob"])
    with pytest.raises(ExportError, match=r"takes one image, input 'data' 2: export with --shape data=1"):
        export_onnx(net, postprocess=Boxes(), inputs={"data": (2, 3, 60, 90)}, dynamic=False)
    text = (tmp_path / "test.prototxt").read_text()
    (tmp_path / "test.prototxt").write_text(text.replace('"rois"', '"places"'))
    with pytest.raises(ExportError, match="needs the input 'rois' of a detector; the model takes data, places"):
        export_verified(load_net(tmp_path / "test.prototxt"), tmp_path / "n.onnx", postprocess=Boxes())
    assert not (tmp_path / "n.onnx").exists()
