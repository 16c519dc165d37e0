"""``print(net)``."""

from __future__ import annotations

from pathlib import Path

from caffe_compat.net import load_net

NET = """
name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "again" type: "Convolution" bottom: "data" top: "again" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "again" top: "sum" }
layer { name: "norm" type: "Reduction" bottom: "sum" top: "norm" }
"""
SHOWN = """\
net 'n' (TEST, {path}): 5 layers, 112 parameters
layer  type         bottoms      tops   top shape  weights     parameters
-----  -----------  -----------  -----  ---------  ----------  ----------
data   Input                     data   2x3x8x9
conv   Convolution  data         conv   2x4x8x9    4x3x3x3, 4         112
again  Convolution  data         again  2x4x8x9    4x3x3x3, 4
sum    Eltwise      conv, again  sum    2x4x8x9
norm   Reduction    sum          norm   scalar"""


def test_a_net_shows_its_layers_with_sizes(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    net = load_net(path)
    assert str(net) == repr(net) == SHOWN.format(path=path)
