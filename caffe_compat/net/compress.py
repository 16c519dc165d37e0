"""Fully connected layers in two factors, by truncated singular value decomposition.

Source: ``tools/compress_net.py`` of fast-rcnn.  There the full decomposition is computed; here only what is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from caffe_compat.errors import UsageError, WeightsError, nearest
from caffe_compat.net.load import load_description, load_net
from caffe_compat.net.net import Net
from caffe_compat.net.plan import Node
from caffe_compat.net.weights import blobs_in

__all__ = ["Compressed", "compress", "factors"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Compressed:
    """One layer.

    Args:
        layer: its name in the whole net.
        shape: of its weights, outputs x inputs.
        rank: outputs of ``LAYER_L``.
        error: Frobenius norm of what is lost, relative to that of the weights.
    """

    layer: str
    shape: tuple[int, int]
    rank: int
    error: float

    @property
    def kept(self) -> float:
        """Numbers in both factors, relative to the weights'."""
        rows, columns = self.shape
        return self.rank * (rows + columns) / (rows * columns)


def factors(weights: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """``U`` [rows, rank], with orthonormal columns, and ``L`` = S V [rank, columns]; ``U L`` is nearest to the weights.

    The eigenvectors of the smaller product of the weights with themselves, in float64: those of singular values below
    1e-8 of the largest are not exact, which is beyond float32.

    Args:
        weights: float [rows, columns].
        rank: 1 to the smaller side.
    """
    wide = weights.shape[0] <= weights.shape[1]
    matrix = np.asarray(weights if wide else weights.T, np.float64)
    size = len(matrix)
    _, vectors = scipy.linalg.eigh(matrix @ matrix.T, subset_by_index=(size - rank, size - 1))
    basis = vectors[:, ::-1]  # the largest first
    projected = basis.T @ matrix
    if wide:
        return basis.astype(np.float32), projected.astype(np.float32)
    values = np.linalg.norm(projected, axis=1)[:, None]
    rows = np.divide(projected, values, out=np.zeros_like(projected), where=values > 0)
    return rows.T.astype(np.float32), (values * basis.T).astype(np.float32)


def compress(net_def: PathLike, svd_def: PathLike, model: PathLike) -> tuple[Path, list[Compressed]]:
    """Write ``MODEL_svd_fc6_RANK_fc7_RANK.caffemodel`` beside a model.

    Layers of the second net named ``X_L`` (without bias) and ``X_U`` get the factors of the first net's layer ``X``;
    all others are copied by name.

    Args:
        net_def: prototxt of the model.
        svd_def: prototxt of the compressed net; the ranks are the outputs of its ``_L`` layers.
        model: ``.caffemodel`` or ``.caffemodel.h5``.

    Raises:
        UsageError: the second net has no such layers.
        WeightsError: a layer is missing or has no weights in the model, a rank is too large, or shapes do not fit.
        CaffeCompatError: a file that cannot be used.
    """
    stored = blobs_in([model])
    target = Net(load_description(svd_def), stored)
    target.copy_from(model, strict=None)
    pairs = dict(_pairs(target, svd_def))
    if not pairs:
        raise UsageError(f"{os.fspath(svd_def)}: has no layers to compress, expected some like fc6_L and fc6_U")
    net = load_net(net_def, model)
    ours = {f"{name}_{part}" for name in pairs for part in "LU"}
    for name in (*_learned(target), *pairs):
        if name not in ours and not stored.get(name):
            raise WeightsError(f"{os.fspath(model)}: has no weights of layer '{name}'{nearest(name, stored)}")
    whole = _learned(net)
    found = []
    for name, (lower, upper) in pairs.items():
        if name not in whole:
            raise WeightsError(f"{os.fspath(net_def)}: no layer '{name}' with weights{nearest(name, whole)}")
        found.append(_compress_layer(os.fspath(svd_def), whole[name], lower, upper))
    stem = Path(os.fspath(model).removesuffix(".h5")).with_suffix("").name
    path = Path(model).with_name(f"{stem}_svd" + "".join(f"_{one.layer}_{one.rank}" for one in found) + ".caffemodel")
    target.save(path)
    return path, found


def _learned(net: Net) -> dict[str, Node]:
    return {node.name: node for node in net.nodes if node.layer.blobs}


def _pairs(net: Net, path: PathLike) -> Iterator[tuple[str, tuple[Node, Node]]]:
    """Names of layers with their two factors, in the net's order."""
    layers = _learned(net)
    for name, node in layers.items():
        stem, _, part = name.rpartition("_")
        if part not in ("L", "U"):
            continue
        other = f"{stem}_{'U' if part == 'L' else 'L'}"
        if other not in layers:
            raise WeightsError(f"{os.fspath(path)}: has a layer '{name}' but no '{other}'{nearest(other, layers)}")
        if part == "L":
            yield stem, (node, layers[other])


def _compress_layer(path: str, source: Node, lower: Node, upper: Node) -> Compressed:
    shape = source.layer.blob_shapes[0]
    if len(shape) != 2:
        raise WeightsError(f"layer '{source.name}' has weights of the shape {list(shape)}, expected a matrix")
    rank = lower.layer.blob_shapes[0][0]
    if rank > min(shape):
        raise WeightsError(
            f"{path}: layer '{lower.name}': rank {rank} is too large, weights {list(shape)} have at most {min(shape)}"
        )
    _expect(path, lower, [(rank, shape[1])])
    _expect(path, upper, [(shape[0], rank), *source.layer.blob_shapes[1:]])
    weights = source.layer.blob(0).detach().numpy()
    if not np.isfinite(weights).all():
        raise WeightsError(f"layer '{source.name}' has weights that are NaN or infinite")
    left, right = factors(weights, rank)
    with torch.no_grad():
        lower.layer.blob(0).copy_(torch.from_numpy(right))
        upper.layer.blob(0).copy_(torch.from_numpy(left))
        for index in range(1, len(source.layer.blobs)):
            upper.layer.blob(index).copy_(source.layer.blob(index))
    norm = float(np.linalg.norm(weights))
    lost = float(np.linalg.norm(weights - left @ right))
    return Compressed(source.name, (shape[0], shape[1]), rank, lost / norm if norm else 0.0)


def _expect(path: str, node: Node, shapes: list[tuple[int, ...]]) -> None:
    have = [tuple(shape) for shape in node.layer.blob_shapes]
    if have != shapes:
        raise WeightsError(
            f"{path}: layer '{node.name}' has blobs of the shapes {[list(shape) for shape in have]}, expected "
            f"{[list(shape) for shape in shapes]}" + (" (bias_term: false)" if len(have) > len(shapes) else "")
        )
