"""What train_net.py and ``caffe train`` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_compat.commands.training import TrainOptions, train
from caffe_compat.errors import CaffeCompatError, LayerError, MissingFileError, SolverError
from caffe_compat.solver.lock import hold

LAYERS = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: %s } }
"""


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ('lr_policy: "sudden"', SolverError, "s.prototxt: unknown lr_policy 'sudden'"),
        ('lr_policy: "fixed" net: "none.prototxt"', MissingFileError, "s.prototxt: Could not open file none.prototxt"),
        ('lr_policy: "fixed" net: "bad.prototxt"', LayerError, "s.prototxt: bad.prototxt: layer 'ip' (InnerProduct)"),
        (
            'lr_policy: "fixed" net: "good.prototxt" snapshot_prefix: "good.prototxt/x"',
            SolverError,
            "s.prototxt: snapshot_prefix is 'good.prototxt/x', cannot make its folder",
        ),
    ],
)
def test_an_error_keeps_its_type_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[CaffeCompatError], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)  # it would stay on for other tests
    Path("s.prototxt").write_text(f"base_lr: 0.1 {text}")
    Path("good.prototxt").write_text(LAYERS % 4)
    Path("bad.prototxt").write_text(LAYERS % 0)
    with pytest.raises(kind) as caught:
        train(TrainOptions(solver="s.prototxt"))
    assert type(caught.value) in (kind, *kind.__subclasses__()) and str(caught.value).startswith(message)


def test_a_second_run_with_the_same_prefix_names_its_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    Path("good.prototxt").write_text(LAYERS % 4)
    Path("s.prototxt").write_text('net: "good.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1')
    with hold("s"), pytest.raises(SolverError, match=r"^s\.prototxt: process \d+ is training .* prefix 's'"):
        train(TrainOptions(solver="s.prototxt"))
    assert train(TrainOptions(solver="s.prototxt")) == 0
