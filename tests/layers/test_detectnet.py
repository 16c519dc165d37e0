"""DetectNet's layers against loops written down from NVIDIA/caffe's sources."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from cases_detectnet import CASES
from cases_rpn import named
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.detectnet import _Change, _moved, _round
from caffe_compat.layers.detectnet_boxes import group_rectangles

f32 = np.float32
Box = tuple[np.float32, np.float32, np.float32, np.float32]


def _both(a: Box, b: Box) -> Box:
    """OpenCV's Rect & Rect."""
    x, y = max(a[0], b[0]), max(a[1], b[1])
    w, h = min(a[0] + a[2], b[0] + b[2]) - x, min(a[1] + a[3], b[1] + b[3]) - y
    return (x, y, w, h) if w > 0 and h > 0 else (f32(0), f32(0), f32(0), f32(0))


def _coverage(boxes: list[Box], classes: list[int], **given) -> np.ndarray:  # type: ignore[no-untyped-def]
    """CoverageGenerator::generate, a cell at a time."""
    stride, (wide, high) = given["stride"], given["size"]
    labels = given.get("labels", {1: 0})
    columns, rows = wide // stride, high // stride
    out = np.zeros((9 + max(labels.values()), rows, columns), f32)
    for box, number in zip(boxes, classes, strict=True):
        if given.get("crop", True):
            box = _both(box, (f32(0), f32(0), f32(wide), f32(high)))
        if number not in labels or box[2] * box[3] < 1.1920929e-07:
            continue
        cx, cy = (box[0] + (box[0] + box[2])) * f32(0.5), (box[1] + (box[1] + box[3])) * f32(0.5)
        sides = [side * f32(given.get("scale", 0.5)) for side in box[2:]]
        if given.get("min"):
            sides = [min(side, max(f32(given["length"]), part)) for side, part in zip(box[2:], sides, strict=True)]
        else:
            sides = [min(f32(given["length"]), part) for part in sides]
        x1, y1 = cx - sides[0] * f32(0.5), cy - sides[1] * f32(0.5)
        x2, y2 = cx + sides[0] * f32(0.5), cy + sides[1] * f32(0.5)
        region = (x1, y1, x2 - x1, y2 - y1)
        for y, x in itertools.product(range(rows), range(columns)):
            cell = (f32(x * stride), f32(y * stride), f32(stride), f32(stride))
            shared = _both(region, cell)
            if not shared[2] * shared[3] / f32(stride * stride) > 1.1920929e-07:
                continue
            out[8:, y, x] = 0
            out[8 + labels[number], y, x] = 1
            norm = f32(stride * stride) / (region[2] * region[3])
            out[:8, y, x] = [
                1,
                *(box[0] - cell[0], box[1] - cell[1], box[0] + box[2] - cell[0], box[1] + box[3] - cell[1]),
                *(1 / box[2], 1 / box[3], max(f32(0 if given.get("norm") else 1), norm)),
            ]
    return out


def _label_blob(boxes: list[Box], classes: list[int], rows: int) -> torch.Tensor:
    blob = np.zeros((1, 1, rows, 16), f32)
    blob[0, 0, 0, :2] = len(boxes), 16
    for row, (box, number) in enumerate(zip(boxes, classes, strict=True), 1):
        blob[0, 0, row, :4], blob[0, 0, row, 5] = box, number
    return torch.from_numpy(blob)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("kind", ["min", "max"])
def test_targets(kind: str, crop: bool) -> None:
    text = (
        "detectnet_groundtruth_param { stride: 8 scale_cvg: 0.4 image_size_x: 64 image_size_y: 40 "
        f"gridbox_type: GRIDBOX_{kind.upper()} {kind}_cvg_len: 11 obj_norm: {str(crop).lower()} "
        f"crop_bboxes: {str(crop).lower()} object_class {{ src: 1 dst: 2 }} object_class {{ src: 7 dst: 0 }} }}"
    )
    layer = one_layer("DetectNetTransformation", text, (1, 3, 40, 64), (1, 1, 12, 16), tops=("a", "b"))
    random = np.random.default_rng(1)
    for _ in range(8):
        corners = random.uniform(-20, 60, (9, 2))
        boxes = [tuple(f32(v) for v in (*corner, *random.uniform(0, 40, 2))) for corner in corners]
        boxes[0] = (f32(8), f32(8), f32(16), f32(16))  # edges on those of cells
        boxes[1] = (f32(3), f32(3), f32(0), f32(5))  # nothing
        classes = [int(value) for value in random.choice([1, 7, 3], 9)]
        got = layer(torch.zeros(1, 3, 40, 64), _label_blob(boxes, classes, 12))[1][0].numpy()
        want = _coverage(
            boxes, classes, stride=8, size=(64, 40), scale=0.4, length=11, norm=crop, crop=crop,
            labels={1: 2, 7: 0}, **{kind: True},
        )  # fmt: skip
        assert np.allclose(got, want, rtol=2e-7, atol=1e-6) and (got[0] == want[0]).all()
        assert 0 < want[0].sum() < want[0].size


def test_pictures_in_test_are_only_resized() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 30, 50)).astype(f32))
    body, shapes, options = CASES["DetectNetTransformation"][0]
    layer = one_layer("DetectNetTransformation", body, *shapes, tops=("a", "b"))
    objects = torch.tensor(options["values"][1], dtype=torch.float32).reshape(shapes[1])
    pictures, targets = layer(pixels, objects)
    for item in range(2):
        whole = np.ascontiguousarray(pixels[item].numpy().transpose(1, 2, 0)) / 255 - f32(127) / f32(255)
        want = cv2.resize(whole, (48, 32), interpolation=cv2.INTER_CUBIC) * 255
        assert np.abs(pictures[item].numpy().transpose(1, 2, 0) - want).max() < 1e-3
    scaled = [(f32(v) * s for v, s in zip((5, 4, 20, 18), (0.96, 32 / 30) * 2, strict=True))]
    want = _coverage([tuple(f32(v) for v in scaled[0])], [1], stride=8, size=(48, 32), length=12)  # type: ignore[misc]
    assert np.allclose(targets[0].numpy(), want, atol=1e-5) and not targets[1].any()


def test_objects_follow_their_pictures_in_train() -> None:
    """A bright rectangle stays where its object is, whatever changes."""
    text = (
        "detectnet_groundtruth_param { stride: 4 image_size_x: 80 image_size_y: 60 crop_bboxes: false max_cvg_len: 4 }"
        "detectnet_augmentation_param { crop_prob: 1 shift_x: 4 shift_y: 4 flip_prob: 0.5 rotation_prob: 0.7 "
        "max_rotate_degree: 8 scale_prob: 1 scale_min: 0.9 scale_max: 1.3 }"
    )
    torch.manual_seed(3)
    layer = one_layer("DetectNetTransformation", text, (1, 3, 64, 90), (1, 1, 2, 16), tops=("a", "b"), phase="TRAIN")
    pixels = torch.zeros(1, 3, 64, 90)
    pixels[:, :, 20:40, 30:60] = 255
    changed, seen = set(), 0
    for _ in range(30):
        picture, targets = layer(pixels, _label_blob([(f32(30), f32(20), f32(30), f32(20))], [1], 2))
        bright = (picture[0].amax(0) > 127).nonzero().float()
        if not targets[0, 0].any():
            continue
        seen += 1
        y, x = (int(place[0]) for place in targets[0, 0].nonzero(as_tuple=True))
        corners = targets[0, 1:5, y, x] + torch.tensor([x, y, x, y]) * 4
        middle = (corners[:2] + corners[2:]) / 2
        inner = bool((bright.amin(0) > 0).all()) and bool((bright.amax(0) < torch.tensor([59, 79])).all())
        if inner:
            assert (middle - (bright.amin(0) + bright.amax(0)).flip(0) / 2).abs().max() < 1.6
        changed.add(tuple(corners.round().tolist()))
    assert seen > 20 and len(changed) > 15


def test_moves_of_boxes() -> None:
    boxes = np.array([[4, 2, 10, 6]], f32)
    assert _moved(boxes, _Change((50, 40), flip=True), (50, 40)).tolist() == [[35, 2, 10, 6]]
    assert np.allclose(_moved(boxes, _Change((100, 60), corner=(3, -2)), (50, 40)), [[5, 5, 20, 9]])
    right = _moved(boxes, _Change((50, 40), angle=90), (50, 40))  # clockwise, about the middle, into a larger frame
    assert np.allclose(right[0, :2] + right[0, 2:] / 2, [40 - 5, 9], atol=1.01) and right[0, 2:].tolist() == [10, 6]
    assert [_round(value) for value in (-2.5, -0.4, 0.5, 1.4)] == [-3, 0, 1, 1]


def _grouped(boxes: np.ndarray, threshold: int, eps: float) -> list[tuple[list[int], int]]:
    """cv::groupRectangles with cv::partition, rectangle by rectangle."""
    if threshold <= 0:
        return [(box.tolist(), 1) for box in boxes]
    parent = list(range(len(boxes)))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for i, j in itertools.product(range(len(boxes)), repeat=2):
        a, b = boxes[i], boxes[j]
        delta = eps * (min(a[2], b[2]) + min(a[3], b[3])) * 0.5
        edges = [(c[0], c[1], c[0] + c[2], c[1] + c[3]) for c in (a, b)]
        if all(abs(int(p) - int(q)) <= delta for p, q in zip(*edges, strict=True)):
            parent[root(i)] = root(j)
    order = list(dict.fromkeys(root(i) for i in range(len(boxes))))
    means = []
    for name in order:
        own = [boxes[i] for i in range(len(boxes)) if root(i) == name]
        part = f32(1) / f32(len(own))
        means.append(([int(np.rint(f32(sum(int(box[k]) for box in own)) * part)) for k in range(4)], len(own)))
    kept = []
    for i, (r1, n1) in enumerate(means):
        if n1 <= threshold:
            continue
        for j, (r2, n2) in enumerate(means):
            if j == i or n2 <= threshold:
                continue
            dx, dy = int(np.rint(r2[2] * eps)), int(np.rint(r2[3] * eps))
            if (
                r1[0] >= r2[0] - dx and r1[1] >= r2[1] - dy
                and r1[0] + r1[2] <= r2[0] + r2[2] + dx and r1[1] + r1[3] <= r2[1] + r2[3] + dy
                and (n2 > max(3, n1) or n1 < 3)
            ):  # fmt: skip
                break
        else:
            kept.append((r1, n1))
    return kept


def test_groups_of_rectangles() -> None:
    random = np.random.default_rng(0)
    dropped = 0
    for threshold, eps in itertools.product((0, 1, 2), (0.02, 0.2, 0.6)):
        for _ in range(6):
            places = random.integers(0, 40, (6, 4)) + [0, 0, 10, 10]
            places[1] = places[0] + [3, 3, -6, -6]  # one inside another
            boxes = (places[random.integers(0, 6, 40)] + random.integers(-2, 3, (40, 4))).astype(np.int64)
            want = _grouped(boxes, threshold, eps)
            got, number = group_rectangles(boxes, threshold, eps)
            assert [(box, n) for box, n in zip(got.tolist(), number.tolist(), strict=True)] == want
            dropped += len(want) < len(boxes)
    assert dropped > 20
    assert len(group_rectangles(np.zeros((0, 4), np.int64), 1, 0.2)[0]) == 0


def test_boxes_of_a_grid() -> None:
    body = named("caffe.layers.detectnet.clustering", "ClusterDetections", "64, 40, 8, 0.6, 2, 0.1, 9, 2")
    layer = one_layer("Python", body, (2, 2, 6, 8), (2, 4, 6, 8), tops=("a", "b"))
    coverage, corners = torch.zeros(2, 2, 6, 8), torch.zeros(2, 4, 6, 8)
    places = [(1, 1), (1, 2), (2, 2), (5, 3)]  # the last row is cut off: 40 / 8 = 5 rows
    for y, x in places:
        coverage[1, 1, y, x] = 0.6
        corners[1, :, y, x] = torch.tensor([10.5 - 8 * x, 4 - 8 * y, 30 - 8 * x, 24 - 8 * y])
    first, second = layer(coverage, corners)
    assert not first.any() and not second[0].any()
    assert second[1, 0].tolist() == [10, 4, 29, 24, float(np.float16(math.log(3)))]  # 19.5 is cut to 19
    assert not second[1, 1:].any()
    few = one_layer(
        "Python", body, (1, 2, 3, 4), (1, 4, 3, 4), tops=("a", "b")
    )  # of a smaller picture: all cells count
    assert torch.equal(few(coverage[1:, :, :3, :4], corners[1:, :, :3, :4])[1], second[1:])
    low = one_layer("Python", body.replace(", 9, 2", ", 21, 2"), (2, 2, 6, 8), (2, 4, 6, 8), tops=("a", "b"))
    assert not low(coverage, corners)[1].any()  # 20 pixels high
    truth = one_layer(
        "Python", named("caffe.layers.detectnet.clustering", "ClusterGroundtruth", "64, 40, 8, 2"),
        (2, 2, 6, 8), (2, 4, 6, 8), tops=("a", "b"),
    )  # fmt: skip
    assert truth(coverage, corners)[1][1, :2].tolist() == [[10.5, 4, 30, 24, 0], [0] * 5]


def test_scores_of_boxes() -> None:
    truth, found = torch.zeros(1, 50, 5), torch.zeros(1, 50, 5)
    truth[0, :3] = torch.tensor([[0, 0, 10, 10, 0], [20, 20, 40, 40, 0], [50, 50, 60, 60, 0]])
    found[0, :4] = torch.tensor([[0, 0, 10, 7, 2.0], [0, 0, 10, 10, 1], [21, 20, 40, 40, 1], [30, 30, 40, 40, 1]])
    judge = one_layer("Python", named("caffe.layers.detectnet.mean_ap", "ScoreDetections", ""), (1, 50, 5), (1, 50, 5))
    marked = judge(truth, found)
    assert marked[0, :6].tolist() == [
        *([0, 0, 10, 7, 1], [21, 20, 40, 40, 1], [0, 0, 10, 10, 2], [30, 30, 40, 40, 2], [50, 50, 60, 60, 3], [0] * 5),
    ]
    mean = one_layer("Python", named("caffe.layers.detectnet.mean_ap", "mAP", "1"), (1, 50, 5), tops=("a", "b", "c"))
    precision, recall = 50.0, 100 * 2 / 3
    assert torch.cat(mean(marked)).tolist() == pytest.approx([precision * recall / 100, precision, recall])
    assert torch.cat(mean(torch.zeros(1, 50, 5))).tolist() == [0, 0, 0]


def test_l1_loss() -> None:
    a = torch.tensor([[1.0, -2, 3], [0, 5, 0.5]], requires_grad=True)
    b = torch.tensor([[1.0, 2, 1], [1, 4, 0.5]], requires_grad=True)
    loss = one_layer("L1Loss", "", (2, 3), (2, 3))(a, b)
    assert loss.item() == (4 + 2 + 1 + 1) / 2
    loss.backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.tolist() == [[0, -0.5, 0.5], [-0.5, 0.5, 0]] and b.grad.tolist() == (-a.grad).tolist()


def test_bad_input() -> None:
    body, shapes, _ = CASES["DetectNetTransformation"][0]
    layer = one_layer("DetectNetTransformation", body, *shapes, tops=("a", "b"))
    for row, message in (([5, 16], "5 objects of 16"), ([1, 5], "1 objects of 5"), ([math.nan, 16], "nan objects")):
        objects = torch.zeros(shapes[1])
        objects[0, 0, 0, :2] = torch.tensor(row)
        with pytest.raises(LayerError, match=f"'under_test'.*{message}"):
            layer(torch.zeros(shapes[0]), objects)
    objects = torch.zeros(shapes[1])
    objects[0, 0, 0, :2], objects[0, 0, 1, 2] = torch.tensor([1, 16]), math.nan
    with pytest.raises(LayerError, match="NaN"):
        layer(torch.zeros(shapes[0]), objects)
    for text, message in (("scale_min: 2", "scales 2 to 1"), ("flip_prob: 1.5", "flip_prob is 1.5")):
        with pytest.raises(LayerError, match=message):
            one_net("DetectNetTransformation", f"{body} detectnet_augmentation_param {{ {text} }}", shapes, ("a", "b"))
    with pytest.raises(ShapeError, match="three channels"):
        one_net("DetectNetTransformation", body, [(2, 1, 30, 50), shapes[1]], ("a", "b"))
    cluster = named("caffe.layers.detectnet.clustering", "ClusterDetections", "48, 32, 8, x, 1, 0.2, 3")
    with pytest.raises(LayerError, match="gridbox_cvg_threshold"):
        one_net("Python", cluster, [(1, 1, 4, 6), (1, 4, 4, 6)])
    with pytest.raises(ShapeError, match="expected 4 channels"):
        one_net("Python", cluster.replace("x,", "0.5,"), [(1, 1, 4, 6), (1, 3, 4, 6)])
    grid = one_layer("Python", cluster.replace("x,", "0.5,"), (1, 1, 4, 6), (1, 4, 4, 6))
    with pytest.raises(LayerError, match="'x1' holds NaN"):
        grid(torch.zeros(1, 1, 4, 6), torch.full((1, 4, 4, 6), math.nan))
