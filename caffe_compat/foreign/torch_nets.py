"""Torch modules by name, and their features.

Features are cut out of the module by torch.fx where it can follow the module's code: what comes after them is neither
kept nor run.  Of other modules the outputs are caught while the whole runs.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from caffe_compat.errors import UsageError, nearest, one_line
from caffe_compat.foreign.spec import FORMS, Normalization, check_feature, kind_of
from caffe_compat.python_policy import python_layers_allowed

__all__ = ["cut", "make_module", "own_normalization", "part_names"]

TRANSFORMED = ("googlenet", "inception_v3")
"""torchvision's nets whose published weights come from TensorFlow: they turn torchvision's normalisation into
``(pixel - 127.5) / 127.5`` themselves where they are told to, which torchvision does only as it downloads weights."""

IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub}


def make_module(source: str) -> nn.Module:
    """The whole module, with the weights that its own code gives it; nothing is downloaded.

    Raises:
        UsageError: no such module, timm is not installed, or the code of ``package.module:function`` may not run here.
    """
    kind, name = kind_of(source), source.partition(":")[2]
    makers = {"torchvision": _torchvision, "timm": _timm, "python": _entry}
    if kind not in makers:
        raise UsageError(f"'{source}': expected {FORMS}")
    module = makers[kind](source if kind == "python" else name)
    for part in module.modules():  # a feature is not to be overwritten by what comes after it
        if getattr(part, "inplace", None) is True:
            part.inplace = False  # type: ignore[assignment]
    return module.eval().requires_grad_(False)


def _torchvision(name: str) -> nn.Module:
    models = import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no net '{name}'{nearest(name, known)}; it has {', '.join(known)}")
    options: dict[str, Any] = {"transform_input": True, "init_weights": False} if name in TRANSFORMED else {}
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def _timm(name: str) -> nn.Module:
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise UsageError(f"'timm:{name}' needs timm: pip install 'caffe_compat[teachers]'") from error
    if not timm.is_model(name.partition(".")[0]) or ":" in name:
        raise UsageError(f"timm has no net '{name}'{nearest(name, timm.list_models())}")
    try:
        module: nn.Module = timm.create_model(name, pretrained=False)
    except Exception as error:  # the code of any of its nets may raise anything
        raise UsageError(f"timm cannot make '{name}': {one_line(error)}") from error
    return module


def _entry(source: str) -> nn.Module:
    if not python_layers_allowed():
        raise UsageError(f"would run {source}, but Python layers are not allowed here (allow_python_layers)")
    where, _, name = source.partition(":")
    try:
        function = getattr(import_module(where), name, None)
    except ImportError as error:
        raise UsageError(f"'{source}': cannot import module '{where}': {error}") from error
    if not callable(function):
        raise UsageError(f"'{source}': module '{where}' has no function '{name}'")
    module = function()
    if not isinstance(module, nn.Module):
        raise UsageError(f"'{source}' returned a {type(module).__name__}, expected a torch.nn.Module")
    return module


def own_normalization(source: str) -> Normalization | None:
    """What the net was trained with, as its framework says it; None where nothing says so.

    torchvision: the transforms that belong to its weights; timm: ``pretrained_cfg``.  A module of an entry point may
    have ``pretrained_cfg`` too, with ``mean`` and ``std`` of red, green and blue from 0 to 1.

    Raises:
        UsageError: as :func:`make_module`.
    """
    kind, name = kind_of(source), source.partition(":")[2]
    if kind == "onnx":
        return None
    if kind == "torchvision":
        models = import_module("torchvision.models")
        if name in models.list_models(module=models):
            transforms = models.get_model_weights(name).DEFAULT.transforms()
            return Normalization(tuple(map(float, transforms.mean)), tuple(map(float, transforms.std)))
    with torch.device("meta"):
        found = getattr(make_module(source), "pretrained_cfg", None) if kind == "timm" else None
    if kind == "python":
        found = getattr(make_module(source), "pretrained_cfg", None)
    if not isinstance(found, dict) or not {"mean", "std"} <= found.keys():
        return None
    return Normalization(tuple(map(float, found["mean"])), tuple(map(float, found["std"])))


def cut(module: nn.Module, features: Sequence[str], who: str) -> nn.Module:
    """What computes some features of a module: images -> a tuple of them.

    Raises:
        UsageError: a feature that the module does not have; names the nearest.
    """
    extraction = import_module("torchvision.models.feature_extraction")
    names = list(dict(module.named_modules()))[1:]
    try:
        graph = extraction.get_graph_node_names(module, suppress_diff_warning=True)[1]
    except Exception:  # fx runs the module's code with stand-ins for numbers, which may raise anything
        _check_names(features, names, who)
        return _Caught(module, features)
    known = graph[1:]  # without the input
    chosen = [_node(feature, known) for feature in features]
    if None in chosen and all(feature in names for feature in features):
        return _Caught(module, features)
    modules = [name for name in names if _node(name, known)]
    _check_names(features, list(dict.fromkeys([*modules, *known])), who)
    made = extraction.create_feature_extractor(module, return_nodes=[*map(str, chosen)], suppress_diff_warning=True)
    _keep_values(made)
    return _Cut(made.eval(), tuple(map(str, chosen)))


def part_names(module: nn.Module) -> tuple[str, ...]:
    """Names of a module's parts down to the second level, those that can be features."""
    names = [name for name in dict(module.named_modules()) if name and name.count(".") < 2]
    extraction = import_module("torchvision.models.feature_extraction")
    try:
        known = extraction.get_graph_node_names(module, suppress_diff_warning=True)[1]
    except Exception:  # as in :func:`cut`
        return tuple(names)
    nodes = {name: node for name in names if (node := _node(name, known))}
    return tuple(sorted(nodes, key=lambda name: known.index(nodes[name])))


def _keep_values(made: Any) -> None:
    """Let no step of a graph work in place: a feature is not to be overwritten by what comes after it."""
    for node in made.graph.nodes:
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
        if node.op == "call_function" and node.target in IN_PLACE:
            node.target = IN_PLACE[node.target]
        if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
            node.target = node.target[:-1]
    made.recompile()


def _node(feature: str, known: Sequence[str]) -> str | None:
    """The graph node of a feature: of a module the last one in it."""
    if feature in known:
        return feature
    return next((name for name in reversed(known) if name.startswith(f"{feature}.")), None)


def _check_names(features: Sequence[str], known: Sequence[str], who: str) -> None:
    for feature in features:
        check_feature(feature, known, who)


class _Cut(nn.Module):
    """The part of a module that fx cut out."""

    def __init__(self, graph: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.graph, self.names = graph, names

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        """The features, in the order that was asked for."""
        found = self.graph(images)
        return tuple(found[name] for name in self.names)


class _Caught(nn.Module):
    """A whole module whose parts' outputs are caught while it runs."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.graph, self.names = module, tuple(names)

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        """The features, in the order that was asked for; of a part that runs several times the last output."""
        found: dict[str, Any] = {}

        def catch(name: str) -> Any:
            def hook(part: nn.Module, arguments: Any, output: Any) -> None:
                found[name] = output.clone() if isinstance(output, Tensor) else output

            return hook

        parts = dict(self.graph.named_modules())
        handles = [parts[name].register_forward_hook(catch(name)) for name in self.names]
        try:
            self.graph(images)
        finally:
            for handle in handles:
                handle.remove()
        return tuple(found.get(name) for name in self.names)
