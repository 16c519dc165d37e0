"""A state dict into a net of ours, with the preprocessing folded into the first layer.

Over there the first layer sees ``(pixel / range - mean) / std``, red first; here it sees ``pixel - range * mean``, blue
first.  Both are zero where the other is, so what a convolution pads with is the same, and the first layer's weights,
divided by ``range * std`` and in the other order, give the same numbers at the border too.  The mean is therefore left
to Caffe's ``mean_value``: folded into the biases it would be wrong wherever a window reaches over the border.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import WeightsError, nearest
from caffe_compat.foreign.spec import Normalization
from caffe_compat.importing.architectures import AFFINE, STATISTICS, Architecture, Part
from caffe_compat.net import Net

__all__ = ["fill_net", "mean_bgr"]


def mean_bgr(takes: Normalization) -> tuple[float, ...]:
    """What Caffe subtracts: blue, green, red of pixels from 0 to 255."""
    values = tuple(takes.pixel_range * value for value in takes.mean)
    return values[::-1] if takes.rgb else values


def fill_net(
    net: Net, architecture: Architecture, state: Mapping[str, Tensor], takes: Normalization, path: str
) -> None:
    """Copy the weights.

    Args:
        takes: what its first layer sees.
        path: the weights file, for messages.

    Raises:
        WeightsError: a tensor that the file lacks, or of another shape; names file, tensor and layer.
    """
    values = [(part, _arrays(part, state, path)) for part in architecture.parts if part.blobs]
    with torch.no_grad():
        for part, arrays in values:
            layer = net.layer(part.layer)
            if part.layer == architecture.first:
                arrays[0] = _folded(arrays[0], takes)
            if len(arrays) != len(layer.blobs):
                raise WeightsError(f"{path}: '{part.holder}' has {len(arrays)} tensors, layer '{part.layer}' has "
                                   f"{len(layer.blobs)} blobs")  # fmt: skip
            for index, array in enumerate(arrays):
                blob = layer.blob(index)
                if array.size != blob.numel() or array.shape[:1] != tuple(blob.shape[:1]):
                    raise WeightsError(
                        f"{path}: '{part.holder}' has the shape {list(array.shape)}, layer '{part.layer}' of "
                        f"{net.description.name} has {list(blob.shape)}"
                    )
                blob.copy_(torch.from_numpy(array.astype(np.float32)).view(blob.shape))


def _arrays(part: Part, state: Mapping[str, Tensor], path: str) -> list[np.ndarray]:
    """What the layer's blobs are, in float64."""
    if part.blobs == STATISTICS:
        names = ["running_mean", "running_var"]
    else:
        names = ["weight", "bias"] if part.blobs == AFFINE or f"{part.holder}.bias" in state else ["weight"]
    arrays = []
    for name in names:
        key = f"{part.holder}.{name}"
        if key not in state:
            raise WeightsError(f"{path}: no '{key}' for layer '{part.layer}'{nearest(key, state)}")
        arrays.append(state[key].detach().cpu().double().numpy())
    return [*arrays, np.ones(1)] if part.blobs == STATISTICS else arrays


def _folded(weights: np.ndarray, takes: Normalization) -> np.ndarray:
    """Weights (N, 3, H, W) for pixels minus the mean, blue first."""
    if weights.ndim != 4 or weights.shape[1] != 3:
        return weights  # the check of shapes will say so
    divided = weights / (takes.pixel_range * np.array(takes.std)).reshape(3, 1, 1)
    return np.ascontiguousarray(divided[:, ::-1] if takes.rgb else divided)
