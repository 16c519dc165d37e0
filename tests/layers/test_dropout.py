"""Dropout, also in TEST, and ENet's dropout of whole channels."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import torch
from cases_dropout import SPATIAL
from cases_rpn import named
from one_layer import one_layer, one_net

from caffe_compat.errors import ExportError, LayerError, PrototxtError, ShapeError
from caffe_compat.onnx import export_onnx


def test_dropout() -> None:
    ones = torch.ones(100, 100)
    kept = one_layer("Dropout", "dropout_param { dropout_ratio: 0.2 }", (100, 100), phase="TRAIN")(ones)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert abs(float((kept > 0).float().mean()) - 0.8) < 0.03
    assert one_layer("Dropout", "", (100, 100))(ones) is ones
    fork = "dropout_param { dropout_ratio: 0.25 scale_train: false }"
    assert set(one_layer("Dropout", fork, (100, 100), phase="TRAIN")(ones).unique().tolist()) == {0.0, 1.0}
    assert set(one_layer("Dropout", fork, (100, 100))(ones).unique().tolist()) == {0.75}


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_sampled_weights_are_dropped_in_both_phases(phase: str) -> None:
    layer = one_layer(
        "Dropout", "dropout_param { dropout_ratio: 0.2 sample_weights_test: true }", (90, 90), phase=phase
    )
    bottom = torch.ones(90, 90, requires_grad=True)
    top = layer(bottom)
    top.backward(torch.full((90, 90), 2.0))
    assert set(top.unique().tolist()) == {0.0, 1.25} and abs(float((top > 0).float().mean()) - 0.8) < 0.03
    torch.testing.assert_close(bottom.grad, 2 * top.detach())
    assert not layer(bottom).equal(top)


def test_sampled_weights_are_dropped_by_onnx_runtime() -> None:
    net = one_net("Dropout", "dropout_param { dropout_ratio: 0.25 sample_weights_test: true }", [(60, 60)])
    buffer = io.BytesIO(export_onnx(net, dynamic=()).SerializeToString())
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    first, second = (session.run(None, {"x0": np.ones((60, 60), np.float32)})[0] for _ in range(2))
    for top in (first, second):
        assert set(np.unique(top).round(5)) == {0.0, np.float32(1.33333)} and abs((top > 0).mean() - 0.75) < 0.05
    assert (first != second).any()


def test_a_compiled_dropout_is_one_graph() -> None:
    layer = one_layer("Dropout", "", (2000,), phase="TRAIN")
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    values = compiled(torch.ones(2000))
    assert set(values.unique().tolist()) == {0.0, 2.0} and 800 < int((values == 0).sum()) < 1200
    assert not compiled(torch.ones(2000)).equal(values)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("dropout_ratio: 1.5", "dropout_ratio is 1.5, expected 0 to 1"),
        ("sample_weights_test: true scale_train: false", "sample_weights_test and scale_train: false"),
    ],
)
def test_dropout_refusals(body: str, message: str) -> None:
    with pytest.raises(LayerError, match=f"under_test.*{message}"):
        one_layer("Dropout", f"dropout_param {{ {body} }}", (3,))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_channels_in_test_are_scaled_too(phase: str) -> None:
    layer = one_layer(
        "Python", named(*SPATIAL, "{\\'phase\\': \\'TEST\\', \\'p\\': \\'0.2\\'}"), (2, 3, 4, 5), phase=phase
    )
    bottom = torch.randn(2, 3, 4, 5, requires_grad=True)
    top = layer(bottom)
    top.backward(torch.ones_like(top))
    torch.testing.assert_close(top, bottom * 1.25)
    torch.testing.assert_close(bottom.grad, torch.full((2, 3, 4, 5), 1.25))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_channels_in_train_number_by_number(phase: str) -> None:
    random, shape = np.random.default_rng(0), (4, 50, 2, 3)
    x, seed = random.normal(size=shape), random.normal(size=shape)
    layer = one_layer("Python", named(*SPATIAL, "{'phase': 'TRAIN', 'p': 0.3}"), shape, phase=phase)
    bottom = torch.from_numpy(x).requires_grad_()
    top = layer(bottom)
    top.backward(torch.from_numpy(seed))
    found, masks = top.detach().numpy(), np.zeros(shape[:2])
    for i, j in np.ndindex(*shape[:2]):
        masks[i, j] = float(found[i, j].any())
        np.testing.assert_allclose(found[i, j], x[i, j] * masks[i, j] / 0.7, rtol=1e-12)
    assert abs(masks.mean() - 0.7) < 0.12 and len({row.tobytes() for row in masks}) == 4
    for i, j in np.ndindex(*shape[:2]):  # vec_w is that of the last image by then
        np.testing.assert_allclose(bottom.grad[i, j].numpy(), seed[i, j] * masks[-1, j] / 0.7, rtol=1e-12)
    assert not layer(bottom).equal(top)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{'phase': 'TEST'}", LayerError, "expected phase and p"),
        ("{'phase': 'TEST', 'p': 0.1, 'q': 1}", LayerError, "expected phase and p"),
        ("{'phase': 'test', 'p': 0.1}", LayerError, "phase is 'test'"),
        ("{'phase': 'TEST', 'p': '1'}", LayerError, "p is 1, expected a number between 0 and 1"),
        ("{'phase': 'TEST', 'p': nan}", LayerError, "p is nan, expected a number between 0 and 1"),
        ("{'phase': 'TEST', 'p': [1]}", LayerError, "expected a number between 0 and 1"),
        ("{'phase': 'TEST", PrototxtError, "param_str"),
    ],
)
def test_spatial_refusals(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{message}"):
        one_layer("Python", named(*SPATIAL, text), (1, 2, 3, 4))


def test_spatial_dropout_is_of_pictures() -> None:
    with pytest.raises(ShapeError, match="expected 4 axes"):
        one_layer("Python", named(*SPATIAL, "{'phase': 'TEST', 'p': 0.1}"), (2, 3))


def test_what_drops_channels_is_not_exported() -> None:
    net = one_net("Python", named(*SPATIAL, "{'phase': 'TRAIN', 'p': 0.1}"), [(1, 2, 3, 4)])
    with pytest.raises(ExportError, match="under_test.*phase TRAIN"):
        export_onnx(net, dynamic=())
