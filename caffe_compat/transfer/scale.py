"""How large a feature is: the norm over channels at a location, averaged over locations and images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from caffe_compat.description import describe_net
from caffe_compat.errors import DataError, UsageError
from caffe_compat.foreign import ForeignSpec
from caffe_compat.media import fill_blob, planes, read_picture
from caffe_compat.media.modalities import FORK_MEAN
from caffe_compat.net import Net
from caffe_compat.net.fit import check_fit
from caffe_compat.net.weights import blobs_in
from caffe_compat.transfer.branch import read_branch
from caffe_compat.transfer.features import Transfer
from caffe_compat.transfer.teachers import foreign_branch
from caffe_compat.transfer.trial import Batch

__all__ = ["NormReport", "load_branch", "load_foreign", "measure_batches", "measure_norms"]


@dataclass(frozen=True)
class NormReport:
    """Norms over channels of one blob.

    Attributes:
        mean, std: over all locations of all images.
        image_std: standard deviation of the per-image means.
        images, locations: how many of each.
        silent: fraction of locations where all channels are zero.
        negative: fraction of all values that are below zero.
        places: what locations are called: boxes, for features over boxes.
    """

    mean: float
    std: float
    image_std: float
    images: int
    locations: int
    silent: float
    negative: float = 0.0
    places: str = "locations"

    def __str__(self) -> str:
        return (
            f"mean norm {self.mean:.6g}, standard deviation {self.std:.4g} over {self.locations} {self.places}, "
            f"{self.image_std:.4g} between the means of {self.images} images, {100 * self.silent:.2g} % silent"
        )


def load_foreign(spec: ForeignSpec) -> Net:
    """A net of another framework, for pixels of images of any size that it takes; measure it with a mean of 0.

    Raises:
        CaffeCompatError: a net, feature or file that is not there.
    """
    branch = foreign_branch(spec, (224, 224))
    return Net(describe_net(branch.message(branch.features.fixed or (224, 224)), source=spec.source))


def load_branch(prototxt: str, weights: str, blobs: Sequence[str]) -> Net:
    """A net up to some of its blobs, with weights, for images of any size.

    Raises:
        WeightsError: the weights file has none of its layers.
        UsageError: it lacks one of them.
        CaffeCompatError: a file that cannot be used.
    """
    branch = read_branch(prototxt, blobs, "TEST")
    if branch.over_boxes:
        raise UsageError(
            f"{prototxt}: {' and '.join(blobs)} would be measured over boxes: make_transfer --proposals does that"
        )
    known = blobs_in([weights])
    net = Net(describe_net(branch.message(branch.size or (224, 224)), source=prototxt), known)
    check_fit(net.plan, branch.name, [(weights, known)])
    missing = [node.name for node in net.nodes if node.layer.blobs and not known.get(node.name)]
    if missing:
        raise UsageError(f"{weights} has no weights for layer '{missing[0]}' of {prototxt}")
    net.copy_from(weights, strict=None)
    return net


def measure_norms(
    net: Net,
    blobs: Sequence[str],
    images: Sequence[str],
    mean: Sequence[float] = FORK_MEAN,
    count: int = 200,
    progress: bool = True,
) -> dict[str, NormReport]:
    """Run images through a net, each at its own size, and measure the norms of some blobs.

    Args:
        images: files; where there are more than ``count``, that many evenly spaced ones are taken.
        mean: blue, green, red, subtracted.

    Raises:
        DataError: an image that cannot be read, or for which a blob is NaN or infinite.
        UsageError: count below 1.
    """
    if count < 1:
        raise UsageError(f"--count is {count}, expected 1 or more")
    chosen = [images[i * len(images) // count] for i in range(count)] if len(images) > count else list(images)
    norms: dict[str, list[np.ndarray]] = {blob: [] for blob in blobs}
    below: dict[str, list[float]] = {blob: [] for blob in blobs}
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    means = np.broadcast_to(np.asarray(mean, np.float32), 3)
    with torch.inference_mode():
        for name in tqdm(chosen, unit="image", disable=None if progress else True):
            channels = planes(read_picture(name))
            planar = np.empty((1, len(channels), *channels[0].shape), np.float32)
            fill_blob(channels, planar[0], means)
            result = net(blobs=blobs, **{net.input_names[0]: torch.from_numpy(planar).to(device)})
            for blob in blobs:
                found = result[blob].double().norm(dim=1).flatten().cpu().numpy()
                if not np.isfinite(found).all():
                    bad = np.count_nonzero(~np.isfinite(found))
                    raise DataError(f"blob '{blob}' is NaN or infinite at {bad} of {found.size} locations of {name}")
                norms[blob].append(found)
                below[blob].append(float((result[blob] < 0).float().mean()))
    return {blob: replace(_report(values), negative=float(np.mean(below[blob]))) for blob, values in norms.items()}


def measure_batches(transfer: Transfer, batches: Iterable[Batch]) -> dict[str, NormReport]:
    """The same of a transfer's features in its training batches; over boxes where they are.

    Raises:
        DataError: a feature that is NaN or infinite.
    """
    norms: dict[str, list[np.ndarray]] = {feature.teacher: [] for feature in transfer.features}
    below: dict[str, list[float]] = {feature.teacher: [] for feature in transfer.features}
    for batch in batches:
        images = torch.arange(len(batch.images)) if batch.rois is None else batch.rois[:, 0].cpu()
        for feature, target in zip(transfer.features, batch.targets, strict=True):
            found = target.double().norm(dim=1).flatten(1 if target.dim() == 4 else 0).cpu()
            if not bool(found.isfinite().all()):
                raise DataError(f"blob '{feature.teacher}' is NaN or infinite on the training pairs")
            owners = images if feature.over_boxes else torch.arange(len(found))
            norms[feature.teacher] += [found[owners == image].flatten().numpy() for image in owners.unique()]
            below[feature.teacher].append(float((target < 0).float().mean()))
    return {
        feature.teacher: replace(
            _report(norms[feature.teacher]),
            negative=float(np.mean(below[feature.teacher])),
            places="boxes" if feature.over_boxes else "locations",
        )
        for feature in transfer.features
    }


def _report(per_image: list[np.ndarray]) -> NormReport:
    values = np.concatenate(per_image)
    means = [float(image.mean()) for image in per_image]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return NormReport(
        float(values.mean()), float(values.std()), spread, len(means), values.size, float((values == 0).mean())
    )
