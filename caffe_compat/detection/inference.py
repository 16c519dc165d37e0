"""What a detector says of one image: its blobs, regions seen once, scores, and boxes that are moved.

Source: ``fast_rcnn/test.py`` of the ``distillation`` branch.  An image goes through three steps, so that the next one
can be read while the net runs: :func:`ask` makes what the net is fed, a :class:`Detector` runs it, :func:`answer` turns
what it says into boxes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from caffe_compat.config import Config
from caffe_compat.description import NetDescription
from caffe_compat.detection.boxes import bbox_transform_inv, clip_boxes
from caffe_compat.detection.images import join_blobs, scaled_image
from caffe_compat.errors import NetError, UsageError, WeightsError
from caffe_compat.media import short_side_factor
from caffe_compat.net import Net, load_description, net_of
from caffe_compat.net.weights import blobs_in

__all__ = ["Answer", "Detector", "Question", "answer", "ask", "im_detect", "input_names", "load_detector_net"]

NEAREST = 224 * 224
"""Of several scales a region is seen at the one that brings its area nearest to this."""
_HASH = np.array([1, 1e3, 1e6, 1e9, 1e12])

Answer = tuple[np.ndarray, np.ndarray | None]
"""Scores float32 [R, L] of each region and label, and deltas float32 [R, 4 L] (None: not asked for)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What a net is fed for one image.

    Args:
        blobs: float32 by input: ``data``, ``data_1``, ... [scales, 3, H, W], ``rois`` (and ``rois_1``, ...) [R, 5]:
            level, x1 y1 x2 y2 in scaled pixels; every region once.
        boxes: float64 [N, 4], all that was asked for, in pixels of the image.
        first: int64 [R], the box that each region was made of.
        inverse: int64 [N], the region that stands for each box.
        size: height and width of the image.
    """

    blobs: Mapping[str, np.ndarray]
    boxes: np.ndarray
    first: np.ndarray
    inverse: np.ndarray
    size: tuple[int, int]


def im_detect(
    net: Callable[[Question], Answer],
    images: Sequence[np.ndarray],
    boxes: np.ndarray,
    config: Config,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boxes of one image.

    Args:
        net: answers; a :class:`Detector`.
        images: uint8 [H, W, 3] in OpenCV's order, one of each modality, of one size.
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0.
        config: TEST, DEDUP_BOXES, PIXEL_MEANS, MODALITY_MEANS, EPS and PARITY are read.

    Returns:
        Scores float32 [N, L] of each label, of which 0 is the background, and boxes float64 [N, 4 L].
    """
    question = ask(images, boxes, config)
    return answer(question, net(question), config)


def input_names(modalities: int, several: bool = False) -> tuple[str, ...]:
    """Inputs of a net for so many modalities; ``several``: with regions for each."""
    tails = ["", *(f"_{number}" for number in range(1, modalities))]
    return (*(f"data{tail}" for tail in tails), *(f"rois{tail}" for tail in (tails if several else tails[:1])))


def ask(images: Sequence[np.ndarray], boxes: np.ndarray, config: Config, several: bool = False) -> Question:
    """What a net is fed for an image; arguments as :func:`im_detect`.

    Args:
        several: the net has an input of regions for each modality (``rois``, ``rois_1``, ...).

    Raises:
        UsageError: TEST.MODALITY_SCALES or MODALITY_MEANS for another number of modalities, or scales for a net with
            one input of regions.
    """
    scales = config.test.modality_scales or (config.test.scales,) * len(images)
    if len(scales) != len(images):
        raise UsageError(f"TEST.MODALITY_SCALES has scales of {len(scales)} modalities, expected {len(images)}")
    if len(set(scales)) > 1 and not several:
        raise UsageError("TEST.MODALITY_SCALES: the net has one input of regions, expected rois, rois_1, ...")
    config.check_means(len(images))
    every = np.asarray(boxes, np.float64).reshape(-1, 4)
    blobs: dict[str, np.ndarray] = {}
    rois = []
    names = input_names(len(images), several=True)
    for place, (name, image, sides) in enumerate(zip(names, images, scales, strict=False)):
        factors = [short_side_factor(image.shape[0], image.shape[1], side, config.test.max_size) for side in sides]
        blobs[name] = join_blobs([scaled_image(image, config, factor, place=place) for factor in factors])
        rois.append(_regions(every, factors))
    if not several:
        rois = rois[:1]
    first, inverse = _once(rois, config.dedup_boxes)
    for name, regions in zip(names[len(images) :], rois, strict=False):
        blobs[name] = regions[first]
    return Question(blobs, every, first, inverse, (images[0].shape[0], images[0].shape[1]))


def answer(question: Question, said: Answer, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boxes of all boxes that were asked for, as :func:`im_detect` returns them.

    Boxes that share a region share its scores and deltas, which move each from where it is; with PARITY all become the
    box that the first of them became, and are cut to the image on one side only, as in the released code.
    """
    scores, deltas = said[0], said[1] if config.test.bbox_reg else None
    boxes, parity = question.boxes, config.parity
    if parity:
        boxes = boxes[question.first]
    elif deltas is not None:
        deltas = deltas[question.inverse]
    if deltas is None:
        moved = np.tile(boxes, (1, scores.shape[1]))
    else:
        moved = clip_boxes(bbox_transform_inv(boxes, deltas, config.eps), question.size, one_sided=parity)
    return scores[question.inverse], moved[question.inverse] if parity else moved


def load_detector_net(
    prototxt: str | os.PathLike[str] | NetDescription, weights: Sequence[str | os.PathLike[str]]
) -> Net:
    """A test net, from a file or described, with its weights, copied from the files in their order.

    It computes without gradients (``load_net(optimize=True)``).

    Raises:
        WeightsError: a layer would keep what its filler makes, because no file has weights for it; files of which
            nothing fits, or a layer has another shape; weights that are not finite.
        CaffeCompatError: a file that cannot be read.
    """
    described = prototxt if isinstance(prototxt, NetDescription) else load_description(prototxt)
    net = net_of(described, weights, optimize=True)
    held = blobs_in(weights)
    empty = [node.name for node in net.nodes if node.layer.blobs and node.name not in held]
    if empty:
        files = ", ".join(os.fspath(file) for file in weights)
        raise WeightsError(f"{files}: no weights for {', '.join(empty)} of net '{net.description.name}'")
    for node in net.nodes:
        bad = sum(int((~torch.isfinite(blob)).sum()) for blob in node.layer.blobs)
        if bad:
            files = ", ".join(os.fspath(file) for file in weights)
            raise WeightsError(f"{files}: {bad} weights of layer '{node.name}' are NaN or infinite")
    return net


class Detector:
    """A net that answers for images.

    Args:
        net: with inputs ``data`` (``data_1``, ...) and ``rois`` (``rois_1``, ...); moved to the device.
        labels: number of classes with the background.
        modalities: pictures of an image.
        config: TEST.SVM and TEST.BBOX_REG are read.
        device: where it runs.
        blobs: of scores and of deltas; None: ``cls_prob`` (``cls_score`` with TEST.SVM) and ``bbox_pred``.

    Raises:
        NetError: inputs or outputs are missing, or have other sizes.
    """

    def __init__(
        self,
        net: Net,
        labels: int,
        modalities: int,
        config: Config,
        device: torch.device | str = "cpu",
        blobs: tuple[str | None, str | None] = (None, None),
    ) -> None:
        self.net, self.labels, self.device = net.to(device), labels, torch.device(device)
        self.several = "rois_1" in net.input_names
        self.scores = blobs[0] or ("cls_score" if config.test.svm else "cls_prob")
        self.deltas = (blobs[1] or "bbox_pred") if config.test.bbox_reg else None
        self._check_inputs(modalities)
        self._check_output(self.scores, labels, "one score for each")
        if self.deltas is not None:
            self._check_output(self.deltas, 4 * labels, "four deltas for each")

    def __call__(self, question: Question) -> Answer:
        """Run the net.

        Raises:
            NetError: scores or deltas that are not finite; names the blob.
        """
        count = len(question.first)
        if not count:  # there is nothing to ask
            none = np.zeros((0, self.labels), np.float32)
            return none, None if self.deltas is None else np.zeros((0, 4 * self.labels), np.float32)
        inputs = {name: torch.from_numpy(blob).to(self.device) for name, blob in question.blobs.items()}
        wanted = [self.scores] + ([self.deltas] if self.deltas is not None else [])
        with torch.inference_mode():
            found = self.net(blobs=wanted, **inputs)
        parts = [self._finite(name, found[name].reshape(count, -1)) for name in wanted]
        return parts[0], parts[1] if self.deltas is not None else None

    def _finite(self, name: str, values: torch.Tensor) -> np.ndarray:
        array: np.ndarray = values.float().cpu().numpy()
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            raise NetError(f"net '{self.net.description.name}': {bad} of {array.size} numbers in blob '{name}' are NaN "
                           "or infinite")  # fmt: skip
        return array

    def _check_inputs(self, modalities: int) -> None:
        expected = input_names(modalities, self.several)
        if sorted(self.net.input_names) != sorted(expected):
            raise NetError(
                f"net '{self.net.description.name}' takes the inputs {', '.join(self.net.input_names) or 'none'}; "
                f"expected {', '.join(expected)} for images of {modalities} "
                f"{'modality' if modalities == 1 else 'modalities'}"
            )

    def _check_output(self, name: str, count: int, what: str) -> None:
        net = self.net
        if name not in net.blob_shapes:
            raise NetError(f"net '{net.description.name}' has no blob '{name}'{_known(net)}")
        shape = net.blob_shapes[name]
        have = int(np.prod(shape[1:]))
        if have != count:
            raise NetError(
                f"net '{net.description.name}': blob '{name}' has {have} numbers for a region, expected {count}: "
                f"{what} of {self.labels - 1} classes and the background"
            )


def _known(net: Net) -> str:
    return f"; its outputs are {', '.join(net.output_names)}"


def _regions(boxes: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Boxes at the best of several scales: float32 [N, 5], level x1 y1 x2 y2."""
    factor = np.asarray(factors)
    levels = np.zeros(len(boxes), np.int64)
    if len(factors) > 1:
        areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
        levels = np.abs(areas[:, None] * factor**2 - NEAREST).argmin(1)
    return np.hstack((levels[:, None], boxes * factor[levels, None])).astype(np.float32)


def _once(rois: Sequence[np.ndarray], dedup: float) -> tuple[np.ndarray, np.ndarray]:
    """Regions that fall together after rounding, in all modalities: the first of each, and which stands for each."""
    if not dedup:
        every = np.arange(len(rois[0]))
        return every, every
    hashes = np.stack([np.round(regions * np.float32(dedup)).dot(_HASH) for regions in rois], 1)
    if hashes.shape[1] == 1:
        _, first, inverse = np.unique(hashes[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)
