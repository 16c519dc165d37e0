"""What a backward pass does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import numpy as np
import caffe_compat.pycaffe as caffe
layers = 'name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } }', \\
    'name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 2 }', \\
    'name: "s" type: "Sigmoid" bottom: "a" top: "a"', \\
    'name: "p" type: "Power" bottom: "a" top: "a" power_param { scale: 3 }', \\
    'name: "l" type: "Reduction" bottom: "a" top: "l" loss_weight: 1'
with open("n.prototxt", "w") as file:
    file.write("".join("layer { " + layer + " }\\n" for layer in layers))
net = caffe.Net("n.prototxt", caffe.TRAIN)
net.blobs["x"].data[...] = 1
net.forward()
net.backward()
assert np.abs(net.params["a"][1].diff).sum() > 0
print("sympy" in sys.modules)
"""


def test_the_first_backward_does_not_import_sympy(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
