"""What ``infer_onnx`` and ``predict`` do with nets that find objects without being given regions.

SSD's and YOLO's nets end in rows [image, label, score, x1, y1, x2, y2] with corners as parts of the picture; Faster
R-CNN and R-FCN end in regions, scores and deltas.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np

from caffe_compat.commands.class_names import detector_classes
from caffe_compat.commands.infer_tasks import Answer, Loaded, Objects, to_look_at
from caffe_compat.config import Config, load_config
from caffe_compat.deploy.feed import Feed, Runner, Sample
from caffe_compat.detection.deployed import detector_options
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.detection.objects import Found, name_objects
from caffe_compat.detection.proposing import ProposingDetector, Scene, proposes
from caffe_compat.errors import DataError, UsageError

__all__ = ["ObjectsInRows", "ProposedObjects", "own_objects", "rows_output"]


def own_objects(
    args: argparse.Namespace,
    runner: Runner,
    feed: Feed,
    file: str | os.PathLike[str] | None,
    carried: bool,
    centres: bool = False,
) -> Objects | None:
    """What is done with a net that finds objects in whole pictures; None: this one does not.

    Args:
        file: with options of the fast-rcnn tools; None: there is none.
        carried: whether the preparation of pictures says the scale and the mean.
        centres: whether rows hold classes from 0, centres and sides, in place of labels from 1 and corners.

    Raises:
        CaffeCompatError: arguments that do not fit, or another kind of net.
    """
    rows = None if args.blobs else rows_output(runner, args.scores)
    if not proposes(runner) and rows is None:
        return None
    if args.proposals != "builtin":
        raise UsageError("--proposals: the net finds its regions itself")
    known = detector_classes(args.classes) if args.classes else feed.classes
    names, keep = tuple(name for name in known if name != BACKGROUND), bool(args.npz or args.h5)
    if not proposes(runner) and rows is not None:
        if args.cfg or args.pairs:
            raise UsageError("--cfg and --set are for nets that give scores of regions; this one gives objects")
        task = ObjectsInRows(runner, rows, feed, load_config(None, []), names, args.conf, keep)
        task.centres = centres
        return task
    if args.blobs:
        raise UsageError("--blobs: of a detector, --npz and --h5 hold scores and boxes")
    config = load_config(file, [*(detector_options(list(feed.wanted.values())) if carried else []), *args.pairs])
    detector = ProposingDetector(runner, len(names) + 1 if names else None, config, (args.scores, None))
    return ProposedObjects(detector, feed, config, names, args.conf, keep)


def rows_output(runner: Runner, asked: str | None) -> str | None:
    """The output with detections, N x 1 x K x 7; None: there is none, or another one was asked for."""
    names = [name for name in runner.output_names if _are_rows(runner.outputs[name].shape)]
    return (names[0] if len(names) == 1 else None) if asked is None else asked if asked in names else None


def _are_rows(shape: Sequence[object]) -> bool:
    return len(shape) == 4 and shape[1] == 1 and shape[3] == 7


class ObjectsInRows(Objects):
    """The objects of a net that gives rows of them, in one picture at a time.

    Label 0 is the background; rows with a label of -1 say that there is nothing.  Boxes are cut to the picture; those
    that lie outside are left out.

    Args:
        runner: the net or model.
        output: the one with the rows.
        classes: names, in the order of the labels from 1; empty: their numbers are told.
        conf: score from which on objects are told of.
        keep: whether all rows are kept, as boxes (not cut), scores and classes.

    Attributes:
        centres: whether rows hold classes from 0, centres and sides.

    Raises:
        UsageError: the net sees a part of pictures, or takes more than pictures.
    """

    def __init__(
        self, runner: Runner, output: str, feed: Feed, config: Config, classes: Sequence[str], conf: float, keep: bool
    ) -> None:  # fmt: skip
        others = [name for name in runner.inputs if name not in feed.names]
        if others:
            raise UsageError(f"the model takes {', '.join(others)} beside pictures, whose meaning is not known")
        if any(wanted.crop for wanted in feed.wanted.values()):
            raise UsageError("the net sees a part of each picture (crop), which moves boxes: expected whole pictures")
        self.session, self.output, self.feed, self.config = runner, output, feed, config
        self.classes, self.conf, self.keep, self.named = tuple(classes), conf, keep, bool(classes)
        self.proposals, self.centres = None, False
        batch = runner.inputs[feed.names[0]].shape[0]
        self.times = batch if isinstance(batch, int) else 1

    def load(self, sample: Sample) -> Loaded:
        """Read the pictures and make blobs of them."""
        pictures = self.feed.pictures(sample)
        blobs = {name: blob[None] for name, blob in self.feed.blobs(pictures).items()}
        return Loaded(sample, to_look_at(sample, pictures), blobs)

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """Run the model on one scene after the other."""
        return [self._found(one) for one in loaded]

    def _found(self, loaded: Loaded) -> Answer:
        # YOLO's layers take a batch for one picture: the same one several times changes nothing
        blobs = {name: blob.repeat(self.times, 0) for name, blob in loaded.blobs.items()}
        rows = np.asarray(self.session(blobs, [self.output])[self.output]).reshape(-1, 7)
        if np.isnan(rows).any():  # a side may be infinite, YOLO's is an exponential
            raise DataError(f"output '{self.output}' holds NaN")
        rows = rows[(rows[:, 0] == 0) & (rows[:, 1] >= 0)]
        if self.centres:
            middle, half = rows[:, 3:5], rows[:, 5:] / 2
            rows = np.concatenate([rows[:, :1], rows[:, 1:2] + 1, rows[:, 2:3], middle - half, middle + half], 1)
        height, width = loaded.shown.shape[:2]
        boxes = rows[:, 3:] * np.array([width, height, width, height], rows.dtype)
        cut = np.clip(boxes, 0, np.array([width, height, width, height]) - 1)
        seen = (cut[:, 2:] > cut[:, :2]).all(1) & (rows[:, 2] >= self.conf)
        found = [
            Found(self._name(int(label)), float(score), (x1, y1, x2, y2))
            for (label, score), (x1, y1, x2, y2) in zip(rows[seen, 1:3].tolist(), cut[seen].tolist(), strict=True)
        ]
        found.sort(key=lambda one: -one.score)
        arrays = {"boxes": boxes, "scores": rows[:, 2], "classes": rows[:, 1].astype(np.int64)} if self.keep else {}
        return self.told(loaded, found, arrays)

    def _name(self, label: int) -> str:
        if not self.classes:
            return str(label)
        if not 1 <= label <= len(self.classes):
            raise UsageError(f"the model gives label {label}, there are {len(self.classes)} class names")
        return self.classes[label - 1]


class ProposedObjects(Objects):
    """The objects of a net that finds its regions itself, in one picture at a time.

    Args:
        detector: the net or model.
        classes: names, without the background; empty: their numbers are told.
        conf: score from which on objects are told of.
        keep: whether scores and boxes of all regions are kept.
    """

    def __init__(
        self, detector: ProposingDetector, feed: Feed, config: Config, classes: Sequence[str], conf: float, keep: bool
    ) -> None:  # fmt: skip
        self.proposing, self.feed, self.config, self.conf, self.keep = detector, feed, config, conf, keep
        self.classes = tuple(classes) or tuple(map(str, range(1, detector.labels)))
        self.named, self.proposals = bool(classes), None

    def load(self, sample: Sample) -> Loaded:
        """Read the picture and scale it."""
        pictures = self.feed.pictures(sample)
        scene = self.proposing.ask(pictures[0])
        return Loaded(sample, to_look_at(sample, pictures), scene.blobs, scene=scene)

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """Run the net on one scene after the other."""
        return [self._regions(one, one.scene) for one in loaded if one.scene is not None]

    def _regions(self, loaded: Loaded, scene: Scene) -> Answer:
        scores, boxes = self.proposing(scene)
        found = [one for one in name_objects(scores, boxes, self.classes, self.config) if one.score >= self.conf]
        arrays = {"scores": scores, "boxes": boxes.astype(np.float32)} if self.keep else {}
        return self.told(loaded, found, arrays)
