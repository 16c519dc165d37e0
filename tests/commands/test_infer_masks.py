"""infer_onnx --masks: objects get the pixels that the net and the library's own steps give them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import conv, ip, layer, make_net, source
from program import call
from small_detectors import detector, picture

from caffe_compat.config import Config, SdsConfig
from caffe_compat.errors import ExportError
from caffe_compat.media import Preparation, Preprocessing
from caffe_compat.media.run_lengths import mask_of_runs
from caffe_compat.onnx import export_onnx
from caffe_compat.onnx.postprocess import Boxes
from caffe_compat.onnx.preprocess import Pictures
from caffe_compat.segmentation.questions import ask_about
from caffe_compat.segmentation.regions import choose_regions, paste_masks, region_masks, superpixel_values
from caffe_compat.segmentation.superpixels import make_superpixels, read_superpixels

CLASSES = tuple(f"class{k}" for k in range(19))
SIDE, CELLS = 20, 4


def branch(image: str, prefix: str = "") -> str:
    """A modality's part of a net of stride 8, up to its probabilities."""
    tops = (f"{prefix}{name}" for name in ("c", "p", "m", "up", "roi", "f", "pick", "rep", "sum", "loss"))
    c, p, m, up, roi, f, pick, rep, total, loss = tops
    upsample = f"box_upsample_param {{ width: {SIDE} height: {SIDE} channels: {CELLS} }}"
    repeat = f"repmat_param {{ rep_w: {SIDE} rep_h: {SIDE} rep_c: 1 rep_n: 1 }}"
    return (
        conv(c, image, c, 6, "kernel_size: 5 pad: 2 stride: 4")
        + layer("Pooling", p, c, p, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        + conv(m, p, m, CELLS * 19, "kernel_size: 1")
        + layer("BoxUpsample", up, f"{m} normalizedboxes", up, upsample)
        + layer("ROIPooling", roi, f"{p} sppboxes", roi, "roi_pooling_param { pooled_w: 2 pooled_h: 2 }")
        + ip(f, roi, f, CELLS * 19)
        + layer("PickSlice", pick, f"{f} categids", pick, f"pick_slice_param {{ channels: {CELLS} }}")
        + layer("RepMat", rep, pick, rep, repeat)
        + layer("Sum", total, f"{up} {rep}", total)
        + layer("LocallyConnected", loss, total, loss, "local_layer_param { grid_size: 2 }")
    )


def mask_net(folder: Path, both: bool = False, classes: tuple[str, ...] = CLASSES, **options):
    """The net with random weights, exported with open sizes."""
    text = source("image", 1, 3, 64, 64) + (source("da_image", 1, 3, 64, 64) if both else "")
    text += source("normalizedboxes", 1, 6, 1, 1) + source("sppboxes", 1, 5, 1, 1) + source("categids", 1, 1, 1, 1)
    text += branch("image") + (branch("da_image", "da_") if both else "")
    if both:
        half = "eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 }"
        text += layer("Eltwise", "fusion_loss", "loss da_loss", "fusion_loss", half)
    net = make_net('name: "masks" ' + text)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.05)
    names = ("__background__", *classes)
    hha = Preprocessing("hha", short_side=80, longest_side=300, classes=names)
    color = Preprocessing(short_side=80, longest_side=300, classes=names)
    wanted = Preparation({"image": color, "da_image": hha} if both else {"image": hha})
    metadata = {"preprocessing": wanted.text()}
    export_onnx(net, folder / "masks.onnx", metadata=metadata, dynamic=True, **options)
    return net


def scene(folder: Path) -> None:
    cv2.imwrite(str(folder / "a.png"), picture(1, 60, 80))
    cv2.imwrite(str(folder / "a_hha.png"), picture(2, 60, 80))


def wanted_masks(net, objects: list[dict], pictures: list[np.ndarray], superpixels) -> tuple[np.ndarray, np.ndarray]:
    """Grids and pixels by torch's net and the library's steps."""
    config = Config(sds=SdsConfig(80, 300, 8, SIDE))
    boxes = np.array([one["box"] for one in objects], np.float32)
    labels = np.array([CLASSES.index(one["class"]) for one in objects])
    question = ask_about(pictures, boxes, labels, config)
    feed = dict(zip(("image", "da_image"), question.images, strict=False))
    feed |= {name: getattr(question.blobs, name) for name in ("normalizedboxes", "sppboxes", "categids")}
    with torch.no_grad():
        (output,) = net(**{name: torch.from_numpy(value) for name, value in feed.items()}).values()
    if superpixels is None:
        return output[:, 0].numpy(), paste_masks(output.numpy(), boxes, pictures[0].shape[:2], 0.45)
    regions = choose_regions(superpixel_values(output.numpy(), boxes, superpixels), 0.45)
    return output[:, 0].numpy(), region_masks(regions, superpixels)


@pytest.mark.parametrize(
    ("both", "kind", "in_graph"),
    [(False, "color", False), (True, "color", False), (False, "none", True), (True, "folder", True)],
)
def test_masks_are_the_nets(tmp_path: Path, both: bool, kind: str, in_graph: bool) -> None:
    detector(tmp_path, both, **({"postprocess": Boxes(per_image=100_000)} if in_graph else {}))
    net = mask_net(tmp_path, both)
    scene(tmp_path)
    files = ["a.png", "a_hha.png"] if both else ["a_hha.png"]
    shown = cv2.imread(str(tmp_path / files[0]))
    superpixels, words = make_superpixels(shown), [] if kind == "color" else ["--superpixels", "none"]
    if kind == "folder":
        (tmp_path / "sp").mkdir()
        blocks = np.kron(np.arange(1, 49).reshape(6, 8), np.ones((10, 10), int)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "sp" / "a.png"), blocks)
        superpixels, words = read_superpixels(tmp_path / "sp" / "a.png"), ["--superpixels", "sp"]
    words += ["--json", "o.json", "--npz", "o.npz", "--draw", "drawn", "--conf", 0.06, "--mask-threshold", 0.45]
    done = call("infer_onnx", "n.onnx", ",".join(files), "--masks", "masks.onnx", *words, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "o.json").read_text())["pictures"]
    objects = found["objects"]
    pictures = [cv2.imread(str(tmp_path / file)) for file in files]
    grids, pixels = wanted_masks(net, objects, pictures, None if kind == "none" else superpixels)
    assert len(objects) > 3 and 0 < pixels.mean() < 1
    masks = np.stack([mask_of_runs(one["mask"]) for one in objects])
    assert masks.shape == (len(objects), 60, 80)
    assert (masks != pixels).mean() < 1e-3  # a value on the threshold may fall to either side
    arrays = np.load(tmp_path / "o.npz")
    np.testing.assert_allclose(arrays["mask_grids"][0], grids, atol=1e-5)
    assert (np.unpackbits(arrays["masks"][0], axis=2, count=80).astype(bool) == masks).all()
    assert arrays["object_classes"][0].tolist() == [CLASSES.index(one["class"]) for one in objects]
    np.testing.assert_allclose(arrays["object_boxes"][0], [one["box"] for one in objects], rtol=1e-6)
    drawn = cv2.imread(str(tmp_path / "drawn" / f"{Path(files[0]).stem}.png"))
    call("infer_onnx", "n.onnx", ",".join(files), "--draw", "plain", "--conf", 0.06, folder=tmp_path)
    plain = cv2.imread(str(tmp_path / "plain" / f"{Path(files[0]).stem}.png"))
    assert drawn.shape == plain.shape and (drawn != plain).any(2).mean() > 0.05


def test_results_remember_their_masks(tmp_path: Path) -> None:
    detector(tmp_path)
    mask_net(tmp_path)
    scene(tmp_path)
    words = ["n.onnx", "a_hha.png", "--json", "o.json", "--conf", 0.06]
    assert call("infer_onnx", *words, folder=tmp_path).status == 0
    done = call("infer_onnx", *words, "--masks", "masks.onnx", folder=tmp_path)
    assert done.status == 2 and "o.json exists and was made with" in done.stderr
    more = ["--masks", "masks.onnx", "--overwrite"]
    assert call("infer_onnx", *words, *more, folder=tmp_path).status == 0
    done = call("infer_onnx", *words, "--masks", "masks.onnx", "--mask-threshold", 0.3, folder=tmp_path)
    assert done.status == 2 and "masks" in done.stderr


def test_a_scene_without_objects(tmp_path: Path) -> None:
    detector(tmp_path)
    mask_net(tmp_path)
    scene(tmp_path)
    words = ["--masks", "masks.onnx", "--json", "o.json", "--npz", "o.npz", "--draw", "drawn", "--conf", 1]
    done = call("infer_onnx", "n.onnx", "a_hha.png", *words, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert json.loads((tmp_path / "o.json").read_text())["pictures"][0]["objects"] == []
    arrays = np.load(tmp_path / "o.npz")
    assert arrays["masks"].shape == (1, 0, 60, 10) and arrays["mask_grids"].shape == (1, 0, SIDE, SIDE)


def test_open_sizes(tmp_path: Path) -> None:
    mask_net(tmp_path, both=True)
    code = (
        "import sys; from caffe_compat.deploy import Session; from caffe_compat.segmentation.deployed import *; "
        "net = DeployedMasks(Session('masks.onnx')); print(net.pictures, *map(str, net.session.inputs.values())); "
        "print(mask_options(net.session, list(net.session.preparation.inputs.values()))); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    inputs, options, torch_there = done.stdout.splitlines()
    assert inputs.startswith("['image', 'da_image'] ") and torch_there == "False"
    for told in ("batch x 3 x height x width", "boxes x 6 x 1 x 1", "boxes x 5 x 1 x 1", "boxes x 1 x 1 x 1"):
        assert told in inputs, inputs
    assert options.endswith("'SDS.TARGET_SIZE', '80', 'SDS.MAX_SIZE', '300', 'SDS.FEAT_SCALE', '8']")


def test_maps_that_lie_elsewhere_than_in_training(tmp_path: Path) -> None:
    """The pads that a snapshot keeps are held against the net that is exported."""
    net = mask_net(tmp_path)
    net.save(tmp_path / "masks.caffemodel")
    text = source("image", 1, 3, 64, 64) + source("normalizedboxes", 1, 6, 1, 1) + source("sppboxes", 1, 5, 1, 1)
    text += source("categids", 1, 1, 1, 1) + branch("image")
    words = ["--model", "masks.prototxt", "--weights", "masks.caffemodel", "--output", "o.onnx", "--dynamic"]
    (tmp_path / "masks.prototxt").write_text(text)
    done = call("export_onnx", *words, "--shape", "image=1,3,40,48", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "inputs: image batch x 3 x height x width, normalizedboxes boxes x 6 x 1 x 1" in done.stdout
    (tmp_path / "masks.prototxt").write_text(text.replace("pad: 2", "pad: 1"))
    done = call("export_onnx", *words, folder=tmp_path)
    assert done.status == 2 and "c has pad 1, masks.caffemodel was trained with 2" in done.stderr


def test_what_it_refuses(tmp_path: Path) -> None:
    detector(tmp_path)
    mask_net(tmp_path)
    scene(tmp_path)
    for words, message in (
        (["--masks", "n.onnx"], "n.onnx: the model takes the inputs data, rois; a net that segments boxes takes"),
        (["--masks", "none.onnx"], "none.onnx"),
        (["--masks", "masks.onnx", "--superpixels", "colour"], "colour: is no folder (did you mean 'color'?)"),
        (["--masks", "masks.onnx", "--mask-threshold", 1.5], "--mask-threshold 1.5"),
        (["--masks", "masks.onnx", "--set", "SDS.FEAT_SCALE", 16], "the model's maps have cells of 8 pixels"),
    ):
        done = call("infer_onnx", "n.onnx", "a_hha.png", *words, folder=tmp_path)
        assert done.status == 2 and message in done.stderr, done
    done = call("infer_onnx", "masks.onnx", "a_hha.png", folder=tmp_path)
    assert done.status == 2 and "the model segments boxes, it finds none" in done.stderr
    (tmp_path / "sp").mkdir()
    words = ["--masks", "masks.onnx", "--superpixels", "sp"]
    done = call("infer_onnx", "n.onnx", "a_hha.png", *words, folder=tmp_path)
    assert done.status == 1 and "sp/a_hha.png" in done.stdout
    mask_net(tmp_path, classes=CLASSES[:-1] + ("other",))
    done = call("infer_onnx", "n.onnx", "a_hha.png", "--masks", "masks.onnx", folder=tmp_path)
    assert done.status == 2 and "segments no 'class18', which the detector finds" in done.stderr
    mask_net(tmp_path, both=True)
    done = call("infer_onnx", "n.onnx", "a_hha.png", "--masks", "masks.onnx", folder=tmp_path)
    assert done.status == 2 and "takes 2 pictures of a scene, the detector 1" in done.stderr
    hha = Preprocessing("hha", short_side=80, longest_side=300, classes=("__background__", *CLASSES))
    with pytest.raises(ExportError, match="the net segments boxes"):
        mask_net(tmp_path, preprocess=Pictures(Preparation({"image": hha})))
