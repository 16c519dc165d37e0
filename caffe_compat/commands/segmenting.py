"""What ``test_net --sds 1`` does."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from caffe_compat.commands.testing import check_weights, wait_for
from caffe_compat.config import Config, load_config, write_config
from caffe_compat.datasets import ImageDatabase, find_imdb
from caffe_compat.detection.nms import apply_nms
from caffe_compat.detection.results import make_folder
from caffe_compat.detection.testing import run_name
from caffe_compat.detection.training import output_folder
from caffe_compat.devices import own_device
from caffe_compat.errors import DataError, UsageError, in_file, printable
from caffe_compat.evaluation.database import in_order_of
from caffe_compat.evaluation.detections import Detections, read_detections
from caffe_compat.evaluation.tables import table
from caffe_compat.gathering import Gathering
from caffe_compat.locks import hold
from caffe_compat.ranks import here
from caffe_compat.segmentation.average import RegionAverage, region_table
from caffe_compat.segmentation.coco import CocoMaskAverage
from caffe_compat.segmentation.inference import Masks, load_mask_net
from caffe_compat.segmentation.regions import region_masks
from caffe_compat.segmentation.reports import write_region_reports
from caffe_compat.segmentation.stored import SegmentedDetections, write_segmented
from caffe_compat.segmentation.superpixels import (
    KeptSuperpixels,
    SuperpixelsOfFolder,
    SuperpixelSource,
    made_superpixels,
)
from caffe_compat.segmentation.testing import PartialRegions, Segmented, SegmentRun, object_overlaps, segment_all
from caffe_compat.stamps import file_digest

__all__ = ["MOST_NAMED", "segment"]

MOST_NAMED = 10
"""Images that are named at the end."""
_EVERY = 10
"""Images after which the branch writes a line."""


def segment(args: argparse.Namespace) -> int:
    """Segment stored detections as the arguments say, and print what comes of it.

    Returns:
        1 if images were skipped, else 0.

    Raises:
        CaffeCompatError: naming the file, layer, blob or option that is wrong.
    """
    config = load_config(args.cfg, args.pairs, args.parity or None)
    if args.sds_detection_file is None:
        raise UsageError("--sds 1: which boxes? expected --sds_detection_file, what test_net writes without --sds")
    ranks = here()
    device = own_device(args.gpu, ranks)
    imdb = find_imdb(args.imdb, config.root_dir or ".")
    detections = _detections(args.sds_detection_file, imdb, config)
    wait_for(args.weights, args.wait)
    net, wrong = load_mask_net(args.prototxt, args.weights, config)
    if wrong:
        print(printable(f"maps lie elsewhere than those that were trained: {'; '.join(wrong[:3])}"), flush=True)
    _check_weights(args.weights, imdb, config)
    with in_file(args.prototxt):
        masks = Masks(net, len(imdb.modalities), config, device, args.sds_img_blob_names, args.sds_output_blob_name)
    base = output_folder(config, imdb) / run_name(args.weights)
    folder = base / f"segm{config.test.det_salt}"
    make_folder(folder)
    source = _superpixels(args, imdb, folder)
    run = SegmentRun(imdb, detections, masks, source.whole, config, args.sds_sp_thresh)
    stem = folder / f"detections{config.sds.det_salt}"
    instead = "give this run an EXP_DIR, TEST.DET_SALT or SDS.DET_SALT of its own"
    with ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(hold(Path(f"{stem}.lock"), f"segmenting into {folder}", instead, UsageError))
        partial = PartialRegions(f"{stem}.part", _settings(args, imdb, config, device), ranks.rank)
        if ranks.several:
            if not _segment_with_others(run, partial, source, stem):
                return 0
            run = dataclasses.replace(run, superpixels=source.again())
        kept = _Kept(imdb, config, args.sds_coco)
        for one in _shown(segment_all(run, partial), len(imdb.records)):
            kept.take(one)
        status = _finish(base, folder, kept, args.sds_save_output, source)
        partial.remove()
    return status


def _segment_with_others(run: SegmentRun, partial: PartialRegions, source: _Source, stem: Path) -> bool:
    """Segment this process's share of the images; on rank 0, where the result is true, know what all have found."""
    ranks = here()
    with Gathering(stem, ranks, [record.name for record in run.imdb.records], "images") as others:
        count = sum(1 for _ in segment_all(run, partial, ranks))
        parts = others.gather(source.making.made if source.making is not None else [])
    if parts is None:
        print(f"{ranks}: {count} images", flush=True)
        return False
    partial.read_others()
    if source.making is not None:
        source.making.made[:] = [name for part in parts for name in part]
    return True


def _check_weights(weights: Sequence[str], imdb: ImageDatabase, config: Config) -> None:
    """Compare classes, means and sizes of pictures with those that the weights were trained with."""
    sides = {one.short_side for stored in check_weights(weights, imdb, config) for one in stored.inputs.values()}
    other = sorted(side for side in sides if side not in (None, config.sds.target_size))
    if other:
        text = " and ".join(map(str, other))
        print(f"trained on pictures of {text} pixels, SDS.TARGET_SIZE is {config.sds.target_size}", flush=True)


def _detections(file: str, imdb: ImageDatabase, config: Config) -> Detections:
    """What suppression leaves of the stored detections, in the order of the database."""
    with in_file(file):
        found = in_order_of(imdb, read_detections(file, imdb.classes, [record.name for record in imdb.records]))
    left = apply_nms(found, config.test.nms, config.parity, config.test.max_per_image_all)
    none = sum(not any(map(len, left.of_image(number))) for number in range(len(left.images)))
    print(printable(f"{file}: {len(found)} boxes, of which {len(left)} stay at an overlap below {config.test.nms:g}"))
    if none:
        print(printable(f"{none} of {len(left.images)} images have no detections"))
    empty = [name for name, row in zip(imdb.classes, left.boxes, strict=True) if not any(map(len, row))]
    if empty:
        print(printable(f"no detections of {', '.join(empty)}"))
    return left


@dataclass(frozen=True, eq=False)
class _Source:
    """Superpixels: of all images, and what makes those that are made where there are no files of them."""

    whole: SuperpixelSource
    making: KeptSuperpixels | None
    kind: str
    files: str | None

    def again(self) -> SuperpixelSource:
        """The same where all that had to be made have been made."""
        if self.making is None:
            return self.whole
        made = SuperpixelsOfFolder(self.making.folder)
        return SuperpixelsOfFolder(self.files, made) if self.files else made


def _superpixels(args: argparse.Namespace, imdb: ImageDatabase, folder: Path) -> _Source:
    kind = args.sds_sp_make
    if kind is None:
        kind = "none" if args.sds_sp_dir else "color" if "images" in imdb.modalities else "picture"
    if kind == "none":
        if not args.sds_sp_dir:
            raise UsageError("--sds_sp_make none: expected --sds_sp_dir, a folder of superpixels")
        return _Source(SuperpixelsOfFolder(args.sds_sp_dir), None, kind, args.sds_sp_dir)
    making = KeptSuperpixels(made_superpixels(kind, args.sds_sp_count), folder / "superpixels")
    whole = SuperpixelsOfFolder(args.sds_sp_dir, making) if args.sds_sp_dir else making
    return _Source(whole, making, kind, args.sds_sp_dir)


def _settings(args: argparse.Namespace, imdb: ImageDatabase, config: Config, device: torch.device) -> dict[str, Any]:
    """All on which regions depend, but for what is known of each image."""
    options = {
        key: repr(value)
        for key, value in config.items().items()
        if (key.startswith("SDS.") and not key.endswith("_SALT")) or key in ("PIXEL_MEANS", "MODALITY_MEANS", "PARITY")
    }
    return {
        "net": file_digest(args.prototxt),
        "weights": [file_digest(file) for file in args.weights],
        "blobs": [args.sds_img_blob_names, args.sds_output_blob_name],
        "threshold": args.sds_sp_thresh,
        "imdb": [imdb.name, *imdb.modalities],
        "options": options,
        "made by": [device.type, torch.__version__],
    }


def _shown(images: Iterator[Segmented], total: int) -> Iterator[Segmented]:
    """The same with a bar, or, where nobody looks at a terminal, the branch's line for every tenth image."""
    seconds, done, resumed = np.zeros(2), 0, 0
    with tqdm(total=total, unit="image", disable=None) as bar:
        for one in images:
            yield one
            done, resumed = done + 1, resumed + one.resumed
            seconds += one.seconds
            pred, rest = seconds / max(1, done - resumed)
            bar.set_postfix_str(f"net {pred:.3f}s, superpixels {rest:.3f}s", refresh=False)
            bar.update()
            if bar.disable and ((done - 1) % _EVERY == 0 or done == total):
                print(f"Doing : {done:4d} / {total:4d}, get pred:{pred:.2f} s, get sp:{rest:.2f} s", flush=True)


@dataclass
class _Kept:
    """What came of the images so far.

    Attributes:
        regions: of each image; None: it was skipped.
        skipped: why, of each image that was.
    """

    imdb: ImageDatabase
    config: Config
    coco: bool
    regions: list[np.ndarray | None] = field(default_factory=list)
    boxes: list[list[np.ndarray]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.average = RegionAverage(self.imdb.classes, parity=self.config.parity)
        self.coco_average = CocoMaskAverage(self.imdb.classes) if self.coco else None
        self.known = any(record.masks is not None for record in self.imdb.records)

    def take(self, one: Segmented) -> None:
        """Take one image."""
        problem = one.problem
        if not problem and self.known:
            try:
                self._judge(one)
            except DataError as error:
                problem = str(error)
        self.regions.append(one.regions)
        self.boxes.append(one.detections)
        if problem:
            self.skipped[one.record.name] = problem

    def _judge(self, one: Segmented) -> None:
        overlaps = object_overlaps(one, self.config.parity)
        self.average.process(one.record, one.detections, overlaps)
        if self.coco_average is not None and one.superpixels is not None and one.regions is not None:
            pixels = region_masks(one.regions, one.superpixels)
            self.coco_average.process(one.record, one.detections, pixels)

    def segmented(self) -> SegmentedDetections:
        """Boxes and regions of all images."""
        rows = [list(row) for row in zip(*self.boxes, strict=True)]
        names = tuple(record.name for record in self.imdb.records)
        return SegmentedDetections(Detections(self.imdb.classes, names, rows), self.regions)


def _finish(base: Path, folder: Path, kept: _Kept, save: bool, source: _Source) -> int:
    """Write everything, and print the tables and what was skipped."""
    config, sds = kept.config, kept.config.sds
    if len(kept.skipped) == len(kept.regions):
        raise DataError(f"no image could be used: {next(iter(kept.skipped.values()))}")
    written = [folder / f"config{sds.det_salt}.yml"]
    write_config(written[0], config)
    if save:
        written.append(folder / f"detections{sds.det_salt}.npz")
        write_segmented(written[-1], kept.segmented())
    if source.making is not None and source.making.made:
        made = len(source.making.made)
        print(printable(f"superpixels of {made} images were made from {source.kind}: {source.making.folder}"))
    if kept.known:
        evaluations = kept.average.evaluate()
        print(printable(region_table(evaluations)), flush=True)
        stem = base / f"segm{config.test.det_salt}_eval{sds.det_salt}{sds.eval_salt}"
        written += write_region_reports(stem, evaluations, list(kept.skipped))
        if kept.coco_average is not None:
            print(printable(table(kept.coco_average.evaluate())), flush=True)
    else:
        print(printable(f"{kept.imdb.name}: the pixels of its objects are not known, so nothing is evaluated"))
    print(printable(f"wrote {len(written)} files into {base}"))
    _tell_skipped(kept.skipped, len(kept.regions))
    return 1 if kept.skipped else 0


def _tell_skipped(skipped: dict[str, str], total: int) -> None:
    if not skipped:
        return
    print(f"skipped {len(skipped)} of {total} images, which the figures leave out:")
    lines: Sequence[str] = list(skipped.values())
    print(printable("\n".join(f"  {line}" for line in lines[:MOST_NAMED])))
    if len(lines) > MOST_NAMED:
        print(f"  and {len(lines) - MOST_NAMED} more")
