"""SVMs on features: the branch's trainer, number by number; a detector of the golden tree; refusals."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from caffe_compat.config import load_config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.inference import ask
from caffe_compat.detection.svm import ClassSvm, SvmOptions, require_solver
from caffe_compat.detection.svm_training import NO_SVM_BIAS, SvmTrainer, score_layer
from caffe_compat.errors import DataError, NetError, UsageError
from caffe_compat.net import load_net

pytest.importorskip("sklearn")
CONFIG = load_config(pairs=["TEST.SCALES", "[60]", "TEST.MAX_SIZE", "200", "TRAIN.USE_FLIPPED", "True"])
CLASSES = ("red", "green", "never")
COLOURS = {"red": (30, 30, 220), "green": (30, 220, 30)}

# Mean colours of regions, of each sign, then scores from six features.
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 60 dim: 80 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 1 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 5 pad: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 } }
layer { name: "fc7" type: "InnerProduct" bottom: "pool" top: "fc7" inner_product_param { num_output: 24 } }
layer { name: "relu7" type: "ReLU" bottom: "fc7" top: "fc7" }
layer { name: "cls_score" type: "InnerProduct" bottom: "fc7" top: "cls_score_0" inner_product_param { num_output: 4 } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "fc7" top: "bbox_pred" inner_product_param { num_output: 16 } }
layer { name: "sum" type: "Eltwise" bottom: "cls_score_0" bottom: "cls_score_0" top: "cls_score"
  eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 } }
layer { name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }
"""


def a_net(folder: Path, text: str = NET) -> Any:
    (folder / "test.prototxt").write_text(text)
    net = load_net(folder / "test.prototxt")
    with torch.no_grad():
        net.layer("conv").blob(0).zero_()
        for channel in range(3):
            net.layer("conv").blob(0)[channel, channel] = 1 / 25
            net.layer("conv").blob(0)[channel + 3, channel] = -1 / 25
        net.layer("fc7").blob(0).copy_(torch.eye(24) / 10)
    net.save(folder / "model.caffemodel")
    return net


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageDatabase:
    """Red and green squares on grey; the last picture shows none."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    records, found = [], {}
    for number in range(8):
        image = random.integers(100, 140, (60, 80, 3), np.uint8)
        boxes, names = [], []
        for place, name in enumerate(COLOURS if number < 7 else ()):
            x, y = int(random.integers(2, 12)) + 40 * place, int(random.integers(2, 30))
            image[y : y + 24, x : x + 24] = np.clip(np.array(COLOURS[name]) + random.normal(0, 8, (24, 24, 3)), 0, 255)
            boxes.append([x, y, x + 23, y + 23])
            names.append(name)
        path = str(tmp_path / f"{number}.png")
        cv2.imwrite(path, image)
        truth = np.array(boxes, np.float32).reshape(-1, 4)
        records.append(
            FrameRecord(str(number), paths={"images": path}, size=(60, 80), boxes=truth, classes=tuple(names))
        )
        low = random.integers(0, (50, 30), (40, 2))
        noise = np.hstack([low, low + random.integers(10, 29, (40, 2))]).astype(np.float32)
        found[str(number)] = np.vstack([np.clip(truth + 1, 0, 59), noise]).astype(np.float32)
    return ImageDatabase("squares", CLASSES, ("images",), records, lambda record: found[record.name])


class Branch:
    """``SVMClassTrainer`` of the branch's ``tools/train_svms.py``, as it is but for what Python 3 asks for."""

    def __init__(self, dim: int, scale: float, seed: int, limit: int) -> None:
        self.pos = np.zeros((0, dim), np.float32)
        self.neg = np.zeros((0, dim), np.float32)
        self.scale, self.limit, self.added = scale, limit, 0
        self.svm = require_solver()(
            C=0.001, class_weight={1: 2, -1: 1}, intercept_scaling=10.0, penalty="l2", loss="hinge", random_state=seed,
            dual=True,
        )  # fmt: skip

    def append_neg_and_retrain(self, feat: np.ndarray | None = None, force: bool = False) -> Any:
        if feat is not None:
            self.neg = np.vstack((self.neg, feat))
            self.added += len(feat)
        if not (self.added > self.limit or force):
            return None
        self.added = 0
        examples = np.vstack((self.pos, self.neg)) * self.scale
        self.svm.fit(examples, np.hstack((np.ones(len(self.pos)), -np.ones(len(self.neg)))))
        scores = examples.dot(self.svm.coef_.T)[:, 0] + self.svm.intercept_[0]
        keep = np.where(scores[len(self.pos) :] >= -1.1)[0]
        if len(keep):
            self.neg = self.neg[keep]
        return self.svm.coef_[0] * self.scale, self.svm.intercept_[0]


def test_a_class_is_trained_as_in_the_branch() -> None:
    random = np.random.default_rng(1)
    centre = random.normal(size=20)
    positives = (random.normal(size=(30, 20)) + centre).astype(np.float32)
    ours = ClassSvm("thing", 3.5, SvmOptions(retrain=30), seed=3)
    theirs = Branch(20, 3.5, 3, 30)
    ours.add_positives(positives[:10])
    ours.add_positives(positives[10:])
    theirs.pos = positives
    fits = 0
    for _ in range(12):
        features = random.normal(size=(25, 20)).astype(np.float32)
        rows = np.flatnonzero(features[:, 0] > random.normal())
        due = ours.add_negatives(features, rows)
        expected = theirs.append_neg_and_retrain(features[rows])
        assert due == (expected is not None)
        if due:
            fits += 1
            found = ours.fit()
            np.testing.assert_allclose(found.weights, expected[0], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.bias, expected[1], rtol=1e-4, atol=1e-6)
            assert len(theirs.neg) == sum(len(rows) for _, rows in ours._negatives)
    assert fits >= 2 and len(ours.fits) == fits
    expected, found = theirs.append_neg_and_retrain(force=True), ours.fit()
    np.testing.assert_allclose(found.weights, expected[0], rtol=1e-4, atol=1e-6)
    assert found.positives == 30


def test_squares_are_told_apart(pictures: ImageDatabase, tmp_path: Path) -> None:
    net = a_net(tmp_path)
    trainer = SvmTrainer(net, pictures, CONFIG, options=SvmOptions(retrain=100, c=0.1))
    svms = trainer.train()
    assert [svm.positives for svm in svms] == [14, 14, 0]  # mirror images too
    assert len(svms[0].fits) >= 2 and not svms[2].fits
    assert net.layer("cls_score").blob(1)[3] == NO_SVM_BIAS and not net.layer("cls_score").blob(0)[3].any()
    assert not net.layer("cls_score").blob(0)[0].any()
    image = next(iter(pictures.records))
    boxes = np.vstack([image.boxes, [[2, 2, 10, 10]]])
    picture = cv2.imread(image.paths["images"])
    data = torch.from_numpy((picture - np.float32(CONFIG.pixel_means)).astype(np.float32).transpose(2, 0, 1)[None])
    rois = torch.from_numpy(np.hstack([np.zeros((3, 1)), boxes]).astype(np.float32))
    with torch.no_grad():
        scores = net(data=data, rois=rois, blobs=["cls_score"])["cls_score"].numpy()
    assert scores[0, 1] > 0 > scores[0, 2] and scores[1, 2] > 0 > scores[1, 1] and (scores[2, 1:] < 0).all()


def branch_training(net: Any, trainer: SvmTrainer, limit: int) -> None:
    """``SVMTrainer.train`` of the branch: one image after the other, scores by the net as it is by then."""
    roidb, config = trainer.roidb, trainer.config

    def seen(image: Any, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture = cv2.imread(image.record.paths["images"])
        picture = picture[:, ::-1] if image.flipped else picture
        question = ask([np.ascontiguousarray(picture)], boxes, config)
        inputs = {name: torch.from_numpy(blob) for name, blob in question.blobs.items()}
        with torch.no_grad():
            found = net(blobs=["cls_score", "fc7"], **inputs)
        return found["cls_score"].numpy(), found["fc7"].numpy()

    weights, biases = (net.layer("cls_score").blob(index).detach() for index in (0, 1))
    norms = [np.linalg.norm(seen(image, image.boxes)[1], axis=1) for image in roidb]
    scale = 20 / np.concatenate(norms).mean()
    weights.zero_()
    biases.zero_()
    trainers = [Branch(24, scale, 3, limit) for _ in CLASSES[:2]]
    for image in roidb:
        objects = image.boxes[image.gt_classes > 0]
        if len(objects):
            features = seen(image, objects)[1]
            for number, each in enumerate(trainers, 1):
                each.pos = np.vstack([each.pos, features[image.gt_classes[image.gt_classes > 0] == number]])
    for image in [*roidb, None]:
        for number, each in enumerate(trainers, 1):
            new = None
            if image is None:
                new = each.append_neg_and_retrain(force=True)
            else:
                if number == 1:
                    scores, features = seen(image, image.boxes)
                iou = np.where(image.max_classes == number, image.max_overlaps, 0)
                hard = np.where((scores[:, number] > -1.0001) & (iou < 0.3))[0]
                if len(hard):
                    new = each.append_neg_and_retrain(features[hard].copy())
            if new is not None:
                weights[number], biases[number] = torch.from_numpy(new[0].astype("f4")), float(new[1])


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
def test_the_whole_training_is_the_branch_s(pictures: ImageDatabase, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, parity=True)
    ours, theirs = a_net(tmp_path), a_net(tmp_path)
    trainer = SvmTrainer(ours, pictures, config, options=SvmOptions(retrain=100))
    trainer.train()
    branch_training(theirs, trainer, 100)
    assert min(len(svm.fits) for svm in trainer.svms[:2]) >= 3
    for index in (0, 1):
        found, expected = (net.layer("cls_score").blob(index)[:3].detach().numpy() for net in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        assert np.abs(expected[1:]).max() > 1e-3


def test_features_are_scaled_to_a_mean_length(pictures: ImageDatabase, tmp_path: Path) -> None:
    trainer = SvmTrainer(a_net(tmp_path), pictures, CONFIG)
    lengths = [np.linalg.norm(f, axis=1) for _, f in trainer._features(range(16), lambda numbers, what: numbers, "")]
    assert trainer._feature_scale(lambda numbers, what: numbers) == pytest.approx(20 / np.concatenate(lengths).mean())
    few = SvmTrainer(a_net(tmp_path), pictures, CONFIG, options=SvmOptions(scale_images=3))
    chosen = np.random.RandomState(3).choice(16, size=3, replace=False)
    expected = 20 / np.concatenate([lengths[number] for number in chosen]).mean()
    assert few._feature_scale(lambda numbers, what: numbers) == pytest.approx(expected)


def test_a_region_may_show_two_classes(pictures: ImageDatabase, tmp_path: Path) -> None:
    """With parity it counts for the one that it overlaps most only."""
    for parity, expected in ((False, 0.5), (True, 0)):
        trainer = SvmTrainer(a_net(tmp_path), pictures, dataclasses.replace(CONFIG, parity=parity))
        image = trainer.roidb[0]
        boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 19], [0, 0, 9, 9]], np.float32)
        both = dataclasses.replace(
            image,
            boxes=boxes,
            gt_classes=np.array([1, 2, 0], np.int32),
            max_overlaps=np.ones(3, np.float32),
            max_classes=np.array([1, 2, 1], np.int32),
        )
        assert trainer._ious(both)[2, 1:3].tolist() == [1, expected]
        crowd = dataclasses.replace(both, max_overlaps=np.array([1, -1, 1], np.float32))
        assert trainer._ious(crowd)[1].min() == 1  # never a negative
        assert trainer._ious(crowd)[2, 2] == 0  # and no object


def test_the_command_on_the_golden_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from conftest import ROOT

    from caffe_compat.commands import train_svms

    golden = ROOT / "tests" / "data" / "golden_fork" / "detection"
    words = ["--def", str(golden / "trace" / "test.prototxt"), "--imdb", "nyud2_hha_2015_train"]
    model = tmp_path / "fast_rcnn_iter_20.caffemodel"
    model.write_bytes((golden / "trace" / model.name).read_bytes())
    words += ["--net", str(model), "--set", "ROOT_DIR", str(golden / "tree"), "TEST.SCALES", "[96]"]
    assert train_svms.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("feature scale ") and len(lines) == 21
    assert lines[-1] == f"wrote {tmp_path / 'fast_rcnn_iter_20_svm.caffemodel'}; test it with --set TEST.SVM True"
    before, after = (load_net(words[1], path) for path in (model, tmp_path / "fast_rcnn_iter_20_svm.caffemodel"))
    for node in before.nodes:
        for index in range(len(node.layer.blobs)):
            same = torch.equal(node.layer.blob(index), after.layer(node.name).blob(index))
            assert same == (node.name != "da_cls_score"), node.name


def test_refusals(pictures: ImageDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = a_net(tmp_path)
    with pytest.raises(NetError, match="4 .*3 classes|numbers for a region"):
        SvmTrainer(net, dataclasses.replace(pictures, classes=("red", "green")), CONFIG)
    with torch.no_grad():
        net.layer("fc7").blob(0).zero_()
    with pytest.raises(DataError, match="blob 'fc7' is zero"):
        SvmTrainer(net, pictures, CONFIG).train()
    with torch.no_grad():
        net.layer("fc7").blob(0).fill_(float("nan"))
    with pytest.raises(NetError, match=r"squares: image \d.*'fc7'.*NaN"):
        SvmTrainer(net, pictures, CONFIG).train()
    none = [dataclasses.replace(r, boxes=np.zeros((0, 4), np.float32), classes=()) for r in pictures.records]
    with pytest.raises(DataError, match="shows no object"):
        SvmTrainer(a_net(tmp_path), dataclasses.replace(pictures, records=none), CONFIG).train()
    only = dataclasses.replace(pictures, proposals=lambda record: np.zeros((0, 4), np.float32))
    with pytest.raises(DataError, match="class 'red': no region that is none"):
        trainer = SvmTrainer(a_net(tmp_path), only, CONFIG, options=SvmOptions(hard=1e9))
        trainer.train()
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(UsageError, match=r"pip install 'caffe_compat\[svm\]'"):
        SvmTrainer(a_net(tmp_path), pictures, CONFIG)


def test_nets_of_two_modalities_are_refused(tmp_path: Path) -> None:
    again = NET.replace('name: "bbox_pred"', 'name: "da_cls_score"')
    with pytest.raises(NetError, match="2 layers 'cls_score' or 'da_cls_score'"):
        score_layer(a_net(tmp_path, again))
