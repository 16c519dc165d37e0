"""Average precision of DetectionEvaluate's rows against a loop of weiliu89/caffe's ComputeAP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import SGDSolver
from caffe_compat.solver.detection_scores import VERSIONS, average_precision, class_precisions, mean_precision
from caffe_compat.solver.scores import precision_asked


def _slow(scores: np.ndarray, true: np.ndarray, positives: int, version: str) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    precision, recall, hits = [], [], 0
    for number, i in enumerate(order):
        hits += int(true[i])
        precision.append(np.float32(hits / (number + 1)))
        recall.append(np.float32(hits / positives))
    ap, last = 0.0, len(order) - 1
    if version == "11point":
        best, start = [0.0] * 11, last
        for j in range(10, -1, -1):
            for i in range(start, -1, -1):
                if float(recall[i]) < j / 10.0:
                    start = i
                    if j > 0:
                        best[j - 1] = best[j]
                    break
                best[j] = max(best[j], precision[i])
        return float(sum(best) / 11)
    if version == "MaxIntegral":
        current, top = recall[-1], precision[-1]
        for i in range(last - 1, -1, -1):
            top = max(precision[i], top)
            if abs(current - recall[i]) > 1e-6:
                ap += top * abs(current - recall[i])
            current = recall[i]
        return float(ap + current * top)
    before = np.float32(0)
    for p, r in zip(precision, recall, strict=True):
        if abs(r - before) > 1e-6:
            ap += p * abs(r - before)
        before = r
    return float(ap)


@pytest.mark.parametrize("version", VERSIONS)
def test_against_the_loop(version: str) -> None:
    random = np.random.default_rng(0)
    for positives in (1, 3, 10, 30):
        for _ in range(10):
            scores = np.round(random.random(25), 1)
            true = np.zeros(25)
            true[random.permutation(25)[: min(positives, int(random.integers(1, 20)))]] = 1
            got = average_precision(scores, true, positives, version)
            assert got == pytest.approx(_slow(scores, true, positives, version), rel=1e-5)


def test_mean_over_classes() -> None:
    rows = np.array(
        [[-1, 1, 2, -1, -1], [-1, 2, 0, -1, -1], [0, 1, 0.9, 1, 0], [0, 1, 0.8, 0, 0],
         [-1, 1, 2, -1, -1], [1, 1, 0.7, 1, 0]],
        np.float32,
    )  # fmt: skip
    assert class_precisions(rows, "Integral") == {1: pytest.approx(0.5), 2: None}
    assert mean_precision(rows, "Integral") == pytest.approx(0.25)  # class 1: two of four; class 2: none
    with pytest.raises(SolverError, match="expected 5 numbers"):
        mean_precision(rows[:, :4], "Integral")


def test_what_is_asked() -> None:
    detection = 'eval_type: "detection"'
    for text, want in (("", ""), (detection, "Integral"), (f'{detection} ap_version: "11point"', "11point")):
        assert precision_asked(parse_text(text, caffe_pb2.SolverParameter)) == want
    for text in ('eval_type: "detections"', 'eval_type: "detection" ap_version: "12point"'):
        with pytest.raises(SolverError, match="expected"):
            precision_asked(parse_text(text, caffe_pb2.SolverParameter))


def _rows(name: str, values: list[list[float]]) -> str:
    data = " ".join(f"data: {value}" for row in values for value in row)
    shape = f"shape {{ dim: 1 dim: 1 dim: {len(values)} dim: {len(values[0])} }}"
    return (
        f'layer {{ name: "{name}" type: "Parameter" top: "{name}" param {{ lr_mult: 0 }} '
        f"parameter_param {{ {shape} }} blobs {{ {shape} {data} }} include {{ phase: TEST }} }}\n"
    )


def _constants(
    tmp_path: Path, found: list[list[float]], truth: list[list[float]], classes: int = 2, more: str = ""
) -> SGDSolver:
    net = tmp_path / "net.prototxt"
    net.write_text(
        _rows("found", found)
        + _rows("truth", truth)
        + 'layer { name: "ap" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "ap" '
        f"include {{ phase: TEST }} detection_evaluate_param {{ num_classes: {classes} }} }}\n"
        'layer { name: "d" type: "DummyData" top: "d" include { phase: TRAIN } '
        "dummy_data_param { shape { dim: 1 dim: 1 } } }"
        'layer { name: "e" type: "EuclideanLoss" bottom: "d" bottom: "d" top: "e" include { phase: TRAIN } }'
    )
    text = f'net: "{net}" base_lr: 0.1 lr_policy: "fixed" test_iter: 3 test_interval: 1 max_iter: 1 solver_mode: CPU '
    text += f'snapshot_after_train: false eval_type: "detection" {more}'
    return SGDSolver(parse_text(text, caffe_pb2.SolverParameter))


def test_a_solver_tells_it(tmp_path: Path) -> None:
    """A net of constants: one detection on its ground truth, one beside it."""
    found = [[0, 1, 0.9, 0, 0, 0.5, 0.5], [0, 1, 0.8, 0.6, 0.6, 1, 1]]
    solver = _constants(tmp_path, found, [[0, 1, 0, 0, 0, 0.5, 0.5, 0]])
    assert float(solver.test_all()[0]["ap"]) == pytest.approx(1.0)


def test_classes_are_told_where_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``show_per_class_result``: class 1 found once of three boxes, class 2 never."""
    caplog.set_level("INFO")
    truth = [[0, 1, 0, 0, 0, 0.5, 0.5, 0], [0, 1, 0, 0.6, 0.6, 0.9, 0.9, 0], [0, 2, 0, 0.1, 0.1, 0.3, 0.3, 0]]
    solver = _constants(tmp_path, [[0, 1, 0.9, 0, 0, 0.5, 0.5]], truth, 3, "show_per_class_result: true")
    assert float(solver.test_all()[0]["ap"]) == pytest.approx(0.25)
    told = [line for line in caplog.messages if "class1" in line or "true_pos" in line or "output #0" in line]
    assert [line.split("] ")[-1].strip() for line in told] == [
        "class1: 0.5",
        "Missing true_pos for label: 2",
        "Test net output #0: ap = 0.25",
    ]
