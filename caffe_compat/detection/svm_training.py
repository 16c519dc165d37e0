"""SVMs for all classes, after the detector is trained, on what its scores are made from (fc7).

Source: ``tools/train_svms.py`` of fast-rcnn.  The SVMs take the place of ``cls_score``, so that a detector with them is
tested with TEST.SVM.  There the net answers anew for every score; here scores are made from the features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.detection.images import mirror_picture, read_modalities
from caffe_compat.detection.inference import Detector, Question, ask
from caffe_compat.detection.roidb import Roidb, RoiImage, build_roidb
from caffe_compat.detection.svm import ClassSvm, SvmOptions, require_solver
from caffe_compat.errors import DataError, NetError, in_file
from caffe_compat.evaluation.overlaps import box_overlaps
from caffe_compat.net import Net
from caffe_compat.net.plan import Node

__all__ = ["NO_SVM_BIAS", "SvmTrainer", "score_layer"]

NO_SVM_BIAS = -2.0
"""Score of a class without objects: it is never found.  (The released code ends there.)"""
_SCORES = "cls_score"
Steps = Callable[[Iterable[int], str], Iterable[int]]
"""Shows progress: numbers of images, and what is done with them."""


class SvmTrainer:
    """Trains the SVMs and puts them into the net.

    Args:
        net: a test net of one modality; ``cls_score`` (or ``da_cls_score``) is replaced.
        imdb: to train on.
        config: TEST, TRAIN.USE_FLIPPED, RNG_SEED and PARITY are read.  Regions that fall together are seen apart.
        proposals: instead of the database's own.
        device: where the net runs.
        options: the numbers.

    Attributes:
        scale: factor on features, once known.
        svms: of all classes, once trained; those without objects have no fits.

    Raises:
        UsageError: scikit-learn is not there.
        NetError: the net does not fit the database, or has not one layer of scores.
        DataError: images without objects or proposals that are known.
    """

    def __init__(
        self,
        net: Net,
        imdb: ImageDatabase,
        config: Config,
        proposals: ProposalSource | None = None,
        device: torch.device | str = "cpu",
        options: SvmOptions | None = None,
    ) -> None:
        require_solver()
        self.options = options or SvmOptions()
        self.config = dataclasses.replace(
            config, dedup_boxes=0.0, test=dataclasses.replace(config.test, svm=True, bbox_reg=False)
        )
        self.imdb, self.node = imdb, score_layer(net)
        self.blob = self.node.description.message.bottom[0]  # as written, not the top of a Split
        self.detector = Detector(net, len(imdb.classes) + 1, len(imdb.modalities), self.config, device)
        self.roidb: Roidb = build_roidb(imdb, self.config, proposals)
        self.scale = 0.0
        self.svms: list[ClassSvm] = []

    def train(self, steps: Steps = lambda numbers, what: numbers) -> list[ClassSvm]:
        """Measure the features, gather all objects, go once through all images for hard negatives, fit a last time.

        Args:
            steps: is called for each of these passes; by default nothing is shown.

        Raises:
            CaffeCompatError: an image that cannot be read; features that are not finite, or all zero.
        """
        self.scale = self._feature_scale(steps)
        self.svms = [ClassSvm(name, self.scale, self.options, self.config.rng_seed) for name in self.imdb.classes]
        self._add_positives(steps)
        trained = [(label, svm) for label, svm in enumerate(self.svms, 1) if svm.positives]
        if not trained:
            raise DataError(f"{self.imdb.name}: shows no object of any class")
        dim = int(self.node.layer.blob_shapes[0][1])
        weights = np.zeros((len(self.svms) + 1, dim), np.float32)
        biases = np.zeros(len(self.svms) + 1, np.float32)
        for number, features in self._features(range(len(self.roidb)), steps, "hard negatives"):
            scores = features @ weights.T + biases
            ious = self._ious(self.roidb[number])
            for label, svm in trained:
                hard = (scores[:, label] > self.options.hard) & (ious[:, label] < self.options.negative_iou)
                if svm.add_negatives(features, np.flatnonzero(hard)):
                    weights[label], biases[label] = _fitted(svm)
        biases[1:] = NO_SVM_BIAS
        for label, svm in trained:
            weights[label], biases[label] = _fitted(svm)
        self._install(weights, biases)
        return self.svms

    def _feature_scale(self, steps: Steps) -> float:
        """Factor that makes the mean length of features the wanted one, on some images (numpy's legacy stream)."""
        draw = np.random.RandomState(self.config.rng_seed)
        count = min(self.options.scale_images, len(self.roidb))
        numbers = draw.choice(len(self.roidb), size=count, replace=False).tolist()
        total, regions = 0.0, 0
        for _, features in self._features(numbers, steps, "feature scale"):
            total += float(np.linalg.norm(features, axis=1).sum(dtype=np.float64))
            regions += len(features)
        if not total:
            raise DataError(f"blob '{self.blob}' is zero for all {regions} regions; are these the net's weights?")
        return self.options.target_norm / (total / regions)

    def _add_positives(self, steps: Steps) -> None:
        numbers = [number for number, image in enumerate(self.roidb) if len(_objects(image))]
        for number, features in self._features(numbers, steps, "objects", only_objects=True):
            image = self.roidb[number]
            labels = image.gt_classes[_objects(image)]
            for label in np.unique(labels):
                self.svms[label - 1].add_positives(features[labels == label])

    def _ious(self, image: RoiImage) -> np.ndarray:
        """Overlap of all regions with the objects of each label, [N, L]; crowds and what lies in them: 1.

        With PARITY a region counts for the class of the object that it overlaps most only, as in the released code.
        """
        found = np.zeros((len(image.boxes), len(self.imdb.classes) + 1), np.float32)
        if self.config.parity:
            found[np.arange(len(found)), image.max_classes] = image.max_overlaps
        else:
            objects = _objects(image)
            for label in np.unique(image.gt_classes[objects]):
                of_class = objects[image.gt_classes[objects] == label]
                found[:, label] = box_overlaps(image.boxes, image.boxes[of_class]).max(1)
        found[image.max_overlaps < 0] = 1
        return found

    def _features(
        self, numbers: Sequence[int], steps: Steps, what: str, only_objects: bool = False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers of images and the features of their regions, float32 [N, D]; the next image is read meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self._ask, numbers[0], only_objects) if numbers else None
            for place, number in enumerate(steps(numbers, what)):
                assert waiting is not None
                question = waiting.result()
                if place + 1 < len(numbers):
                    waiting = pool.submit(self._ask, numbers[place + 1], only_objects)
                with in_file(f"{self.imdb.name}: image {self.roidb[number].record.name}"):
                    yield number, self._answer(question)

    def _ask(self, number: int, only_objects: bool) -> Question:
        image = self.roidb[number]
        paths = [image.record.paths[kind] for kind in self.imdb.modalities]
        pictures = read_modalities(paths, image.record.size)
        if image.flipped:
            pictures = [
                mirror_picture(picture, self.config, kind)
                for kind, picture in zip(self.imdb.modalities, pictures, strict=True)
            ]
        boxes = image.boxes[_objects(image)] if only_objects else image.boxes
        return ask(pictures, boxes, self.config, self.detector.several)

    def _answer(self, question: Question) -> np.ndarray:
        if not len(question.first):
            return np.zeros((0, int(self.node.layer.blob_shapes[0][1])), np.float32)
        device = self.detector.device
        inputs = {name: torch.from_numpy(blob).to(device) for name, blob in question.blobs.items()}
        with torch.inference_mode():
            found = self.detector.net(blobs=[self.blob], **inputs)[self.blob]
        features: np.ndarray = found.reshape(len(question.first), -1).float().cpu().numpy()
        if not np.isfinite(features).all():
            raise NetError(f"blob '{self.blob}' has numbers that are NaN or infinite")
        return features

    def _install(self, weights: np.ndarray, biases: np.ndarray) -> None:
        with torch.no_grad():
            for index, values in enumerate((weights, biases)):
                self.node.layer.blob(index).copy_(torch.from_numpy(values))


def score_layer(net: Net) -> Node:
    """The layer whose weights SVMs take the place of.

    Raises:
        NetError: there is none, or one for each of several modalities; it has no bias.
    """
    found = [node for node in net.nodes if node.layer.blobs and node.name.removeprefix("da_") == _SCORES]
    if len(found) != 1:
        raise NetError(
            f"net '{net.description.name}' has {len(found)} layers '{_SCORES}' or 'da_{_SCORES}', expected one: SVMs "
            "are trained for one modality; fuse them by net surgery"
        )
    if len(found[0].layer.blobs) != 2:
        raise found[0].description.error("has no bias, which SVMs need")
    return found[0]


def _objects(image: RoiImage) -> np.ndarray:
    """Rows of ground truth that is no crowd."""
    return np.flatnonzero((image.gt_classes > 0) & (image.max_overlaps >= 0))


def _fitted(svm: ClassSvm) -> tuple[np.ndarray, float]:
    fit = svm.fit()
    return fit.weights, fit.bias
