"""Testing a detector on an image database: the best boxes of every class, image after image.

Source: ``test_net`` in ``fast_rcnn/test.py`` of the ``distillation`` branch.  Of an image the TEST.MAX_PER_IMAGE best
boxes of a class are kept, of the set TEST.MAX_PER_SET_F times the number of images: once there are more, a class has a
threshold, the lowest score among that many best so far, that later boxes must exceed; in the end all must.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.images import read_modalities
from caffe_compat.detection.inference import Answer, Detector, Question, answer, ask
from caffe_compat.detection.partial import PartialResults
from caffe_compat.detection.roidb import roi_image
from caffe_compat.errors import DataError, in_file
from caffe_compat.evaluation.detections import Detections
from caffe_compat.ranks import Ranks
from caffe_compat.stamps import file_digest

__all__ = ["BestScores", "Progress", "TestRun", "detect_all", "detect_share", "put_together", "run_name"]


@dataclasses.dataclass(frozen=True, eq=False)
class TestRun:
    """What is tested.

    Args:
        imdb: the images.
        detector: fits the database.
        config: the options.
        proposals: instead of the database's own.
    """

    __test__ = False  # pytest is to take this for no test

    imdb: ImageDatabase
    detector: Detector | Callable[[Question], Answer]
    config: Config
    proposals: ProposalSource | None = None


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a test is.

    Args:
        done, total: images.
        detect, misc: seconds for an image, averaged: the net with its blobs, and what is done with its answer.
        resumed: images that an earlier run has done.
    """

    done: int
    total: int
    detect: float
    misc: float
    resumed: int = 0

    def __str__(self) -> str:
        """The branch's line."""
        return f"im_detect: {self.done:d}/{self.total:d} {self.detect:.3f}s {self.misc:.3f}s"


def run_name(weights: Sequence[str | os.PathLike[str]]) -> str:
    """What a test is called: after its files of weights, joined with ``+``."""
    names = (os.path.basename(file).removesuffix(".h5") for file in weights)
    return "+".join(os.path.splitext(name)[0] for name in names)


class BestScores:
    """Which boxes of a class are good enough, so far.

    Args:
        classes: how many, without the background.
        images: of the set.
        config: TEST.MAX_PER_IMAGE, TEST.MAX_PER_SET_F and TEST.SCORE_THRESH are read.
    """

    def __init__(self, classes: int, images: int, config: Config) -> None:
        self.per_image, self.per_set = config.test.max_per_image, config.test.max_per_set_f * images
        self.thresholds = np.full(classes, config.test.score_thresh, np.float64)
        self._heaps: list[list[float]] = [[] for _ in range(classes)]

    def best(self, scores: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """The best boxes of an image, by descending score; of equal scores those of the first proposals.

        Args:
            scores: [N, L], with the background.
            boxes: [N, 4 L].

        Returns:
            float32 [n, 5] for each class.
        """
        columns = np.ascontiguousarray(scores[:, 1:].T)
        good = columns > self.thresholds[:, None]
        if len(scores) > self.per_image:  # only so many need to be sorted, and those of the same score as the last
            good &= columns >= np.partition(columns, -self.per_image, axis=1)[:, -self.per_image, None]
        found = []
        for c, values in enumerate(columns):
            rows = np.flatnonzero(good[c])
            rows = rows[np.argsort(-values[rows], kind="stable")[: self.per_image]]
            kept = np.empty((len(rows), 5), np.float32)
            kept[:, :4], kept[:, 4] = boxes[rows, 4 * c + 4 : 4 * c + 8], values[rows]
            found.append(kept)
        return found

    def add(self, found: Sequence[np.ndarray]) -> None:
        """Let the best boxes of an image count."""
        for c, (heap, boxes) in enumerate(zip(self._heaps, found, strict=True)):
            for value in boxes[:, 4].tolist():
                if len(heap) < self.per_set:
                    heapq.heappush(heap, value)
                else:
                    heapq.heappushpop(heap, value)
                    self.thresholds[c] = heap[0]

    def left(self, boxes: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
        """Of all boxes, by class and image, those above the thresholds of the end."""
        return [
            [found[found[:, 4] > threshold] for found in row]
            for row, threshold in zip(boxes, self.thresholds, strict=True)
        ]


def detect_all(
    run: TestRun, partial: PartialResults | None = None, on_image: Callable[[Progress], None] | None = None
) -> Detections:
    """The best boxes of every class in every image, before suppression.

    Args:
        run: what is tested.
        partial: what an earlier run has found, and where this one adds to; None: start anew and keep nothing.
        on_image: called after every image.

    Raises:
        CaffeCompatError: an image without proposals, or one that cannot be read; a net that gives numbers that are not
            finite; names the image.
    """
    keeper = _keeper(run)
    return _detections(run, keeper, _found(run, run.imdb.records, keeper, partial, on_image))


def detect_share(
    run: TestRun, ranks: Ranks, partial: PartialResults, on_image: Callable[[Progress], None] | None = None
) -> None:
    """The same of the images that are this process's (:mod:`caffe_compat.ranks`), into its own file."""
    for _ in _found(run, ranks.share(run.imdb.records), _keeper(run), partial, on_image):
        pass


def put_together(run: TestRun, parts: Sequence[PartialResults]) -> Detections:
    """What :func:`detect_all` would give, of what several processes have found.

    A process keeps boxes that the others' are better than; no more is different, so the thresholds of the end decide as
    in one process.

    Args:
        parts: of all processes, in the order of their ranks.

    Raises:
        DataError: one is not complete.
    """
    world, total = len(parts), len(run.imdb.records)
    for rank, part in enumerate(parts):
        if len(part) != len(Ranks(rank, world).share(total)):
            raise DataError(f"{part.path}: holds {len(part)} images, expected {len(Ranks(rank, world).share(total))}")
    keeper = _keeper(run)
    return _detections(run, keeper, (_count(keeper, parts[i % world][i // world][1]) for i in range(total)))


def _keeper(run: TestRun) -> BestScores:
    if not len(run.imdb.records):
        raise DataError(f"{run.imdb.name}: has no images")
    return BestScores(len(run.imdb.classes), len(run.imdb.records), run.config)


def _count(keeper: BestScores, found: list[np.ndarray]) -> list[np.ndarray]:
    keeper.add(found)
    return found


def _detections(run: TestRun, keeper: BestScores, images: Iterable[Sequence[np.ndarray]]) -> Detections:
    boxes: list[list[np.ndarray]] = [[] for _ in run.imdb.classes]
    for found in images:
        for row, part in zip(boxes, found, strict=True):
            row.append(part)
    names = tuple(record.name for record in run.imdb.records)
    return Detections(tuple(run.imdb.classes), names, keeper.left(boxes))


def _found(
    run: TestRun,
    records: Sequence[FrameRecord],
    keeper: BestScores,
    partial: PartialResults | None,
    on_image: Callable[[Progress], None] | None,
) -> Iterator[list[np.ndarray]]:
    """The best boxes of every class, image after image."""
    seconds, resumed = np.zeros(2), 0
    begin = time.perf_counter()
    for number, asked in enumerate(_ahead(run, records, partial)):
        earlier = asked.found
        found, middle = earlier, begin
        if found is None:
            scores, moved = _detect(run, asked)
            middle = time.perf_counter()
            found = keeper.best(scores, moved)
            if partial is not None:
                partial.append(asked.key, found)
        yield _count(keeper, found)
        now = time.perf_counter()
        if earlier is None:
            seconds += (middle - begin, now - middle)
        else:
            resumed += 1
        begin = now
        if on_image is not None:
            done = number + 1
            detect, misc = seconds / max(1, done - resumed)
            on_image(Progress(done, len(records), float(detect), float(misc), resumed))


# -- one image ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """An image that the net is to see, or what an earlier run has found in it.

    Args:
        record: the image.
        key: of all that the result depends on, apart from the settings of the run.
        rows: which of the boxes are proposals.
    """

    record: FrameRecord
    key: str
    rows: np.ndarray
    question: Question | None
    found: list[np.ndarray] | None


def _ahead(run: TestRun, records: Sequence[FrameRecord], partial: PartialResults | None) -> Iterator[_Asked]:
    """All images; the next is read while the net sees one."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_load, run, records[0], partial, 0)
        for number in range(len(records)):
            asked = waiting.result()
            if number + 1 < len(records):
                waiting = pool.submit(_load, run, records[number + 1], partial, number + 1)
            yield asked


def _load(run: TestRun, record: FrameRecord, partial: PartialResults | None, number: int) -> _Asked:
    config, imdb = run.config, run.imdb
    source = imdb.proposals if run.proposals is None else run.proposals
    if source is None:
        raise DataError(f"{imdb.name}: has no proposals of its own, and none are given")
    seen = record if config.parity else dataclasses.replace(record, boxes=None, classes=None)
    image = roi_image(seen, imdb.classes, source(record)[: config.test.proposal_top_k or None], config.parity)
    paths = [record.paths[kind] for kind in imdb.modalities]
    rows = image.gt_classes == 0
    key = "" if partial is None else _key(record.name, paths, image.boxes, rows)
    if partial is not None and number < len(partial):
        if partial[number][0] == key:
            return _Asked(record, key, rows, None, partial[number][1])
        partial.cut(number)
    question = ask(read_modalities(paths, record.size), image.boxes, config, getattr(run.detector, "several", False))
    return _Asked(record, key, rows, question, None)


def _key(name: str, paths: Sequence[str], boxes: np.ndarray, rows: np.ndarray) -> str:
    digest = hashlib.sha1(name.encode(errors="surrogateescape"), usedforsecurity=False)
    for part in (*(file_digest(path).encode() for path in paths), boxes.tobytes(), rows.tobytes()):
        digest.update(b"\0" + part)
    return digest.hexdigest()


def _detect(run: TestRun, asked: _Asked) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boxes of the proposals of an image."""
    assert asked.question is not None
    with in_file(f"{run.imdb.name}: image {asked.record.name}"):
        said = run.detector(asked.question)
    scores, boxes = answer(asked.question, said, run.config)
    return scores[asked.rows], boxes[asked.rows]
