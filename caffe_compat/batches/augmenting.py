"""What SSD does to a picture and its boxes before it is cropped and mirrored: distort, expand, sample, size, noise.

Source: weiliu89/caffe, im_transforms.cpp, sampler.cpp, data_transformer.cpp.  The draws are those of the original in
kind, number and order; the numbers are this package's.  Where the original writes a picture as JPEG between two steps
and reads it again, so does this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from caffe_compat.batches.effects import happens, has_switches
from caffe_compat.errors import DataError
from caffe_compat.media.annotations import Annotations, Frame, coverage, jaccard, projected
from caffe_compat.memory import SMALL, available_memory, human_size

__all__ = [
    "as_jpeg",
    "check_samplers",
    "distorted",
    "expanded",
    "jittered",
    "make_noise",
    "resize_picture",
    "sampled",
]

_INTERPOLATION = {
    "LINEAR": cv2.INTER_LINEAR,
    "AREA": cv2.INTER_AREA,
    "NEAREST": cv2.INTER_NEAREST,
    "CUBIC": cv2.INTER_CUBIC,
    "LANCZOS4": cv2.INTER_LANCZOS4,
}
_PADDING = {"CONSTANT": cv2.BORDER_CONSTANT, "MIRRORED": cv2.BORDER_REFLECT101, "REPEAT_NEAREST": cv2.BORDER_REPLICATE}
_MOST_TRIALS = 1_000_000
_REDUCED = 64  #: of posterize: colorReduce's default divisor


def as_jpeg(pixels: np.ndarray) -> np.ndarray:
    """What is left of a picture after it was written as JPEG (quality 95)."""
    done, buffer = cv2.imencode(".jpg", pixels)
    if not done:
        raise DataError(f"a picture of shape {list(pixels.shape)} cannot be written as JPEG")
    return np.asarray(cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)).reshape(pixels.shape)


# -- distortion -------------------------------------------------------------------------------------------------


def distorted(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation, hue and the order of the channels, each with its probability.

    Contrast comes before saturation and hue in half of the cases, behind them in the other.
    """
    if has_switches(wanted) and not wanted.prob > 0:
        return pixels
    early = random.random() > 0.5
    pixels = _brighter(pixels, wanted, random)
    if early:
        pixels = _contrasted(pixels, wanted, random)
    pixels = _saturated(pixels, wanted, random)
    pixels = _hued(pixels, wanted, random)
    if not early:
        pixels = _contrasted(pixels, wanted, random)
    if happens(wanted, "random_order", random):
        pixels = np.ascontiguousarray(pixels[..., random.permutation(3)])
    return pixels


def _linear(pixels: np.ndarray, factor: float, added: float) -> np.ndarray:
    """``convertTo`` of uint8: rounded, halves to even, and held in 0 to 255."""
    moved: np.ndarray = np.rint(pixels.astype(np.float32) * np.float32(factor) + np.float32(added))
    return moved.clip(0, 255).astype(np.uint8)


def _brighter(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    if not happens(wanted, "brightness", random):
        return pixels
    return _linear(pixels, 1, random.uniform(-wanted.brightness_delta, wanted.brightness_delta))


def _contrasted(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    if not happens(wanted, "contrast", random):
        return pixels
    factor = random.uniform(wanted.contrast_lower, wanted.contrast_upper)
    return _linear(pixels, factor, 0) if abs(factor - 1) > 1e-3 else pixels


def _saturated(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    if not happens(wanted, "saturation", random):
        return pixels
    factor = random.uniform(wanted.saturation_lower, wanted.saturation_upper)
    colors = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
    colors[..., 1] = _linear(colors[..., 1], factor, 0)
    return cv2.cvtColor(colors, cv2.COLOR_HSV2BGR)


def _hued(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    if not happens(wanted, "hue", random):
        return pixels
    added = random.uniform(-wanted.hue_delta, wanted.hue_delta)
    colors = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
    colors[..., 0] = _linear(colors[..., 0], 1, added)  # not around the circle, as there
    return cv2.cvtColor(colors, cv2.COLOR_HSV2BGR)


# -- expansion and samples ----------------------------------------------------------------------------------------


def expanded(
    pixels: np.ndarray, found: Annotations, wanted: Any, emit: Any, mean: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, Annotations]:
    """The picture somewhere in a larger one of the mean colour, and its boxes there."""
    most = float(wanted.max_expand_ratio)
    if random.random() > wanted.prob or abs(most - 1) < 1e-2:
        return pixels, found
    ratio = np.float32(random.uniform(1, most))
    height, width, channels = pixels.shape
    new_h, new_w = int(np.float32(height) * ratio), int(np.float32(width) * ratio)
    if (size := new_h * new_w * channels) > SMALL and size > (left_over := available_memory()):
        raise DataError(f"expanded to {new_w}x{new_h} needs {human_size(size)}, {human_size(left_over)} are free")
    top, left = math.floor(random.uniform(0, new_h - height)), math.floor(random.uniform(0, new_w - width))
    larger = np.empty((new_h, new_w, channels), np.uint8)
    larger[:] = np.rint(mean).clip(0, 255).astype(np.uint8) if mean.size else 0
    larger[top : top + height, left : left + width] = pixels
    part = np.array([-left / width, -top / height, (new_w - left) / width, (new_h - top) / height], np.float32)
    return as_jpeg(larger), projected(found, Frame(part, emit))


def check_samplers(samplers: Sequence[Any]) -> str:
    """What is wrong with ``batch_sampler`` fields, or ``""``."""
    for number, one in enumerate(samplers):
        own = one.sampler
        if one.max_trials > _MOST_TRIALS:
            return f"batch_sampler {number} has max_trials {one.max_trials}, expected {_MOST_TRIALS} at most"
        if not 0 < own.min_scale <= own.max_scale <= 1:
            scales = f"{own.min_scale:g} to {own.max_scale:g}"
            return f"batch_sampler {number} has scales {scales}, expected 0 < min <= max <= 1"
        if not 0 < own.min_aspect_ratio <= own.max_aspect_ratio < 3e38:
            return (
                f"batch_sampler {number} has aspect ratios {own.min_aspect_ratio:g} to {own.max_aspect_ratio:g}, "
                "expected 0 < min <= max"
            )
    return ""


def sampled(
    pixels: np.ndarray, found: Annotations, samplers: Sequence[Any], emit: Any, random: np.random.Generator
) -> tuple[np.ndarray, Annotations]:
    """One of the parts that the samplers accept, cut out; the whole picture if they accept none."""
    parts = [part for one in samplers if one.use_original_image for part in _parts(one, found.boxes, random)]
    if not parts:
        return pixels, found
    return _cut(pixels, found, parts[int(random.integers(len(parts)))], emit, "batch_sampler.min_scale is too small")


def jittered(
    pixels: np.ndarray, found: Annotations, jitter: float, options: tuple[Any, bool], random: np.random.Generator
) -> tuple[np.ndarray, Annotations]:
    """MobileNet-YOLO's part of a picture: the whole one in a fifth of the cases, in a fifth one whose sides are 1 -
    jitter / 2 to 1, else 1 - jitter to 1.

    Source: eric612/MobileNet-YOLO, sampler.cpp (GenerateJitterSamples).

    Args:
        options: the ``EmitConstraint`` or None, and whether both sides are one.
    """
    emit, square = options
    part = np.array([0, 0, 1, 1], np.float32)
    change = int(np.searchsorted([0.2, 0.4], random.random()))
    if change:
        least = 1 - (jitter / 2 if change == 1 else jitter)
        wide = random.uniform(least, 1)
        high = wide if square else random.uniform(least, 1)
        left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
        part = np.array([left, top, left + wide, top + high], np.float32)
    return _cut(pixels, found, part, emit, "yolo_data_jitter is too large")


def _cut(
    pixels: np.ndarray, found: Annotations, part: np.ndarray, emit: Any, wrong: str
) -> tuple[np.ndarray, Annotations]:
    """A part of a picture; ``wrong``: why it may be empty."""
    part = part.clip(0, 1).astype(np.float32)
    height, width = pixels.shape[:2]
    scaled = part * np.array([width, height] * 2, np.float32)
    left, top = int(scaled[0]), int(scaled[1])
    wide, high = int(scaled[2] - scaled[0]), int(scaled[3] - scaled[1])
    if not (wide and high):
        raise DataError(f"a sample of a picture of {width}x{height} has no pixel; {wrong}")
    return as_jpeg(pixels[top : top + high, left : left + wide]), projected(found, Frame(part, emit))


def _parts(sampler: Any, boxes: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Accepted parts of one sampler."""
    accepted = 0
    for _ in range(sampler.max_trials):
        if sampler.HasField("max_sample") and accepted >= sampler.max_sample:
            return
        part = _drawn(sampler.sampler, random)
        if _accepts(sampler.sample_constraint, part, boxes):
            accepted += 1
            yield part


def _drawn(sampler: Any, random: np.random.Generator) -> np.ndarray:
    """A part of a random size, shape and place."""
    scale = random.uniform(sampler.min_scale, sampler.max_scale)
    ratio = random.uniform(sampler.min_aspect_ratio, sampler.max_aspect_ratio)
    ratio = min(max(ratio, scale**2), 1 / scale**2)
    wide, high = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
    left, top = random.uniform(0, max(0.0, 1 - wide)), random.uniform(0, max(0.0, 1 - high))
    return np.array([left, top, left + wide, top + high], np.float32)


def _accepts(wanted: Any, part: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether some box meets the constraint; without any every part is accepted.

    Of several constraints only the first counts (overlap, coverage of the part, coverage of the box): the original
    takes note of a box that has met it, and forgets that no more.
    """
    tests: Sequence[tuple[str, Callable[[], np.ndarray]]] = (
        ("jaccard_overlap", lambda: jaccard(boxes, part)),
        ("sample_coverage", lambda: np.array([coverage(part[None], box)[0] for box in boxes], np.float32)),
        ("object_coverage", lambda: coverage(boxes, part)),
    )
    for name, measure in tests:
        low, high = (wanted.HasField(f"{end}_{name}") for end in ("min", "max"))
        if low or high:
            values, meets = measure(), np.ones(len(boxes), bool)
            if low:
                meets &= ~(values < np.float32(getattr(wanted, f"min_{name}")))
            if high:
                meets &= ~(values > np.float32(getattr(wanted, f"max_{name}")))
            return bool(meets.any())
    return True


# -- size and noise -----------------------------------------------------------------------------------------------


def resize_picture(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    """What ``ResizeParameter`` makes of a picture; of several ``interp_mode`` one is drawn."""
    names = [wanted.Interp_mode.Name(number) for number in wanted.interp_mode]
    mode = _INTERPOLATION[names[int(random.integers(len(names)))] if names else "LINEAR"]
    height, width = int(wanted.height), int(wanted.width)
    kind = wanted.Resize_mode.Name(wanted.resize_mode)
    if kind == "WARP":
        return _resize(pixels, height, width, mode)
    aspect = np.float32(pixels.shape[1]) / np.float32(pixels.shape[0])
    wide = bool(aspect > np.float32(width) / np.float32(height))
    if wide == (kind == "FIT_LARGE_SIZE_AND_PAD"):
        inner = (math.floor(np.float32(width) / aspect), width)
    else:
        inner = (height, math.floor(aspect * np.float32(height)))
    if kind == "FIT_SMALL_SIZE" and aspect == np.float32(width) / np.float32(height):
        inner = (height, math.floor(aspect * np.float32(height)))
    if min(inner) < 1:
        raise DataError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} has no pixel left in {width}x{height}")
    small = _resize(pixels, *inner, mode)
    if kind == "FIT_SMALL_SIZE":
        return small
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    values = list(wanted.pad_value) or [0.0]
    if len(values) not in (1, pixels.shape[2]):
        raise DataError(f"resize_param has {len(values)} pad_value, expected 1 or {pixels.shape[2]}")
    padding = _PADDING[wanted.Pad_mode.Name(wanted.pad_mode)]
    color = values * pixels.shape[2] if len(values) == 1 else values
    edges = (top, height - inner[0] - top, left, width - inner[1] - left)
    return cv2.copyMakeBorder(small, *edges, padding, value=color).reshape(height, width, -1)


def _resize(pixels: np.ndarray, height: int, width: int, mode: int) -> np.ndarray:
    return cv2.resize(pixels, (width, height), interpolation=mode).reshape(height, width, pixels.shape[2])


def make_noise(pixels: np.ndarray, wanted: Any, random: np.random.Generator, chance: float = 1.0) -> np.ndarray:
    """What ``NoiseParameter`` asks for, in the original's order; all but JPEG with probability ``chance``."""

    def happens(effect: str) -> bool:
        return bool(getattr(wanted, effect) and (chance >= 1 or random.random() < chance))

    if not chance:
        return pixels
    if happens("decolorize"):
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if happens("gauss_blur"):
        pixels = _three(cv2.GaussianBlur(pixels, (7, 7), 1.5), pixels)
    if happens("hist_eq"):
        pixels = _lightness(pixels, cv2.equalizeHist)
    if happens("clahe"):
        pixels = _lightness(pixels, cv2.createCLAHE(clipLimit=4).apply)
    if wanted.jpeg > 0:
        _, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(wanted.jpeg)])
        pixels = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR))
    if happens("erode"):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3), (1, 1))
        pixels = _three(cv2.erode(pixels, kernel), pixels)
    if happens("posterize"):
        pixels = (pixels // _REDUCED * _REDUCED + _REDUCED // 2).astype(np.uint8)
    if happens("inverse"):
        pixels = 255 - pixels
    return _peppered(pixels, wanted.saltpepper_param, random) if happens("saltpepper") else pixels


def _three(result: np.ndarray, like: np.ndarray) -> np.ndarray:
    """With three axes: OpenCV drops the last of one channel."""
    return result.reshape(like.shape)


def _lightness(pixels: np.ndarray, change: Any) -> np.ndarray:
    """Y of YCrCb changed, or the one channel."""
    if pixels.shape[2] == 1:
        return _three(change(pixels[..., 0]), pixels)
    planes = list(cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb)))
    planes[0] = change(planes[0])
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2BGR)


def _peppered(pixels: np.ndarray, wanted: Any, random: np.random.Generator) -> np.ndarray:
    """A part of the pixels, drawn with repetition, in one colour."""
    values = [int(value) % 256 for value in wanted.value]
    if len(values) not in (1, pixels.shape[2]):
        raise DataError(f"saltpepper_param has {len(values)} value, expected 1 or {pixels.shape[2]}")
    height, width = pixels.shape[:2]
    count = math.floor(np.float32(wanted.fraction) * width * height)
    pixels = pixels.copy()
    columns, rows = random.integers(width, size=count), random.integers(height, size=count)
    pixels[rows, columns] = values
    return pixels
