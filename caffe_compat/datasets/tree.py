"""The folder ``data/nyud2`` of the published detectors.

::

    root/data/images/img_NNNN.png                     RGB, 425 x 560; hha, depth, rawdepth, disparity, ... beside it
    root/benchmarkData/metadata/nyusplits.mat         train, val, trainval, test (or tst): frame numbers, 5001 and up
    root/benchmarkData/gt_box_cache_dir/img_NNNN.mat  rec: size and objects (caffe_compat.datasets.boxes)
    root/benchmarkData/groundTruth/img_NNNN.mat       groundTruth{1}.Segmentation, .SegmentationClass
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.boxes import GroundTruth, number_instances, read_ground_truth, write_ground_truth
from caffe_compat.datasets.mat import read_mat, write_mat
from caffe_compat.datasets.nyud2 import CLASSES, FIRST_ID
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError, nearest

__all__ = ["NYUD2Tree", "Segmentation", "check_splits", "whole_numbers"]

_SPLITS = ("train", "val", "trainval", "test")
_EXTRA = "pairs"
_BENCHMARK = "benchmarkData"


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """The instances of a frame.

    Args:
        instances: uint16 [H, W], number of the instance, 0 = none.
        classes: uint16 [H, W], its class from 1, 0 = not labelled.
    """

    instances: np.ndarray
    classes: np.ndarray


class NYUD2Tree:
    """Reads and writes the published layout.  Every file is written whole or not at all.

    Args:
        root: the folder with ``data`` and ``benchmarkData``; need not exist before something is written.
    """

    def __init__(self, root: str | os.PathLike[str] = "data/nyud2") -> None:
        self.root = Path(root)

    @property
    def splits_path(self) -> Path:
        """The file of the splits."""
        return self.root / _BENCHMARK / "metadata" / "nyusplits.mat"

    def splits(self) -> dict[str, list[int]]:
        """Frame numbers of ``train``, ``val``, ``trainval``, ``test``, in the file's order.

        ``trainval`` is made of the others where the file lacks it; ``tst`` is taken for ``test``; ``pairs`` (drawn
        scenes have it) is given if it is there.

        Raises:
            MissingFileError: no such file.
            DataError: not such a file; a split is missing or wrong, see :func:`check_splits`.
        """
        return self.read_splits(self.splits_path)

    @staticmethod
    def read_splits(path: str | os.PathLike[str]) -> dict[str, list[int]]:
        """The same from a file ``nyusplits.mat`` anywhere."""
        found = read_mat(path)
        if "tst" in found:
            if "test" in found:
                raise DataError(f"{os.fspath(path)}: has both 'test' and 'tst', expected one")
            found["test"] = found.pop("tst")
        splits = {name: whole_numbers(found[name], name, path) for name in (*_SPLITS, _EXTRA) if name in found}
        check_splits(splits, os.fspath(path))
        splits.setdefault("trainval", splits["train"] + splits["val"])
        return {name: splits[name] for name in (*_SPLITS, _EXTRA) if name in splits}

    def split(self, name: str) -> list[int]:
        """Frame numbers of one split, in the file's order; also of splits of other names that the file has.

        Raises:
            MissingFileError, DataError: as :meth:`splits`; there is no such split, or it is empty.
        """
        splits = self.splits()
        if name not in splits:
            known = {*splits, *read_mat(self.splits_path)}
            if name not in known:
                has = ", ".join(sorted(known))
                raise DataError(f"{self.splits_path}: no split '{name}'{nearest(name, known)}; it has: {has}")
            splits[name] = whole_numbers(read_mat(self.splits_path, [name])[name], name, self.splits_path)
            twice = sorted({number for number in splits[name] if splits[name].count(number) > 1})
            if twice:
                raise DataError(f"{self.splits_path}: '{name}' has frame {twice[0]} more than once")
        if not splits[name]:
            raise DataError(f"{self.splits_path}: split '{name}' is empty")
        return splits[name]

    def write_splits(self, splits: Mapping[str, Iterable[int]]) -> None:
        """Write ``nyusplits.mat`` as columns of doubles; ``trainval`` is added where it is not given.

        Raises:
            DataError: the splits are wrong, see :func:`check_splits`.
        """
        chosen = {name: [int(number) for number in numbers] for name, numbers in splits.items()}
        check_splits(chosen, str(self.splits_path))
        chosen.setdefault("trainval", chosen["train"] + chosen["val"])
        write_mat(self.splits_path, {name: np.array(numbers, float)[:, None] for name, numbers in chosen.items()})

    def path(self, number: int, modality: str = "images") -> Path:
        """Where a frame's picture is: ``data/MODALITY/img_NNNN.png``.  It need not exist.

        Args:
            number: 5001 and up.
            modality: one folder: ``images``, ``hha``, ``depth``, ``rawdepth``, ``disparity`` or another.

        Raises:
            UsageError: not the name of one folder.
        """
        if modality in ("", "..") or Path(modality).name != modality or "+" in modality:
            raise UsageError(f"modality '{modality}': expected the name of one folder, such as images or hha")
        return self.root / "data" / modality / f"{_stem(number)}.png"

    def image_paths(self, number: int, modalities: str = "images") -> list[Path]:
        """The pictures of a frame in several modalities, joined by ``+`` as in ``images+hha``, in that order.

        Raises:
            UsageError: as :meth:`path`.
        """
        return [self.path(number, modality) for modality in modalities.split("+")]

    def ground_truth_path(self, number: int) -> Path:
        """The file of a frame's boxes."""
        return self.root / _BENCHMARK / "gt_box_cache_dir" / f"{_stem(number)}.mat"

    def ground_truth(self, number: int, classes: Sequence[str] | None = CLASSES) -> GroundTruth:
        """The boxes of a frame; see :func:`~caffe_compat.datasets.boxes.read_ground_truth` for errors."""
        return read_ground_truth(self.ground_truth_path(number), classes)

    def write_ground_truth(self, number: int, ground_truth: GroundTruth) -> None:
        """Write the boxes of a frame; see :func:`~caffe_compat.datasets.boxes.write_ground_truth` for errors."""
        write_ground_truth(self.ground_truth_path(number), ground_truth)

    def record(
        self, number: int, modalities: str = "images", *, classes: Sequence[str] | None = CLASSES, maps: bool = False
    ) -> FrameRecord:
        """What the tree has of a frame; boxes where their file is there, masks (read when asked for) where its map is.

        Args:
            number: 5001 and up.
            modalities: joined by ``+``, such as ``images+hha``; the files need not exist, see :meth:`check`.
            classes: objects of other classes are left out; None keeps all.
            maps: also read the instance map, where its file is there.

        Raises:
            UsageError: as :meth:`path`.
            DataError: boxes or instances that cannot be used.
        """
        paths = {kind: str(self.path(number, kind)) for kind in modalities.split("+")}
        truth = self.ground_truth(number, classes) if self.ground_truth_path(number).exists() else None
        segmented = self.segmentation_path(number).exists()
        return FrameRecord(
            name=_stem(number),
            paths=paths,
            size=None if truth is None else truth.size,
            boxes=None if truth is None else truth.boxes,
            classes=None if truth is None else tuple(truth.names),
            instances=self.segmentation(number).instances if maps and segmented else None,
            difficult=None if truth is None else truth.difficult,
            masks=partial(self.masks, number, truth.instance_ids) if truth is not None and segmented else None,
        )

    def segmentation_path(self, number: int) -> Path:
        """The file of a frame's segmentation."""
        return self.root / _BENCHMARK / "groundTruth" / f"{_stem(number)}.mat"

    def segmentation(self, number: int) -> Segmentation:
        """The instances of a frame.

        Raises:
            MissingFileError: no such file.
            DataError: not such a file, or its maps are not whole numbers of one shape.
        """
        path = self.segmentation_path(number)
        content = read_mat(path, ["groundTruth"])["groundTruth"]
        if isinstance(content, np.ndarray) and content.dtype == object and content.size:
            content = content.ravel()[0]
        if not isinstance(content, dict):
            raise DataError(f"{path}: groundTruth is a {type(content).__name__}, expected a cell with a struct")
        return _segmentation(content.get("Segmentation"), content.get("SegmentationClass"), str(path))

    def masks(self, number: int, instance_ids: np.ndarray) -> np.ndarray:
        """The pixels of objects: bool [K, H, W].

        Args:
            number: of the frame.
            instance_ids: int [K], numbers in its map of instances.

        Raises:
            MissingFileError, DataError: as :meth:`segmentation`, or the map has no such number.
        """
        instances = self.segmentation(number).instances
        masks: np.ndarray = instances == instance_ids[:, None, None]
        empty = np.flatnonzero((instance_ids < 1) | ~masks.any((1, 2)))
        if empty.size:
            path, k = self.segmentation_path(number), int(empty[0])
            raise DataError(f"{path}: no pixels of instance {int(instance_ids[k])}, object {k + 1} of {_stem(number)}")
        return masks

    def write_segmentation(self, number: int, labels: np.ndarray, instances: np.ndarray) -> None:
        """Write a cell with a struct ``Segmentation``, ``SegmentationClass``, both uint16.

        Args:
            number: 5001 and up.
            labels: integers [H, W], the class of each pixel from 1, 0 = not labelled.
            instances: integers [H, W]; stored as :func:`~caffe_compat.datasets.boxes.number_instances` numbers them,
                which are the ``instanceId`` of the boxes made from the same maps.

        Raises:
            DataError: maps that are not integers from 0 to 65535 of one shape.
        """
        path = self.segmentation_path(number)
        checked = _segmentation(number_instances(labels, instances), labels, str(path))
        cell = np.empty((1, 1), object)
        cell[0, 0] = {"Segmentation": checked.instances, "SegmentationClass": checked.classes}
        write_mat(path, {"groundTruth": cell})

    def missing(
        self, split: str, modalities: str = "images", ground_truth: bool = True, segmentation: bool = False
    ) -> list[Path]:
        """Files that a split needs and that do not exist.

        Args:
            split: train, val, trainval, test, or another that the file has.
            modalities: joined by ``+``, such as ``images+hha``.
            ground_truth, segmentation: whether boxes and segmentations are needed.

        Raises:
            MissingFileError, DataError: no splits, no such split, or an empty one.
            UsageError: as :meth:`path`.
        """
        needed: list[Path] = []
        for number in self.split(split):
            needed += self.image_paths(number, modalities)
            needed += [self.ground_truth_path(number)] * ground_truth
            needed += [self.segmentation_path(number)] * segmentation
        return [path for path in needed if not path.is_file()]

    def check(
        self, split: str, modalities: str = "images", ground_truth: bool = True, segmentation: bool = False
    ) -> None:
        """Raise DataError with the number and first names of what :meth:`missing` finds; same arguments."""
        absent = self.missing(split, modalities, ground_truth, segmentation)
        if absent:
            first = ", ".join(str(path.relative_to(self.root)) for path in absent[:5])
            rest = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            raise DataError(f"{self.root}: {len(absent)} files of split '{split}' are missing: {first}{rest}")


def check_splits(splits: Mapping[str, Sequence[int]], where: str = "splits") -> None:
    """Check that splits can be used to train and to test.

    Args:
        splits: frame numbers by name: train, val and test, possibly trainval and pairs.
        where: begins the message.

    Raises:
        DataError: train, val or test is missing; another name; a number below 5001 or twice in a split; frames shared
            by two of train, val, test and pairs; trainval is not train with val.
    """
    for name in splits:
        if name not in (*_SPLITS, _EXTRA):
            raise DataError(f"{where}: '{name}' is no split{nearest(name, _SPLITS)}")
    for name in ("train", "val", "test"):
        if name not in splits:
            raise DataError(f"{where}: no split '{name}', it has: {', '.join(splits) or 'none'}")
    for name, numbers in splits.items():
        low = sorted(number for number in numbers if number < FIRST_ID)
        if low:
            raise DataError(f"{where}: '{name}' has frame {low[0]}, they are numbered from {FIRST_ID}")
        twice = sorted({number for number in numbers if numbers.count(number) > 1} if _repeats(numbers) else ())
        if twice:
            raise DataError(f"{where}: '{name}' has frame {twice[0]} more than once ({len(twice)} such frames)")
    parts = [name for name in ("train", "val", "test", _EXTRA) if name in splits]
    for index, first in enumerate(parts):
        for second in parts[index + 1 :]:
            shared = sorted(set(splits[first]) & set(splits[second]))
            if shared:
                raise DataError(f"{where}: '{first}' and '{second}' share {len(shared)} frames, such as {shared[0]}")
    if "trainval" in splits and set(splits["trainval"]) != {*splits["train"], *splits["val"]}:
        raise DataError(f"{where}: 'trainval' is not the frames of 'train' and 'val'")


def whole_numbers(value: Any, name: str, path: str | os.PathLike[str]) -> list[int]:
    """A variable of a .mat file as a list of whole numbers.

    Raises:
        DataError: it holds something else; names the file and the variable.
    """
    numbers = np.ravel(value)
    fits = numbers.dtype.kind in "uif" and bool((np.abs(numbers.astype(float)) < 2**53).all())
    if not fits or not (numbers == np.rint(numbers)).all():
        raise DataError(f"{os.fspath(path)}: '{name}' does not hold whole numbers")
    return [int(number) for number in numbers]


def _repeats(numbers: Sequence[int]) -> bool:
    return len(set(numbers)) < len(numbers)


def _stem(number: int) -> str:
    return f"img_{number:04d}"


def _segmentation(instances: Any, classes: Any, where: str) -> Segmentation:
    checked = []
    for name, values in (("Segmentation", instances), ("SegmentationClass", classes)):
        good = isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "buif" and values.size
        if not good or not ((values == np.rint(values)) & (values >= 0) & (values <= 65535)).all():
            raise DataError(f"{where}: {name} is no map of whole numbers from 0 to 65535")
        checked.append(values.astype(np.uint16))
    if checked[0].shape != checked[1].shape:
        raise DataError(f"{where}: Segmentation is {checked[0].shape}, SegmentationClass {checked[1].shape}")
    return Segmentation(*checked)
