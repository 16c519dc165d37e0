"""Drawings of nets, made by Graphviz (the program ``dot``) where it is installed, and else by our own layout.

Only ``get_pydot_graph`` needs pydot.

Source of names and arguments: BVLC Caffe 1.0, ``python/caffe/draw.py`` (behaviour only).
"""

from __future__ import annotations

import os
import subprocess
from importlib import import_module
from typing import Any

from caffe_compat.errors import UsageError
from caffe_compat.files import atomic_write
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe.draw_pixels import pdf_bytes, png_bytes
from caffe_compat.pycaffe.draw_scene import Part, Scene, place, svg_text

__all__ = [
    "choose_color_by_layertype",
    "dot_text",
    "draw_net",
    "draw_net_to_file",
    "get_edge_label",
    "get_layer_label",
    "get_layer_lr_mult",
    "get_pooling_types_dict",
    "get_pydot_graph",
    "scene_of",
    "svg_of",
]

LAYER_STYLE = {"shape": "box", "fillcolor": "#6495ED", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
WITH_WEIGHTS = ("Convolution", "Deconvolution", "InnerProduct")


def _pydot() -> Any:
    try:
        return import_module("pydot")
    except ImportError as error:
        raise UsageError("get_pydot_graph needs pydot: pip install pydot") from error


def get_pooling_types_dict() -> dict[int, str]:
    """Pooling methods: number to name."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def choose_color_by_layertype(layertype: str) -> str:
    """Fill colour of a layer."""
    return COLORS.get(layertype, LAYER_STYLE["fillcolor"])


def get_edge_label(layer: Any) -> str:
    """What the edge to the top of a layer says: batch size or number of outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return ""


def get_layer_lr_mult(layer: Any) -> list[float]:
    """Learning rate multipliers of a layer with weights: of weights and bias (1 if not given)."""
    if layer.type not in WITH_WEIGHTS:
        return []
    given = [spec.lr_mult for spec in layer.param][:2]
    return given + [1.0] * (2 - len(given))


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:
    """What the node of a layer says; lines are broken in graphs that run from left to right."""
    separator = " " if rankdir in ("TB", "BT") else "\\n"
    parts = [layer.name, f"({layer.type})"]
    if layer.type in ("Convolution", "Deconvolution"):
        parts += _window(layer.convolution_param)
    elif layer.type == "Pooling":
        method = get_pooling_types_dict()[layer.pooling_param.pool]
        parts[1] = f"({method} Pooling)"
        parts += _window(layer.pooling_param)
    if display_lrm and (rates := get_layer_lr_mult(layer)):
        parts.append("lr mult: " + ", ".join(f"{rate:g}" for rate in rates))
    return separator.join(parts)


def _window(param: Any) -> list[str]:
    def say(both: Any, name: str, default: int) -> str:
        values = list(both) if hasattr(both, "append") else [both]
        if any(param.HasField(f"{name}_{axis}") for axis in "hw"):
            values = [getattr(param, f"{name}_{axis}") for axis in "hw"]
        return "x".join(map(str, values or [default]))

    return [
        f"kernel size: {say(param.kernel_size, 'kernel', 1)}",
        f"stride: {say(param.stride, 'stride', 1)}",
        f"pad: {say(param.pad, 'pad', 0)}",
    ]


def _in_phase(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    included = not layer.include or any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return included and not any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude)


def _graph(
    caffe_net: Any, rankdir: str, label_edges: bool, phase: int | None, display_lrm: bool
) -> tuple[list[tuple[str, dict[str, str]]], list[tuple[str, str, str]]]:
    """Nodes (id, attributes) and edges (from, to, label) of a net, all quoted as Graphviz wants them."""
    layers = [layer for layer in caffe_net.layer if _in_phase(layer, phase)]
    nodes = [
        (_quote(f"{blob}_blob"), {"label": _quote(blob), **_quoted(BLOB_STYLE)})
        for blob in dict.fromkeys(blob for layer in layers for blob in (*layer.bottom, *layer.top))
    ]
    edges = []
    for layer in layers:
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        node = _quote(f"{layer.name}_{layer.type}")
        style = {**LAYER_STYLE, "fillcolor": choose_color_by_layertype(layer.type)}
        if in_place:
            style["style"] = "filled,dashed"
        nodes.append((node, {"label": _quote(get_layer_label(layer, rankdir, display_lrm)), **_quoted(style)}))
        edges += [(_quote(f"{blob}_blob"), node, _quote("")) for blob in layer.bottom]
        label = get_edge_label(layer) if label_edges else ""
        edges += [(node, _quote(f"{blob}_blob"), _quote(label)) for blob in layer.top]
    return nodes, edges


def get_pydot_graph(
    caffe_net: Any, rankdir: str, label_edges: bool = True, phase: int | None = None, display_lrm: bool = False
) -> Any:
    """The graph of a ``NetParameter``: layers, blobs and edges.

    Args:
        rankdir: where the graph runs to: LR, RL, TB or BT.
        label_edges: whether edges tell numbers of outputs.
        phase: TRAIN or TEST to leave out layers of the other phase.
        display_lrm: whether layers tell their learning rate multipliers.

    Raises:
        UsageError: pydot is not installed.
    """
    pydot = _pydot()
    graph = pydot.Dot(_quote(caffe_net.name or "Net"), graph_type="digraph", rankdir=rankdir)
    nodes, edges = _graph(caffe_net, rankdir, label_edges, phase, display_lrm)
    for name, attributes in nodes:
        graph.add_node(pydot.Node(name, **attributes))
    for start, end, label in edges:
        graph.add_edge(pydot.Edge(start, end, label=label))
    return graph


def dot_text(caffe_net: Any, rankdir: str, phase: int | None = None, display_lrm: bool = False) -> str:
    """The graph of a ``NetParameter`` in Graphviz's language (needs neither pydot nor Graphviz)."""
    nodes, edges = _graph(caffe_net, rankdir, True, phase, display_lrm)
    lines = [f"digraph {_quote(caffe_net.name or 'Net')} {{", f"rankdir={rankdir};"]
    lines += [f"{name} [{', '.join(f'{k}={v}' for k, v in attributes.items())}];" for name, attributes in nodes]
    lines += [f"{start} -> {end} [label={label}];" for start, end, label in edges]
    return "\n".join([*lines, "}", ""])


def _quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _quoted(style: dict[str, str]) -> dict[str, str]:
    return {name: _quote(value) for name, value in style.items()}


def scene_of(caffe_net: Any, rankdir: str, phase: int | None = None, display_lrm: bool = False) -> Scene:
    """A ``NetParameter`` in our own layout; the arguments are those of :func:`draw_net`."""
    nodes: dict[str, list[Part]] = {}
    edges = []
    layers = [layer for layer in caffe_net.layer if _in_phase(layer, phase)]
    for layer in layers:
        for blob in (*layer.bottom, *layer.top):
            nodes.setdefault(f"{blob}_blob", [Part((blob,), BLOB_STYLE["fillcolor"], round=True)])
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        part = Part(_label_lines(layer, display_lrm), choose_color_by_layertype(layer.type), dashed=in_place)
        if in_place:
            nodes[f"{layer.top[0]}_blob"].append(part)
            continue
        name = f"{layer.name}_{layer.type}"
        nodes[name] = [part]
        edges += [(f"{blob}_blob", name) for blob in layer.bottom]
        edges += [(name, f"{blob}_blob") for blob in layer.top]
    return place(nodes, list(dict.fromkeys(edges)), rankdir)


def _label_lines(layer: Any, display_lrm: bool) -> tuple[str, ...]:
    """What the box of a layer says: its name, its type with the number of outputs, and the rest."""
    name, kind, *rest = get_layer_label(layer, "LR", display_lrm).split("\\n")
    count = get_edge_label(layer)
    window = ", ".join(part for part in rest if not part.startswith("lr mult"))
    rates = [part for part in rest if part.startswith("lr mult")]
    return (name, f"{kind} {count}".rstrip(), *([window] if window else []), *rates)


def svg_of(caffe_net: Any, rankdir: str = "LR", phase: int | None = None, display_lrm: bool = False) -> str:
    """A ``NetParameter`` in our own layout, as SVG."""
    return svg_text(scene_of(caffe_net, rankdir, phase, display_lrm), f"Net {caffe_net.name}".rstrip())


def draw_net(
    caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None, display_lrm: bool = False
) -> bytes:
    """Draw a ``NetParameter``: the bytes of an image file of type ``ext`` (``dot``: Graphviz's own language).

    Where Graphviz is not installed, our own layout draws SVG, PNG and PDF.

    Raises:
        UsageError: Graphviz does not know ``ext``, or is missing, and ``ext`` is another one than these.
    """
    source = dot_text(caffe_net, rankdir, phase, display_lrm).encode()
    if ext in ("dot", "gv"):
        return source
    try:
        done = subprocess.run(["dot", f"-T{ext}"], input=source, capture_output=True, check=False)
    except OSError:
        return _drawn_here(caffe_net, rankdir, ext, phase, display_lrm)
    if done.returncode:
        raise UsageError(f"Graphviz (dot) cannot draw the net as '{ext}': {done.stderr.decode(errors='replace')}")
    return done.stdout


def _drawn_here(caffe_net: Any, rankdir: str, ext: str, phase: int | None, display_lrm: bool) -> bytes:
    """The same without Graphviz."""
    if ext == "svg":
        return svg_of(caffe_net, rankdir, phase, display_lrm).encode()
    if ext not in ("png", "pdf"):
        raise UsageError(
            f"drawing a net as '{ext}' needs Graphviz, whose program 'dot' cannot be run; install it, or write a file "
            "that ends in .svg, .png, .pdf or .dot"
        )
    scene = scene_of(caffe_net, rankdir, phase, display_lrm)
    return png_bytes(scene) if ext == "png" else pdf_bytes(scene)


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draw a ``NetParameter`` into a file; its ending says the type.

    Raises:
        UsageError: see :func:`draw_net`.
    """
    ext = os.path.splitext(filename)[1][1:] or "png"
    image = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with atomic_write(filename) as stream:
        stream.write(image)
