"""Looking at a net with HDF5Output writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_compat import load_net
from caffe_compat.commands import main_of

NET = """
layer { name: "d" type: "DummyData" top: "d" top: "l"
  dummy_data_param { shape { dim: 1 dim: 1 } shape { dim: 1 } } }
layer { name: "p" type: "Power" bottom: "d" top: "p" }
layer { name: "o" type: "HDF5Output" bottom: "d" bottom: "l" hdf5_output_param { file_name: "%s" } }
"""


@pytest.mark.parametrize("file", ["victim.txt", "new/deep/er/x.h5"])
@pytest.mark.parametrize(
    "line",
    [
        "describe n.prototxt",
        "verify --model n.prototxt --onnx",
        "verify --model n.prototxt --npz ../r.npz",
        "export_onnx --model n.prototxt --output ../o.onnx",
    ],
)
def test_tools_that_look_touch_nothing(file: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("n.prototxt").write_text(NET % file)
    Path("victim.txt").write_text("precious")
    np.savez("../r.npz", d=np.zeros((1, 1), np.float32))
    name, *arguments = line.split()
    main_of(name)(arguments)
    load_net("n.prototxt")
    assert Path("victim.txt").read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == ["n.prototxt", "victim.txt"]
