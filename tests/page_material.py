"""What the pages speak of, drawn and small: recordings, data sets, nets and weights under the names that they use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from program import ROOT

from caffe_compat import load_net
from caffe_compat.flow import write_flo
from caffe_compat.media import Encoding, Preparation, Preprocessing, write_preparation

SIDES = (480, 640)
STARTED = 1700000000
CAFFENET_MEAN = "mean_value: 104 mean_value: 117 mean_value: 123"
DEPLOY = """name: "own"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc2" type: "InnerProduct" bottom: "conv1" top: "fc2"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }
"""
SOLVER = """net: "train_val.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 4 display: 2
snapshot: 2 snapshot_prefix: "output/x"
"""


def recording(folder: Path, count: int = 6, sides: tuple[int, int] = SIDES, seed: int = 0) -> None:
    """``color/`` and ``depth/`` (millimetres): boxes before a wall, on a floor; some measurements are missing."""
    random = np.random.default_rng(seed)
    height, width = sides
    rows = np.linspace(0, 1, height)[:, None] * np.ones((1, width))
    for number in range(count):
        depth = np.minimum(2.6, 1.2 / np.maximum(rows - 0.35, 0.05)) * 1000
        color = np.dstack([150 - 60 * rows, 160 - 40 * rows, 170 - 90 * rows])
        for _ in range(3):
            y, x = random.integers(height // 3, height // 2), random.integers(0, 3 * width // 4)
            part = np.s_[y : y + height // 4, x : x + width // 6]
            depth[part], color[part] = random.uniform(900, 1500), random.uniform(20, 240, 3)
        depth[random.random(sides) < 0.05] = 0
        for kind, picture in (("color", color.astype(np.uint8)), ("depth", depth.astype(np.uint16))):
            path = folder / kind / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)


def pictures(folder: Path, count: int = 4, sides: tuple[int, int] = (60, 80), seed: int = 1) -> None:
    """Pictures of smooth colours."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        small = random.integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}.png"), cv2.resize(small, sides[::-1], interpolation=cv2.INTER_CUBIC))


def weights(model: str | Path, path: Path, seed: int = 0) -> None:
    """Random weights for a net."""
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    load_net(model).save(path)


def own_net(folder: Path) -> None:
    """A net of one's own: deploy.prototxt, train_val.prototxt, S.prototxt, its weights, names.txt, pictures/."""
    pictures(folder / "pictures")
    (folder / "names.txt").write_text("cat\ndog\nbird\n")
    (folder / "deploy.prototxt").write_text(DEPLOY)
    lines = [f"pictures/{number:04d}.png {number % 3}" for number in range(4)]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    data = (
        f'layer {{ name: "data" type: "ImageData" top: "data" top: "label" transform_param {{ {CAFFENET_MEAN} }} '
        'image_data_param { source: "list.txt" batch_size: 2 new_height: 32 new_width: 32 } }'
    )
    body = [line for line in DEPLOY.splitlines() if '"Input"' not in line and '"Softmax"' not in line]
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }'
    (folder / "train_val.prototxt").write_text("\n".join([body[0], data, *body[1:], loss]))
    (folder / "S.prototxt").write_text(SOLVER)
    weights(folder / "deploy.prototxt", folder / "net.caffemodel")
    for name in ("my", "a", "b"):
        shutil.copy(folder / "net.caffemodel", folder / f"{name}.caffemodel")


def franken_net(folder: Path) -> None:
    """A net for HHA that labels: franken_deploy.prototxt, franken.caffemodel, what it wants, and pairs.txt."""
    (folder / "franken_deploy.prototxt").write_text(DEPLOY.replace('"data"', '"da_data"'))
    weights(folder / "franken_deploy.prototxt", folder / "franken.caffemodel")
    made = Encoding("hha", camera=(615.0, 615.0, 319.5, 239.5))
    wanted = Preprocessing(
        "hha", mean=(104.0, 117.0, 123.0), resize=(32, 32), classes=("cat", "dog", "bird"), encoding=made
    )
    write_preparation(folder / "franken.preprocessing.json", Preparation({"da_data": wanted}))
    names = [path.name for path in sorted((folder / "color").glob("*.png"))]
    (folder / "pairs.txt").write_text("".join(f"color/{name} depth/{name}\n" for name in names))


def coco(folder: Path, count: int = 8, sides: tuple[int, int] = (120, 160)) -> None:
    """``set.json`` in COCO's style: frames with depth, of which each shows a box and a ball; a.jpg is one of them."""
    random = np.random.default_rng(3)
    images, annotations = [], []
    height, width = sides
    for number in range(count):
        color = np.full((*sides, 3), 170, np.uint8)
        depth = np.linspace(3000, 1200, height)[:, None] * np.ones((1, width))
        for label, value in ((1, (40, 60, 200)), (2, (200, 120, 30))):
            x, y = int(random.integers(5, 50) + 70 * (label - 1)), int(random.integers(30, 70))
            if label == 1:
                cv2.rectangle(color, (x, y), (x + 29, y + 34), value, -1)
                depth[y : y + 35, x : x + 30] -= 250
            else:
                cv2.circle(color, (x + 14, y + 17), 15, value, -1)
                mask = cv2.circle(np.zeros(sides, np.uint8), (x + 14, y + 17), 15, 1, -1)
                depth[mask > 0] -= 250
            box = [x, y, 30, 35] if label == 1 else [x - 1, y + 2, 31, 31]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box, "iscrowd": 0,
                 "area": box[2] * box[3], "segmentation": []}
            )  # fmt: skip
        for kind, picture in (("color", color), ("depth", depth.astype(np.uint16))):
            path = folder / "set" / kind / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
        split = "train" if number < count // 2 else "test"
        images.append(
            {"id": number, "file_name": f"set/color/{number:04d}.png", "depth": f"set/depth/{number:04d}.png",
             "height": height, "width": width, "split": split}
        )  # fmt: skip
    categories = [{"id": 1, "name": "box"}, {"id": 2, "name": "ball"}]
    (folder / "set.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    cv2.imwrite(str(folder / "a.jpg"), color)


def calibrations(folder: Path) -> None:
    """Camera files of a rig whose depth is half as large as its colour, and an accelerometer at rest."""
    eye = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    (folder / "camera.txt").write_text("615 615 319.5 239.5\n")
    for name, focal, (height, width) in (("color", 615, SIDES), ("depth", 307.5, (240, 320))):
        matrix = [focal, 0, (width - 1) / 2, 0, focal, (height - 1) / 2, 0, 0, 1]
        text = f"width: {width}\nheight: {height}\nK: {matrix}\nD: [0, 0, 0, 0, 0]\n"
        (folder / f"{name}.yaml").write_text(text)
    (folder / "extrinsics.json").write_text(json.dumps({"rotation": eye, "translation": [0.015, 0.0, 0.0]}))
    rows = [f"{STARTED + tick / 100:.3f},0.1,-9.7,-1.2" for tick in range(60)]
    (folder / "accel.csv").write_text("timestamp,x,y,z\n" + "\n".join(rows) + "\n")


def half_depth(folder: Path) -> None:
    """Depth at half the size, as a sensor gives that is not registered."""
    for path in (folder / "depth").glob("*.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), depth[::2, ::2])


def stamped(folder: Path) -> None:
    """A recording of a D455 whose names are time stamps (s)."""
    for kind in ("color", "depth"):
        shutil.rmtree(folder / kind)
    recording(folder, 3)
    for kind in ("color", "depth"):
        for number, path in enumerate(sorted((folder / kind).glob("*.png"))):
            path.rename(path.with_name(f"{STARTED + number / 10 + 0.05:.6f}.png"))


def clips(folder: Path) -> None:
    """Frames of drifting squares: clip.avi, frames/, a.png and b.png with their flow in true.flo, UCF-101/."""
    for name in ("frames", "UCF-101/Walk"):
        (folder / name).mkdir(parents=True)
    ground = np.random.default_rng(0).integers(60, 120, (48, 64, 3), np.uint8)
    found = []
    for number in range(4):
        frame = cv2.GaussianBlur(ground, (5, 5), 1)
        frame[12:30, 10 + 2 * number : 30 + 2 * number] = cv2.GaussianBlur(ground, (3, 3), 1)[5:23, 20:40] + 90
        found.append(frame)
        cv2.imwrite(str(folder / "frames" / f"{number:02d}.png"), frame)
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for frame in found:
        writer.write(frame)
    writer.release()
    shutil.copy(folder / "clip.avi", folder / "UCF-101/Walk/v_Walk_g01_c01.avi")
    (folder / "trainlist01.txt").write_text("Walk/v_Walk_g01_c01.avi 1\n")
    cv2.imwrite(str(folder / "a.png"), found[0])
    cv2.imwrite(str(folder / "b.png"), found[1])
    true = np.zeros((48, 64, 2), np.float32)
    true[12:30, 10:30, 0] = 2
    write_flo(folder / "true.flo", true)


def checkout(folder: Path) -> None:
    """A folder in which commands find what stands at the top of a checkout."""
    for name in ("tools", "prototxt", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data" / "fetch.py").symlink_to(ROOT / "data" / "fetch.py")
