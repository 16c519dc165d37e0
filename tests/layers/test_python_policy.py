"""Refusing Python layers: for the whole process, unless a context allows them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caffe_compat import load_net
from caffe_compat.errors import LayerError
from caffe_compat.python_policy import allow_python_layers, python_layers_allowed


@pytest.fixture(autouse=True)
def permission() -> Iterator[None]:
    yield
    allow_python_layers(True)


def test_a_refusal_holds_in_every_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(python_layers_allowed).result()
        allow_python_layers(False)
        assert not pool.submit(python_layers_allowed).result()  # in a thread that was there before
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(python_layers_allowed).result()
        with allow_python_layers(True):
            assert python_layers_allowed()
            assert not pool.submit(python_layers_allowed).result()
    assert not python_layers_allowed()
    allow_python_layers(True)
    assert python_layers_allowed()


def test_blocks_nest() -> None:
    with allow_python_layers(False):
        with allow_python_layers(False):
            assert not python_layers_allowed()
        assert not python_layers_allowed()
    assert python_layers_allowed()


def test_child_processes_refuse_too() -> None:
    code = "from caffe_compat.python_policy import python_layers_allowed as f; print(f())"
    with allow_python_layers(False):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_a_module_that_exits_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "exiting_module.py").write_text("import sys\nsys.exit(0)\n")
    path = tmp_path / "net.prototxt"
    path.write_text("layer { name: 'p' type: 'Python' top: 'y' python_param { module: 'exiting_module' layer: 'L' } }")
    with pytest.raises(LayerError, match="ended the program"):
        load_net(path)
