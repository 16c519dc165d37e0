"""Segmenting the detections of an image database: the region of every box, image after image.

Source: ``get_all_outputs`` in ``lib/sds/test_hypercolumns.py`` of the ``sds-distillation`` branch.  An image that
cannot be used is skipped, and said so; the branch stops.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.images import read_modalities
from caffe_compat.errors import DataError, MissingFileError, in_file
from caffe_compat.evaluation.detections import Detections
from caffe_compat.ranks import Ranks
from caffe_compat.record_file import RecordFile, framed, rank_file, rank_files
from caffe_compat.segmentation.asking import ask_masks, regions_of
from caffe_compat.segmentation.questions import MaskQuestion
from caffe_compat.segmentation.regions import (
    REGION_THRESHOLD,
    Superpixels,
    map_counts,
    mask_counts,
    region_overlaps,
)
from caffe_compat.segmentation.stored import pack, unpack
from caffe_compat.segmentation.superpixels import SuperpixelSource
from caffe_compat.segmentation.truth import instance_map, object_masks
from caffe_compat.stamps import file_digest, stamp_text

__all__ = ["PartialRegions", "SegmentRun", "Segmented", "object_overlaps", "segment_all"]

_MAGIC = b"caffe_compat regions 1\n"
_COUNTS = struct.Struct("<II")  # boxes, superpixels


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentRun:
    """What is segmented.

    Args:
        imdb: the images.
        detections: of the database, in its order: what suppression left.
        masks: answers questions; a :class:`~caffe_compat.segmentation.inference.Masks`.
        superpixels: of an image.
        config: SDS, PIXEL_MEANS, MODALITY_MEANS and PARITY are read.
        threshold: mean probability from which on a superpixel belongs to a region.
    """

    imdb: ImageDatabase
    detections: Detections
    masks: Callable[[MaskQuestion], np.ndarray]
    superpixels: SuperpixelSource
    config: Config
    threshold: float = REGION_THRESHOLD


@dataclasses.dataclass(frozen=True, eq=False)
class Segmented:
    """One image.

    Args:
        record: the image.
        detections: of each class [n, 5].
        superpixels: of the image; None: it was skipped.
        regions: bool [N, superpixels], of all detections class by class; None: the image was skipped.
        problem: why it was skipped; empty: it was not.
        resumed: whether an earlier run has segmented it.
        seconds: that the net took, and all the rest but for reading ahead.
    """

    record: FrameRecord
    detections: list[np.ndarray]
    superpixels: Superpixels | None
    regions: np.ndarray | None
    problem: str = ""
    resumed: bool = False
    seconds: tuple[float, float] = (0.0, 0.0)


class PartialRegions:
    """What a run has segmented so far, in a file of records (:mod:`caffe_compat.record_file`), one an image.

    Args:
        path: of the file.
        settings: of the run, as JSON holds them; with others nothing in the file counts.
        rank: of several processes this one, which has a file of its own and knows those of the others.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], rank: int = 0) -> None:
        self._base, self._begin = path, _MAGIC + framed(stamp_text(settings).encode())
        self._file = RecordFile(rank_file(path, rank), self._begin)
        self._held = dict(self._parse(record) for record in self._file.read())
        self.read_others()

    def get(self, key: str) -> np.ndarray | None:
        """The regions of the image with this key; None: not there."""
        return self._held.get(key)

    def append(self, key: str, regions: np.ndarray) -> None:
        """Write the regions of another image.

        Args:
            key: 40 ASCII letters, of all that they depend on.
            regions: bool [N, superpixels].

        Raises:
            WriteError: it cannot be written.
        """
        self._file.append(key.encode().ljust(40) + _COUNTS.pack(*regions.shape) + pack(regions))
        self._held[key] = regions

    def read_others(self) -> None:
        """Learn what the other processes have segmented until now."""
        for path in rank_files(self._base):
            if path != self._file.path:
                self._held |= dict(self._parse(record) for record in RecordFile(path, self._begin).read())

    def remove(self) -> None:
        """There is a result: the files are not needed any more."""
        for path in rank_files(self._base):
            path.unlink(missing_ok=True)

    @staticmethod
    def _parse(record: bytes) -> tuple[str, np.ndarray]:
        boxes, superpixels = _COUNTS.unpack_from(record, 40)
        return record[:40].decode().strip(), unpack(record[40 + _COUNTS.size :], boxes, superpixels)


def segment_all(
    run: SegmentRun, partial: PartialRegions | None = None, ranks: Ranks | None = None
) -> Iterator[Segmented]:
    """The regions of the detections in every image.

    An image without detections has regions of none.

    Args:
        run: what is segmented.
        partial: what an earlier run has done, and where this one adds to; None: start anew and keep nothing.
        ranks: of several processes this one, whose share of the images is wanted; None: all.

    Raises:
        DataError: no images.
        CaffeCompatError: a net that gives numbers that are not finite, or options that fit no image.
    """
    records = run.imdb.records
    if not len(records):
        raise DataError(f"{run.imdb.name}: has no images")
    numbers = (ranks or Ranks()).share(len(records))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_load, run, numbers[0], partial)
        for following in (*numbers[1:], None):
            loaded = waiting.result()
            if following is not None:
                waiting = pool.submit(_load, run, following, partial)
            yield _segment(run, loaded, partial)


def object_overlaps(segmented: Segmented, parity: bool = False) -> np.ndarray:
    """Overlaps of an image's regions with its objects: float64 [N, K].

    Args:
        parity: objects are drawn over each other in one map, as in the branch; else they may overlap.

    Raises:
        DataError: the objects' pixels are not known, or of another size; names the image.
    """
    superpixels, regions = segmented.superpixels, segmented.regions
    if superpixels is None or regions is None:
        raise DataError(f"image {segmented.record.name}: was skipped")
    masks = object_masks(segmented.record, hidden=parity)
    if not parity or not len(masks):
        return region_overlaps(regions, mask_counts(masks, superpixels), superpixels)
    counts = np.zeros((len(masks), superpixels.count), np.int64)
    found = map_counts(instance_map(masks), superpixels)
    counts[: len(found)] = found  # the last may be hidden
    return region_overlaps(regions, counts, superpixels)


# -- one image ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Loaded:
    """An image that the net is to see, what an earlier run has found in it, or why it cannot be used."""

    record: FrameRecord
    detections: list[np.ndarray]
    key: str = ""
    superpixels: Superpixels | None = None
    question: MaskQuestion | None = None
    regions: np.ndarray | None = None
    problem: str = ""


def _load(run: SegmentRun, number: int, partial: PartialRegions | None) -> _Loaded:
    record, detections = run.imdb.records[number], run.detections.of_image(number)
    try:
        with in_file(f"image {record.name}"):
            return _read(run, record, detections, partial)
    except (DataError, MissingFileError) as error:
        return _Loaded(record, detections, problem=str(error))


def _read(
    run: SegmentRun, record: FrameRecord, detections: list[np.ndarray], partial: PartialRegions | None
) -> _Loaded:
    superpixels = run.superpixels(record)
    paths = [record.paths[kind] for kind in run.imdb.modalities]
    key, held = "", None
    if partial is not None:
        key = _key(record.name, paths, detections, superpixels)
        held = partial.get(key)
    if held is not None:
        return _Loaded(record, detections, key, superpixels, regions=held)
    images = read_modalities(paths, record.size)
    size = images[0].shape[:2]
    if superpixels.size != size:
        raise DataError(
            f"{superpixels.origin}: has {superpixels.size[1]} x {superpixels.size[0]} pixels, the picture "
            f"{size[1]} x {size[0]}"
        )
    return _Loaded(record, detections, key, superpixels, ask_masks(images, detections, run.config))


def _key(name: str, paths: Sequence[str], detections: Sequence[np.ndarray], superpixels: Superpixels) -> str:
    digest = hashlib.sha1(name.encode(errors="surrogateescape"), usedforsecurity=False)
    counts = np.array([len(found) for found in detections], "<i8")
    boxes = np.concatenate([np.zeros((0, 5), np.float32), *detections])
    files = (file_digest(path).encode() for path in paths)
    for part in (*files, counts.tobytes(), boxes.tobytes(), superpixels.labels.tobytes()):
        digest.update(b"\0" + part)
    return digest.hexdigest()


def _segment(run: SegmentRun, loaded: _Loaded, partial: PartialRegions | None) -> Segmented:
    record, detections, superpixels = loaded.record, loaded.detections, loaded.superpixels
    if superpixels is None:
        return Segmented(record, detections, None, None, loaded.problem)
    if loaded.question is None:
        return Segmented(record, detections, superpixels, loaded.regions, resumed=True)
    begin = time.perf_counter()
    with in_file(f"{run.imdb.name}: image {record.name}"):
        said = run.masks(loaded.question)
        middle = time.perf_counter()
        regions = regions_of(loaded.question, said, superpixels, run.threshold, run.config.parity)
    if partial is not None:
        partial.append(loaded.key, regions)
    seconds = (middle - begin, time.perf_counter() - middle)
    return Segmented(record, detections, superpixels, regions, seconds=seconds)
