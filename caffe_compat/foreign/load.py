"""Features of nets of other frameworks as a torch module that knows their shapes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from caffe_compat.errors import UsageError, one_line
from caffe_compat.foreign.onnx_nets import OnnxFeatures, value_names
from caffe_compat.foreign.spec import FORMS, RANDOM, ForeignSpec, kind_of
from caffe_compat.foreign.state import copy_state, read_state
from caffe_compat.foreign.torch_nets import cut, make_module, part_names

__all__ = ["ForeignFeatures", "all_features", "load_features"]

Shape = tuple[int, ...]


class ForeignFeatures(nn.Module):
    """Images as the net takes them (N x 3 x H x W) -> a tuple of its features; in evaluation mode, never trained."""

    def __init__(self, net: nn.Module, spec: ForeignSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self._twins = [] if isinstance(net, OnnxFeatures) else [_twin(net)]  # in a list: no part of this module
        self._known: dict[Shape, list[Shape]] = {}

    @property
    def fixed(self) -> tuple[int, int] | None:
        """The height and width that an ONNX file fixes."""
        return self.net.fixed if isinstance(self.net, OnnxFeatures) else None

    def train(self, mode: bool = True) -> ForeignFeatures:
        """Stay in evaluation mode whatever the net around does: dropout off, batch norm with its own statistics."""
        super().train(False)
        return self

    def shapes(self, shape: Shape) -> list[Shape]:
        """Shapes of the features for images of a shape (all axes).

        Raises:
            ValueError: the net does not take such images, or a feature is no tensor; says why.
        """
        if shape not in self._known:
            self._known[shape] = self.net.shapes(shape) if isinstance(self.net, OnnxFeatures) else self._try(shape)
        return self._known[shape]

    def maps(self, shape: Shape) -> dict[str, Shape]:
        """Shapes of those features that are maps (four axes), by name.

        Raises:
            ValueError: the net does not take such images.
        """
        found = self.net.shapes(shape) if isinstance(self.net, OnnxFeatures) else self._shapes(shape)
        return {name: one for name, one in zip(self.spec.features, found, strict=True) if one and len(one) == 4}

    def _try(self, shape: Shape) -> list[Shape]:
        """Shapes of all features."""
        found = []
        for name, one in zip(self.spec.features, self._shapes(shape), strict=True):
            if one is None:
                raise ValueError(f"feature '{name}' is no tensor")
            found.append(one)
        return found

    def _shapes(self, shape: Shape) -> list[Shape | None]:
        """What the net makes of images without values, or, where its code wants values, of black ones."""
        with torch.no_grad():
            try:
                found = self._twins[0](torch.empty(shape, device="meta"))
            except Exception:  # the code of any net may raise anything
                first = next(self.net.parameters(), torch.empty(0))
                try:
                    found = self.net(torch.zeros(shape, device=first.device, dtype=first.dtype))
                except Exception as error:
                    raise ValueError(f"the net does not take images of {list(shape)}: {one_line(error)}") from error
        return [tuple(value.shape) if isinstance(value, Tensor) else None for value in found]

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The features."""
        found: tuple[Tensor, ...] = self.net(images)
        return found


def _twin(net: nn.Module) -> nn.Module:
    """The same module without numbers."""
    memo: dict[int, object] = {}
    for value in (*net.parameters(), *net.buffers()):
        empty = value.detach().to("meta")
        memo[id(value)] = nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty
    return copy.deepcopy(net, memo)


def all_features(source: str) -> ForeignFeatures:
    """Every feature of a net that has a name of its own, with random weights: for what needs shapes only.

    Of a torch module these are its parts down to the second level (``layer3``, ``layer3.5``, ``features.12``), of an
    ONNX file all values.

    Raises:
        UsageError, MissingFileError, DataError: no such net.
    """
    if kind_of(source) == "onnx":
        names = value_names(source)
    else:
        names = part_names(make_module(source))
    return load_features(ForeignSpec(source, names, RANDOM if kind_of(source) in ("torchvision", "timm") else ""))


def load_features(spec: ForeignSpec) -> ForeignFeatures:
    """Make the net, give it its weights, cut its features out.

    Raises:
        UsageError: no such net or feature; weights that are missing or one too many.
        MissingFileError, DataError, WeightsError: files.
    """
    kind = kind_of(spec.source)
    if not spec.features:
        raise UsageError(f"'{spec.source}': expected the name of a feature (SOURCE@FEATURE)")
    if kind == "onnx":
        if spec.weights:
            raise UsageError(f"{spec.source} has its own weights, but '{spec.weights}' is given too")
        return ForeignFeatures(OnnxFeatures(spec.source, spec.features), spec).eval()
    if not kind:
        raise UsageError(f"'{spec.source}': expected {FORMS}")
    if kind != "python" and not spec.weights:
        raise UsageError(
            f"{spec.source} has no weights of its own: give a file (.pth, .safetensors), or '{RANDOM}' if random ones "
            "are meant"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.random_seed)
        module = make_module(spec.source)
    net = cut(module, spec.features, spec.source)
    if spec.weights and spec.weights != RANDOM:
        copy_state(net.graph, read_state(spec.weights), spec.weights, spec.source)  # type: ignore[arg-type]
    return ForeignFeatures(net, spec).eval()
