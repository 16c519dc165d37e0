"""upgrade_*, draw_net, describe."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import ROOT, call

from caffe_compat.commands.net_table import describe
from caffe_compat.errors import UsageError
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2, parse_text

V1 = """
name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 9
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 group: 1 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "a" type: INNER_PRODUCT bottom: "conv" top: "a" param: "w" param: "b"
  inner_product_param { num_output: 5 } }
layers { name: "c" type: INNER_PRODUCT bottom: "conv" top: "c" param: "w" param: "b"
  inner_product_param { num_output: 5 } }
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old.prototxt").write_text(V1)
    return tmp_path


def test_upgrade_net_text(old: Path) -> None:
    done = call("upgrade_net_proto_text", "old.prototxt", "new.prototxt", folder=old)
    assert done.status == 0 and "Wrote upgraded NetParameter text proto to new.prototxt" in done.stderr
    net = parse_text((old / "new.prototxt").read_text(), caffe_pb2.NetParameter)
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("input", "Input"),
        ("conv", "Convolution"),
        ("relu", "ReLU"),
        ("a", "InnerProduct"),
        ("c", "InnerProduct"),
    ]
    assert [spec.lr_mult for spec in net.layer[1].param] == [1, 2] and not net.layers and not net.input
    again = call("upgrade_net_proto_text", "new.prototxt", "newer.prototxt", folder=old)
    assert again.status == 0 and "already in latest proto format" in again.stderr
    assert (old / "newer.prototxt").read_text() == (old / "new.prototxt").read_text()


def test_upgrade_status(old: Path) -> None:
    (old / "bad.prototxt").write_text("layer { nam: 1 }")
    (old / "v0.prototxt").write_text(
        'input: "x" input_dim: 1 input_dim: 1 input_dim: 5 input_dim: 5 '
        'layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 } bottom: "x" top: "c" }'
        'layers { layer { name: "r" type: "relu" num_output: 2 } bottom: "c" top: "r" }'
    )
    assert call("upgrade_net_proto_text", "old.prototxt", folder=old).status == 1
    assert call("upgrade_net_proto_text", "bad.prototxt", "x", folder=old).status == 2
    assert call("upgrade_net_proto_text", "absent", "x", folder=old).status == 2
    assert not (old / "x").exists()
    done = call("upgrade_net_proto_text", "v0.prototxt", "x", folder=old)
    assert done.status == 1 and "Encountered error(s)" in done.stderr
    assert [layer.type for layer in parse_text((old / "x").read_text(), caffe_pb2.NetParameter).layer] == [
        "Input",
        "Convolution",
        "ReLU",
    ]


def test_upgrade_net_binary(old: Path) -> None:
    net = parse_text(V1, caffe_pb2.NetParameter)
    blob = net.layers[0].blobs.add(num=4, channels=3, height=3, width=3, data=[0.5] * 108)
    (old / "old.caffemodel").write_bytes(net.SerializeToString())
    assert call("upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel", folder=old).status == 0
    new = caffe_pb2.NetParameter.FromString((old / "new.caffemodel").read_bytes())
    assert new.layer[1].blobs[0] == blob and not new.layers


def test_upgrade_solver(old: Path) -> None:
    (old / "s.prototxt").write_text('net: "n" solver_type: ADAGRAD base_lr: 0.1 lr_policy: "fixed"')
    assert call("upgrade_solver_proto_text", "s.prototxt", "t.prototxt", folder=old).status == 0
    solver = parse_text((old / "t.prototxt").read_text(), caffe_pb2.SolverParameter)
    assert solver.type == "AdaGrad" and not solver.HasField("solver_type") and not solver.HasField("snapshot_prefix")
    (old / "s.prototxt").write_text('solver_type: ADAGRAD type: "SGD"')
    assert call("upgrade_solver_proto_text", "s.prototxt", "u.prototxt", folder=old).status == 2


def test_draw(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("draw_net", "old.prototxt", "net.dot", "--rankdir", "TB", folder=old).status == 0
    text = (old / "net.dot").read_text()
    assert text.startswith('digraph "old" {') and '"data_blob" -> "conv_Convolution"' in text and "rankdir=TB" in text
    if shutil.which("dot"):
        assert call("draw_net", "old.prototxt", "net.png", folder=old).status == 0
        assert (old / "net.png").read_bytes()[:4] == b"\x89PNG"
        done = call("draw_net", "old.prototxt", "net.xyz", folder=old)
        assert done.status == 2 and "cannot draw the net as 'xyz'" in done.stderr and not (old / "net.xyz").exists()
    monkeypatch.setenv("PATH", str(old))
    for name, start in (("other.png", b"\x89PNG"), ("other.svg", b"<svg"), ("other.pdf", b"%PDF")):
        assert call("draw_net", "old.prototxt", name, folder=old).status == 0
        assert (old / name).read_bytes().startswith(start)
    done = call("draw_net", "old.prototxt", "other.bmp", folder=old)
    assert done.status == 2 and "needs Graphviz" in done.stderr and not (old / "other.bmp").exists()


def test_describe_counts(old: Path) -> None:
    table = describe(str(old / "old.prototxt"))
    rows = {row.name: row for row in table.layers}
    assert list(rows) == ["input", "conv", "relu", "a", "c"]  # no splits
    assert rows["conv"].top_shapes == ((2, 4, 6, 7),) and rows["conv"].parameters == 4 * 3 * 9 + 4
    assert rows["conv"].multiply_adds == 2 * 4 * 6 * 7 * 27 and rows["conv"].memory == 4 * 2 * 4 * 6 * 7
    assert rows["relu"].memory == 0 and rows["relu"].bottoms == ("conv",)
    assert rows["a"].parameters == 168 * 5 + 5 and rows["c"].parameters == 0  # shared
    assert rows["a"].multiply_adds == rows["c"].multiply_adds == 2 * 5 * 168
    net = load_net(old / "old.prototxt")
    assert table.total("parameters") == sum(p.numel() for p in {id(p): p for p in net.parameters()}.values())
    every_top = sum(math.prod(net.plan.shapes[blob]) for node in net.nodes for blob in node.top_ids)
    assert table.caffe_memory == 4 * every_top


MORE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 dim: 5 dim: 5 } } }
layer { name: "up" type: "Deconvolution" bottom: "x" top: "up"
  convolution_param { num_output: 4 group: 2 kernel_size: 2 stride: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "up" top: "bn" }
layer { name: "flat" type: "Flatten" bottom: "bn" top: "flat" }
layer { name: "seq" type: "Reshape" bottom: "flat" top: "seq" reshape_param { shape { dim: 1 dim: 2 dim: -1 } } }
layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 1 dim: 2 } } }
layer { name: "rnn" type: "LSTM" bottom: "seq" bottom: "cont" top: "rnn" recurrent_param { num_output: 3 } }
"""


def test_describe_other_layers(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(MORE)
    rows = {row.name: row for row in describe(str(tmp_path / "net.prototxt")).layers}
    assert rows["up"].top_shapes == ((2, 4, 10, 10),) and rows["up"].multiply_adds == 2 * 6 * 25 * 2 * 4
    assert rows["bn"].multiply_adds == 800 and rows["bn"].parameters == 9
    assert rows["flat"].memory == rows["seq"].memory == 0
    assert rows["rnn"].multiply_adds == 2 * (12 * 400 + 12 * 3)
    assert rows["rnn"].parameters == 12 * 400 + 12 + 12 * 3


DATA = """
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "absent" batch_size: 2 backend: LMDB } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 7 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_describe_without_the_data(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(DATA)
    model = str(tmp_path / "net.prototxt")
    with pytest.raises(UsageError, match="give --shape"):
        describe(model, "TRAIN")
    table = describe(model, "TRAIN", shapes={"data": (3, 11), "label": (3,)})
    assert table.layers[1].top_shapes == ((3, 7),) and table.layers[1].parameters == 84
    with pytest.raises(UsageError, match="give --shape for label too"):
        describe(model, "TRAIN", shapes={"data": (3, 11)})
    with pytest.raises(UsageError, match=r"--shape dat: .*did you mean 'data'"):
        describe(model, "TRAIN", shapes={"dat": (3, 11)})
    assert [row.type for row in describe(model, "TRAIN", plain=True).layers] == [
        "Data",
        "InnerProduct",
        "SoftmaxWithLoss",
    ]


def test_describe_formats(old: Path) -> None:
    text = call("describe", "old.prototxt", folder=old).stdout
    head = "  ".join(text.splitlines()[0].split())
    assert head == "layer  type  bottoms  tops  top  shape  parameters  multiply-adds  memory"
    total = next(line.split() for line in text.splitlines() if line.startswith("total"))
    assert total[:3] == ["total", "957", "12,432"]
    tree = json.loads(call("describe", "old.prototxt", "--format", "json", folder=old).stdout)
    assert tree["totals"]["parameters"] == 957 and tree["layers"][1]["weight_shapes"] == [[4, 3, 3, 3], [4]]
    markdown = call("describe", "old.prototxt", "--format=markdown", "--plain", folder=old).stdout.splitlines()
    assert markdown[0] == "| layer | type | bottoms | tops |" and markdown[3] == "| conv | Convolution | data | conv |"
    assert call("describe", "old.prototxt", "--shape", "data=x", folder=old).status == 2


def test_plain_listing_needs_no_torch(old: Path) -> None:
    code = (
        "import sys; from caffe_compat.commands.net_table import describe; "
        f"describe({str(old / 'old.prototxt')!r}, plain=True); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
