"""ImageGtData, DetectionData and EvalData against loops written down from the forks' sources, with the same draws."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_files import BOX_PICTURES, image, write_box_lists
from one_layer import one_layer
from test_cascade import corner_overlap
from test_grid_detection import Row, overlap

from caffe_compat.errors import CaffeCompatError, DataError, LayerError
from caffe_compat.layers.data import DetectionData, EvalData, ImageGtData

f32 = np.float32
MAPS = [(8, 12, 4), (16, 10, 8)]  # width, height, stride
FIELDS = "field_w: 8 field_h: 12 field_w: 16 field_h: 10"
Layer = ImageGtData | DetectionData | EvalData


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxes")
    write_box_lists(path)
    return path


def _layer(kind: str, folder: Path, fields: str, transform: str = "", tops: int = 4) -> Layer:
    message, name = {
        "ImageGtData": ("image_gt_data_param", "mscnn"),
        "DetectionData": ("detection_data_param", "cascade"),
        "EvalData": ("eval_data_param", "cascade"),
    }[kind]
    text = f'{message} {{ source: "{folder}/{name}.txt" root_folder: "{folder}/" {fields} }}'
    torch.manual_seed(5)
    names = tuple(f"y{k}" for k in range(tops))
    layer = one_layer(kind, f"{text} transform_param {{ {transform} }}", tops=names, phase="TRAIN")
    assert isinstance(layer, (ImageGtData, DetectionData, EvalData))
    return layer


def _round(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


class Slow:
    """One picture, step by step; ``pixel``: Cascade R-CNN."""

    def __init__(self, number: int, random: np.random.Generator, mirror: bool, pixel: int) -> None:
        _, _, boxes, outside = BOX_PICTURES[number]
        self.pixels, self.random, self.pixel = image(number, *BOX_PICTURES[number][:2]), random, pixel
        self.marks = [list(row[:3]) for row in boxes]
        self.boxes = [[f32(v) for v in row[3:]] for row in boxes]
        self.outside = [[f32(v) for v in row] for row in outside]
        if mirror and random.integers(2):
            width = f32(self.pixels.shape[1])
            self.pixels = self.pixels[:, ::-1]
            for rows in (self.boxes, self.outside):
                rows[:] = [[width - x2, y1, width - x1, y2] for x1, y1, x2, y2 in rows]

    def affine(self, sx: float, sy: float, dx: float, dy: float) -> None:
        for rows in (self.boxes, self.outside):
            rows[:] = [
                [
                    f32(f32(sx) * x1) + f32(dx),
                    f32(f32(sy) * y1) + f32(dy),
                    f32(f32(sx) * x2) + f32(dx),
                    f32(f32(sy) * y2) + f32(dy),
                ]
                for x1, y1, x2, y2 in rows
            ]

    def resize(self, width: int, height: int) -> None:
        high, wide = self.pixels.shape[:2]
        if (high, wide) != (height, width):
            self.affine(f32(width) / f32(wide), f32(height) / f32(high), 0, 0)
            self.pixels = cv2.resize(np.ascontiguousarray(self.pixels), (width, height), interpolation=cv2.INTER_LINEAR)

    def octaves(self, low: int, high: int, aspects: tuple[float, float], box: Row) -> tuple[float, float]:
        """ImageGtData's multiple scaling."""
        if not self.random.integers(2):
            return 1.0, 1.0
        count = _round(2 * math.log2(high / low) + 1)
        steps = [f32(k / 2) for k in range(count)]
        wide, tall = box[2] - box[0], box[3] - box[1]
        best, match = f32(0), f32(0)
        for step in steps:
            area, field = f32(wide * tall), f32(low * low * 2.0 ** float(step) * 2.0 ** float(step))
            alike = min(area, field) / max(area, field)
            if alike > best:
                best, match = alike, step
        factor = f32(2.0 ** float(steps[int(self.random.integers(count))] - match))
        x = y = float(factor)
        if self.random.integers(2):
            number = _round((f32(aspects[1]) - f32(aspects[0])) / f32(0.05))
            aspect = f32(self.random.integers(number)) * f32(0.05) + f32(aspects[0])
            change = aspect / (wide / tall)
            if self.random.integers(2):
                x = float(f32(x) * change) if low * 0.8 <= wide * f32(x) * change <= high * 1.2 else x
            else:
                y = float(f32(y) / change) if low * 0.8 <= tall * f32(y) / change <= high * 1.2 else y
        return x, y

    def scales(self, low: float, high: float, box: Row | None) -> tuple[float, float]:
        """DetectionData's, with a probability of 0.8 and ratios of 0.5 to 2."""
        if not self.random.random() < 0.8:
            return 1.0, 1.0
        ends = [1.0, 1.0]
        if box is not None:
            scale = np.sqrt((box[2] - box[0] + f32(1)) * (box[3] - box[1] + f32(1)))
            ends = [math.log2(f32(low) / scale), math.log2(f32(high) / scale)]
        factor = f32(2.0 ** self.random.uniform(*ends))
        root = np.sqrt(f32(2.0 ** self.random.uniform(-1.0, 1.0)))
        return float(factor * root), float(factor / root)

    def place(self, height: int, width: int, scaling: object) -> tuple[np.ndarray, tuple[int, ...]]:
        """What is in the top, and offsets and sizes (x, y, width, height) of what was copied."""
        high, wide = self.pixels.shape[:2]
        chosen = None
        if self.boxes:
            chosen = self.boxes[int(self.random.integers(len(self.boxes)))]
            cx, cy = (chosen[0] + chosen[2]) / f32(2), (chosen[1] + chosen[3]) / f32(2)
        else:
            cx = f32(wide / 2 if wide < width else int(self.random.integers(wide - width + 1)) + width / 2)
            cy = f32(high / 2 if high < height else int(self.random.integers(high - height + 1)) + height / 2)
        fx = fy = 1.0
        if scaling is not None and (self.pixel or chosen is not None):
            kind, *rest = scaling
            fx, fy = getattr(self, kind)(*rest, chosen)
        if (fx, fy) != (1, 1):
            if fx > 1.5 or fy > 1.5:
                cw, ch = min(_round(1.2 * wide / fx), wide), min(_round(1.2 * high / fy), high)
                x1, y1 = max(_round(float(cx) - cw * 0.5), 0), max(_round(float(cy) - ch * 0.5), 0)
                x1, y1 = x1 - max(x1 + cw - wide, 0), y1 - max(y1 + ch - high, 0)
                self.pixels = self.pixels[y1 : y1 + ch, x1 : x1 + cw]
                cx, cy = cx - f32(x1), cy - f32(y1)
                self.affine(1, 1, -x1, -y1)
            size = _round(f32(self.pixels.shape[1]) * f32(fx)), _round(f32(self.pixels.shape[0]) * f32(fy))
            self.pixels = np.ascontiguousarray(self.pixels)
            if size != self.pixels.shape[1::-1]:
                self.pixels = cv2.resize(self.pixels, size, interpolation=cv2.INTER_LINEAR)
            self.affine(fx, fy, 0, 0)
        noise = int(self.random.integers(-10, 10)), int(self.random.integers(-10, 10))
        found = []
        for axis, (own, end, centre, factor) in enumerate(
            zip(self.pixels.shape[1::-1], (width, height), (cx, cy), (fx, fy), strict=True)
        ):
            if own < end:
                found.append((min(max(0, _round((end - own) / 2.0) + noise[axis]), end - own), 0, own))
            elif own > end:
                middle = _round(float(centre * f32(factor))) + noise[axis]
                found.append((0, min(max(0, middle - _round(end / 2.0)), own - end), end))
            else:
                found.append((0, 0, end))
        (sx, dx, w), (sy, dy, h) = found
        top = np.zeros((3, height, width), np.float32)
        part = self.pixels[dy : dy + h, dx : dx + w].astype(np.float32)
        top[:, sy : sy + h, sx : sx + w] = ((part - f32([10, 20, 30])) * f32(0.5)).transpose(2, 0, 1)
        self.affine(1, 1, sx - dx, sy - dy)
        return top, (sx, sy, w, h)

    def overlap(self, a: Row, b: Row, kind: str = "IOU") -> float:
        if self.pixel:
            return corner_overlap([f32(v) for v in a], [f32(v) for v in b], kind)
        spans = [[box[0], box[1], box[2] - box[0], box[3] - box[1]] for box in (a, b)]
        if kind == "IOU":
            return overlap(spans[0], spans[1], 0)
        own = overlap(spans[0], spans[1], 0)  # over / (A + B - over), so over = own (A + B) / (1 + own)
        areas = [span[2] * span[3] for span in spans]
        return own * sum(areas) / (1 + own) / areas[0]

    def learn(self, size: tuple[int, int], window: tuple[int, ...], margin: float | None) -> list[np.ndarray]:
        """All maps; boxes smaller than 3 pixels are ignored."""
        height, width = size
        for box, mark in zip(self.boxes, self.marks, strict=True):
            xc, yc = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if not (0 <= xc < width and 0 <= yc < height) or min(box[2] - box[0] + 1, box[3] - box[1] + 1) < 3:
                mark[1] = 1
        maps = []
        times, best, level = Counter[int](), [0.0] * len(self.boxes), [0] * len(self.boxes)
        sx, sy, cw, ch = window
        for number, (fw, fh, stride) in enumerate(MAPS):
            one = np.zeros((6, _round(height / stride), _round(width / stride)))
            maps.append(one)
            for h, w in np.ndindex(one.shape[1:]):
                inside = _round(sx / stride) <= w < _round(sx / stride) + _round(cw / stride)
                inside &= _round(sy / stride) <= h < _round(sy / stride) + _round(ch / stride)
                x, y = (w + 0.5) * stride, (h + 0.5) * stride
                anchor = [x - fw / 2, y - fh / 2, x + fw / 2, y + fh / 2]
                if margin is not None:
                    mx, my = margin * fw / 2, margin * fh / 2
                    inside &= sx - mx <= anchor[0] and anchor[2] < sx + cw + mx
                    inside &= sy - my <= anchor[1] and anchor[3] < sy + ch + my
                away = sum(self.overlap(anchor, other, "IOFU") for other in self.outside) >= 0.4
                if not inside or (away and not self.pixel):
                    one[5, h, w] = 1
                    continue
                most, which = 0.0, -1
                for g, box in enumerate(self.boxes):
                    value = self.overlap(box, anchor)
                    if value > most:
                        most, which = value, g
                    if value > best[g]:
                        best[g], level[g] = value, number
                one[5, h, w] = 1 if away and most <= 0.3 else most
                if most > 0.3:
                    one[0, h, w] = 0 if self.marks[which][1] else self.marks[which][0]
                    one[1:5, h, w] = self.span(which)
                    times[which] += 1
        for g in range(len(self.boxes)):
            if self.marks[g][1] or times[g] or best[g] < 0.2:
                continue
            one, (x, y, *_) = maps[level[g]], self.span(g)
            stride = MAPS[level[g]][2]
            w, h = (min(max(math.floor(v / stride), 0), end - 1) for v, end in ((x, one.shape[2]), (y, one.shape[1])))
            if one[0, h, w] > 0:
                continue
            one[0, h, w], one[1:5, h, w] = self.marks[g][0], self.span(g)
            if self.pixel:
                one[5, h, w] = best[g]
        return maps

    def span(self, g: int) -> Row:
        x1, y1, x2, y2 = self.boxes[g]
        return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1 + self.pixel, y2 - y1 + self.pixel]

    def rows(self, item: int) -> list[Row]:
        return [[item, *box, *mark[: 2 + self.pixel]] for box, mark in zip(self.boxes, self.marks, strict=True)]


TRANSFORM = "mirror: true mean_value: 10 mean_value: 20 mean_value: 30"
LEAST = "fg_threshold: 0.3 min_gt_width: 3 min_gt_height: 3 output_gt_boxes: true"


def _same(
    tops: tuple[torch.Tensor, ...], data: list[np.ndarray], maps: list[list[np.ndarray]], rows: list[Row]
) -> None:
    np.testing.assert_allclose(tops[0].numpy(), np.stack(data), atol=1e-4)
    for top, want in zip(tops[1:-1], zip(*maps, strict=True), strict=True):
        np.testing.assert_allclose(top.numpy(), np.stack(want), atol=2e-4)
    np.testing.assert_allclose(tops[-1][..., 0, 0].numpy(), rows, atol=1e-4)


def test_image_gt_data(folder: Path) -> None:
    fields = (
        f"batch_size: 3 {FIELDS} downsample_rate: 4 downsample_rate: 8 {LEAST} resize_width: 36 resize_height: 40 "
        "crop_width: 32 crop_height: 24 do_multiple_scale: true min_scale: 8 max_scale: 20 min_whaspect: 0.4 "
        "max_whaspect: 2 scale: 0.5 shuffle: true"
    )
    layer = _layer("ImageGtData", folder, fields, TRANSFORM)
    assert layer.top_shapes([]) == [(3, 3, 24, 32), (3, 6, 6, 8), (3, 6, 3, 4), (1, 7, 1, 1)]
    classes = Counter[float]()
    for batch in range(12):
        job, tops = layer.job(batch), layer()
        random = np.random.default_rng(job.seed)
        data, maps, rows = [], [], []
        for place, item in enumerate(job.items):
            slow = Slow(item.picture.number, random, True, 0)
            slow.resize(36, 40)
            top, window = slow.place(24, 32, ("octaves", 8, 20, (0.4, 2.0)))
            data.append(top)
            maps.append(slow.learn((24, 32), window, None))
            rows += slow.rows(place)
        _same(tops, data, maps, rows)
        classes.update(tops[1][:, 0].flatten().tolist() + tops[2][:, 0].flatten().tolist())
    assert classes[1] > 5 and classes[2] > 5


@pytest.mark.parametrize("margin", [None, 0.5])
def test_detection_data(folder: Path, margin: float | None) -> None:
    fields = (
        f"batch_size: 2 {FIELDS} stride: 4 stride: 8 {LEAST} short_size: 32 long_size: 64 min_scale: 8 max_scale: 20 "
        'min_whaspect: 0.5 max_whaspect: 2 multiscale_prob: 0.8 shuffle: "random"'
    )
    fields += f" anchor_ignore_margin_ratio: {margin}" if margin else ""
    layer = _layer("DetectionData", folder, fields, TRANSFORM + " scale: 0.5")
    assert layer.top_shapes([]) == [(2, 3, 64, 32), (2, 6, 16, 8), (2, 6, 8, 4), (1, 8, 1, 1)]
    classes, shapes = Counter[float](), set()
    for batch in range(10):
        job, tops = layer.job(batch), layer()
        random = np.random.default_rng(job.seed)
        data, maps, rows = [], [], []
        size = (0, 0)
        for place, item in enumerate(job.items):
            slow = Slow(item.picture.number, random, True, 1)
            high, wide = slow.pixels.shape[:2]
            scale = f32(32) / f32(min(high, wide))
            slow.resize(_round(f32(wide) * scale), _round(f32(high) * scale))
            if not place:
                size = (64, 32) if high >= wide else (32, 64)
            top, window = slow.place(*size, ("scales", 8.0, 20.0))
            data.append(top)
            maps.append(slow.learn(size, window, margin))
            rows += slow.rows(place)
        _same(tops, data, maps, rows or [[-1] * 8])
        shapes.add(tuple(tops[0].shape))
        classes.update(tops[1][:, 0].flatten().tolist() + tops[2][:, 0].flatten().tolist())
    assert len(shapes) == 2 and classes[1] > 5 and classes[2] > 5


def test_orders_by_which_way_pictures_lie(folder: Path) -> None:
    """Pictures 0 and 3 are higher than wide."""
    fields = f"batch_size: 1 {FIELDS} stride: 4 stride: 8 output_gt_boxes: true"
    for kind, allowed in (("random_aspect", {"HHWW", "WWHH"}), ("random_mix_aspect", {"HWHW", "WHWH"})):
        layer = _layer("DetectionData", folder, f'{fields} shuffle: "{kind}" mix_group_size: 1')
        seen = set()
        for epoch in range(12):
            numbers = [layer.order[4 * epoch + k] for k in range(4)]
            assert sorted(numbers) == [0, 1, 2, 3]
            seen.add("".join("H" if number in (0, 3) else "W" for number in numbers))
        assert seen == allowed
    layer = _layer("DetectionData", folder, fields)
    assert [tuple(layer()[0].shape[2:]) for _ in range(5)] == [(40, 30), (24, 32), (20, 44), (36, 28), (40, 30)]


def test_template_ratio_and_distortion(folder: Path) -> None:
    fields = f"batch_size: 1 {FIELDS} stride: 4 stride: 8 output_gt_boxes: true short_size: 32 long_size: 64 "
    fields += "template_ratio: 1 template_ratio: 2 distort_param { brightness_prob: 1 brightness_delta: 32 }"
    layer = _layer("DetectionData", folder, fields)
    assert {tuple(layer()[0].shape[2:]) for _ in range(24)} == {(64, 32), (32, 64), (128, 64), (64, 128)}
    bright = {round(float(layer()[0].max()), 3) for _ in range(8)}
    assert len(bright) > 2


def test_eval_data(folder: Path) -> None:
    layer = _layer("EvalData", folder, "batch_size: 1 short_size: 50 long_size: 70", "mean_value: 3 scale: 0.5", tops=3)
    for number, (height, width, boxes, _) in enumerate(BOX_PICTURES):
        data, rows, sizes = (top.numpy() for top in layer())
        scale = 50 / min(height, width)
        high, wide = (round(min(_round(side * scale), 70) / 32) * 32 for side in (height, width))
        assert sizes.reshape(-1).tolist() == [high, wide]
        picture = cv2.resize(image(number, height, width), (wide, high), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(data[0], (picture.transpose(2, 0, 1) - f32(3)) * 0.5, atol=1e-4)
        by = np.array([wide / width, high / height] * 2)
        want = [[0, *(np.array(row[3:]) * by), *row[:3]] for row in boxes] or [[-1] * 8]
        np.testing.assert_allclose(rows[..., 0, 0], want, atol=1e-3)


def test_files_kept_in_memory_give_the_same(folder: Path, tmp_path: Path) -> None:
    write_box_lists(tmp_path)
    fields = f"batch_size: 4 {FIELDS} downsample_rate: 4 downsample_rate: 8 output_gt_boxes: true resize_width: 32 "
    fields += "resize_height: 32"
    plain = _layer("ImageGtData", folder, fields)()
    layer = _layer("ImageGtData", tmp_path, f"{fields} cache_images: true")
    for path in tmp_path.glob("*.png"):
        path.unlink()
    assert all(torch.equal(one, other) for one, other in zip(plain, layer(), strict=True))


def test_pictures_with_boxes_several_times(folder: Path) -> None:
    fields = f"batch_size: 1 {FIELDS} downsample_rate: 4 downsample_rate: 8 output_gt_boxes: true fg_img_multiple: 3 "
    layer = _layer("ImageGtData", folder, f"{fields} resize_width: 32 resize_height: 32")
    assert [one.number for one in layer.pictures] == [0, 0, 0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("kind", "fields", "what"),
    [
        ("ImageGtData", "field_w: 8 field_h: 8 downsample_rate: 0", "expected as many positive numbers of each"),
        ("ImageGtData", f"{FIELDS} downsample_rate: 4", "2 field_w, 2 field_h and 1 downsample_rate"),
        ("ImageGtData", "field_w: 8 field_h: 8 downsample_rate: 4", "has 4 tops, expected 2"),
        (
            "ImageGtData",
            f"{FIELDS} downsample_rate: 4 downsample_rate: 8 output_gt_boxes: true resize_width: 30 resize_height: 30",
            "no whole cells of 4 pixels",
        ),
        (
            "ImageGtData",
            f"{FIELDS} downsample_rate: 4 downsample_rate: 8 output_gt_boxes: true crop_width: 99 crop_height: 8",
            "crop of 99x8, expected at most 28x36",
        ),
        (
            "DetectionData",
            f"{FIELDS} stride: 4 stride: 8 output_gt_boxes: true resize_ratio: 2 short_size: 3 long_size: 9",
            "expected one",
        ),
        (
            "DetectionData",
            f'{FIELDS} stride: 4 stride: 8 output_gt_boxes: true shuffle: "by_size"',
            "shuffle 'by_size'",
        ),
        (
            "DetectionData",
            f"{FIELDS} stride: 4 stride: 8 output_gt_boxes: true min_scale: 9 max_scale: 3",
            "scales 9 to 3",
        ),
        ("EvalData", "batch_size: 2", "expected 1 without resize_width"),
    ],
)
def test_refusals(folder: Path, kind: str, fields: str, what: str) -> None:
    with pytest.raises(LayerError, match=f"under_test.*{what}"):
        _layer(
            kind,
            folder,
            f"batch_size: 1 {fields}" if "batch_size" not in fields else fields,
            tops=4 - (kind == "EvalData"),
        )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the list is empty"),
        ("0 a.png 3 4 5 0 0", "image 0: begins with '0', expected '#'"),
        ("# 0 a.png 3 4 5 1 1 0 0 1 1 2", "image 0: expected .*the file ends too early"),
        ("# 0 a.png 3 4 5 1 0 0 0 1 1 2 2 0", "a class of 0"),
        ("# 0 a.png 3 4 5 1 1 0 0 3 1 2 2 0", "whose corners are swapped"),
        ("# 0 a.png 3 4 5.5 0 0", "invalid literal"),
        ("# 1 a.png 3 4 5 0 0", "a picture number 1, expected 0 to 0"),
        ("# 0 a.png 1 4 5 0 0", "1 channels, expected 3"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "cascade.txt").write_text(text)
    with pytest.raises(CaffeCompatError, match=what):
        _layer("EvalData", tmp_path, "batch_size: 1", tops=3)


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "cascade.txt").write_text("# 0 none.png 3 4 5 0 0\n")
    layer = _layer("EvalData", tmp_path, "batch_size: 1", tops=3)
    with pytest.raises(DataError, match=r"under_test.*cascade.txt: .*none.png"):
        layer()
