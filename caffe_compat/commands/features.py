"""``extract_features``: blobs of a net, image by image, into databases.

Source: BVLC Caffe 1.0, ``tools/extract_features.cpp`` (behaviour only).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.commands.describing import fed
from caffe_compat.errors import NetError, UsageError, nearest
from caffe_compat.media import Preparation, create_database, model_preparation
from caffe_compat.net import Net, load_net
from caffe_compat.proto import caffe_pb2

__all__ = ["extract_features"]

SOURCE = "extract_features.cpp"


def extract_features(
    weights: str,
    model: str,
    blobs: Sequence[str],
    databases: Sequence[str],
    batches: int,
    backend: str = "lmdb",
    device: torch.device | str = "cpu",
) -> list[int]:
    """Run the TEST net (it has a data layer) and write a float ``Datum`` per image and blob; records written per blob.

    Raises:
        UsageError: numbers of blobs and databases differ, or a database exists.
        NetError: the net has no such blob, or the blob has more than four axes.
    """
    if len(blobs) != len(databases) or not blobs:
        raise UsageError(f"{len(blobs)} blobs and {len(databases)} databases, expected as many of both, at least one")
    if len(set(databases)) != len(databases):
        raise UsageError(f"databases {', '.join(databases)}: expected different names")
    if batches < 1:
        raise UsageError(f"the number of batches is {batches}, expected 1 or more")
    net = load_net(model, weights, "TEST", strict=False, optimize=True).to(device)
    _compare(net, model_preparation(model, weights, strict=False), model)
    for name in blobs:
        if name not in net.blob_shapes:
            raise NetError(f"{model}: the net has no blob '{name}'{nearest(name, net.blob_shapes)}")
    with ExitStack() as stack:
        writers = [stack.enter_context(create_database(path, backend)) for path in databases]
        log.info("Extracting Features", f"{SOURCE}:126")
        for _ in range(batches):
            with torch.no_grad():
                found = net(blobs=blobs)
            for name, writer in zip(blobs, writers, strict=True):
                for image in _images(name, found[name].cpu().numpy()):
                    channels, height, width = image.shape
                    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
                    datum.float_data.extend(image.ravel().tolist())
                    writer.put(b"%010d" % writer.count, datum.SerializeToString())
    for name, writer in zip(blobs, writers, strict=True):
        log.info(f"Extracted features of {writer.count} query images for feature blob {name}", f"{SOURCE}:177")
    log.info("Successfully extracted the features!", f"{SOURCE}:183")
    return [writer.count for writer in writers]


def _compare(net: Net, stored: Preparation | None, model: str) -> None:
    """Warn of a data layer that feeds other numbers than what stands beside the weights says."""
    for name, given in fed(net).items():
        wanted = None if stored is None else stored.inputs.get(name)
        if wanted is None:
            continue
        for field in ("modality", "scale", "mean"):
            have, want = getattr(given, field), getattr(wanted, field)
            if have != want and not (field == "mean" and (given.mean_file or wanted.mean_file)):
                log.warning(f"{model}: feeds '{name}' with {field} {have}, the weights want {want}", f"{SOURCE}:64")


def _images(name: str, value: np.ndarray) -> np.ndarray:
    """(images, channels, height, width) of a blob of up to four axes."""
    if value.ndim > 4:
        raise NetError(f"blob '{name}' has the shape {list(value.shape)}, expected at most four axes")
    return value.reshape(value.shape + (1,) * (4 - value.ndim))
