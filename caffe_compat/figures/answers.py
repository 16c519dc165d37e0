"""What the units of two paired features answer to pairs of pictures: where each is strongest, and how they go along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from caffe_compat.description import describe_net
from caffe_compat.description.names import adapted
from caffe_compat.errors import DataError, UsageError
from caffe_compat.figures.sources import PairSource
from caffe_compat.foreign.spec import RANDOM
from caffe_compat.net import Net
from caffe_compat.net.fit import check_fit
from caffe_compat.net.weights import blobs_in
from caffe_compat.transfer.branch import Branch
from caffe_compat.transfer.random_teacher import random_net

__all__ = ["Answers", "Feature", "Moments", "Place", "answer", "choose_units", "load_feature"]

CHOICES = ("explained", "strongest", "random")


@dataclass(frozen=True)
class Feature:
    """A net up to one of its features.

    Attributes:
        net: takes pictures in its only input.
        blob: the feature.
        model, weights: where it comes from.
        channels: of the pictures.
    """

    net: Net
    blob: str
    model: str
    weights: str
    channels: int = 3

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> Tensor:
        """The feature [C, H, W] of one picture [1, C, H, W]; one that is no map is a map of one place.

        Raises:
            UsageError: it has other axes.
        """
        device = next((parameter.device for parameter in self.net.parameters()), torch.device("cpu"))
        value: Tensor = self.net(blobs=[self.blob], **{self.net.input_names[0]: torch.from_numpy(pictures).to(device)})[
            self.blob
        ]
        if value.dim() not in (2, 4) or len(value) != 1:
            raise UsageError(
                f"{self.model}: blob '{self.blob}' has the shape {list(value.shape)} for one picture, expected "
                "1 x C x H x W or 1 x C"
            )
        return value[0] if value.dim() == 4 else value[0, :, None, None]


def load_feature(branch: Branch, weights: str, seed: int = 0) -> Feature:
    """A net up to a feature, with its weights, for pictures of any size that it can take.

    Args:
        branch: what the feature depends on.
        weights: files, separated by commas; ``random``: as its fillers make them.
        seed: of random weights.

    Raises:
        UsageError: a layer for which there are no weights.
        WeightsError: a file of which no layer fits.
        CaffeCompatError: a file that cannot be used.
    """
    files = [] if weights == RANDOM else [part for part in weights.split(",") if part]
    known = blobs_in(files)
    net = Net(describe_net(branch.message(branch.size or (224, 224)), source=branch.path), known, fill=False)
    own = [
        node.name
        for number, node in enumerate(net.nodes)
        if any((number, index) not in net.plan.shared for index in range(len(node.layer.blobs)))
    ]
    if weights == RANDOM:
        net.share_with(random_net(branch, seed))
    elif own:
        held = [(file, blobs_in([file])) for file in files]
        if all(names.keys().isdisjoint(own) for _, names in held):
            check_fit(net.plan, branch.name, held)
        missing = [name for name in own if not known.get(name)]
        if missing:
            raise UsageError(
                f"{weights or 'no file'}: no weights for layer '{missing[0]}' of {branch.path}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + f"; '{RANDOM}' asks for random ones"
            )
        for file in files:
            net.copy_from(file, strict=None)
    return Feature(net, branch.blobs[0], branch.path, weights, branch.channels)


# -- all pairs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a unit answers.

    Attributes:
        pair: number of the pair.
        row, column: on the feature's map.
        value: the answer.
    """

    pair: int
    row: int
    column: int
    value: float


@dataclass(frozen=True)
class Answers:
    """The answers of all units of a feature to all pairs.

    Attributes:
        most: float32 [pairs, C], the largest of each pair.
        rows, columns: int32 [pairs, C], where that is; of equal ones the first.
        least: float32 [C], the smallest of all.
    """

    most: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    least: np.ndarray

    def top(self, unit: int, count: int) -> list[Place]:
        """The pairs to which a unit answers most, one place each, strongest first; of equal ones the first pair.

        Places where it answers no more than where it answers least are left out: a dead unit has none.
        """
        values = self.most[:, unit]
        order = np.argsort(-values, kind="stable")[:count]
        return [
            Place(int(pair), int(self.rows[pair, unit]), int(self.columns[pair, unit]), float(values[pair]))
            for pair in order
            if values[pair] > self.least[unit]
        ]

    def dead(self) -> np.ndarray:
        """bool [C]: which units answer the same everywhere."""
        result: np.ndarray = self.most.max(0) <= self.least
        return result


class Moments:
    """Means, variances and covariance of two sets of numbers that come in parts; after Chan, Golub and LeVeque."""

    def __init__(self, units: int) -> None:
        self.count = 0
        self.mean = np.zeros((2, units))
        self.square = np.zeros((2, units))
        self.product = np.zeros(units)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Numbers of all units, [C, N] each."""
        values = np.stack([first, second]).astype(np.float64)
        count, mean = values.shape[2], values.mean(2)
        off = values - mean[..., None]
        total = self.count + count
        delta, weight = mean - self.mean, self.count * count / total
        self.square += np.square(off).sum(2) + np.square(delta) * weight
        self.product += (off[0] * off[1]).sum(1) + delta[0] * delta[1] * weight
        self.mean += delta * (count / total)
        self.count = total

    def correlation(self) -> np.ndarray:
        """float64 [C]; NaN where one of the two does not vary."""
        spread = np.sqrt(self.square[0] * self.square[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = np.where(spread > 0, self.product / spread, np.nan).clip(-1, 1)
        return found


Parts = Callable[[tuple[int, int]], tuple[slice, slice]]
"""Height and width of a picture -> the rows and columns of a map that count."""


def answer(
    teacher: Feature, student: Feature, source: PairSource, parts: tuple[Parts, Parts] | None = None
) -> tuple[Answers, Answers, Moments]:
    """Run both nets on all pairs.

    Args:
        parts: for teacher and student, which places of the maps count (default: all).

    Raises:
        UsageError: features with different numbers of units, or maps that differ by more than one row or column.
        DataError: a feature that is NaN or infinite somewhere, or a picture that cannot be used.
    """
    found: list[list[tuple[np.ndarray, ...]]] = [[], []]
    moments: Moments | None = None
    for number in tqdm(range(len(source.pairs)), unit="pair", disable=None):
        blobs = source.blobs(number)
        maps = [
            _finite(feature, feature(blob), source, number)
            for feature, blob in zip((teacher, student), blobs, strict=True)
        ]
        _check(teacher, student, maps)
        cuts = [
            part((blob.shape[2], blob.shape[3])) if part else (slice(0, values.shape[1]), slice(0, values.shape[2]))
            for part, blob, values in zip(parts or (None, None), blobs, maps, strict=True)
        ]
        for values, cut, kept in zip(maps, cuts, found, strict=True):
            kept.append(_strongest(values, cut))
        moments = moments or Moments(len(maps[0]))
        shared = tuple(
            slice(max(cut[axis].start for cut in cuts), min(cut[axis].stop for cut in cuts)) for axis in (0, 1)
        )
        first, second = (values[:, *shared].reshape(len(values), -1) for values in maps)
        if first.size:
            moments.add(first, second)
    if moments is None:
        raise DataError(f"{source.source}: no pairs")
    one, other = (_gathered(kept) for kept in found)
    return one, other, moments


def _finite(feature: Feature, values: Tensor, source: PairSource, number: int) -> np.ndarray:
    array = values.cpu().numpy()
    if not np.isfinite(array).all():
        raise DataError(
            f"{feature.model}: blob '{feature.blob}' is NaN or infinite for line {source.pairs[number].line} of "
            f"{source.source}"
        )
    return array


def _check(teacher: Feature, student: Feature, maps: Sequence[np.ndarray]) -> None:
    one, other = (values.shape for values in maps)
    who = f"'{teacher.blob}' of {teacher.model} and '{student.blob}' of {student.model}"
    if one[0] != other[0]:
        raise UsageError(
            f"{who} have {one[0]} and {other[0]} units, expected pairs of units: of the student the adapted feature, "
            f"such as '{adapted(teacher.blob)}'"
        )
    if any(abs(a - b) > 1 for a, b in zip(one[1:], other[1:], strict=True)):
        raise UsageError(
            f"{who} have maps of {one[1]} x {one[2]} and {other[1]} x {other[2]}, expected a difference of at most one "
            "row or column"
        )


def _strongest(values: np.ndarray, cut: tuple[slice, slice]) -> tuple[np.ndarray, ...]:
    """Of a part of a feature [C, H, W]: largest number of each unit, its row and column, the smallest."""
    part = values[:, cut[0], cut[1]]
    flat = part.reshape(len(values), -1)
    place = flat.argmax(1)
    rows, columns = np.divmod(place, part.shape[2])
    found = [(first + part.start).astype(np.int32) for first, part in zip((rows, columns), cut, strict=True)]
    return flat[np.arange(len(flat)), place], *found, flat.min(1)


def _gathered(parts: Sequence[tuple[np.ndarray, ...]]) -> Answers:
    most, rows, columns, least = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    return Answers(most, rows, columns, least.min(0))


def choose_units(
    teacher: Answers, student: Answers, moments: Moments, how: str, count: int, seed: int = 0
) -> list[int]:
    """Numbers of units worth a look; those that answer the same everywhere, in either net, come last if at all.

    Args:
        how: ``explained``: the student's answers follow the teacher's most closely (correlation); ``strongest``: the
            teacher's largest answers; ``random``, by ``seed``, among all that answer.
        count: how many; there may be fewer units.

    Raises:
        UsageError: another way, or a count below 1.
    """
    if how not in CHOICES:
        raise UsageError(f"units by '{how}', expected one of {', '.join(CHOICES)}")
    if count < 1:
        raise UsageError(f"{count} units, expected 1 or more")
    alive = ~(teacher.dead() | student.dead())
    if how == "explained":
        worth = np.nan_to_num(moments.correlation(), nan=-2.0)
    elif how == "strongest":
        worth = teacher.most.max(0).astype(np.float64)
    else:
        worth = np.random.default_rng(seed).random(len(alive))
    order = np.lexsort((-worth, ~alive))
    return [int(unit) for unit in order[:count]]
