"""VideoData against loops written down from yjxiong/caffe's and weiliu89/caffe's sources."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data_files import image, write_clips
from one_layer import one_layer

from caffe_compat.batches.clips import ClipFolder, ClipReader, ClipTransform, crop_places, crop_sizes
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers import Layer
from caffe_compat.layers.data import VideoClips, VideoFrames
from caffe_compat.media import read_clip_list

f32 = np.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_clips(path)
    return path


def _clips(folder: Path, more: str, transform: str = "", phase: str = "TEST", batch: int = 3) -> Layer:
    body = f'video_data_param {{ source: "{folder}/clips.txt" batch_size: {batch} {more} }} '
    body += f"transform_param {{ {transform} }}"
    return one_layer("VideoData", body, tops=("data", "label"), phase=phase)


RGB = 'modality: RGB name_pattern: "image_%04d.png"'
FLOW = 'name_pattern: "flow_%c_%04d.png"'


def test_stacks_of_the_middle_in_test(folder: Path) -> None:
    """Clips of 7, 4 and 2 frames, 2 parts of 3, 2 and 1: stacks of 2 begin after 0 + (2 // 2) and 3 + 1; 0, 2; 0."""
    layer = _clips(folder, f"{RGB} new_length: 2 num_segments: 2")
    assert isinstance(layer, VideoClips)
    data, label = layer()
    assert data.shape == (3, 12, 6, 8) and label.shape == (3, 1, 1, 1) and label.flatten().tolist() == [5, 6, 7]
    for item, numbers in enumerate([(2, 3, 5, 6), (1, 2, 3, 4), (1, 2, 1, 2)]):
        want = np.concatenate([image(10 * item + number).transpose(2, 0, 1) for number in numbers])
        assert np.array_equal(data[item].numpy(), want.astype(f32))


def test_flow_is_x_then_y_of_each_frame(folder: Path) -> None:
    data, _ = _clips(folder, f"{FLOW} new_length: 2 new_height: 3 new_width: 4", batch=1)()
    # 7 frames, stacks of 2 out of them: after (7 - 2 + 1) // 2 = 3
    want = [cv2.resize(image(number)[..., axis], (4, 3)) for number in (4, 5) for axis in (0, 1)]
    assert np.array_equal(data[0].numpy(), np.stack(want).astype(f32))


def test_gray_frames(folder: Path) -> None:
    data, _ = _clips(folder, f"{RGB} grayscale: true", batch=1)()
    assert data.shape == (1, 1, 6, 8)


def test_starts_are_drawn_within_their_parts_in_training(folder: Path) -> None:
    reader = _clips(folder, f"{FLOW} new_length: 3 num_segments: 2", phase="TRAIN", batch=1).reader
    assert isinstance(reader, ClipReader)
    clip, random = ClipFolder("x", 21, 0, 1), np.random.default_rng(0)
    seen = np.array([reader.starts(clip, random) for _ in range(400)])
    assert set(seen[:, 0]) == set(range(8)) and set(seen[:, 1]) == set(range(10, 18))
    assert reader.starts(ClipFolder("x", 5, 0, 1), random) == [0, 0]  # parts of 2 frames are shorter than 3


def _slow_sizes(height: int, width: int, net: int, rates: list[float], distort: int) -> list[tuple[int, int]]:
    base, found = min(height, width), []
    for h, rate_h in enumerate(rates):
        crop_h = int(f32(base) * f32(rate_h))
        crop_h = net if abs(crop_h - net) < 3 else crop_h
        for w, rate_w in enumerate(rates):
            crop_w = int(f32(base) * f32(rate_w))
            crop_w = net if abs(crop_w - net) < 3 else crop_w
            if abs(h - w) <= distort:
                found.append((crop_h, crop_w))
    return found


@pytest.mark.parametrize("distort", [0, 1, 3])
def test_sizes_and_places_of_crops(distort: int) -> None:
    assert crop_sizes(256, 340, 224, [], distort) == _slow_sizes(256, 340, 224, [1.0, 0.875, 0.75, 0.66], distort)
    assert crop_sizes(100, 90, 64, [0.9, 0.7], distort) == _slow_sizes(100, 90, 64, [0.9, 0.7], distort)
    assert crop_places(16, 25, (8, 8), False) == [(0, 0), (0, 16), (8, 0), (8, 16), (4, 8)]
    assert len(set(crop_places(16, 25, (8, 8), True))) == 13 and (6, 12) in crop_places(16, 25, (8, 8), True)


def _slow_transform(planes: np.ndarray, own: ClipTransform, random: np.random.Generator) -> np.ndarray:
    """Transform(datum) of data_transformer.cpp, pixel by pixel, with the draws in its order."""
    channels, height, width = planes.shape
    mirror = own.mirror and int(random.integers(2))
    crop_h = crop_w = own.crop
    if own.ratios is not None:
        sizes = _slow_sizes(height, width, own.crop, list(own.ratios), own.distort)
        crop_h, crop_w = sizes[int(random.integers(len(sizes)))]
    if own.places is not None:
        places = crop_places(height, width, (crop_h, crop_w), own.places)
        top, left = places[int(random.integers(len(places)))]
    else:
        top, left = int(random.integers(height - crop_h + 1)), int(random.integers(width - crop_w + 1))
    out = np.zeros((channels, own.crop, own.crop), f32)
    for c in range(channels):
        part = planes[c, top : top + crop_h, left : left + crop_w]
        if part.shape != (own.crop, own.crop):
            part = cv2.resize(part, (own.crop, own.crop))
        for h, w in np.ndindex(own.crop, own.crop):
            value = f32(part[h, w])
            if own.flow and mirror and c % 2 == 0:
                value = f32(255) - value
            value = (value - own.mean_values[c % own.mean_values.size]) * own.scale
            out[c, h, own.crop - 1 - w if mirror else w] = value
    return out


@pytest.mark.parametrize("ratios", [None, (1.0, 0.8, 0.6)])
@pytest.mark.parametrize("places", [None, False, True])
def test_training_transform_number_by_number(ratios: tuple[float, ...] | None, places: bool | None) -> None:
    own = ClipTransform(True, f32(0.5), True, 9, np.array([3, 7], f32), None, ratios, 1, places, True)
    planes = np.stack([image(number, 14, 17)[..., number % 3] for number in range(4)])
    for seed in range(12):
        got = own(planes, np.random.default_rng(seed))
        np.testing.assert_allclose(got, _slow_transform(planes, own, np.random.default_rng(seed)), rtol=1e-6)


def test_a_mean_file_is_that_of_the_place_but_with_several_sizes() -> None:
    mean = np.arange(2 * 6 * 8, dtype=f32).reshape(2, 6, 8)
    planes = np.full((2, 6, 8), 100, np.uint8)
    for ratios, place in ((None, (1, 2)), ((1.0,), (0, 0))):
        own = ClipTransform(False, f32(1), False, 4, np.zeros(0, f32), mean, ratios, 1, None, False)
        want = 100 - mean[:, place[0] : place[0] + 4, place[1] : place[1] + 4]
        assert np.array_equal(own(planes, np.random.default_rng(0)), want)
    with pytest.raises(DataError, match="the mean file is for"):
        own(planes[:, :5], np.random.default_rng(0))


def test_shuffled_clips_come_once_an_epoch_and_again_after_seeking(folder: Path) -> None:
    layer = _clips(folder, f"{FLOW} new_length: 2 shuffle: true", "mirror: true crop_size: 4", "TRAIN")
    first = [layer() for _ in range(4)]
    assert all(sorted(label.flatten().tolist()) == [5, 6, 7] for _, label in first)
    layer.seek(2)
    assert np.array_equal(layer()[0].numpy(), first[2][0].numpy())


def test_frames_of_a_video(folder: Path) -> None:
    def frames(more: str = "", batch: int = 2) -> Layer:
        body = (
            f"data_param {{ batch_size: {batch} }} video_data_param {{ video_type: VIDEO {more} "
            f'video_file: "{folder}/video.avi" }} '
            f"transform_param {{ mean_value: 10 resize_param {{ height: 5 width: 6 }} }}"
        )
        return one_layer("VideoData", body, tops=("data", "label"))

    layer = frames()
    assert isinstance(layer, VideoFrames)
    data, label = layer()
    assert data.shape == (2, 3, 5, 6) and label.tolist() == [0, 0]
    assert [round(float(one.mean()) / 20) for one in data] == [0, 1]
    layer.seek(3)
    assert [round(float(one.mean()) / 20) for one in layer()[0]] == [6, 7]
    with pytest.raises(DataError, match="under_test.*the video is at its end"):
        layer()
    skipping = frames("skip_frames: 2")
    assert [round(float(one.mean()) / 20) for one in skipping()[0]] == [2, 5]
    make, given = skipping.reader.__reduce__()  # as worker processes get it
    again = make(*given)
    assert np.array_equal(again.frame(5, np.random.default_rng(0)), skipping.reader.frame(5, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('source: "{F}/clips.txt"', "batch_size is 0"),
        ('source: "{F}/none.txt" batch_size: 1', "Could not open file .*none.txt"),
        ('source: "{F}/clips.txt" batch_size: 1 name_pattern: "flow"', "name_pattern is 'flow', expected a letter"),
        ('source: "{F}/clips.txt" batch_size: 1 modality: RGB name_pattern: "%d%d"', "expected a number"),
        ('source: "{F}/clips.txt" batch_size: 1 new_length: 0', "expected positive numbers"),
        ('source: "{F}/clips.txt" batch_size: 1', r"clips.txt, line 1: .*flow_x_0001.jpg"),
        ('source: "{F}/clips.txt" batch_size: 1 is_color: true', "fit no meaning of the type"),
        ('video_file: "{F}/video.avi"', "video_type is WEBCAM"),
        ("video_type: VIDEO", "video_file is missing"),
        ('video_type: VIDEO video_file: "{F}/clips.txt"', "is no video"),
    ],
)
def test_refusals(folder: Path, body: str, what: str) -> None:
    batch = "" if "source" in body else "data_param { batch_size: 1 } "
    with pytest.raises(CaffeCompatError, match=what):
        one_layer("VideoData", f"{batch}video_data_param {{ {body.replace('{F}', str(folder))} }}", tops=("a", "b"))


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        ("crop_size: 7", "line 1: .*smaller than crop_size 7"),
        ("mean_value: 1 mean_value: 2 mean_value: 3", "there are 3 mean_value entries, expected a divisor"),
        ("multi_scale: true scale_ratios: 1.5", "scale_ratios is .1.5., expected"),
        ('mean_file: "x" mean_value: 1', "mean_file .x. and mean_value"),
        ("max_distort: -1", "max_distort is -1"),
    ],
)
def test_refused_transforms(folder: Path, transform: str, what: str) -> None:
    with pytest.raises(CaffeCompatError, match=what):
        _clips(folder, FLOW, transform)


@pytest.mark.parametrize("text", ["", "\n", "a 3\n", "a b 3\n", "a 0 1\n", "a 3 1 2\n"])
def test_lists_of_clips_that_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match="list"):
        read_clip_list(tmp_path / "list")
