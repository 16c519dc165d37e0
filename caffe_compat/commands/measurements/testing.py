"""The benchmark of a detector's test time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from caffe_compat.commands.measurements.detector import CLASSES, HEIGHT, PROPOSALS, WIDTH, database
from caffe_compat.config import Config, TestConfig
from caffe_compat.detection.inference import Answer, Detector, Question
from caffe_compat.detection.nms import apply_nms
from caffe_compat.detection.partial import PartialResults
from caffe_compat.detection.testing import TestRun, detect_all
from caffe_compat.net import load_net
from caffe_compat.resources import prototxt

__all__ = ["testing"]


class _Timed(Detector):
    """A detector that adds up the time in its net."""

    seconds = 0.0

    def __call__(self, question: Question) -> Answer:
        start = time.perf_counter()
        said = super().__call__(question)
        self.seconds += time.perf_counter() - start
        return said


def testing(rounds: int) -> Iterator[tuple[str, float, float, float, str]]:
    """A whole test of AlexNet on pictures in files, suppression included, against the time that its net takes."""
    config = Config(test=TestConfig(scales=(HEIGHT,), max_size=2000))
    net = load_net(prototxt() / "detection" / "alexnet_hha" / "test.prototxt")
    for parameter in net.parameters():  # scores that differ: all boxes are as good as others otherwise
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.01)
    detector = _Timed(net, len(CLASSES) + 1, 1, config)
    with tempfile.TemporaryDirectory() as folder:
        run = TestRun(database(Path(folder), max(2, rounds)), detector, config)
        detect_all(run)
        detector.seconds, start = 0.0, time.perf_counter()
        partial = PartialResults(Path(folder) / "detections.part", {}, len(CLASSES))
        apply_nms(detect_all(run, partial), config.test.nms)
        seconds = time.perf_counter() - start
    count = len(run.imdb.records)
    times = seconds / count, detector.seconds / count, seconds / detector.seconds
    yield f"Fast R-CNN test, {HEIGHT} x {WIDTH}, {PROPOSALS} proposals, by its net", *times, "<= 1.10"
