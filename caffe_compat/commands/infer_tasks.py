"""What ``infer_onnx`` and ``predict`` do with scenes: labels of whole pictures, or objects of detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from caffe_compat.commands.infer_masks import ObjectMasks
from caffe_compat.config import Config
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.deploy.feed import Feed, Runner, Sample
from caffe_compat.detection.deployed import modality_key
from caffe_compat.detection.inference import Answer as Said
from caffe_compat.detection.inference import Question, answer, ask
from caffe_compat.detection.objects import Found, name_objects
from caffe_compat.detection.proposer import propose
from caffe_compat.detection.proposing import Scene
from caffe_compat.errors import DataError, UsageError, nearest
from caffe_compat.media import read_picture
from caffe_compat.media.drawing import LEAST_SIDE, draw_boxes, draw_text
from caffe_compat.segmentation.pictures import draw_masks
from caffe_compat.segmentation.regions import Superpixels

__all__ = [
    "Answer",
    "Detects",
    "Labels",
    "Loaded",
    "Objects",
    "Task",
    "check_output_name",
    "object_answer",
    "to_look_at",
]

Proposals = Callable[[FrameRecord], np.ndarray]


class Detects(Protocol):
    """A detector: a net, or an exported model."""

    several: bool

    def __call__(self, question: Question) -> Said:
        """Scores and deltas of regions."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Loaded:
    """A scene as a worker has read it.

    Attributes:
        shown: the picture to look at, uint8 [H, W, 3].
        blobs: what the model takes of it, without the axis of the batch.
        question: of a detector.
        pictures: what the model sees, where the pixels of objects are wanted.
        superpixels: of these.
        scene: of a detector that finds its regions itself.
    """

    sample: Sample
    shown: np.ndarray
    blobs: Mapping[str, np.ndarray]
    question: Question | None = None
    pictures: Sequence[np.ndarray] = ()
    superpixels: Superpixels | None = None
    scene: Scene | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in a scene: as JSON holds it, in a line, the outputs, the picture to look at, and drawn."""

    record: dict[str, Any]
    line: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    shown: np.ndarray | None = None
    draw: Callable[[], np.ndarray] | None = None


class Task(Protocol):
    """Loads scenes in worker threads, and answers for some that go together.

    Attributes:
        batch: how many at most.
        named: whether the names of classes are known; else their numbers are told.
    """

    batch: int
    named: bool

    def shown(self, sample: Sample) -> np.ndarray:
        """The picture to look at, uint8 [H, W, 3]."""
        raise NotImplementedError

    def load(self, sample: Sample) -> Loaded:
        """Read a scene."""
        raise NotImplementedError

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """Answer for scenes whose blobs have the same shapes, at most ``batch``."""
        raise NotImplementedError


class Labels:
    """The classes with the highest scores.

    Args:
        batch: scenes at once, if the model leaves that open.
        scores: the output; None: ``prob``, or else the only one.
        classes: names; empty: their numbers.
        top: how many are named.
        kept: outputs whose numbers are kept.

    Raises:
        UsageError: there is no such output, or no telling which it is, or it has other classes.
    """

    def __init__(
        self, session: Runner, feed: Feed, batch: int, scores: str | None, classes: Sequence[str], top: int,
        kept: Sequence[str],
    ) -> None:  # fmt: skip
        self.session, self.feed, self.classes, self.top, self.kept = session, feed, tuple(classes), top, tuple(kept)
        others = [name for name in session.inputs if name not in feed.names]
        if others:
            raise UsageError(
                f"the model takes {', '.join(others)} beside pictures, which only detectors are fed (rois)"
            )
        self.named = bool(classes) or not top
        self.scores = _scores(session, scores) if scores or top else ""
        fixed = session.inputs[feed.names[0]].shape[0]
        self.fixed = fixed if isinstance(fixed, int) else 0
        self.batch = self.fixed or batch
        self._check_classes()

    def load(self, sample: Sample) -> Loaded:
        """Read the pictures and make blobs of them."""
        pictures = self.feed.pictures(sample)
        return Loaded(sample, to_look_at(sample, pictures), self.feed.blobs(pictures))

    def shown(self, sample: Sample) -> np.ndarray:
        """The picture to look at."""
        return to_look_at(sample, () if sample.color else self.feed.pictures(sample))

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """One run of the model; a batch that it fixes is filled up with zeros."""
        room = max(self.fixed, len(loaded))
        feed = {}
        for name in self.feed.names:
            first = loaded[0].blobs[name]
            feed[name] = np.zeros((room, *first.shape), first.dtype)
            np.stack([one.blobs[name] for one in loaded], out=feed[name][: len(loaded)])
        wanted = list(dict.fromkeys([*([self.scores] if self.scores else []), *self.kept]))
        found = self.session(feed, wanted)
        for name in wanted:
            if found[name].shape[:1] != (room,):
                raise UsageError(
                    f"output '{name}' has the shape {list(found[name].shape)}, expected one item a picture"
                )
        return [self._answer(one, {name: found[name][row] for name in wanted}) for row, one in enumerate(loaded)]

    def _answer(self, loaded: Loaded, outputs: Mapping[str, np.ndarray]) -> Answer:
        best = self._best(outputs[self.scores].reshape(-1)) if self.scores else []
        told = [f"{name} {score:.3f}" for name, score in best]
        return Answer(
            {"labels": [{"class": name, "score": score} for name, score in best]} if self.scores else {},
            ", ".join(told),
            {name: outputs[name].copy() for name in self.kept},
            loaded.shown,
            lambda: _captioned(loaded.shown, told),
        )

    def _best(self, scores: np.ndarray) -> list[tuple[str, float]]:
        values = scores.astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"output '{self.scores}' holds NaN or infinity")
        order = np.argsort(-values, kind="stable")[: self.top]
        return [(self.classes[at] if self.classes else str(at), round(float(values[at]), 6)) for at in order.tolist()]

    def _check_classes(self) -> None:
        if not self.scores or not self.classes:
            return
        sizes = self.session.outputs[self.scores].shape[1:]
        have = int(np.prod([size for size in sizes if isinstance(size, int)]))
        if all(isinstance(size, int) for size in sizes) and have != len(self.classes):
            raise UsageError(
                f"output '{self.scores}' has {have} numbers for a picture, there are {len(self.classes)} class names"
            )


class Objects:
    """The objects of a detector, in one scene at a time.

    Args:
        detector: the model.
        config: of the fast-rcnn tools.
        classes: names, without the background.
        conf: score from which on objects are told of.
        proposals: boxes that may hold objects; None: the built-in proposer's.
        keep: whether scores and boxes of all proposals are kept.

    Attributes:
        masks: gives objects their pixels; None: they have boxes alone.
    """

    batch = 1
    named = True
    masks: ObjectMasks | None = None

    def __init__(
        self, detector: Detects, feed: Feed, config: Config, classes: Sequence[str], conf: float,
        proposals: Proposals | None, keep: bool,
    ) -> None:  # fmt: skip
        self.detector, self.feed, self.config, self.classes = detector, feed, config, tuple(classes)
        self.conf, self.proposals, self.keep = conf, proposals, keep

    def load(self, sample: Sample) -> Loaded:
        """Read the pictures, and find or compute proposals."""
        pictures, shown, boxes = self.read(sample)
        question = ask(pictures, boxes, self.config, self.detector.several)
        return self.with_superpixels(Loaded(sample, shown, {}, question), pictures)

    def with_superpixels(self, loaded: Loaded, pictures: Sequence[np.ndarray]) -> Loaded:
        """The same with what pixels of objects are found by, if they are wanted."""
        if self.masks is None:
            return loaded
        superpixels = self.masks.superpixels(loaded.sample, loaded.shown)
        return replace(loaded, pictures=tuple(pictures), superpixels=superpixels)

    def shown(self, sample: Sample) -> np.ndarray:
        """The picture to look at."""
        return to_look_at(sample, () if sample.color else self.feed.pictures(sample))

    def read(self, sample: Sample) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The pictures, the one to look at, and proposals [N, 4] in its pixels."""
        pictures = self.feed.pictures(sample)
        shown = to_look_at(sample, pictures)
        if self.proposals is None:
            keys = [modality_key(self.feed.wanted[name]) for name in self.feed.names]
            seen = dict(zip(keys, pictures, strict=True))
            if sample.color and "images" not in seen and shown.shape == pictures[0].shape:
                seen["images"] = shown
            boxes = propose(seen)[0]
        else:
            size = (pictures[0].shape[0], pictures[0].shape[1])
            boxes = np.asarray(self.proposals(FrameRecord(sample.name, size=size)))
        return pictures, shown, boxes[: self.config.test.proposal_top_k or None]

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """Run the detector, move boxes, suppress those that overlap."""
        return [self._answer(one, one.question) for one in loaded if one.question is not None]

    def _answer(self, loaded: Loaded, question: Question) -> Answer:
        scores, boxes = answer(question, self.detector(question), self.config)
        found = [one for one in name_objects(scores, boxes, self.classes, self.config) if one.score >= self.conf]
        arrays = {"scores": scores, "boxes": boxes.astype(np.float32)} if self.keep else {}
        return self.told(loaded, found, arrays)

    def told(self, loaded: Loaded, found: Sequence[Found], arrays: dict[str, np.ndarray]) -> Answer:
        """What is told of the objects of a scene."""
        return object_answer(loaded, found, self.conf, arrays, self.masks)


def object_answer(
    loaded: Loaded, found: Sequence[Found], conf: float, arrays: dict[str, np.ndarray], masks: ObjectMasks | None
) -> Answer:
    """What is told of the objects of a scene; arrays get theirs only where there are others."""
    told = [f"{one.name} {one.score:.3f} at {' '.join(f'{side:.0f}' for side in one.box)}" for one in found]
    records = [{"class": o.name, "score": round(o.score, 6), "box": [*map(float, o.box)]} for o in found]
    pixels: np.ndarray | None = None
    if masks is not None:
        segmented = masks(loaded.pictures, found, loaded.superpixels)
        pixels = segmented.pixels
        records = [one | more for one, more in zip(records, segmented.records(), strict=True)]
        arrays = arrays | (segmented.arrays(found) if arrays else {})

    def draw() -> np.ndarray:
        corners, names, scores = np.array([one.box for one in found]), [o.name for o in found], [o.score for o in found]
        if pixels is None or not found:
            return draw_boxes(loaded.shown, corners, names, scores)
        return draw_masks(loaded.shown, pixels, names, scores, corners)

    return Answer(
        {"objects": records},
        ", ".join(told) or f"nothing with a score of {conf:g} or more",
        arrays,
        loaded.shown,
        draw,
    )


def to_look_at(sample: Sample, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3]; grey is shown in three channels."""
    shown = read_picture(sample.color) if sample.color else pictures[0]
    return shown if shown.shape[2] == 3 else shown.repeat(3, 2)


def _scores(session: Runner, name: str | None) -> str:
    names = session.output_names
    if name is None:
        name = "prob" if "prob" in names else names[0] if len(names) == 1 else ""
    if not name:
        raise UsageError(f"which output holds the scores? --scores is one of {', '.join(names)}")
    check_output_name(session, name)
    return name


def check_output_name(session: Runner, name: str) -> None:
    """Refuse an output that the model does not have.

    Raises:
        UsageError: with the nearest name.
    """
    names = list(session.outputs)
    if name not in names:
        gives = ", ".join(session.output_names)
        raise UsageError(f"the model has no output '{name}'{nearest(name, names)}; it gives {gives}")


def _captioned(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A picture with lines of text in its upper left corner; a small one is enlarged."""
    times = -(-LEAST_SIDE // max(1, min(picture.shape[:2])))
    canvas = np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))
    if np.shares_memory(canvas, picture):
        canvas = canvas.copy()
    scale = max(0.4, min(canvas.shape[:2]) / 1000)
    for number, line in enumerate(lines):
        place = (6, round(28 * scale * (number + 1)))
        for color, (right, down) in (((0, 0, 0), (1, 1)), ((255, 255, 255), (0, 0))):
            draw_text(canvas, line, (place[0] + right, place[1] + down), color, scale)
    return canvas
