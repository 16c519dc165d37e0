"""A model in float16 or in 8-bit integers, and how far it is from the one in float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from tqdm import tqdm

from caffe_compat.compare import Difference, difference, worst
from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import Preparation
from caffe_compat.net import Net
from caffe_compat.onnx.detections import are_rows, rows_difference
from caffe_compat.onnx.half import to_half
from caffe_compat.onnx.int8 import Target, to_int8
from caffe_compat.onnx.pictures import Feed, Item
from caffe_compat.onnx.roles import BOX_HEADS, matches
from caffe_compat.onnx.rounding import rounding_model
from caffe_compat.onnx.verify import open_session, random_cases

__all__ = ["TOLERANCES", "Agreement", "Largest", "Lowered", "Lower", "compare_models", "lower"]

Kind = Literal["float16", "int8"]
TOLERANCES: Mapping[str, float] = {"float16": 0.02, "int8": 0.5}
"""Largest error, relative to the largest magnitude of an output, that a model may have by default.

Generous: a sound model in float16 is a tenth of it away, one in int8 a fifth; what is beyond is broken.
"""
_HELD_OUT = 4  #: of so many pictures one is not measured with, but compared on


@dataclass(frozen=True)
class Lower:
    """What to make of a model in float32.

    Attributes:
        kind: ``float16`` or ``int8``.
        calibration: folder of pictures to measure ranges with; needed for ``int8``.
        agree: folder of pictures to compare on; by default every fourth of ``calibration``, which is then not measured
            with, and without that random inputs.
        wants: how pictures become inputs; needed for folders.
        keep: names of layers that stay in float32, beside those that always do; ``*`` in them stands for anything.
        target: what int8 is to run on, see :func:`~caffe_compat.onnx.int8.to_int8`.
        tolerance: largest relative error of an output; by default that of :data:`TOLERANCES`.
    """

    kind: Kind
    calibration: str | None = None
    agree: str | None = None
    wants: Preparation | None = None
    keep: Collection[str] = ()
    target: Target = "any"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.kind == "int8" and self.calibration is None:
            raise UsageError("int8 needs a folder of pictures to measure the ranges of values with")
        if (self.calibration or self.agree) and self.wants is None:
            raise UsageError("pictures are given, but not how they become inputs of the net (preprocessing)")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise UsageError(f"tolerance is {self.tolerance}, expected 0 or more")


@dataclass(frozen=True)
class Agreement:
    """How often the largest number along axis 1 of an output stands in the same place.

    Attributes:
        same, all: rows that agree, rows compared.
    """

    same: int
    all: int

    def __str__(self) -> str:
        return f"top-1 agrees on {self.same} of {self.all} ({100 * self.same / max(self.all, 1):.1f} %)"


@dataclass(frozen=True)
class Largest:
    """The largest magnitude that a value of float16 had.

    Attributes:
        name: of the value.
        size: infinite after an overflow.
    """

    name: str
    size: float


@dataclass(frozen=True)
class Lowered:
    """A model in low precision against the one in float32.

    Attributes:
        kind: ``float16`` or ``int8``.
        tolerance: that every output's relative error must not exceed.
        differences: per output.
        agreements: per output that has scores; empty where random inputs were compared.
        compared: on what.
        largest: among the values of float16, if there are any.
    """

    kind: Kind
    tolerance: float
    differences: Mapping[str, Difference]
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    compared: str = "random inputs"
    largest: Largest | None = None

    @property
    def refusal(self) -> str:
        """Why it is not to be delivered; empty if it is."""
        if self.largest is not None and np.isinf(self.largest.size):
            return (
                f"{self.kind}: value '{self.largest.name}' leaves the range of float16 (65504); keep the layer that "
                "makes it in float32 (--keep-float32)"
            )
        bad = ((name, found) for name, found in self.differences.items() if not found.within(self.tolerance))
        name, found = next(bad, ("", None))
        return f"{self.kind}: output '{name}' is off: {found} (tolerance {self.tolerance:g})" if found else ""

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{self.kind} against float32 on {self.compared}:"]
        for name, found in self.differences.items():
            agreement = f"; {self.agreements[name]}" if name in self.agreements else ""
            lines.append(f"{name}: error {found}{agreement}")
        if self.largest is not None:
            lines.append(f"largest value in float16: {self.largest.size:.4g} of 65504, '{self.largest.name}'")
        return lines


def lower(net: Net, model: onnx.ModelProto, wanted: Lower, device: str = "cpu") -> tuple[onnx.ModelProto, Lowered]:
    """Make the model that is wanted, and compare it.

    Args:
        net: that the model was exported from.
        model: in float32; it stays as it is.
        device: where ONNX Runtime runs.

    Raises:
        MissingFileError, DataError: a folder that is not there or holds no pictures, or one that cannot be used.
        UsageError: the net does not take pictures.
        ExportError: the model cannot be converted, or ONNX Runtime does not run it.
    """
    keep = (*BOX_HEADS, *wanted.keep)
    feed = Feed(net, model, wanted.wants) if wanted.wants else None
    measured, compared, said = _split(wanted, feed)
    if wanted.kind == "float16" or feed is None:
        result = to_half(model, keep)
    else:
        samples = _shown(feed, measured, "measuring")
        result = to_int8(model, samples, keep=keep, target=wanted.target)
    tolerance = TOLERANCES[wanted.kind] if wanted.tolerance is None else wanted.tolerance
    if feed is None or not compared:
        cases: Iterable[Mapping[str, np.ndarray]] = random_cases(net, model, None, np.random.default_rng(0))
    else:
        cases = _shown(feed, compared, "comparing")
    differences, agreements, largest = compare_models(model, result, cases, device)
    return result, Lowered(wanted.kind, tolerance, differences, agreements if compared else {}, said, largest)


def compare_models(
    reference: onnx.ModelProto, model: onnx.ModelProto, samples: Iterable[Mapping[str, np.ndarray]], device: str = "cpu"
) -> tuple[dict[str, Difference], dict[str, Agreement], Largest | None]:
    """Run a model in float32 and one made of it on the same samples.

    Values of float16 are rounded on every device, see ``rounding.py``.

    Returns:
        The largest difference for each output, infinite where the model gives NaN or infinities; for each that has
        several channels and does not move boxes, how often the largest is the same; and the largest value in float16.

    Raises:
        DataError: there are no samples.
        ExportError: ONNX Runtime refuses a model.
    """
    open_session(model, device)  # as it is, to see that it can be run
    checked, watched = rounding_model(model)
    first, second = open_session(reference, device), open_session(checked, device)
    comparing = _Comparing(watched)
    for sample in samples:
        inputs = {name: sample[name] for name in first.input_names}
        comparing.add(first(inputs), second(inputs))
    if not comparing.differences:
        raise DataError("there are no samples to compare the models on")
    differences = {name: worst(cases) for name, cases in comparing.differences.items()}
    return differences, comparing.agreements, comparing.largest


class _Comparing:
    """What is found so far.

    Args:
        watched: values of float16 by the output that tells how large they became.
    """

    def __init__(self, watched: Mapping[str, str]) -> None:
        self.watched = watched
        self.differences: dict[str, list[Difference]] = {}
        self.agreements: dict[str, Agreement] = {}
        self.largest: Largest | None = None

    def add(self, expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
        """Compare the outputs for one sample."""
        for output, value in self.watched.items():
            size = float(got[output]) if np.isfinite(got[output]) else np.inf
            if self.largest is None or size > self.largest.size:
                self.largest = Largest(value, size)
        for name, wanted in expected.items():
            self.differences.setdefault(name, []).append(_difference(got[name], wanted))
            if wanted.ndim > 1 and wanted.shape[1] > 1 and not matches(name, BOX_HEADS):
                same = wanted.argmax(1) == got[name].argmax(1)
                before = self.agreements.get(name, Agreement(0, 0))
                self.agreements[name] = Agreement(before.same + int(same.sum()), before.all + same.size)


def _difference(got: np.ndarray, expected: np.ndarray) -> Difference:
    """As everywhere, but that infinities never pass, and that rows of detections are paired."""
    infinite = int(np.isinf(got).sum())
    if infinite:
        return Difference(np.inf, np.inf, (got.shape,), f"{infinite} of {got.size} values are infinite")
    if are_rows(expected) and are_rows(got):
        return rows_difference(got, expected)
    return difference(got, expected)


def _split(wanted: Lower, feed: Feed | None) -> tuple[list[Item], list[Item], str]:
    """Pictures to measure with, pictures to compare on, and what to say of these."""
    if feed is None:
        return [], [], "random inputs"
    measured = feed.find(wanted.calibration) if wanted.calibration else []
    if wanted.agree:
        compared = feed.find(wanted.agree)
        return measured, compared, f"{len(compared)} pictures of {wanted.agree}"
    if len(measured) < _HELD_OUT:
        return measured, measured, f"the {len(measured)} pictures that were measured with (too few to hold some out)"
    compared = measured[_HELD_OUT - 1 :: _HELD_OUT]
    left = [item for index, item in enumerate(measured) if index % _HELD_OUT != _HELD_OUT - 1]
    return left, compared, f"{len(compared)} pictures of {wanted.calibration} that were not measured with"


def _shown(feed: Feed, items: Sequence[Item], what: str) -> Iterable[Mapping[str, np.ndarray]]:
    """Batches with a progress bar on a terminal."""
    bar: Iterable[Mapping[str, np.ndarray]] = tqdm(
        feed.batches(items), desc=what, total=feed.count(items), unit="batch", disable=None
    )
    return bar
