"""What more regions, images, pixels and bytes cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from caffe_compat.commands.measurements.curve import Curve
from caffe_compat.config import Config
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth import CAMERAS, complete, hha
from caffe_compat.description import State, describe_net
from caffe_compat.detection.nms import nms
from caffe_compat.detection.proposer import propose
from caffe_compat.detection.roidb import roi_image
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.net import BlobNet, Net, load_net
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.proto.text import parse

__all__ = ["file_curves", "picture_curves", "region_curves"]

ROIS = (100, 300, 1000, 3000, 10000)
CLASSES = 20
MAP = (1, 64, 38, 50)
"""Of a picture of 600 x 800."""


def _boxes(count: int, height: float = 600, width: float = 800) -> np.ndarray:
    """Regions [count, 4] of a picture, each of 20 to 200 pixels, as many more as the picture has more of them."""
    random = np.random.default_rng(count)
    start = random.uniform(0, 1, (count, 2)) * [width - 21, height - 21]
    size = random.uniform(20, 200, (count, 2))
    return np.concatenate([start, np.minimum(start + size, [width - 1, height - 1])], 1).astype(np.float32)


def _of_text(text: str) -> Net:
    return Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TEST")))


def _input(name: str, *shape: int) -> str:
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def region_curves() -> Iterator[Curve]:
    """Pooling with its gradient, suppression, SSD's output, proposals, ground truth matched, evaluation."""
    work: dict[str, Callable[[int, Path], Callable[[], object]]] = {
        "RoI pooling": partial(_pooling, backward=False),
        "RoI pooling and its gradient": partial(_pooling, backward=True),
        "nms of scattered boxes": partial(_suppressing, crowded=False),
        "nms of boxes in one place": partial(_suppressing, crowded=True),
        "DetectionOutput, 21 classes": _detection_output,
        "ProposalLayer, all anchors": _proposing,
        "regions matched to objects": _matching,
        "average precision of detections": _evaluating,
    }
    for label, prepare in work.items():
        yield Curve("RoIs", label, "RoIs", ROIS, prepare)


def _pooling(rois: int, folder: Path, backward: bool) -> Callable[[], object]:
    del folder
    net = _of_text(
        _input("map", *MAP)
        + _input("rois", 1, 5)
        + 'layer { name: "pool" type: "ROIPooling" bottom: "map" bottom: "rois" top: "pool" roi_pooling_param '
        "{ pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625 } }"
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(MAP, generator=generator).requires_grad_(backward)
    regions = torch.from_numpy(np.insert(_boxes(rois), 0, 0, axis=1))

    def run() -> object:
        pooled = net(map=features, rois=regions)["pool"]
        return torch.autograd.grad(pooled.sum(), features) if backward else pooled

    return run


def _suppressing(rois: int, folder: Path, crowded: bool) -> Callable[[], object]:
    del folder
    side = 1.0 if crowded else (rois / 100) ** 0.5  # as many boxes of a place, however many there are
    boxes = _boxes(rois, 600 * side, 800 * side)
    dets = np.column_stack([boxes, np.random.default_rng(1).uniform(0, 1, rois)]).astype(np.float32)
    return lambda: nms(dets, 0.3)


def _detection_output(rois: int, folder: Path) -> Callable[[], object]:
    del folder
    classes = CLASSES + 1
    text = _input("loc", 1, 4 * rois) + _input("conf", 1, classes * rois) + _input("prior", 1, 2, 4 * rois)
    text += (
        'layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out" '
        f"detection_output_param {{ num_classes: {classes} code_type: CENTER_SIZE keep_top_k: 200 "
        "confidence_threshold: 0.01 nms_param { nms_threshold: 0.45 top_k: 400 } } }"
    )
    net, random = _of_text(text), np.random.default_rng(0)
    priors = np.stack([_boxes(rois).ravel() / 800, np.tile([0.1, 0.1, 0.2, 0.2], rois)])[None].astype(np.float32)
    scores = random.dirichlet(np.full(classes, 0.2), rois).astype(np.float32).reshape(1, -1)
    inputs = {
        "loc": torch.from_numpy(random.standard_normal((1, 4 * rois)).astype(np.float32) * 0.1),
        "conf": torch.from_numpy(scores),
        "prior": torch.from_numpy(priors),
    }
    return lambda: net(**inputs)


def _proposing(rois: int, folder: Path) -> Callable[[], object]:
    """As many anchors as regions; all go into suppression, and all that stay come out."""
    del folder
    side = max(round((rois / 9) ** 0.5), 1)
    text = _input("scores", 1, 18, side, side) + _input("deltas", 1, 36, side, side) + _input("info", 1, 3)
    text += (
        'layer { name: "rois" type: "Python" bottom: "scores" bottom: "deltas" bottom: "info" top: "rois" python_param '
        '{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{feat_stride: 16, pre_nms_top_n: 0, '
        'post_nms_top_n: 0}" } }'
    )
    net, random = _of_text(text), np.random.default_rng(0)
    inputs = {
        "scores": torch.from_numpy(random.uniform(0, 1, (1, 18, side, side)).astype(np.float32)),
        "deltas": torch.from_numpy(random.standard_normal((1, 36, side, side)).astype(np.float32) * 0.1),
        "info": torch.tensor([[16.0 * side, 16.0 * side, 1.0]]),
    }
    return lambda: net(**inputs)


def _record(name: str, objects: int = 10) -> FrameRecord:
    return FrameRecord(name, size=(600, 800), boxes=_boxes(objects), classes=("chair",) * objects)


def _matching(rois: int, folder: Path) -> Callable[[], object]:
    del folder
    record, boxes = _record("frame"), _boxes(rois)
    return lambda: roi_image(record, ("chair",), boxes, Config().parity)


def _evaluating(rois: int, folder: Path) -> Callable[[], object]:
    """One image for every hundred boxes."""
    del folder
    records = [_record(str(number)) for number in range(rois // 100)]
    scores = np.random.default_rng(0).uniform(0, 1, (len(records), 100, 1)).astype(np.float32)
    found = [np.concatenate([_boxes(100), score], 1) for score in scores]

    def run() -> object:
        evaluator = AveragePrecision(("chair",), "voc")
        for record, boxes in zip(records, found, strict=True):
            evaluator.process(record, [boxes])
        return evaluator.evaluate()

    return run


CONVOLUTIONS = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 16 '
    'kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }\n'
    'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
    'layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }\n'
    'layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }\n'
    'layer { name: "loss" type: "Reduction" bottom: "pool" top: "loss" loss_weight: 1 }\n'
)


def picture_curves() -> Iterator[Curve]:
    """A small net on more and larger pictures; depth encoded, and proposals, of larger ones."""
    batches, pixels = (1, 4, 16, 64, 256), tuple(side * side for side in (64, 128, 256, 512, 1024))
    for backward in (False, True):
        label = "four layers forward" + " and backward" * backward
        yield Curve("batch", label, "images of 64 x 64", batches, partial(_batch, backward=backward))
        yield Curve("image size", label, "pixels", pixels, partial(_pixels, backward=backward))
    yield Curve("image size", "HHA of depth with holes", "pixels", pixels, _encoding)
    yield Curve("image size", "proposals of a picture", "pixels", pixels[:-1], _segmenting)


def _convolving(shape: tuple[int, ...], backward: bool) -> Callable[[], object]:
    text = _input("data", *shape) + CONVOLUTIONS
    engine = BlobNet(Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TRAIN"))), keep_graph=False)
    engine.blob("data").set_data(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def run() -> object:
        loss = engine.forward()
        if backward:
            engine.backward()
        return loss

    return run


def _batch(images: int, folder: Path, backward: bool) -> Callable[[], object]:
    del folder
    return _convolving((images, 3, 64, 64), backward)


def _pixels(pixels: int, folder: Path, backward: bool) -> Callable[[], object]:
    del folder
    side = round(pixels**0.5)
    return _convolving((1, 3, side, side), backward)


def _encoding(pixels: int, folder: Path) -> Callable[[], object]:
    del folder
    side = round(pixels**0.5)
    rows, columns = np.mgrid[:side, :side] / side
    depth = 2 + rows + 0.3 * np.sin(9 * columns)
    holes = np.random.default_rng(0).uniform(0, 1, depth.shape) < 0.1
    camera = CAMERAS["nyud2_color"].with_size(side, side)
    return lambda: hha(complete(np.where(holes, 0, depth), holes), camera, holes)


def _segmenting(pixels: int, folder: Path) -> Callable[[], object]:
    del folder
    side = round(pixels**0.5)
    coarse = np.random.default_rng(0).integers(0, 255, (side // 16, side // 16, 3)).astype(np.uint8)
    picture = np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1))
    return lambda: propose({"images": picture})


def file_curves() -> Iterator[Curve]:
    """Weights and prototxts of more bytes."""
    megabytes = tuple(1 << power for power in (20, 22, 24, 26, 28))
    yield Curve("file size", "loading a caffemodel of four layers", "bytes", megabytes, _loading)
    yield Curve("file size", "saving a caffemodel of four layers", "bytes", megabytes, _saving)
    yield Curve("file size", "loading HDF5 weights of four layers", "bytes", megabytes, partial(_loading, end=".h5"))
    texts = tuple(10**power for power in (3, 4, 5, 6, 7))
    yield Curve("file size", "parsing a prototxt with numbers", "bytes", texts, _parsing)
    yield Curve("file size", "parsing a prototxt of one long line", "bytes", texts, partial(_parsing, end=" "))


def _large(size: int, folder: Path) -> tuple[Net, Path]:
    """A net whose weights take about so many bytes."""
    outputs = max(size // 4 // 4 // 256, 1)
    text = _input("data", 1, 256)
    for number in range(4):
        text += (
            f'layer {{ name: "ip{number}" type: "InnerProduct" bottom: "data" top: "ip{number}" inner_product_param '
            f"{{ num_output: {outputs} }} }}\n"
        )
    path = folder / "net.prototxt"
    path.write_text(text, encoding="ascii")
    return load_net(path), path


def _loading(size: int, folder: Path, end: str = "") -> Callable[[], object]:
    net, path = _large(size, folder)
    weights = path.with_suffix(f".caffemodel{end}")
    (net.save_hdf5 if end else net.save)(weights)
    return lambda: load_net(path, weights)


def _saving(size: int, folder: Path) -> Callable[[], object]:
    net, path = _large(size, folder)
    return lambda: net.save(path.with_suffix(".caffemodel"))


def _parsing(size: int, folder: Path, end: str = "\n") -> Callable[[], object]:
    """A prototxt that lists the numbers of a blob, as some forks write them."""
    path, number = folder / "net.prototxt", f"data: 0.125{end}"
    head = _input("data", 1, 4) + 'layer { name: "p" type: "Parameter" top: "p" blobs { '
    path.write_text(head + end + number * (size // len(number)) + "} }\n", encoding="ascii")
    return lambda: read_net(path)
