"""A student that starts from trained weights, as of its teacher, under the names that it has in the transfer."""

from __future__ import annotations

import os

from caffe_compat.description import State, describe_net
from caffe_compat.errors import in_file
from caffe_compat.net import Net
from caffe_compat.net.fit import check_fit
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto import weights as binary
from caffe_compat.transfer.features import Transfer
from caffe_compat.transfer.nets import TransferNets

__all__ = ["write_student_weights"]

PathLike = str | os.PathLike[str]


def write_student_weights(transfer: Transfer, weights: PathLike, path: PathLike) -> None:
    """Write the student's part of a weights file, each layer with the student's prefix before its name.

    The file may be of the student's own prototxt, or of a student of an earlier transfer, whose layers have the prefix
    already.  The adaptation always starts anew: it belongs to one teacher and one scale.

    Args:
        weights: caffemodel, or caffemodel.h5.
        path: the caffemodel that is written.

    Raises:
        WeightsError: no layer fits, or blobs of another number or shape; names file, layer and blob.
        WriteError: it cannot be written.
    """
    names, branch = TransferNets(transfer).names, transfer.student
    held = blobs_in([weights])
    message = branch.message(transfer.recipe.size)
    if not any(layer.name in held for layer in branch.layers):
        for layer in message.layer:
            names.rename(layer)
    with in_file(branch.path):
        net = Net(describe_net(message, State("TRAIN"), source=branch.path), held)
    check_fit(net.plan, branch.name, [(weights, held)])
    net.copy_from(weights, strict=None)
    found = [node for node in net.nodes if node.layer.blobs and held.get(node.name)]
    layers = (
        (
            caffe_pb2.LayerParameter(name=names(node.name), type=node.type),
            [
                blob.detach().numpy().reshape(shape)
                for blob, shape in zip(node.layer.blobs, node.layer.blob_shapes, strict=True)
            ],
        )
        for node in found
    )
    binary.write(path, branch.name, layers)
