"""Each family of nets with batch, height, width and number of boxes open, at sizes far from those of its prototxt."""

from __future__ import annotations

import pytest
from onnx_nets import conv, dims, ip, layer, make_net, source

from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx, verify_onnx
from caffe_compat.resources import prototxt

POOL = "pooling_param { kernel_size: 3 stride: 2 }"
PADDED = "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"
ROI = "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.0625 }"
CELLS = "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 1 }"
CLASSES, GRID, PIXELS = 3, 5, 20


def trunk(data: str, prefix: str = "") -> str:
    """CaffeNet's shapes with few channels: a map 16 times smaller."""
    names = {name: prefix + name for name in ("conv1", "pool1", "norm1", "conv2", "pool2", "conv3", "conv4", "conv5")}
    return (
        conv(names["conv1"], data, names["conv1"], 4, "kernel_size: 11 stride: 4 pad: 5")
        + layer("ReLU", f"{prefix}relu1", names["conv1"], names["conv1"])
        + layer("Pooling", names["pool1"], names["conv1"], names["pool1"], PADDED)
        + layer(
            "LRN", names["norm1"], names["pool1"], names["norm1"], "lrn_param { local_size: 5 alpha: 0.01 beta: 0.75 }"
        )
        + conv(names["conv2"], names["norm1"], names["conv2"], 6, "kernel_size: 5 pad: 2 group: 2")
        + layer("ReLU", f"{prefix}relu2", names["conv2"], names["conv2"])
        + layer("Pooling", names["pool2"], names["conv2"], names["pool2"], PADDED)
        + conv(names["conv3"], names["pool2"], names["conv3"], 6)
        + layer("ReLU", f"{prefix}relu3", names["conv3"], names["conv3"])
        + conv(names["conv4"], names["conv3"], names["conv4"], 6)
        + layer("ReLU", f"{prefix}relu4", names["conv4"], names["conv4"])
        + conv(names["conv5"], names["conv4"], names["conv5"], 5)
        + layer("ReLU", f"{prefix}relu5", names["conv5"], names["conv5"])
    )


def head(feature: str, prefix: str = "") -> str:
    """Pooled regions through two fully connected layers."""
    fc6, fc7 = f"{prefix}fc6", f"{prefix}fc7"
    return (
        layer("ROIPooling", f"{prefix}roi_pool5", f"{feature} rois", f"{prefix}pool5", ROI)
        + ip(fc6, f"{prefix}pool5", fc6, 12)
        + layer("ReLU", f"{prefix}relu6", fc6, fc6)
        + layer("Dropout", f"{prefix}drop6", fc6, fc6)
        + ip(fc7, fc6, fc7, 10)
        + layer("ReLU", f"{prefix}relu7", fc7, fc7)
    )


SCORES = ip("cls_score", "fc7", "cls_score", 4) + layer("Softmax", "cls_prob", "cls_score", "cls_prob")
SCORES += ip("bbox_pred", "fc7", "bbox_pred", 16)
DATA, HHA, ROIS = source("data", 1, 3, 97, 130), source("hha", 1, 3, 97, 130), source("rois", 9, 5)
DETECTOR = DATA + ROIS + trunk("data") + head("conv5") + SCORES
HEAD = source("conv5", 1, 5, 7, 9) + ROIS + head("conv5") + SCORES
FRANKEN = (
    DATA + ROIS + trunk("data") + conv("adapt", "conv5", "adapt", 7, "kernel_size: 1")
    + layer("ReLU", "relu_adapt", "adapt", "adapt") + head("adapt") + SCORES
)  # fmt: skip
FUSED = (
    DATA + HHA + ROIS + trunk("data") + head("conv5") + trunk("hha", "da_") + head("da_conv5", "da_")
    + layer("Concat", "both", "fc7 da_fc7", "both") + SCORES.replace('bottom: "fc7"', 'bottom: "both"')
)  # fmt: skip


def hypercolumn(data: str, prefix: str) -> str:
    """caffe-sds's nets: classifiers on two maps and on fc7, summed over each box, as probabilities of pixels."""
    number = CLASSES * GRID**2
    crop = f"box_upsample_param {{ width: {PIXELS} height: {PIXELS} channels: {GRID**2} }}"
    text = trunk(data, prefix)
    for feature, scale in (("pool2", 0.0074), ("conv4", 0.0909)):
        scaled, scores, crops = (f"{prefix}{name}_{feature}" for name in ("scale", "conv", "upsample"))
        text += layer("Scale", scaled, prefix + feature, scaled, f"scale_param {{ scale: {scale} }}")
        text += conv(scores, scaled, scores, number) + layer(
            "BoxUpsample", crops, f"{scores} normalizedboxes", crops, crop
        )
    pooled = head(f"{prefix}conv5", prefix).replace('bottom: "rois"', 'bottom: "sppboxes"').replace(ROI, CELLS)
    names = {name: prefix + name for name in ("fc7", "fcfc7", "pick", "rep", "sum", "map")}
    repeat, grid = f"repmat_param {{ rep_w: {PIXELS} rep_h: {PIXELS} }}", f"local_layer_param {{ grid_size: {GRID} }}"
    return (
        text + pooled + ip(names["fcfc7"], names["fc7"], names["fcfc7"], number)
        + layer("PickSlice", names["pick"], f"{names['fcfc7']} categids", names["pick"],
                f"pick_slice_param {{ channels: {GRID**2} }}")
        + layer("RepMat", names["rep"], names["pick"], names["rep"], repeat)
        + layer("Sum", names["sum"], f"{prefix}upsample_pool2 {prefix}upsample_conv4 {names['rep']}", names["sum"])
        + layer("LocallyConnected", names["map"], names["sum"], names["map"], grid)
    )  # fmt: skip


BOXES = source("normalizedboxes", 9, 6) + source("sppboxes", 9, 5) + source("categids", 9)
SDS = source("image", 1, 3, 97, 130) + BOXES + hypercolumn("image", "")
FUSED_SDS = (
    source("image", 1, 3, 97, 130) + source("da_image", 1, 3, 97, 130) + BOXES + hypercolumn("image", "")
    + hypercolumn("da_image", "da_")
    + layer("Eltwise", "fusion", "map da_map", "fusion_loss", "eltwise_param { coeff: 0.5 coeff: 0.5 }")
)  # fmt: skip
OPEN = {"data": ["batch", 3, "height", "width"], "rois": ["boxes", 5]}
SDS_BOXES = {"normalizedboxes": ["boxes", 6], "sppboxes": ["boxes", 5], "categids": ["boxes"]}


def _second(name: str) -> list[int | str]:
    return [f"{name}_batch", 3, f"{name}_height", f"{name}_width"]


FAMILIES = {
    "detector": (DETECTOR, OPEN),
    "trunk": (DATA + trunk("data"), {"data": OPEN["data"]}),
    "head": (HEAD, {"conv5": ["batch", 5, "height", "width"], "rois": ["boxes", 5]}),
    "franken": (FRANKEN, OPEN),
    "fused": (FUSED, {**OPEN, "hha": _second("hha")}),
    "hypercolumn": (SDS, {"image": OPEN["data"], **SDS_BOXES}),
    "fused hypercolumn": (FUSED_SDS, {"image": OPEN["data"], "da_image": _second("da_image"), **SDS_BOXES}),
}
IMAGES = [(97, 130), (61, 200), (128, 128), (224, 75)]


@pytest.mark.parametrize("name", FAMILIES)
def test_all_sizes_are_open(name: str) -> None:
    text, inputs = FAMILIES[name]
    net = make_net(text)
    model = export_onnx(net, dynamic=("batch", "height", "width"))
    assert dims(model.graph.input) == inputs
    sizes = []
    for number, ((height, width), boxes) in enumerate(zip(IMAGES, (0, 1, 7, 300), strict=True)):
        scale = 1 if "conv5" not in inputs else 16
        named = {"batch": 1 + number % 3, "height": height // scale, "width": width // scale, "boxes": boxes}
        names = {dim for shape in inputs.values() for dim in shape if isinstance(dim, str)}
        sizes.append({dim: named[dim.rpartition("_")[2]] for dim in names})
    _check(net, model, sizes, 1e-4 if "hyper" in name else 1e-5)  # places in a map are rounded otherwise by GridSample
    assert all("boxes" in shape for shape in dims(model.graph.output).values() if name != "trunk")


def _check(net: Net, model: object, sizes: list[dict[str, int]], tolerance: float = 1e-5) -> None:
    for size in sizes:
        for blob, found in verify_onnx(net, model, sizes=[size]).items():
            assert found.relative < tolerance, (size, blob, found)


@pytest.mark.parametrize(
    ("name", "open_size"),
    [
        ("squeezenet/deploy.prototxt", True),
        ("squeezenet/trunk.prototxt", True),
        ("students/caffenet_pad5/deploy.prototxt", True),
        ("small/deploy.prototxt", False),  # fully connected layers
        ("demo/transfer/franken_deploy.prototxt", False),
    ],
)
def test_nets_of_the_zoo(name: str, open_size: bool) -> None:
    net = load_net(prototxt(name))
    model = export_onnx(net, dynamic=True)
    (shape,) = dims(model.graph.input).values()
    assert shape[0] == "batch" and (shape[2:] == ["height", "width"]) == open_size
    sizes = [{"batch": 2}] if not open_size else [{"batch": 1, "height": 97, "width": 130}, {"height": 75, "width": 64}]
    _check(net, model, sizes)
