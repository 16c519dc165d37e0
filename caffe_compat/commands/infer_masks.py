"""The pixels of the objects that a detector finds, for ``infer_onnx --masks``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.config import Config, load_config
from caffe_compat.deploy import Session
from caffe_compat.deploy.feed import Feed, Sample
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.detection.objects import Found
from caffe_compat.errors import DataError, UsageError, in_file, nearest
from caffe_compat.media.run_lengths import run_lengths
from caffe_compat.segmentation.deployed import DeployedMasks, check_stride, mask_options
from caffe_compat.segmentation.questions import ask_about
from caffe_compat.segmentation.regions import (
    Superpixels,
    choose_regions,
    paste_masks,
    region_masks,
    superpixel_values,
)
from caffe_compat.segmentation.superpixels import make_superpixels, read_superpixels
from caffe_compat.stamps import file_digest

__all__ = ["FoundMasks", "ObjectMasks", "object_masks"]

COLOR, NONE = "color", "none"


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """Masks of objects, in their order.

    Args:
        pixels: bool [N, H, W].
        grids: float32 [N, S, S], probabilities on the grid over each box.
        labels: [N], the class of each, from 0.
    """

    pixels: np.ndarray
    grids: np.ndarray
    labels: np.ndarray

    def records(self) -> list[dict[str, Any]]:
        """What JSON holds of each."""
        return [{"mask": run_lengths(mask)} for mask in self.pixels]

    def arrays(self, found: Sequence[Found]) -> dict[str, np.ndarray]:
        """What is kept as arrays, by name; rows of masks are packed, 8 pixels a byte."""
        return {
            "object_boxes": np.array([one.box for one in found], np.float32).reshape(-1, 4),
            "object_scores": np.array([one.score for one in found], np.float32),
            "object_classes": self.labels.astype(np.int64),
            "mask_grids": self.grids,
            "masks": np.packbits(self.pixels, axis=2),
        }


class ObjectMasks:
    """Segments the objects of scenes.

    Args:
        net: answers.
        classes: names that the net tells apart, without the background.
        config: SDS, PIXEL_MEANS, MODALITY_MEANS and PARITY are read.
        superpixels: ``color``, ``none``, or a folder.
        threshold: mean probability from which on a superpixel, or a pixel, belongs to an object.
        model: digest of the net's file.

    Raises:
        UsageError: a threshold outside of 0 to 1, or no such folder.
    """

    def __init__(
        self, net: DeployedMasks, classes: Sequence[str], config: Config, superpixels: str, threshold: float, model: str
    ) -> None:
        self.net, self.classes, self.config, self.source = net, tuple(classes), config, superpixels
        self.threshold, self._model = threshold, model
        if not 0 < threshold <= 1:
            raise UsageError(f"--mask-threshold {threshold}: expected a number above 0, up to 1")
        if superpixels not in (COLOR, NONE) and not Path(superpixels).is_dir():
            raise UsageError(
                f"--superpixels {superpixels}: is no folder{nearest(superpixels, (COLOR, NONE))}, expected one, "
                f"{COLOR} or {NONE}"
            )

    def settings(self) -> dict[str, Any]:
        """All on which masks depend."""
        keys = ("SDS.", "PIXEL_MEANS", "MODALITY_MEANS", "PARITY")
        kept = {key: repr(value) for key, value in self.config.items().items() if key.startswith(keys)}
        return {
            "model": self._model,
            "classes": list(self.classes),
            "options": kept,
            "superpixels": self.source,
            "threshold": self.threshold,
        }

    def superpixels(self, sample: Sample, shown: np.ndarray) -> Superpixels | None:
        """The superpixels of a scene; None: masks are made of pixels.

        Raises:
            MissingFileError, DataError: a file that is not there, or does not serve.
        """
        if self.source == NONE:
            return None
        if self.source == COLOR:
            return make_superpixels(shown)
        return read_superpixels(Path(self.source) / f"{sample.name}.png", (shown.shape[0], shown.shape[1]))

    def __call__(
        self, pictures: Sequence[np.ndarray], found: Sequence[Found], superpixels: Superpixels | None
    ) -> FoundMasks:
        """The masks of objects.

        Args:
            pictures: uint8 [H, W, 3], one of each modality.

        Raises:
            DataError: an object of another class, or superpixels of another size.
        """
        size = pictures[0].shape[0], pictures[0].shape[1]
        if superpixels is not None and superpixels.size != size:
            has, seen = (f"{width} x {height}" for height, width in (superpixels.size, size))
            raise DataError(f"{superpixels.origin}: {has} pixels, the pictures that the model sees have {seen}")
        places = {name: label for label, name in enumerate(self.classes)}
        unknown = [one.name for one in found if one.name not in places]
        if unknown:
            raise DataError(f"the net that segments boxes knows no class '{unknown[0]}', only {', '.join(places)}")
        labels = np.array([places[one.name] for one in found], np.int64)
        boxes = np.array([one.box for one in found], np.float32).reshape(-1, 4)
        output = self.net(ask_about(pictures, boxes, labels, self.config))
        parity = self.config.parity
        if superpixels is None:
            pixels = paste_masks(output, boxes, size, self.threshold, parity)
        else:
            regions = choose_regions(superpixel_values(output, boxes, superpixels, parity), self.threshold)
            pixels = region_masks(regions, superpixels)
        return FoundMasks(pixels, output[:, 0], labels)


def object_masks(
    args: argparse.Namespace, device: str, pictures: int, classes: Sequence[str], parity: bool
) -> ObjectMasks:
    """What ``--masks`` and the options beside it say.

    Args:
        pictures: how many the detector takes of a scene.
        classes: the detector's, without the background.
        parity: do as the released code did.

    Raises:
        CaffeCompatError: a model that segments no boxes, or boxes of other classes; an option that makes no sense.
    """
    session = Session(args.masks, device, threads=args.threads)
    with in_file(args.masks):
        net = DeployedMasks(session)
        feed = Feed(session)
        if len(net.pictures) != pictures:
            raise UsageError(f"takes {len(net.pictures)} pictures of a scene, the detector {pictures}")
        config = load_config(args.cfg, [*mask_options(session, list(feed.wanted.values())), *_sds_pairs(args)], parity)
        check_stride(config, session)
        known = tuple(name for name in feed.classes if name != BACKGROUND) or tuple(classes)
        missing = [name for name in classes if name not in known]
        if missing:
            raise UsageError(
                f"segments no '{missing[0]}', which the detector finds{nearest(missing[0], known)}; it was trained on "
                f"{', '.join(known)}"
            )
        return ObjectMasks(net, known, config, args.superpixels, args.mask_threshold, file_digest(args.masks))


def _sds_pairs(args: argparse.Namespace) -> list[str]:
    """Those of ``--set`` that concern masks."""
    pairs = list(zip(args.pairs[::2], args.pairs[1::2], strict=False))
    return [word for pair in pairs if pair[0].startswith("SDS.") for word in pair]
