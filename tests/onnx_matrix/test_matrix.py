"""The matrix's own parts, with the ONNX Runtime that is installed here; the whole of it is ``make onnx-matrix``."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_matrix.cases import SMALL, Subject, subjects, write
from onnx_matrix.environments import ENVIRONMENTS
from onnx_matrix.run import features, kind, not_for, row
from onnx_matrix.runner import BACKENDS, check, difference

from caffe_compat.net import load_net

INF, NAN, HUGE = np.inf, np.nan, float(np.finfo(np.float32).max)


def array(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("got", "wanted", "nan", "finding"),
    [
        (array(1, 2), array(1, 2.00001), False, ""),
        (array(1, 2), array(1, 2.001), False, "1 of 2 values differ, first at [1]: 2, expected 2.001"),
        (array(1, 2), array(1), False, "shape [2], expected [1]"),
        (array(1, NAN), array(1, 2), False, "1 of 2 values are NaN, in PyTorch 0"),
        (array(1, NAN), array(1, NAN), False, "1 of 2 values are NaN, in PyTorch 1"),
        (array(1, NAN), array(1, NAN), True, ""),
        (array(NAN, 1), array(1, NAN), True, "1 of 2 values are NaN, in PyTorch 1"),
        (array(INF), array(INF), False, ""),
        (array(INF), array(1), False, "1 of 1 values differ, first at [0]: inf, expected 1"),
        (array(-HUGE, 1), array(-HUGE, 1), False, ""),
        (array(-HUGE, 1.1), array(-HUGE, 1), False, "1 of 2 values differ, first at [1]: 1.1, expected 1"),
        (array(0, 1), array(-HUGE, 1), False, "1 of 2 values differ, first at [0]: 0, expected -3.402823e+38"),
        (np.float32(3), np.float32(3), False, ""),
        (np.zeros((0, 2)), np.zeros((0, 2)), False, ""),
    ],
)
def test_difference(got, wanted, nan, finding):
    assert difference(got, wanted, nan) == finding


def subject(name: str) -> Subject:
    return Subject(name, load_net(SMALL / f"{name}.prototxt"))


def test_models_are_checked_at_their_sizes_and_open_ones_at_others(tmp_path):
    names, reason = write(subject("poolings"), tmp_path)
    assert not reason and [name.partition("/")[2] for name in names] == [
        f"{variant}-{opset}.onnx" for opset in (17, 21) for variant in ("static", "dynamic")
    ]
    with np.load(tmp_path / "poolings" / "data.npz") as stored:
        assert {stored[f"{run}/in/0"].shape for run in range(3)} == {(2, 2, 7, 8), (3, 2, 10, 16), (1, 2, 8, 7)}
    for name in names:
        assert check(BACKENDS["onnxruntime"], tmp_path / name) == ""


def test_wrong_numbers_are_found(tmp_path):
    write(subject("ave55"), tmp_path)
    path = tmp_path / "ave55" / "static-17.onnx"
    model = onnx.load(path)
    (factors,) = (one for one in model.graph.initializer if numpy_helper.to_array(one).ndim > 1)
    factors.CopyFrom(numpy_helper.from_array(np.ones((3, 3), np.float32), factors.name))  # partial windows over zeros
    onnx.save(model, path)
    found = check(BACKENDS["onnxruntime"], path)
    assert kind(found) == "wrong" and "5 of 9 values differ" in found
    assert not check(BACKENDS["onnxruntime"], path.with_name("dynamic-17.onnx"))


def test_what_is_not_for_a_runtime_has_a_reason(tmp_path):
    write(subject("boxes"), tmp_path)
    found = features(tmp_path / "boxes" / "static-21.onnx")
    assert {"MaxRoiPool", "MaxRoiPool of opset 21", "Gemm"} <= found and "MaxRoiPool with groups" not in found
    away = not_for("onnx.reference", {"boxes/static-21.onnx": found, "ave/static-21.onnx": {"AveragePool"}})
    assert away == {"boxes/static-21.onnx": "MaxRoiPool: it has none"}
    results = {"boxes/static-21.onnx": "error", "ave/static-21.onnx": "wrong: x", "maxpad/static-21.onnx": ""}
    assert row("this", ["static-21"], results, away) == "| this | 1, 1 wrong, 1 not applicable |"
    (reason,) = ENVIRONMENTS["openvino"].cannot.values()
    away = not_for("openvino", {"argmax_ties_topk/dynamic-17.onnx": set(), "argmax_topk/dynamic-17.onnx": set()})
    assert away == {"argmax_ties_topk/dynamic-17.onnx": f"argmax_ties_topk/dynamic: {reason}"}


def test_every_golden_layer_is_among_the_subjects():
    names = [one.name for one in subjects()]
    assert len(names) == len(set(names)) > 700
    assert {"pooling_ave_k3s2p1", "quirk_pooling_ave_beyond", "Pooling-0", "ave55", "maxpad", "poolings"} <= set(names)
