"""CRF-RNN: iterations of mean field inference in a dense conditional random field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import DataError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.permutohedral import Lattice
from caffe_compat.layers.registry import register

__all__ = ["MultiStageMeanfield"]

_MOST = 100


@register(dialect="torrvision/caffe")
class MultiStageMeanfield(Layer):
    """Scores of classes, made smooth where the picture is: ``num_iterations`` of mean field inference.

    Bottoms: unary scores [N, C, H, W], where to begin (the same, usually), and the picture [N, 3, H, W], which gets no
    gradient.  An iteration takes the softmax of what the last one made, filters it twice (over places, with
    ``theta_gamma`` pixels, and over places and colours, with ``theta_alpha`` pixels and ``theta_beta``), each divided
    by what it makes of ones, multiplies by the blobs, and subtracts the result from the unary scores.

    Blobs [1, 1, C, C]: weights of the first filter, of the second, and the compatibility of classes.  The original
    takes the diagonals of the first two from ``spatial.par`` and ``bilateral.par`` in the working directory; here they
    are ``spatial_filter_weight`` and ``bilateral_filter_weight`` (3 and 5 in those files and in the published
    prototxts), or the numbers of ``spatial_filter_weights_str`` and ``bilateral_filter_weights_str``.  The third is -1
    on the diagonal.  ``threshold`` is not read, as there.  A backward pass sets the diffs of the blobs instead of
    adding to them.  Source: ``multi_stage_meanfield.cpp`` and ``meanfield_iteration.cpp``.
    """

    caffe_type = "MultiStageMeanfield"
    bottom_count = (3, 3)
    has_blobs = True
    no_gradient = (2,)
    onnx_reason = "its filters run on a lattice of each picture's colours, for which there are no operators"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("multi_stage_meanfield_param")
        section.ignore("compatibility_mode", "threshold", "force_cpu")
        self.iterations = int(section.num_iterations)
        names = ("theta_alpha", "theta_beta", "theta_gamma")
        self.alpha, self.beta, self.gamma = thetas = [float(section.value(name)) for name in names]
        if not 2 <= self.iterations <= _MOST:
            raise self.error(
                f"multi_stage_meanfield_param.num_iterations is {self.iterations}, expected 2 to {_MOST} (10 is usual)"
            )
        for name, theta in zip(names, thetas, strict=True):
            if not 0 < theta < np.inf:
                raise self.error(f"multi_stage_meanfield_param.{name} is {theta:g}, expected a positive number")
        self.classes = self.top_shapes(bottoms)[0][1]
        self._diagonals = [self._weights(section, kind) for kind in ("spatial", "bilateral")] + [[-1.0] * self.classes]
        for _ in range(3):
            self.add_blob((1, 1, self.classes, self.classes))
        self._spatial: tuple[Shape, Lattice] | None = None

    def _weights(self, section: Section, kind: str) -> list[float]:
        """The diagonal of a filter's blob."""
        text = str(section.value(f"{kind}_filter_weights_str"))
        one, forced = f"{kind}_filter_weight", f"forced_{kind}_filter_weight"
        given = float(section.value(one))
        if section.has(forced):
            raise self.error(f"multi_stage_meanfield_param.{forced} is not read by the fork, expected {one}")
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError as error:
            raise self.error(f"multi_stage_meanfield_param.{kind}_filter_weights_str: {error}") from error
        if len(numbers) not in (0, 1, self.classes) or not np.isfinite([*numbers, given]).all():
            raise self.error(
                f"multi_stage_meanfield_param.{kind}_filter_weights_str has {len(numbers)} numbers, expected one for "
                f"each of {self.classes} classes"
            )
        return numbers if len(numbers) == self.classes else (numbers or [given]) * self.classes

    def fill(self, skip: frozenset[int] = frozenset()) -> None:
        """Diagonals."""
        for index in {0, 1, 2} - skip:
            diagonal = torch.diag(torch.tensor(self._diagonals[index]))
            self.blobs[index].data.copy_(diagonal.reshape(self.blobs[index].shape))

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Always."""
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the unary scores."""
        unary, first, picture = (tuple(bottom) for bottom in bottoms)
        self.require(
            len(unary) == 4 and min(unary[1:]) > 0, f"bottom 0 has the shape {list(unary)}, expected N x C x H x W"
        )
        self.require(first == unary, f"bottom 1 has the shape {list(first)}, expected that of bottom 0, {list(unary)}")
        wanted = (unary[0], 3, *unary[2:])
        self.require(picture == wanted, f"bottom 2 has the shape {list(picture)}, expected {list(wanted)}")
        return [unary]

    def forward(self, unary: Tensor, first: Tensor, picture: Tensor) -> Tensor:
        """Image by image."""
        if unary.device.type == "meta" or not len(unary):
            return unary * 1
        if can_look(picture) and not bool(torch.isfinite(picture).all()):
            raise self.error(f"bottom '{self.params.bottoms[2]}' holds NaN or infinite numbers, expected finite ones")
        try:
            spatial = self._places(tuple(unary.shape[2:]))
            made = [self._refined(*one, spatial) for one in zip(unary, first, picture, strict=True)]
        except DataError as error:
            raise self.error(str(error)) from error
        return torch.stack(made)

    def _refined(self, unary: Tensor, first: Tensor, picture: Tensor, spatial: Lattice) -> Tensor:
        shape = unary.shape
        unary, current = unary.flatten(1), first.flatten(1)
        lattices = (spatial, Lattice(self._coloured(picture)))
        norms = [1 / (lattice.filter(unary.new_ones(1, unary.shape[1])) + 1e-20) for lattice in lattices]
        weights = [self.blob(index)[0, 0] for index in range(3)]
        for _ in range(self.iterations):
            chances = torch.softmax(current, 0)
            parts = (lattice.filter(chances) * norm for lattice, norm in zip(lattices, norms, strict=True))
            message = sum(weight @ part for weight, part in zip(weights[:2], parts, strict=True))
            current = unary - weights[2] @ message
        return current.reshape(shape)

    def _places(self, image: Shape) -> Lattice:
        if self._spatial is None or self._spatial[0] != image:
            self._spatial = image, Lattice(_grid(image) / np.float32(self.gamma))
        return self._spatial[1]

    def _coloured(self, picture: Tensor) -> np.ndarray:
        """x, y and three colours of each pixel."""
        places = _grid(tuple(picture.shape[1:])) / np.float32(self.alpha)
        colours = (picture.detach().flatten(1).t() / self.beta).cpu().numpy().astype(np.float32)
        return np.concatenate([places, colours], 1)


def _grid(image: Shape) -> np.ndarray:
    """Column and row of each pixel: float32 [H W, 2]."""
    rows, columns = np.indices(tuple(image), np.float32)
    return np.stack([columns.ravel(), rows.ravel()], 1)
