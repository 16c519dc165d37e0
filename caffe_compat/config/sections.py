"""The options of training, testing and segmenting detections: one frozen class each, which checks its values."""

from __future__ import annotations

import dataclasses
import math
import os

from caffe_compat.errors import UsageError

__all__ = ["SdsConfig", "TestConfig", "TrainConfig", "require"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of training.

    Args:
        scales: pixels of the short side; one is drawn for every image of a batch.
        max_size: pixels that the long side may have; wins over ``scales``.
        ims_per_batch, batch_size: images, and regions of all of them together.
        fg_fraction: part of the regions that may show an object.
        fg_thresh: overlap with an object from which on a region shows it.
        bg_thresh_hi, bg_thresh_lo: background overlaps from ``lo`` on and less than ``hi``.
        use_flipped: train on mirror images too.
        bbox_reg: learn to move boxes.
        bbox_thresh: overlap from which on a region teaches that.
        snapshot_iters, snapshot_infix: how often, and ``fast_rcnn_INFIX_iter_N``.
        use_prefetch: make minibatches ahead, in a thread; the numbers are the same.  (Here it is the default.)
        bbox_pred_param_names: layers whose weights a snapshot holds for targets that are not normalised.
        proposal_top_k: proposals used of an image, best first; 0: all.  (Not in the branch.)
    """

    scales: tuple[int, ...] = (600,)
    max_size: int = 1000
    ims_per_batch: int = 2
    batch_size: int = 128
    fg_fraction: float = 0.25
    fg_thresh: float = 0.5
    bg_thresh_hi: float = 0.5
    bg_thresh_lo: float = 0.1
    use_flipped: bool = True
    bbox_reg: bool = True
    bbox_thresh: float = 0.5
    snapshot_iters: int = 10000
    snapshot_infix: str = ""
    use_prefetch: bool = True
    bbox_pred_param_names: tuple[str, ...] = ("bbox_pred",)
    proposal_top_k: int = 0

    def __post_init__(self) -> None:
        check_scales("TRAIN.SCALES", self.scales)
        for name in ("max_size", "ims_per_batch", "batch_size", "snapshot_iters"):
            require(getattr(self, name) >= 1, f"TRAIN.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        require(
            self.batch_size % self.ims_per_batch == 0,
            f"TRAIN.BATCH_SIZE is {self.batch_size}, expected a multiple of TRAIN.IMS_PER_BATCH, {self.ims_per_batch}",
        )
        for name in ("fg_fraction", "fg_thresh", "bg_thresh_hi", "bg_thresh_lo", "bbox_thresh"):
            check_fraction(f"TRAIN.{name.upper()}", getattr(self, name))
        low, high = self.bg_thresh_lo, self.bg_thresh_hi
        require(low <= high, f"TRAIN.BG_THRESH_LO is {low}, expected at most TRAIN.BG_THRESH_HI, {high}")
        require(self.proposal_top_k >= 0, f"TRAIN.PROPOSAL_TOP_K is {self.proposal_top_k}, expected 0 or more")
        require(
            os.sep not in self.snapshot_infix,
            f"TRAIN.SNAPSHOT_INFIX is '{self.snapshot_infix}', expected a part of a file name",
        )


@dataclasses.dataclass(frozen=True)
class TestConfig:
    """Options of testing.

    Args:
        scales, max_size: as in training; of several scales each region is seen at the one that makes it nearest to
            224 x 224.
        nms: overlap from which on the lower of two boxes of a class is dropped.
        svm: scores are those of ``cls_score``, from linear SVMs, instead of ``cls_prob``.
        bbox_reg: move boxes as ``bbox_pred`` says.
        max_per_image: boxes of a class kept in an image.
        max_per_set_f: boxes of a class kept in a set, per image of the set.
        max_per_image_all: boxes of all classes together that stay in an image after suppression; 0 = all; COCO counts
            100.  (Not in the branch.)
        det_salt, eval_salt: added to the names of the files of detections and evaluations.
        score_thresh: boxes with this score or less are dropped.  (Not in the branch.)
        modality_scales: scales of each modality, where they are not the same; needs a net with an input of regions
            for each (``rois``, ``rois_1``, ...).  (Not in the branch.)
        proposal_top_k: as in training.  (Not in the branch.)
    """

    __test__ = False  # pytest is to take this for no test

    scales: tuple[int, ...] = (600,)
    max_size: int = 1000
    nms: float = 0.3
    svm: bool = False
    bbox_reg: bool = True
    max_per_image: int = 100
    max_per_set_f: int = 40
    max_per_image_all: int = 0
    det_salt: str = ""
    eval_salt: str = ""
    score_thresh: float = -math.inf
    modality_scales: tuple[tuple[int, ...], ...] = ()
    proposal_top_k: int = 0

    def __post_init__(self) -> None:
        check_scales("TEST.SCALES", self.scales)
        for scales in self.modality_scales:
            check_scales("TEST.MODALITY_SCALES", scales)
        for name in ("max_size", "max_per_image", "max_per_set_f"):
            require(getattr(self, name) >= 1, f"TEST.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        check_fraction("TEST.NMS", self.nms)
        for name in ("proposal_top_k", "max_per_image_all"):
            require(getattr(self, name) >= 0, f"TEST.{name.upper()} is {getattr(self, name)}, expected 0 or more")
        for name in ("det_salt", "eval_salt"):
            value = getattr(self, name)
            require(os.sep not in value, f"TEST.{name.upper()} is '{value}', expected a part of a file name")


@dataclasses.dataclass(frozen=True)
class SdsConfig:
    """Options of segmenting detections with hypercolumns (branch ``sds-distillation``).

    Args:
        target_size, max_size: pixels of the short side, and that the long one may have; the published nets were made
            with 688.  In training ``max_size`` of the data layer's ``param_str`` takes the place of ``target_size``.
        feat_scale: pixels of the scaled image for a cell of the map that regions are pooled from.
        mask_size: side of the grid over a box.
        det_salt, eval_salt: added to the names of the files of segmented detections and of their evaluations.
    """

    target_size: int = 688
    max_size: int = 1000
    feat_scale: int = 16
    mask_size: int = 50
    det_salt: str = ""
    eval_salt: str = ""

    def __post_init__(self) -> None:
        for name in ("target_size", "max_size", "feat_scale"):
            require(getattr(self, name) >= 1, f"SDS.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        require(self.mask_size >= 2, f"SDS.MASK_SIZE is {self.mask_size}, expected 2 or more")
        for name in ("det_salt", "eval_salt"):
            value = getattr(self, name)
            require(os.sep not in value, f"SDS.{name.upper()} is '{value}', expected a part of a file name")


def require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


def check_scales(key: str, scales: tuple[int, ...]) -> None:
    require(bool(scales) and min(scales) >= 1, f"{key} is {scales}, expected one or more sides of 1 pixel or more")


def check_fraction(key: str, value: float) -> None:
    require(0 <= value <= 1, f"{key} is {value}, expected 0 to 1")
