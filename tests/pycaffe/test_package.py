"""The package as ``caffe``: names, net_spec, coord_map, draw, install, the runner of scripts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import UsageError
from caffe_compat.pycaffe import coord_map, draw
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P
from caffe_compat.pycaffe.net_spec import param_name_dict

ROOT = Path(__file__).resolve().parents[2]
NAMES = """Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer init_log log
set_mode_cpu set_mode_gpu set_device Layer get_solver layer_type_list set_random_seed solver_count set_solver_count
solver_rank set_solver_rank set_multiprocess has_nccl __version__ TRAIN TEST Classifier Detector io net_spec layers
params NetSpec to_proto proto classifier detector pycaffe"""


def test_names() -> None:
    import caffe_compat.pycaffe.pycaffe  # noqa: F401 - scripts import it themselves

    assert [name for name in NAMES.split() if not hasattr(caffe, name)] == []
    assert (caffe.__version__, caffe.TRAIN, caffe.TEST) == ("1.0.0", 0, 1)
    assert caffe.proto.caffe_pb2.NetParameter is caffe.io.caffe_pb2.NetParameter
    assert caffe.proto.caffe_pb2.TEST == 1 and caffe.proto.caffe_pb2.Phase.Name(0) == "TRAIN"


def test_one_solver_only() -> None:
    assert (caffe.solver_count(), caffe.solver_rank(), caffe.has_nccl()) == (1, 0, False)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(False)
    for call in (lambda: caffe.set_solver_count(2), lambda: caffe.set_multiprocess(True), caffe.NCCL.new_uid):
        with pytest.raises(UsageError, match="one device"):
            call()


def test_timer() -> None:
    timer = caffe.Timer()
    timer.start()
    timer.stop()
    assert 0 <= timer.ms < 1000


def test_net_spec() -> None:
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 3]}, {"dim": [2]}], ntop=2)
    n.ip = L.InnerProduct(n.data, num_output=4, weight_filler={"type": "xavier"}, param=[{"lr_mult": 2}, {}])
    n.relu = L.ReLU(n.ip, in_place=True)
    n["drop"] = L.Dropout(L.TanH(n.relu), dropout_ratio=0.25, include={"phase": caffe.TRAIN})
    n.loss = L.SoftmaxWithLoss(n.drop, n.label, loss_weight=3, loss_param={"ignore_label": 1})
    n.quiet = L.Silence(n.label, ntop=0)
    proto = n.to_proto()
    assert [layer.name for layer in proto.layer] == ["data", "ip", "relu", "TanH1", "drop", "loss", "quiet"]
    ip, relu, drop, loss = (proto.layer[index] for index in (1, 2, 4, 5))
    assert (ip.inner_product_param.num_output, ip.param[0].lr_mult, len(ip.param)) == (4, 2, 2)
    assert list(relu.top) == list(relu.bottom) == ["ip"]
    assert drop.include[0].phase == 0 and drop.dropout_param.dropout_ratio == 0.25 and drop.bottom[0] == "TanH1"
    assert list(loss.loss_weight) == [3] and loss.loss_param.ignore_label == 1
    assert P.Pooling.AVE == 1 and param_name_dict()["InnerProduct"] == "inner_product"
    anonymous = caffe.to_proto(L.Pooling(L.Input(shape={"dim": [1, 1, 4, 4]}), pool=P.Pooling.MAX, kernel_size=2))
    assert [layer.name for layer in anonymous.layer] == ["Input1", "Pooling1"]


def test_net_spec_refusals() -> None:
    data = L.Input(shape={"dim": [1]})
    with pytest.raises(UsageError, match=r"layer 'ReLU1' \(ReLU\): LayerParameter has no field 'negativ'"):
        caffe.to_proto(L.ReLU(data, negativ=1))
    with pytest.raises(UsageError, match="num_output cannot be 'x'"):
        caffe.to_proto(L.InnerProduct(data, num_output="x"))
    with pytest.raises(TypeError, match="ReLU input 0 is not a Top"):
        L.ReLU("data")
    with pytest.raises(AttributeError, match="no top 'x'"):
        _ = caffe.NetSpec().x
    with pytest.raises(AttributeError):
        _ = P.Nothing


def test_coord_map() -> None:
    data = L.Input(shape={"dim": [1, 3, 64, 64]})
    conv = L.Convolution(data, kernel_size=3, pad=1, stride=2, num_output=1)
    up = L.Deconvolution(L.ReLU(conv), convolution_param={"kernel_size": 4, "stride": 2, "num_output": 1})
    assert coord_map.coord_map_from_to(up, data) == (1, 1, -1.5)
    wide = L.Deconvolution(conv, convolution_param={"kernel_size": 3, "stride": 2, "num_output": 1})
    cut = coord_map.crop(wide, data)
    assert cut.fn.params["crop_param"] == {"axis": 2, "offset": 1}
    with pytest.raises(coord_map.UndefinedMapException):
        coord_map.coord_map(L.Convolution(data, kernel_h=3, kernel_w=3, num_output=1).fn)
    with pytest.raises(RuntimeError, match="connected"):
        coord_map.coord_map_from_to(L.InnerProduct(conv, num_output=2), data)


def test_draw_labels() -> None:
    data = L.Input(shape={"dim": [1, 3, 8, 8]})
    top = L.Convolution(data, kernel_size=3, pad=1, num_output=5, param={"lr_mult": 2})
    proto = caffe.to_proto(L.Pooling(top, pool=P.Pooling.AVE, kernel_h=2, kernel_w=3, stride=2))
    conv, pool = proto.layer[1:]
    assert draw.get_layer_label(conv, "TB", True) == (
        "Convolution1 (Convolution) kernel size: 3 stride: 1 pad: 1 lr mult: 2, 1"
    )
    assert draw.get_layer_label(pool, "LR") == r"Pooling1\n(AVE Pooling)\nkernel size: 2x3\nstride: 2\npad: 0"
    assert draw.get_edge_label(conv) == "5" and draw.get_pooling_types_dict()[0] == "MAX"
    if importlib.util.find_spec("pydot") is None:
        with pytest.raises(UsageError, match="pip install pydot"):
            draw.get_pydot_graph(proto, "LR")
    else:
        assert "Convolution1_blob" in draw.get_pydot_graph(proto, "LR", phase=caffe.TEST).to_string()


@pytest.mark.skipif(not (shutil.which("dot") and importlib.util.find_spec("pydot")), reason="needs pydot and Graphviz")
def test_draw_to_file(tmp_path: Path) -> None:
    proto = caffe.to_proto(L.ReLU(L.Input(shape={"dim": [1]})))
    draw.draw_net_to_file(proto, tmp_path / "net.svg", "BT")
    assert "Input1" in (tmp_path / "net.svg").read_text()
    with pytest.raises(UsageError, match="cannot draw"):
        draw.draw_net_to_file(proto, tmp_path / "net.nothing")


SCRIPT = """
import sys
import caffe
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
import caffe.proto.caffe_pb2 as again
import caffe.draw, caffe.coord_map, caffe.io, caffe.net_spec, caffe.classifier, caffe.detector
from caffe.pycaffe import Net
from helper import WORD

assert again is caffe_pb2 and Net is caffe.Net and caffe.io.Transformer
print(__name__, caffe.__version__, WORD, sys.argv[1:])
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "caffe_compat.pycaffe", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_scripts_run_unchanged(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "old.py").write_text(SCRIPT)
    (tmp_path / "scripts" / "helper.py").write_text("WORD = 'beside'")
    done = run("scripts/old.py", "--gpu", "0", cwd=tmp_path)
    assert done.stdout == "__main__ 1.0.0 beside ['--gpu', '0']\n", done.stderr
    missing = run("none.py", cwd=tmp_path)
    assert missing.returncode == 2 and missing.stderr.strip().endswith("no such script: none.py")


def test_install_refuses_another_caffe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "caffe", pytest)
    with pytest.raises(UsageError, match="another module called caffe"):
        caffe.install()
