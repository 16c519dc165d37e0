"""What all tools share."""

from __future__ import annotations

import sys

import pytest

from caffe_compat import cli
from caffe_compat.errors import CaffeCompatError
from caffe_compat.memory import limits_apply
from caffe_compat.python_policy import allow_python_layers

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "user" type: "Python" bottom: "x" top: "y" python_param { module: "user_layers" layer: "Square"
  param_str: "1" } }
"""


def test_no_python_layers(tmp_path, monkeypatch, capsys):
    path = tmp_path / "user.prototxt"
    path.write_text(NET)

    def main(argv):
        from caffe_compat import load_net

        assert sys.argv[1:] == ["rest"]
        load_net(path)

    monkeypatch.setattr(sys, "argv", ["tool", "--no-python-layers", "rest"])
    try:
        assert cli.run(main) == 2
    finally:
        allow_python_layers(True)
    assert "not allowed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["tool", "rest"])
    assert cli.run(main) == 0


@pytest.mark.parametrize(("error", "status"), [(CaffeCompatError("a\nb"), 2), (KeyboardInterrupt(), 130)])
def test_exit_status(error, status, capfd):
    def main(argv):
        raise error

    assert cli.run(main) == status
    if status == 2:
        assert capfd.readouterr().err == "error: a b\n"


def test_no_limits(monkeypatch):
    monkeypatch.setenv("CAFFE_COMPAT_NO_LIMITS", "")
    seen = []

    def main(argv):
        seen.append((limits_apply(), sys.argv[1:]))

    monkeypatch.setattr(sys, "argv", ["tool", "rest"])
    cli.run(main)
    monkeypatch.setattr(sys, "argv", ["tool", "--no-limits", "rest"])
    cli.run(main)
    assert seen == [(True, ["rest"]), (False, ["rest"])]
