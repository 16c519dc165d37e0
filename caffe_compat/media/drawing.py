"""Boxes with class names and scores, drawn into pictures."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["LEAST_SIDE", "class_color", "draw_boxes", "draw_text"]

LEAST_SIDE = 320
"""Pixels that the short side of a picture needs for letters to be read beside its boxes."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNIT = 600.0  #: pixels of the short side for which letters have their natural size

Color = tuple[int, int, int]
"""Blue, green, red."""


def class_color(name: str) -> Color:
    """The colour of a class: always the same for the same name, whatever the other classes are."""
    number = zlib.crc32(name.encode())
    hue, shade = number % 3600 / 3600, (1.0, 0.8)[number // 3600 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, shade)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_boxes(
    picture: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray | None = None,
    *,
    enlarge: bool = True,
) -> np.ndarray:
    """A picture with boxes around objects, and over each its class and score.

    Args:
        picture: uint8 [H, W, 3], blue first; stays as it is.
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included; what lies outside is drawn at the edge.
        labels: the class of each; colours follow from it.  Letters that OpenCV does not have become ``?``.
        scores: of each; the highest are drawn last, over the others.
        enlarge: show a picture whose short side is less than :data:`LEAST_SIDE` in a whole multiple of its size.

    Returns:
        uint8 [H', W', 3].
    """
    least = min(picture.shape[:2])
    times = -(-LEAST_SIDE // max(1, least)) if enlarge and least < LEAST_SIDE else 1
    canvas = np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))
    if canvas is picture or np.shares_memory(canvas, picture):
        canvas = canvas.copy()
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.arange(len(rows)) if scores is None else np.argsort(np.asarray(scores), kind="stable")
    corners = [_corners(rows[k], times, canvas) for k in range(len(rows))]
    width = max(1, round(min(canvas.shape[:2]) / _UNIT * 3))
    for k in order:
        x1, y1, x2, y2 = corners[k]
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_color(labels[k]), width)
    for k in order:
        said = labels[k] if scores is None else f"{labels[k]} {float(scores[k]):.2f}"
        _label(canvas, said, corners[k], class_color(labels[k]))
    return canvas


def draw_text(picture: np.ndarray, text: str, place: tuple[int, int], color: Color, scale: float) -> None:
    """Write into a picture; letters that OpenCV does not have become ``?``.

    Args:
        place: x and y of where the line of the text begins.
        scale: 1 gives letters of about 22 pixels.
    """
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, place, _FONT, scale, color, _thickness(scale), cv2.LINE_AA)


def _thickness(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _corners(box: np.ndarray, times: int, canvas: np.ndarray) -> tuple[int, int, int, int]:
    """The first and last pixel of a box in a picture that was enlarged."""
    limit = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1] * 2)
    outer = np.round((box + [0, 0, 1, 1]) * times) - [0, 0, 1, 1]
    x1, y1, x2, y2 = np.clip(outer, 0, limit).astype(int).tolist()
    return x1, y1, x2, y2


def _label(canvas: np.ndarray, text: str, box: tuple[int, int, int, int], color: Color) -> None:
    """A filled strip with text over the upper edge of a box, or below it where there is no room; within the picture."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / _UNIT * 0.6)
    plain = text.encode("ascii", "replace").decode()
    (long, tall), below = cv2.getTextSize(plain, _FONT, scale, _thickness(scale))
    if long + 4 > width:  # a long name in a narrow picture
        scale *= max(0.3, (width - 4) / long)
        (long, tall), below = cv2.getTextSize(plain, _FONT, scale, _thickness(scale))
    tall += below + 4
    left = max(0, min(box[0], width - long - 4))
    top = box[1] - tall if box[1] >= tall else min(box[1], max(0, height - tall))
    cv2.rectangle(canvas, (left, top), (left + long + 4, top + tall), color, cv2.FILLED)
    blue, green, red = color
    dark = 0.114 * blue + 0.587 * green + 0.299 * red < 140
    draw_text(canvas, plain, (left + 2, top + tall - below - 2), (255, 255, 255) if dark else (0, 0, 0), scale)
