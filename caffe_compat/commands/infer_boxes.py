"""What ``infer_onnx`` does with detectors whose graph gives the boxes that stay (``export_onnx --postprocess``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.commands.infer_tasks import Answer, Loaded, Objects
from caffe_compat.config import Config
from caffe_compat.deploy import Session
from caffe_compat.deploy.feed import Feed, Sample
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.detection.inference import ask
from caffe_compat.detection.objects import Found
from caffe_compat.errors import NetError, UsageError
from caffe_compat.media import short_side_factor

__all__ = ["BoxesInGraph"]

INPUTS = ("proposals", "image_info")
OUTPUTS = ("boxes", "scores", "classes")


class BoxesInGraph(Objects):
    """The objects that such a model gives, in one scene at a time.

    Args:
        session: of the model.
        config: of the fast-rcnn tools: scales and mean.
        classes: names, in the order of the labels; the background may be left out.
        conf: score from which on objects are told of.
        keep: whether all boxes, their scores and labels are kept.

    Raises:
        NetError: other inputs or outputs.
        UsageError: the graph resizes pictures, so that it is not known by how much.
    """

    def __init__(
        self, session: Session, feed: Feed, config: Config, classes: Sequence[str], conf: float, keep: bool
    ) -> None:
        for name in (*INPUTS, *OUTPUTS):
            if name not in session.inputs and name not in session.outputs:
                raise NetError(f"the model has no '{name}', as detectors exported with --postprocess have")
        if any(told.get("size") for told in feed.in_graph.values()):
            raise UsageError("the graph resizes pictures, which moves proposals: export detectors without --resize")
        self.session, self.feed, self.config, self.conf, self.keep = session, feed, config, conf, keep
        self.classes = tuple(name for name in classes if name != BACKGROUND)
        self.proposals = None
        shape = session.inputs["image_info"].shape
        self.factors = (shape[0] if shape and isinstance(shape[0], int) else 3) - 2

    def load(self, sample: Sample) -> Loaded:
        """Read the pictures, and find or compute proposals."""
        pictures, shown, boxes = self.read(sample)
        height, width = pictures[0].shape[:2]
        test = self.config.test
        scales = test.modality_scales or (test.scales,) * len(pictures)
        factors = [short_side_factor(height, width, sides[0], test.max_size) for sides in scales]
        if len(set(factors)) > 1 and self.factors == 1:
            raise UsageError("pictures of a scene have different scales, the model takes one")
        question = ask(pictures, boxes[:1], self.config, self.factors > 1)
        prepared = self.feed.blobs(pictures)
        blobs = {
            name: prepared[name][None] if value.kind == "uint8" else question.blobs[name]
            for name, value in self.session.inputs.items()
            if name in self.feed.names
        }
        blobs["proposals"] = np.ascontiguousarray(boxes, np.float32).reshape(-1, 4)
        blobs["image_info"] = np.array([height, width, *factors[: self.factors]], np.float64)
        return self.with_superpixels(Loaded(sample, shown, blobs), pictures)

    def run(self, loaded: Sequence[Loaded]) -> list[Answer]:
        """Run the model on one scene after the other."""
        return [self._found(one) for one in loaded]

    def _found(self, loaded: Loaded) -> Answer:
        made = self.session(loaded.blobs, list(OUTPUTS))
        boxes, scores, labels = (made[name] for name in OUTPUTS)
        found = []
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            if not 1 <= label <= len(self.classes):
                raise UsageError(f"the model gives label {label}, there are {len(self.classes)} class names")
            if score >= self.conf:
                found.append(Found(self.classes[label - 1], score, (box[0], box[1], box[2], box[3])))
        found.sort(key=lambda one: -one.score)
        arrays = {name: made[name] for name in OUTPUTS} if self.keep else {}
        return self.told(loaded, found, arrays)
