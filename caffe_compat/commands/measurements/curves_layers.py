"""What nets of more and more layers cost, in the shapes that deep nets have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from caffe_compat.commands.measurements.curve import Curve
from caffe_compat.commands.net_table import describe
from caffe_compat.description import State, describe_net
from caffe_compat.net import BlobNet, Net, load_net
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.proto.text import parse
from caffe_compat.pycaffe.draw import svg_of
from caffe_compat.solver import SGDSolver

__all__ = ["KINDS", "layer_curves"]

SIZES = (10, 100, 1000, 3000, 10000)
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }\n'


def _learns(name: str, bottom: str, top: str, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {more} '
        'inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }\n'
    )


def _loss(bottom: str) -> str:
    return f'layer {{ name: "loss" type: "Reduction" bottom: "{bottom}" top: "loss" loss_weight: 1 }}\n'


def chain(layers: int, same: bool = False, more: str = "") -> str:
    """Layers that learn, one after the other, each with a name of its own or all with one."""
    text = [INPUT]
    for number in range(layers):
        bottom = f"b{number - 1}" if number else "data"
        text.append(_learns("same" if same else f"ip{number}", bottom, f"b{number}", more))
    return "".join([*text, _loss(f"b{layers - 1}")])


def fan(layers: int) -> str:
    """One blob that all layers read, and one layer that reads them all."""
    text = [INPUT, *(_learns(f"ip{number}", "data", f"b{number}") for number in range(layers))]
    bottoms = " ".join(f'bottom: "b{number}"' for number in range(layers))
    return "".join([*text, f'layer {{ name: "sum" type: "Eltwise" {bottoms} top: "sum" }}\n', _loss("sum")])


def in_place(layers: int) -> str:
    """One blob that all layers overwrite."""
    text = [INPUT, _learns("ip", "data", "b")]
    text += [f'layer {{ name: "t{number}" type: "TanH" bottom: "b" top: "b" }}\n' for number in range(layers)]
    return "".join([*text, _loss("b")])


def residual(layers: int) -> str:
    """Sums of what a layer makes and what it was given."""
    text, last = [INPUT], "data"
    for number in range(layers // 2):
        text.append(_learns(f"ip{number}", last, f"b{number}"))
        text.append(
            f'layer {{ name: "sum{number}" type: "Eltwise" bottom: "{last}" bottom: "b{number}" top: "s{number}" }}\n'
        )
        last = f"s{number}"
    return "".join([*text, _loss(last)])


def supervised(layers: int) -> str:
    """A chain with a loss at every layer, all of which read one blob of labels."""
    text, last = [INPUT, INPUT.replace("data", "label")], "data"
    for number in range(layers // 2):
        text.append(_learns(f"ip{number}", last, f"b{number}"))
        text.append(
            f'layer {{ name: "loss{number}" type: "EuclideanLoss" bottom: "b{number}" bottom: "label" '
            f'top: "loss{number}" }}\n'
        )
        last = f"b{number}"
    return "".join(text)


KINDS: dict[str, Callable[[int], str]] = {
    "a chain": chain,
    "layers of one name": lambda layers: chain(layers, same=True),
    "layers that share their weights": lambda layers: chain(layers, more='param { name: "w" } param { name: "b" }'),
    "one blob that all read": fan,
    "layers in place": in_place,
    "residual sums": residual,
    "a loss at every layer": supervised,
}


def layer_curves() -> Iterator[Curve]:
    """Every operation on a chain, and those that look at names and blobs on the other shapes."""
    for label, make in _OPERATIONS.items():
        sizes = SIZES[:-1] if label in ("ONNX export", "SVG drawing") else SIZES
        yield Curve("layers", label, "layers", sizes, _prepared(chain, make))
    for kind, text in KINDS.items():
        if text is not chain:
            for label in ("building", "forward, backward, update"):
                yield Curve("layers", f"{label}, {kind}", "layers", SIZES[:-1], _prepared(text, _OPERATIONS[label]))
    for label in ("saving", "loading"):
        one_name = KINDS["layers of one name"]
        yield Curve("layers", f"{label}, layers of one name", "layers", SIZES, _prepared(one_name, _OPERATIONS[label]))
    for kind in ("one blob that all read", "a loss at every layer"):
        for label in ("table of layers", "SVG drawing"):
            yield Curve("layers", f"{label}, {kind}", "layers", SIZES[:-1], _prepared(KINDS[kind], _OPERATIONS[label]))


Operation = Callable[[Path], Callable[[], object]]


def _prepared(text: Callable[[int], str], operation: Operation) -> Callable[[int, Path], Callable[[], object]]:
    def prepare(size: int, folder: Path) -> Callable[[], object]:
        path = folder / "net.prototxt"
        path.write_text(text(size), encoding="ascii")
        return operation(path)

    return prepare


def _net(path: Path) -> Net:
    return Net(describe_net(read_net(path), State("TRAIN")))


def _parsing(path: Path) -> Callable[[], object]:
    return lambda: parse(path.read_text(encoding="ascii"), caffe_pb2.NetParameter)


def _describing(path: Path) -> Callable[[], object]:
    message = read_net(path)
    return lambda: describe_net(message, State("TRAIN"))


def _building(path: Path) -> Callable[[], object]:
    description = describe_net(read_net(path), State("TRAIN"))
    return lambda: Net(description)


def _inputs(net: Net) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(net.blob_shapes[name]) for name in net.input_names}


def _calling(path: Path) -> Callable[[], object]:
    net = _net(path)
    inputs, every = _inputs(net), list(net.blob_shapes)

    def call() -> object:
        with torch.no_grad():
            return net(blobs=every, **inputs)

    return call


def _stepping(path: Path) -> Callable[[], object]:
    param: Any = caffe_pb2.SolverParameter(
        train_net_param=read_net(path), base_lr=1e-3, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1
    )
    solver = SGDSolver(param)
    return lambda: solver.step(1)


def _reshaping(path: Path) -> Callable[[], object]:
    engine = BlobNet(_net(path))
    return engine.reshape


def _saving(path: Path) -> Callable[[], object]:
    net = _net(path)
    return lambda: net.save(path.with_suffix(".caffemodel"))


def _loading(path: Path) -> Callable[[], object]:
    _net(path).save(path.with_suffix(".caffemodel"))
    return lambda: load_net(path, path.with_suffix(".caffemodel"), phase="TRAIN")


def _saving_hdf5(path: Path) -> Callable[[], object]:
    net = _net(path)
    return lambda: net.save_hdf5(path.with_suffix(".caffemodel.h5"))


def _sharing(path: Path) -> Callable[[], object]:
    mine, theirs = _net(path), _net(path)
    return lambda: mine.share_with(theirs)


def _table(path: Path) -> Callable[[], object]:
    return lambda: describe(str(path), "TRAIN").render("text")


def _drawing(path: Path) -> Callable[[], object]:
    message = read_net(path)
    return lambda: svg_of(message)


def _exporting(path: Path) -> Callable[[], object]:
    net = Net(describe_net(read_net(path), State("TEST")))
    return lambda: export_onnx(net, path.with_suffix(".onnx"))


_OPERATIONS: dict[str, Operation] = {
    "parsing": _parsing,
    "describing": _describing,
    "building": _building,
    "a call for all blobs": _calling,
    "forward, backward, update": _stepping,
    "reshaping": _reshaping,
    "saving": _saving,
    "loading": _loading,
    "saving HDF5": _saving_hdf5,
    "sharing weights": _sharing,
    "table of layers": _table,
    "SVG drawing": _drawing,
    "ONNX export": _exporting,
}
