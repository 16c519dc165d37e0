"""Proposals, boxes that may hold objects, in the files that others publish and in our own.

=============================  =========================  ====================================  ================
file                           variables                  boxes in it                           matched by
=============================  =========================  ====================================  ================
NYUD2's MCG .mat               cells bboxes, imnames      y1 x1 y2 x2 from 1                    name
selective search, Fast R-CNN   cells boxes, images        y1 x1 y2 x2 from 1                    name, else order
one image, Fast R-CNN's demo   numbers boxes              x1 y1 x2 y2 from **0**                there is one
folder of .mat, one an image   numbers boxes              x1 y1 x2 y2 from 1                    file name
.npz                           see :mod:`~caffe_compat.datasets.proposal_file`                  name
=============================  =========================  ====================================  ================

Everything returned is float32 [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included, best first.  A box that
reaches less than a pixel out of its image is cut there (sizes were rounded); one that reaches further is an error: the
proposals are those of other pictures, or count from another number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.proposal_file import check_rows, is_npz, read_proposal_file
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, MissingFileError, UsageError, nearest

__all__ = ["FOLDER_MOST", "fit_boxes", "read_any", "read_proposals"]

PathLike = str | os.PathLike[str]
Source = Callable[[FrameRecord], np.ndarray]
_MATLAB = (1, 0, 3, 2)
"""Columns y1 x1 y2 x2 in the order x1 y1 x2 y2."""
FOLDER_MOST = 2000
"""Boxes that are read of a file of a folder, as the branch ``coco`` does, unless another number is asked for."""


def read_any(path: PathLike, names: Sequence[str], top_k: int = 0) -> Source:
    """The proposals of images in a file (or a folder of files) of any form of the table above, told by its content.

    A file is read now, and what is wrong with its boxes found now; the files of a folder are read when their images'
    turn comes, but that they are there is looked up now.

    Args:
        path: the file or folder.
        names: of the images that proposals are wanted of; the file may have others too.
        top_k: at most so many of an image, its first; 0 = all (of a folder's file 2,000).

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; images without proposals in it; boxes that are none.  Names file, image and box.
        UsageError: a negative ``top_k``.
    """
    if top_k < 0:
        raise UsageError(f"{top_k} proposals of an image, expected 0 (all) or more")
    if os.path.isdir(path):
        return _folder(Path(path), names, top_k or FOLDER_MOST)
    if is_npz(path):
        content = read_proposal_file(path)
        found = dict(zip(content.images, content.boxes, strict=True))
        _check_names(path, names, found, "images")
    else:
        found = _read_mat_file(path, names)
    cut = {name: np.ascontiguousarray(found[name][: top_k or None]) for name in names}
    return _source(path, cut.get)


def fit_boxes(boxes: np.ndarray, record: FrameRecord, where: str) -> np.ndarray:
    """Proposals cut to their image where they reach less than a pixel out of it.

    Args:
        boxes: float32 [N, 4], from 0.
        record: of the image; one without a size is believed.

    Raises:
        DataError: a box that reaches further; names it, counted from 1.
    """
    if record.size is None or not len(boxes):
        return boxes
    height, width = record.size
    last = np.array([width - 1, height - 1] * 2, np.float32)
    beyond = boxes.max(0) > last
    if not beyond.any():
        return boxes
    out = (boxes >= last + 1).any(1) | (boxes[:, :2] > last[:2]).any(1)
    if out.any():
        row = int(np.flatnonzero(out)[0])
        raise DataError(
            f"{where}: {int(out.sum())} of {len(boxes)} boxes of {record.name} are not within its {width} x {height} "
            f"pixels; number {row + 1} is x1 y1 x2 y2 = {boxes[row].tolist()} (from 0)"
        )
    return np.asarray(np.minimum(boxes, last))


def read_proposals(path: PathLike, image_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read ``nyud2_mcg_boxes.mat``: cells ``imnames`` and ``bboxes`` (N x 4 each, y1 x1 y2 x2 from 1, best first).

    Args:
        path: the file.
        image_names: the images wanted, such as ``img_5001``; None: all.

    Returns:
        By image name, in the order asked for (or of the file): float32 [N, 4], x1 y1 x2 y2 from 0, best first.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file; a name that is there twice or not at all; boxes that are not N x 4 finite numbers
            from 1, or are turned inside out.  Names the file and the image.
    """
    return _by_name(path, read_mat(path, ["bboxes", "imnames"]), "bboxes", "imnames", image_names)


def _read_mat_file(path: PathLike, names: Sequence[str]) -> dict[str, np.ndarray]:
    held = read_mat(path)
    if "bboxes" in held and "imnames" in held:
        return _by_name(path, held, "bboxes", "imnames", names)
    if "boxes" not in held:
        raise DataError(
            f"{os.fspath(path)}: has the variables {', '.join(held) or '(none)'}; expected proposals: bboxes and "
            f"imnames, boxes and images, or boxes{nearest('boxes', held)}"
        )
    if not isinstance(held["boxes"], np.ndarray) or held["boxes"].dtype != object:
        return _of_one_image(path, held["boxes"], names)
    if "images" in held:
        return _by_name(path, held, "boxes", "images", names)
    cells = held["boxes"].ravel()
    if len(cells) != len(names):
        raise DataError(
            f"{os.fspath(path)}: boxes of {len(cells)} images without their names (images), expected {len(names)}"
        )
    return {name: _matlab_rows(cells[index], _where(path, name)) for index, name in enumerate(names)}


def _by_name(
    path: PathLike, held: Mapping[str, Any], boxes_name: str, names_name: str, wanted: Sequence[str] | None
) -> dict[str, np.ndarray]:
    for name in (boxes_name, names_name):
        if not isinstance(held[name], np.ndarray) or held[name].dtype != object:
            raise DataError(f"{os.fspath(path)}: {name} is no cell array, expected one cell an image")
    boxes, names = held[boxes_name].ravel(), [str(name) for name in held[names_name].ravel()]
    if len(boxes) != len(names):
        raise DataError(f"{os.fspath(path)}: {len(boxes)} {boxes_name} for {len(names)} {names_name}")
    places = {name: index for index, name in enumerate(names)}
    if len(places) < len(names):
        twice = sorted({name for index, name in enumerate(names) if places[name] != index})
        raise DataError(f"{os.fspath(path)}: {_some(twice)}: more than one entry in {names_name}, expected one")
    wanted = names if wanted is None else wanted
    _check_names(path, wanted, places, names_name)
    return {name: _matlab_rows(boxes[places[name]], _where(path, name)) for name in wanted}


def _of_one_image(path: PathLike, value: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Fast R-CNN's demo gives these to the net as they are, so they count from 0."""
    if len(names) != 1:
        raise DataError(f"{os.fspath(path)}: holds the boxes of one image, expected those of {len(names)}")
    where = _where(path, names[0])
    return {names[0]: check_rows(_numbers(value, where, "x1 y1 x2 y2"), where)}


def _folder(root: Path, names: Sequence[str], top_k: int) -> Source:
    """One file an image: ``NAME[:14]/NAME[:22]/NAME.mat`` (Hosang's, for COCO) or ``NAME.mat``.

    MCG's have the columns y1 x1 y2 x2: a folder of that name is taken for it.
    """
    files, columns = {}, _MATLAB if "MCG" in root.resolve().parts else (0, 1, 2, 3)
    for name in names:
        short = Path(name).name
        found = [
            file for file in (root / short[:14] / short[:22] / f"{short}.mat", root / f"{name}.mat") if file.is_file()
        ]
        if not found:
            raise MissingFileError(
                root / short[:14] / short[:22] / f"{short}.mat", f"expected there or in {name}.mat: proposals of {name}"
            )
        files[name] = found[0]

    def read(name: str) -> np.ndarray | None:
        if name not in files:
            return None
        where = _where(files[name], name)
        value = _numbers(read_mat(files[name], ["boxes"])["boxes"], where, "x1 y1 x2 y2")[:top_k]
        rows = check_rows(np.maximum(value[:, columns].astype(float) - 1, 0), where, value)  # 0 is 1, as in the branch
        _, first = np.unique(rows, axis=0, return_index=True)
        return rows[np.sort(first)]

    return _source(root, read)


def _source(path: PathLike, find: Callable[[str], np.ndarray | None]) -> Source:
    def proposals(record: FrameRecord) -> np.ndarray:
        boxes = find(record.name)
        if boxes is None:
            raise DataError(f"{os.fspath(path)}: no proposals of {record.name} were asked for")
        return fit_boxes(boxes, record, os.fspath(path))

    return proposals


def _matlab_rows(value: Any, where: str) -> np.ndarray:
    """Rows y1 x1 y2 x2 from 1 as x1 y1 x2 y2 from 0."""
    numbers = _numbers(value, where, "y1 x1 y2 x2")
    return check_rows(numbers[:, _MATLAB].astype(np.float64) - 1, where, numbers)


def _numbers(value: Any, where: str, columns: str) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.size == 0:
        return np.zeros((0, 4))
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif" or value.ndim != 2 or value.shape[1] != 4:
        shape = getattr(value, "shape", type(value).__name__)
        raise DataError(f"{where}: {shape}, expected N x 4 numbers ({columns})")
    return value


def _check_names(path: PathLike, names: Sequence[str], known: Mapping[str, Any], variable: str) -> None:
    absent = [name for name in names if name not in known]
    if absent:
        hint = nearest(absent[0], known)
        raise DataError(f"{os.fspath(path)}: {_some(absent)}: not among its {len(known)} {variable}{hint}")


def _where(path: PathLike, name: str) -> str:
    return f"{os.fspath(path)}: boxes of {name}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
