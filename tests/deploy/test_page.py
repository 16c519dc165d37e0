"""What docs/deployment.md shows runs: its Python on a net of that size, where there is no GPU on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import conv, ip, layer, make_net, source
from program import call

from caffe_compat.commands.export_onnx import make_parser
from caffe_compat.media import Preparation, Preprocessing
from caffe_compat.onnx import export_onnx

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NET = (
    source("data", 1, 3, 227, 227)
    + conv("c", "data", "c", 4, "kernel_size: 11 stride: 8")
    + layer("Pooling", "p", "c", "p", "pooling_param { pool: AVE global_pooling: true }")
    + ip("f", "p", "f", 6)
    + layer("Softmax", "prob", "f", "prob")
)
WANTED = Preprocessing(resize=(256, 256), crop=(227, 227), scale=0.01, classes=tuple("abcdef"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    export_onnx(make_net(NET), tmp_path / "net.onnx", metadata={"preprocessing": Preparation({"data": WANTED}).text()})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def here(block: str) -> str:
    """A block as it can run on this machine."""
    return block if torch.cuda.is_available() else block.replace('"cuda"', '"cpu"').replace("8000", "0")


def test_the_service_answers(folder: Path) -> None:
    names: dict = {}
    exec(here(BLOCKS[0]), names)  # noqa: S102 - our own page
    server = names["server"]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    picture = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    try:
        with urllib.request.urlopen(address, cv2.imencode(".png", picture)[1].tobytes()) as answer:
            found = json.load(answer)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address, b"no picture")
        assert caught.value.code == 400 and "is no image" in json.load(caught.value)["error"]
    finally:
        server.shutdown()
        server.server_close()
    with torch.no_grad():
        scores = make_net(NET)(data=torch.from_numpy(WANTED.blob(picture))[None])["prob"][0].numpy()
    assert list(found) == ["abcdef"[k] for k in np.argsort(-scores)[:5]]
    np.testing.assert_allclose(list(found.values()), np.sort(scores)[:0:-1], rtol=1e-3)


def test_the_service_needs_no_torch(folder: Path) -> None:
    """Nor any other package than those that the page has one install, and what these bring."""
    told = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", here(BLOCKS[0]) + told]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    named = {"onnxruntime", "cv2", "PIL", "google", "yaml", "skimage", "tqdm", "caffe_compat"}
    brought = {"numpy", "scipy", "lazy_loader", "__main__", "cython_runtime"}
    loaded = {name for name in done.stdout.split() if not name.startswith("_")}
    assert loaded <= named | brought, loaded


def test_the_session_of_the_page(folder: Path, capsys) -> None:
    block = here(BLOCKS[1])
    if not torch.cuda.is_available():
        block = re.sub(r", provider_options=\{.*?\}", "", block)
    names: dict = {}
    exec(block, names)  # noqa: S102 - our own page
    assert names["prob"].shape == (4, 6)
    assert "data (batch x 3 x 227 x 227, float32)" in capsys.readouterr().out


def test_there_is_nothing_else_to_run() -> None:
    assert len(BLOCKS) == 2


def test_options_of_the_page_exist(folder: Path) -> None:
    said = make_parser().format_help()
    table = PAGE.partition("## What to export")[2].partition("##")[0]
    for option in re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE):
        assert option in said, option
    cv2.imwrite("a.png", np.zeros((40, 50, 3), np.uint8))
    line = re.search(r"^tools/infer_onnx\.py net\.onnx (.*)$", PAGE, re.MULTILINE)
    assert line is not None
    words = line[1].replace("pictures/", "a.png").replace("--gpu 0", "").split()
    done = call("infer_onnx", "net.onnx", *words, folder=folder)
    assert done.status == 0 and "wrote labels.json" in done.stdout, done
