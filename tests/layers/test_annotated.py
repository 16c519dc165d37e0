"""AnnotatedData: TEST to the pixel, what TRAIN draws, boxes against loops of the original's source."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_files import annotated, image, write_lmdb
from one_layer import one_layer

from caffe_compat.batches import augmenting
from caffe_compat.errors import CaffeCompatError, LayerError
from caffe_compat.layers import Layer
from caffe_compat.media import annotations as boxes_of
from caffe_compat.proto import caffe_pb2, parse_text

f32 = np.float32
BOXES = [
    [(1, 0.1, 0.2, 0.6, 0.9), (3, 0.5, 0.5, 1.0, 0.8, 1)],
    [(2, 0.0, 0.0, 0.25, 0.25)],
    [],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lmdb(tmp_path / "db", [annotated(number, boxes) for number, boxes in enumerate(BOXES)])
    write_lmdb(tmp_path / "none", [annotated(0, [])])
    return tmp_path


def _layer(folder: Path, transform: str = "", more: str = "", phase: str = "TEST", **options: Any) -> Layer:
    size, name = options.get("batch", 3), options.get("name", "db")
    body = (
        f'data_param {{ source: "{folder}/{name}" backend: LMDB batch_size: {size} }} '
        f"transform_param {{ {transform} }} annotated_data_param {{ {more} }}"
    )
    return one_layer("AnnotatedData", body, tops=("data", "label"), phase=phase)


def test_pictures_and_boxes_in_test(folder: Path) -> None:
    layer = _layer(
        folder, "mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 resize_param { height: 12 width: 9 }"
    )
    data, label = layer()
    for item in range(3):
        want = cv2.resize(image(item, 30, 40), (9, 12)).astype(np.float32) - np.float32([104, 117, 123])
        assert np.array_equal(data[item].numpy(), want.transpose(2, 0, 1) * np.float32(0.5))
    want = [[0, 1, 0, 0.1, 0.2, 0.6, 0.9, 0], [0, 3, 1, 0.5, 0.5, 1, 0.8, 1], [1, 2, 0, 0, 0, 0.25, 0.25, 0]]
    np.testing.assert_allclose(label[0, 0], want, rtol=1e-6)


def test_without_boxes_there_is_one_row_of_minus_one(folder: Path) -> None:
    _, label = _layer(folder, batch=1, name="none")()
    assert label.tolist() == [[[[-1] * 8]]]


def test_crop_in_the_middle_and_emit(folder: Path) -> None:
    crop = "crop_h: 20 crop_w: 20"
    data, label = _layer(folder, crop)()
    assert np.array_equal(data[0].numpy(), image(0, 30, 40)[5:25, 10:30].transpose(2, 0, 1).astype(np.float32))
    # pixels 10 to 30 of 40 and 5 to 25 of 30: box 0 is 4..24 x 6..27
    np.testing.assert_allclose(label[0, 0, 0, 3:7], [0, (6 - 5) / 20, (24 - 10) / 20, 1], atol=1e-6)
    assert len(label[0, 0]) == 2  # that of picture 1 is outside
    _, label = _layer(folder, f"{crop} emit_constraint {{ emit_type: MIN_OVERLAP emit_overlap: 0.6 }}")()
    assert label[0, 0, :, 1].tolist() == [1]  # of the other half is inside: 0.5


def test_mirror(folder: Path) -> None:
    layer = _layer(folder, "mirror: true", batch=60)
    data, label = layer()
    seen = set()
    for item in range(0, 60, 3):
        flipped = bool((data[item].numpy() == image(0, 30, 40)[:, ::-1].transpose(2, 0, 1)).all())
        row = label[0, 0][(label[0, 0, :, 0] == item) & (label[0, 0, :, 1] == 1)][0, 3:7].tolist()
        assert row == pytest.approx([0.4, 0.2, 0.9, 0.9] if flipped else [0.1, 0.2, 0.6, 0.9])
        seen.add(flipped)
    assert seen == {True, False}


RESIZE = {"WARP": "", "FIT_LARGE_SIZE_AND_PAD": "pad_value: 7 pad_value: 8 pad_value: 9", "FIT_SMALL_SIZE": ""}


def _updated(box: Any, width: int, height: int, new_w: float, new_h: float, mode: str) -> list[float]:
    """UpdateBBoxByResizePolicy, in float64: float32 is a few last bits off."""
    aspect, wanted = width / height, new_w / new_h
    x1, y1, x2, y2 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    if mode == "FIT_SMALL_SIZE":
        new_w, new_h = (new_w, new_w / aspect) if aspect < wanted else (aspect * new_h, new_h)
    if mode == "FIT_LARGE_SIZE_AND_PAD" and aspect > wanted:
        pad = (new_h - new_w / aspect) / 2
        y1, y2 = (pad + y * (new_h - 2 * pad) / height for y in (y1, y2))
        return [x1 / width, y1 / new_h, x2 / width, y2 / new_h]
    if mode == "FIT_LARGE_SIZE_AND_PAD":
        pad = (new_w - aspect * new_h) / 2
        x1, x2 = (pad + x * (new_w - 2 * pad) / width for x in (x1, x2))
        return [x1 / new_w, y1 / height, x2 / new_w, y2 / height]
    return [x1 / width, y1 / height, x2 / width, y2 / height]


@pytest.mark.parametrize("mode", RESIZE)
@pytest.mark.parametrize("target", [(12, 24), (24, 12), (9, 12)])
def test_sizes(folder: Path, mode: str, target: tuple[int, int]) -> None:
    """The picture is 40 x 30."""
    height, width = target
    text = f"resize_param {{ height: {height} width: {width} resize_mode: {mode} {RESIZE[mode]} }}"
    data, label = _layer(folder, text, batch=1)()
    aspect = f32(40) / f32(30)
    if mode == "WARP":
        want = cv2.resize(image(0, 30, 40), (width, height))
    else:
        fit_width = (aspect > f32(width) / f32(height)) == (mode == "FIT_LARGE_SIZE_AND_PAD")
        inner = (width, math.floor(f32(width) / aspect)) if fit_width else (math.floor(aspect * f32(height)), height)
        want = cv2.resize(image(0, 30, 40), inner)
        if mode == "FIT_LARGE_SIZE_AND_PAD":
            left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
            edges = (top, height - inner[1] - top, left, width - inner[0] - left)
            want = cv2.copyMakeBorder(want, *edges, cv2.BORDER_CONSTANT, value=(7, 8, 9))
    assert np.array_equal(data[0].numpy(), want.transpose(2, 0, 1).astype(np.float32))
    for row, box in zip(label[0, 0], BOXES[0], strict=True):
        np.testing.assert_allclose(row[3:7], _updated(box[1:5], 40, 30, width, height, mode), rtol=1e-5, atol=1e-6)


def test_small_size_is_for_single_pictures(folder: Path) -> None:
    with pytest.raises(LayerError, match="batch_size is 3, expected 1 with FIT_SMALL_SIZE"):
        _layer(folder, "resize_param { height: 9 width: 9 resize_mode: FIT_SMALL_SIZE }")


def test_expansion_puts_the_picture_into_the_mean(folder: Path) -> None:
    """Boxes still cover the same pixels."""
    wanted = parse_text("prob: 0.5 max_expand_ratio: 3", caffe_pb2.ExpansionParameter)
    pixels = np.full((30, 40, 3), 200, np.uint8)
    found = boxes_of.Annotations(np.array([[0.25, 0.2, 0.75, 0.8]], np.float32), np.zeros((1, 3), np.int64))
    random, grown = np.random.default_rng(0), []
    for _ in range(400):
        larger, moved = augmenting.expanded(pixels, found, wanted, None, np.float32([10, 20, 30]), random)
        height, width = larger.shape[:2]
        grown.append(height / 30)
        x1, y1, x2, y2 = moved.boxes[0] * [width, height, width, height]
        assert (x2 - x1, y2 - y1) == (pytest.approx(20, abs=0.01), pytest.approx(18, abs=0.01))
        assert np.abs(larger[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2].astype(int) - 200).max() < 12
    ratios = np.array(grown)
    assert 0.4 < (ratios == 1).mean() < 0.6
    assert 1.8 < ratios[ratios > 1].mean() < 2.2 and ratios.max() <= 3


def test_samples_keep_their_constraint() -> None:
    sampler = parse_text(
        "max_sample: 1 max_trials: 50 "
        "sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
        "sample_constraint { min_jaccard_overlap: 0.5 }",
        caffe_pb2.BatchSampler,
    )
    found = boxes_of.Annotations(np.array([[0.2, 0.2, 0.7, 0.8]], np.float32), np.zeros((1, 3), np.int64))
    random, parts = np.random.default_rng(0), []
    for _ in range(200):
        parts += list(augmenting._parts(sampler, found.boxes, random))
    assert len(parts) > 150
    for part in parts:
        assert boxes_of.jaccard(found.boxes, part)[0] >= 0.5
        assert (part >= 0).all() and (part <= 1 + 1e-6).all()
    free = parse_text("max_trials: 400 sampler { min_scale: 0.3 max_scale: 1 }", caffe_pb2.BatchSampler)
    scales = np.array([math.sqrt((p[2] - p[0]) * (p[3] - p[1])) for p in augmenting._parts(free, found.boxes, random)])
    assert len(scales) == 400 and abs(scales.mean() - 0.65) < 0.03 and scales.min() > 0.29


def test_the_first_constraint_decides() -> None:
    """As SatisfySampleConstraint, whose ``found`` stays true."""
    both = parse_text("min_jaccard_overlap: 0.1 min_object_coverage: 0.99", caffe_pb2.SampleConstraint)
    part = np.array([0, 0, 0.5, 1], np.float32)
    assert augmenting._accepts(both, part, np.array([[0.2, 0, 0.8, 1]], np.float32))
    assert not augmenting._accepts(both, part, np.array([[0.9, 0, 1, 1]], np.float32))
    assert not augmenting._accepts(both, part, np.zeros((0, 4), np.float32))


def test_a_sample_is_cut_out_with_its_boxes() -> None:
    sampler = parse_text("max_sample: 1 sampler { min_scale: 0.5 max_scale: 0.5 }", caffe_pb2.BatchSampler)
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 10:30] = 255
    found = boxes_of.Annotations(np.array([[0.25, 0.25, 0.75, 0.75]], np.float32), np.array([[7, 0, 0]]))
    random, seen = np.random.default_rng(0), 0
    for _ in range(40):
        part, moved = augmenting.sampled(pixels, found, [sampler], None, random)
        assert set(part.shape[:2]) <= {19, 20}
        mask = np.zeros(part.shape[:2], bool)
        for x1, y1, x2, y2 in moved.boxes * 20:
            mask[round(y1) : round(y2), round(x1) : round(x2)] = True
            seen += 1
        assert (mask != (part[..., 0] > 127)).mean() < 0.12  # cut to whole pixels
    assert seen > 20


def test_distortions_are_as_strong_and_as_often_as_asked() -> None:
    pixels = np.full((4, 4, 3), 100, np.uint8)
    random = np.random.default_rng(0)
    wanted = parse_text("brightness_prob: 0.5 brightness_delta: 32", caffe_pb2.DistortionParameter)
    values = np.array([augmenting.distorted(pixels, wanted, random)[0, 0, 0] for _ in range(400)], int)
    assert 0.4 < (values != 100).mean() < 0.6 and 68 <= values.min() < 75 and 125 < values.max() <= 132
    wanted = parse_text("contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 1.5", caffe_pb2.DistortionParameter)
    values = np.array([augmenting.distorted(pixels, wanted, random)[0, 0, 0] for _ in range(400)], int)
    assert 50 <= values.min() < 56 and 144 < values.max() <= 150
    wanted = parse_text("random_order_prob: 1", caffe_pb2.DistortionParameter)
    colored = np.tile(np.uint8([1, 2, 3]), (2, 2, 1))
    assert len({tuple(augmenting.distorted(colored, wanted, random)[0, 0]) for _ in range(60)}) == 6
    wanted = parse_text(
        "hue_prob: 1 hue_delta: 18 saturation_prob: 1 saturation_upper: 0", caffe_pb2.DistortionParameter
    )
    grey = augmenting.distorted(colored * 60, wanted, random)[0, 0]
    assert grey.min() == grey.max() == 180  # without saturation the value is left


def test_distortions_by_switches() -> None:
    """jolibrain/caffe's words: one probability for the effects that are switched on."""
    pixels, random = np.full((4, 4, 3), 100, np.uint8), np.random.default_rng(0)

    def often(text: str) -> float:
        wanted = parse_text(f"{text} brightness_delta: 32 contrast_lower: 2 contrast_upper: 2", _DISTORTION)
        values = np.array([augmenting.distorted(pixels, wanted, random)[0, 0, 0] for _ in range(300)])
        return float((values != 100).mean())

    assert often("prob: 0") == often("brightness: true") == often("prob: 1") == 0
    assert 0.4 < often("prob: 0.5 brightness: true") < 0.6
    assert 0.65 < often("prob: 0.5 all_effects: true") < 0.85  # brightness or contrast
    assert often("prob: 1 contrast: true") == 1


def test_noise_by_chance(folder: Path) -> None:
    pixels = image(0, 30, 40).transpose(2, 0, 1).astype(np.float32)

    def part(text: str) -> float:
        layer = _layer(folder, text, batch=1)
        return float(np.mean([np.array_equal(layer()[0][0].numpy(), 255 - pixels) for _ in range(90)]))

    assert part("noise_param { inverse: true prob: 0.5 }") == 1 / 3  # SSD's reads no prob; one of three records
    assert part("noise_param { inverse: true }  distort_param { all_effects: false }") == 0
    assert part("noise_param { all_effects: false inverse: true prob: 1 }") == 1 / 3
    assert 0.1 < part("noise_param { all_effects: false inverse: true prob: 0.6 }") < 0.3


def test_a_picture_is_distorted_twice_by_switches(folder: Path) -> None:
    text = "distort_param { prob: 1 contrast: true contrast_lower: 1.1 contrast_upper: 1.1 }"
    data, _ = _layer(folder, text)()
    once = augmenting.as_jpeg(augmenting._linear(image(0, 30, 40), 1.1, 0))
    assert np.array_equal(data[0].numpy(), augmenting._linear(once, 1.1, 0).transpose(2, 0, 1))


_DISTORTION = caffe_pb2.DistortionParameter


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("inverse: true", lambda x: 255 - x),
        ("posterize: true", lambda x: x // 64 * 64 + 32),
        ("decolorize: true", lambda x: cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)),
        ("gauss_blur: true", lambda x: cv2.GaussianBlur(x, (7, 7), 1.5)),
    ],
)
def test_noise(folder: Path, text: str, change: Any) -> None:
    data, _ = _layer(folder, f"noise_param {{ {text} }}")()
    want = change(image(0, 30, 40)).transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal(data[0].numpy(), want)


def test_salt_and_pepper() -> None:
    wanted = parse_text("saltpepper: true saltpepper_param { fraction: 0.1 value: 255 }", caffe_pb2.NoiseParameter)
    pixels = augmenting.make_noise(np.zeros((50, 60, 3), np.uint8), wanted, np.random.default_rng(0))
    assert 0.08 < (pixels == 255).mean() <= 0.1


def test_the_same_batch_again(folder: Path) -> None:
    text = (
        "mirror: true resize_param { height: 9 width: 9 } expand_param { max_expand_ratio: 2 } "
        "distort_param { hue_prob: 1 hue_delta: 18 }"
    )
    layer = _layer(folder, text, "batch_sampler { sampler { min_scale: 0.5 } max_sample: 1 }", "TRAIN")
    first, second = layer(), layer()
    assert not np.array_equal(first[0].numpy(), second[0].numpy())
    layer.seek(0)
    again = layer()
    assert np.array_equal(first[0].numpy(), again[0].numpy()) and np.array_equal(first[1].numpy(), again[1].numpy())


@pytest.mark.parametrize(
    ("transform", "more", "message"),
    [
        ("resize_param { height: 3 }", "", "resize_param has no height or width"),
        ("expand_param { max_expand_ratio: 1 }", "", "max_expand_ratio is 1, expected more than 1"),
        ("crop_h: 3", "", "crop_h and crop_w"),
        ("crop_size: 100", "", "smaller than the crop of 100x100"),
        ("noise_param { convert_to_lab: true }", "", "convert_to_lab or all_effects, which is not done here"),
        ("noise_param { all_effects: true prob: 1.5 }", "", "noise_param.prob is 1.5, expected 0 to 1"),
        ("distort_param { prob: 0.5 hue_prob: 0.5 }", "", "distort_param has hue_prob .SSD's. with prob or a switch"),
        ("", "batch_sampler { sampler { min_scale: 0 } }", "batch_sampler 0 has scales 0 to 1"),
        ("", "batch_sampler { sampler { max_aspect_ratio: 0.5 } }", "aspect ratios 1 to 0.5"),
        ("mean_value: 1 mean_value: 2", "", "3 channel.s., but there are 2 mean_value"),
        ("", "yolo_data_type: 2", "yolo_data_type is 2, expected 0 or 1"),
        ("", "yolo_data_type: 1 yolo_data_jitter: 1", "yolo_data_jitter is 1, expected 0 to below 1"),
        (
            "resize_param { height: 3 width: 3 } resize_param { height: 4 width: 4 }",
            "",
            "has prob .1.0, 1.0., expected",
        ),
    ],
)
def test_refusals(folder: Path, transform: str, more: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"layer 'under_test' .AnnotatedData.: .*{message}"):
        _layer(folder, transform, more)


def test_nan_boxes_and_other_records(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "nan", [annotated(0, [(1, math.nan, 0, 1, 1)])])
    with pytest.raises(CaffeCompatError, match="has a box that is NaN"):
        _layer(tmp_path, name="nan", batch=1)
    write_lmdb(tmp_path / "bad", [b"\\xff\\xff"])
    with pytest.raises(CaffeCompatError, match="is no AnnotatedDatum"):
        _layer(tmp_path, name="bad", batch=1)


def test_yolo_rows(folder: Path) -> None:
    """Label - 1, centre, width, height; difficult boxes only if asked for."""
    more = "yolo_data_type: 1 yolo_data_jitter: 0"
    layer = _layer(folder, "resize_param { height: 9 width: 9 }", more)
    assert layer.top_shapes([])[1] == (3, 1, 300, 5)
    _, label = layer()
    assert label.shape == (3, 1, 300, 5)
    want = np.zeros((3, 300, 5), np.float32)
    want[0, :2] = [[0, 0.35, 0.55, 0.5, 0.7], [2, 0.75, 0.65, 0.5, 0.3]]
    want[1, 0] = [1, 0.125, 0.125, 0.25, 0.25]
    np.testing.assert_allclose(label[:, 0].numpy(), want, atol=1e-6)
    _, label = _layer(folder, "resize_param { height: 9 width: 9 }", f"{more} train_diffcult: false")()
    want[0, 1] = 0
    np.testing.assert_allclose(label[:, 0].numpy(), want, atol=1e-6)


def test_more_boxes_than_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = [(1 + number, 0.1, 0.1, 0.5, 0.5) for number in range(302)]
    write_lmdb(tmp_path / "db", [annotated(0, boxes)])
    _, label = _layer(tmp_path, "", "yolo_data_type: 1 yolo_data_jitter: 0", batch=1)()
    assert label[0, 0, :, 0].tolist() == list(range(300))
    assert "has 302 boxes, the first 300 of them count" in caplog.text


def test_several_sizes_change_every_ten_batches(folder: Path) -> None:
    sizes = "".join(
        f"resize_param {{ prob: {prob} height: {side} width: {side + 1} }} "
        for side, prob in ((4, 0.5), (6, 0.5), (8, 0))
    )
    layer = _layer(folder, sizes, batch=1)
    sides = [tuple(layer()[0].shape[2:]) for _ in range(200)]
    assert {len(set(sides[start : start + 10])) for start in range(0, 200, 10)} == {1}
    assert set(sides) == {(4, 5), (6, 7)}
    layer.seek(37)
    assert tuple(layer()[0].shape[2:]) == sides[37]


def test_jitter_has_its_shares_and_sides() -> None:
    """A fifth whole, a fifth from 1 - jitter / 2, the rest from 1 - jitter."""
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    box = boxes_of.Annotations(np.array([[0, 0, 1, 1]], np.float32), np.array([[1, 0, 0]]))
    random, seen = np.random.default_rng(0), []
    for _ in range(300):
        part, found = augmenting.jittered(pixels[:10], box, 0.6, (None, True), random)
        seen.append(part.shape[1] / 1000)
        assert len(found.boxes) == 1 and np.allclose(found.boxes, [[0, 0, 1, 1]])
    sides = np.array(seen)
    assert 0.12 < (sides == 1).mean() < 0.28 and sides.min() >= 0.399
    assert 0.22 < (sides < 0.7).mean() < 0.38  # half of three fifths, and nothing of the rest
    part, _ = augmenting.jittered(pixels, box, 0.6, (None, False), np.random.default_rng(4))
    assert part.shape[0] != part.shape[1]


def test_yolo_cuts_a_part_without_being_asked(folder: Path) -> None:
    layer = _layer(folder, "", "yolo_data_type: 1", batch=1)
    assert len({tuple(layer()[0].shape) for _ in range(12)}) > 4
