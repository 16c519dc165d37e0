"""How much memory an export takes beside the net: told by the system, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_nets import ip, source
from program import ROOT
from waiting import LIMIT

pytestmark = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system tells no peaks")

NET = source("data", 1, 4000) + ip("a", "data", "a", 2500) + ip("b", "a", "b", 1500) + ip("c", "b", "c", 1500)
LIMITS = {
    "save_onnx(export_parts(net), 'n.onnx')": 0.2,  # the weights are written from where they are
    "save_onnx(export_parts(net), 'n.onnx', external=True)": 0.2,
    "export_verified(net, 'n.onnx', tolerance=None)": 0.2,
    "export_onnx(net, 'n.onnx')": 1.5,  # once in the model, and the largest (0.6 of all) a while as bytes too
    "export_verified(net, 'n.onnx')": 2.6,  # ONNX Runtime reads the file and rearranges the weights
}
"""Bytes by which the process grows, as a multiple of the weights' (they were 2 and 4 where weights were copied)."""
MEASURE = """
import json
from pathlib import Path
from caffe_compat.net import load_net
from caffe_compat.onnx import export_onnx, export_verified
from caffe_compat.onnx.export import export_parts
from caffe_compat.onnx.save import save_onnx

def resident(field):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) << 10

net = load_net("big.prototxt")
weights = sum(4 * parameter.numel() for parameter in net.parameters())
export_verified(load_net("small.prototxt"), "small.onnx")  # what is loaded once
found = {}
for action, run in {ACTIONS}.items():
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmHWM")
    run()
    found[action] = (resident("VmHWM") - before) / weights
print(json.dumps(found))
"""


def test_peaks(tmp_path: Path) -> None:
    (tmp_path / "big.prototxt").write_text(NET)
    (tmp_path / "small.prototxt").write_text(source("data", 1, 3) + ip("a", "data", "a", 2))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE.replace("ACTIONS", ", ".join(f"{action!r}: lambda: {action}" for action in LIMITS)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {action: growth for action, growth in found.items() if growth > LIMITS[action]} == {}, found
