"""Which net of another framework is meant, which of its features, and how it wants pictures; plain data, no torch."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_compat.errors import UsageError, nearest

__all__ = [
    "IMAGENET_RGB",
    "RANDOM",
    "ForeignSpec",
    "Normalization",
    "blob_name",
    "check_feature",
    "is_foreign",
    "kind_of",
    "split_feature",
]

RANDOM = "random"
"""What stands for a weights file where random weights are meant."""
FORMS = "torchvision:NAME, timm:NAME, package.module:function or FILE.onnx"
FEW = 40  # names that a message lists
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Normalization:
    """How pixels (0 to 255) become what a net takes: ``(pixel / pixel_range - mean) / std``.

    Attributes:
        mean, std: for each channel, in the order that the net takes.
        pixel_range: 255 for nets whose framework counts pixels from 0 to 1.
        rgb: whether the net takes red first; OpenCV, and so Caffe, has blue first.

    Raises:
        UsageError: a number that makes no sense.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    pixel_range: float = 255.0
    rgb: bool = True

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise UsageError(f"{name} {list(values)} of a net of another framework: expected 3 numbers")
        if not all(value > 0 for value in (*self.std, self.pixel_range)) or not math.isfinite(self.pixel_range):
            raise UsageError(
                f"std {list(self.std)} and pixel_range {self.pixel_range:g} of a net of another framework: expected "
                "positive numbers"
            )

    def __str__(self) -> str:
        order = "red, green, blue" if self.rgb else "blue, green, red"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{order}: (pixel / {self.pixel_range:g} - ({mean})) / ({std})"


IMAGENET_RGB = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What torchvision's nets were trained with."""


@dataclass(frozen=True)
class ForeignSpec:
    """A net of another framework and what is wanted of it.

    Attributes:
        source: one of the forms that :func:`kind_of` knows.
        features: names of its features: graph nodes or modules of a torch net (``layer3``), values of an ONNX graph.
        weights: a file (``.pth``, ``.safetensors``), ``"random"``, or empty where the source brings them.
        random_seed: of random weights; the same seed gives the same net.
        takes: how it takes pictures.
    """

    source: str
    features: tuple[str, ...]
    weights: str = ""
    random_seed: int = 0
    takes: Normalization = Normalization()


def kind_of(source: str) -> str:
    """``torchvision``, ``timm``, ``python`` or ``onnx``; empty for anything else, such as a prototxt.

    ``torchvision:resnet50``, ``timm:resnet50``, ``package.module:function`` (a function without arguments that returns
    a torch module), ``model.onnx``.
    """
    if source.lower().endswith(".onnx"):
        return "onnx"
    first, colon, _ = source.partition(":")
    if colon and first in ("torchvision", "timm"):
        return first
    return "python" if _ENTRY.fullmatch(source) and not os.path.exists(source) else ""


def is_foreign(source: str) -> bool:
    """Whether a name means a net of another framework, with or without ``@feature``."""
    return bool(kind_of(split_feature(source)[0]))


def split_feature(text: str) -> tuple[str, tuple[str, ...]]:
    """``SOURCE@FEATURE[,FEATURE...]`` as source and features; without ``@`` there are none.

    Raises:
        UsageError: an empty name.
    """
    if os.path.exists(text) or "@" not in text:
        return text, ()
    source, _, names = text.rpartition("@")
    features = tuple(name.strip() for name in names.split(","))
    if not source or not all(features):
        raise UsageError(f"'{text}': expected SOURCE@FEATURE, where SOURCE is a prototxt, {FORMS}")
    return source, features


def check_feature(feature: str, known: Sequence[str], who: str) -> None:
    """Refuse a feature that a net does not have.

    Raises:
        UsageError: with the nearest names, or all if they are few.
    """
    if feature not in known:
        near = nearest(feature, known)
        shown = known if len(known) <= FEW else difflib.get_close_matches(feature, known, n=8, cutoff=0.3)
        some = f"it has {', '.join(shown)}" + (
            f" and {len(known) - len(shown)} more" if len(shown) < len(known) else ""
        )
        raise UsageError(f"{who} has no feature '{feature}'{near}; {some}")


def blob_name(feature: str) -> str:
    """What the blob of a feature is called: ``layer3.5.conv1`` would be no name for a layer of its own."""
    return re.sub(r"\W", "_", feature)
