"""The folder of a test run: the detections that are stored there, what they amount to, and the files that say so."""

from __future__ import annotations

import os
from pathlib import Path

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.detection.nms import apply_nms
from caffe_compat.errors import MissingFileError, WriteError, in_file
from caffe_compat.evaluation.competition import write_competition
from caffe_compat.evaluation.database import evaluate_database, in_order_of
from caffe_compat.evaluation.detections import Detections, read_detections
from caffe_compat.evaluation.examples import choose_examples
from caffe_compat.evaluation.pictures import write_sheets
from caffe_compat.evaluation.reports import write_reports
from caffe_compat.evaluation.result import Evaluation

__all__ = ["evaluate_run", "make_folder", "read_run", "write_examples", "write_for_server", "write_run"]

PathLike = str | os.PathLike[str]


def read_run(folder: PathLike, imdb: ImageDatabase, config: Config) -> tuple[Path, Detections]:
    """The detections that a test run stored, before suppression, in the order of the database.

    ``detections[DET_SALT].npz``, or else ``.mat``, or else the branch's ``.pkl.mat`` or ``.pkl``, of which only plain
    data are read.

    Args:
        folder: of the run.
        imdb: whose images they are of.
        config: TEST.DET_SALT is read.

    Returns:
        The file, and what it holds.

    Raises:
        MissingFileError: there is none; names the folder.
        DataError: no such file, or detections of other images or classes than the database's; names it.
    """
    stem = f"detections{config.test.det_salt}"
    names = [f"{stem}{ending}" for ending in (".npz", ".mat", ".pkl.mat", ".pkl")]
    for path in (Path(folder) / name for name in names):
        if path.exists():
            images = [record.name for record in imdb.records]
            with in_file(path):
                return path, in_order_of(imdb, read_detections(path, imdb.classes, images))
    raise MissingFileError(Path(folder) / names[0], f"detections; no {' or '.join(names[1:])} either")


def evaluate_run(
    imdb: ImageDatabase, detections: Detections, config: Config, threshold: float | None = None
) -> tuple[Evaluation, Detections]:
    """Suppress what overlaps, and evaluate by the database's rule.

    Args:
        imdb: whose images they are of.
        detections: as they are stored.
        config: TEST.NMS, TEST.MAX_PER_IMAGE_ALL and PARITY are read.
        threshold: of the overlap with objects; None: the rule's own.

    Returns:
        The evaluation, and the detections that stayed.

    Raises:
        DataError: see :func:`evaluate_database`.
    """
    kept = apply_nms(detections, config.test.nms, config.parity, config.test.max_per_image_all)
    return evaluate_database(imdb, kept, config.parity, threshold), kept


def write_run(folder: PathLike, evaluation: Evaluation, config: Config) -> list[Path]:
    """Write ``eval[DET_SALT][EVAL_SALT]`` in all its forms; see :func:`write_reports`."""
    return write_reports(folder, evaluation, config.test.det_salt + config.test.eval_salt)


def write_examples(
    folder: PathLike, imdb: ImageDatabase, kept: Detections, evaluation: Evaluation, count: int, parity: bool = False
) -> list[Path]:
    """Write sheets of each class's best and worst detections into a folder, which is made.

    Args:
        folder: for the sheets.
        imdb: whose images they are of.
        kept: what was evaluated.
        evaluation: its threshold counts (0.5 where it averages over several), and its average precisions are shown.
        count: pictures of each kind.
        parity: see :func:`choose_examples`.

    Raises:
        MissingFileError, DataError: a picture that is not there or cannot be read.
        WriteError: the folder cannot be made, or a sheet not be written.
    """
    make_folder(folder)
    examples = choose_examples(imdb, kept, count, evaluation.threshold or 0.5, parity)
    return write_sheets(folder, imdb, examples, evaluation.ap)


def write_for_server(folder: PathLike, imdb: ImageDatabase, kept: Detections) -> list[Path]:
    """Write files for an evaluation server into a folder, which is made; see :func:`write_competition`."""
    make_folder(folder)
    return write_competition(folder, imdb, kept)


def make_folder(folder: PathLike) -> None:
    """Make the folder of a run, and those above it.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error.strerror or str(error)) from error
