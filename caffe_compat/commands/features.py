"""``extract_features``: blobs of a net, image by image, into databases.

Source: BVLC Caffe 1.0, ``tools/extract_features.cpp`` (behaviour only).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.commands.describing import fed
from caffe_compat.errors import NetError, UsageError, nearest
from caffe_compat.files import append_part
from caffe_compat.gathering import Gathering
from caffe_compat.media import Preparation, create_database, model_preparation
from caffe_compat.net import Net, load_net
from caffe_compat.proto import caffe_pb2
from caffe_compat.ranks import Ranks, here
from caffe_compat.record_file import framed, records_of
from caffe_compat.stamps import file_digest

__all__ = ["extract_features"]

SOURCE = "extract_features.cpp"
_COUNT = struct.Struct("<I")


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

    Several processes (:mod:`caffe_compat.ranks`) take turns at the batches; rank 0 writes what all have found.

    Raises:
        UsageError: numbers of blobs and databases differ, or a database exists.
        NetError: the net has no such blob, or the blob has more than four axes.
        LayerError: of several processes a net that keeps something from batch to batch.
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
    ranks = here()
    if ranks.several:
        _take_turns(net, blobs, ranks)
    files = [f"{file} {file_digest(file)}" for file in (model, *weights.split(","))]
    with Gathering(databases[0], ranks, files, "files", (batches, "batches")) as others, ExitStack() as stack:
        writers = [stack.enter_context(create_database(path, backend)) for path in databases if ranks.is_first]
        log.info("Extracting Features", f"{SOURCE}:126")
        own = _batches(net, blobs, len(ranks.share(batches)))
        found = _exchanged(others, own, len(blobs), batches) if ranks.several else own
        for batch in found or ():
            for data, writer in zip(batch, writers, strict=True):
                for datum in data:
                    writer.put(b"%010d" % writer.count, datum)
    if not ranks.is_first:
        return []
    for name, writer in zip(blobs, writers, strict=True):
        log.info(f"Extracted features of {writer.count} query images for feature blob {name}", f"{SOURCE}:177")
    log.info("Successfully extracted the features!", f"{SOURCE}:183")
    return [writer.count for writer in writers]


def _batches(net: Net, blobs: Sequence[str], count: int) -> Iterator[list[list[bytes]]]:
    """Of so many batches, for each blob a ``Datum`` of each image."""
    for _ in range(count):
        with torch.no_grad():
            found = net(blobs=blobs)
        yield [[_datum(image) for image in _images(name, found[name].cpu().numpy())] for name in blobs]


def _datum(image: np.ndarray) -> bytes:
    channels, height, width = image.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    datum.float_data.extend(image.ravel().tolist())
    return bytes(datum.SerializeToString())


def _take_turns(net: Net, blobs: Sequence[str], ranks: Ranks) -> None:
    """Let a net read only the batches that are this process's."""
    for node in net.nodes:
        tops = {net.plan.names[blob] for blob in node.top_ids}
        if node.layer.carries or (node.layer.running_metric and tops & set(blobs)):
            raise node.description.error(
                f"keeps something from batch to batch, which {ranks.world} processes do not share: run one"
            )
        node.layer.take_turns(ranks.turns())


def _exchanged(
    others: Gathering, own: Iterator[list[list[bytes]]], blobs: int, batches: int
) -> Iterator[list[list[bytes]]] | None:
    """Write what this process finds into a file; on rank 0 the batches of all processes, in their order."""
    ranks, files = others.ranks, [others.folder / f"{rank}.features" for rank in range(others.ranks.world)]
    images = 0
    with append_part(files[ranks.rank], 0) as stream:
        for batch in own:
            images += len(batch[0])
            for data in batch:
                stream.write(framed(_COUNT.pack(len(data))) + b"".join(map(framed, data)))
    if others.gather(images) is None:
        log.info(f"{ranks}: extracted features of {images} images", f"{SOURCE}:126")
        return None
    records = [records_of(file) for file in files]
    turns = (records[number % ranks.world] for number in range(batches))
    return ([_next(one) for _ in range(blobs)] for one in turns)


def _next(records: Iterator[bytes]) -> list[bytes]:
    """What was written of one blob of one batch."""
    return [next(records) for _ in range(_COUNT.unpack(next(records))[0])]


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
