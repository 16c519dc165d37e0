"""Our net against the net that its weights are from, layer by layer, on the same pictures."""

from __future__ import annotations

import numpy as np
import torch

from caffe_compat.compare import TOLERANCE, Comparison, Place, compare
from caffe_compat.foreign import ForeignSpec, load_features
from caffe_compat.importing.architectures import Architecture
from caffe_compat.importing.folding import mean_bgr
from caffe_compat.net import Net

__all__ = ["check_net"]


def check_net(
    net: Net, architecture: Architecture, spec: ForeignSpec, pixels: np.ndarray, tolerance: float = TOLERANCE
) -> Comparison:
    """Compare every layer that both nets have.

    Args:
        spec: the other net with its weights, and how it takes pictures; its features are left alone.
        pixels: N x 3 x H x W, 0 to 255, blue first.
        tolerance: relative to the largest magnitude of each blob.

    Raises:
        CaffeCompatError: weights that do not fit, or a net that cannot run.
    """
    takes, nodes = spec.takes, architecture.nodes
    theirs = load_features(ForeignSpec(spec.source, nodes, spec.weights, spec.random_seed, takes))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (takes.mean, takes.std))
    images = torch.from_numpy(pixels.astype(np.float32))
    own = images.flip(1) if takes.rgb else images
    values = dict(zip(nodes, theirs((own / takes.pixel_range - mean) / std), strict=True))
    numbers = {node.name: number for number, node in enumerate(net.nodes)}
    ranks = {node.name: len(net.plan.shapes[node.top_ids[0]]) for node in net.nodes}
    reference: dict[Place, np.ndarray] = {}
    for part in architecture.parts:
        if part.same:
            found = values[part.node]  # timm's VGG has convolutions of 1 x 1 where Caffe has InnerProduct
            reference[numbers[part.layer], 0] = (found.flatten(1) if ranks[part.layer] == 2 else found).numpy()
    ours = pixels.astype(np.float32) - np.array(mean_bgr(architecture.takes or takes), np.float32).reshape(3, 1, 1)
    return compare(net, {net.input_names[0]: ours}, reference, tolerance)
