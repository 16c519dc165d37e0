"""Outputs of nets, printed as Caffe prints them and averaged over test iterations."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.distributed.group import Group
from caffe_compat.errors import SolverError
from caffe_compat.net import BlobNet
from caffe_compat.net.precision import widened
from caffe_compat.solver.detection_scores import VERSIONS, class_precisions, mean_precision

__all__ = ["Scores", "output_lines", "outputs", "precision_asked", "score", "tell_display"]


def precision_asked(param: Any) -> str:
    """SSD's ``eval_type: "detection"``: its ``ap_version``; ``""`` for plain means.

    Raises:
        SolverError: no such kind of evaluation.
    """
    if param.eval_type not in ("classification", "detection"):
        raise SolverError(f"eval_type is '{param.eval_type}', expected classification or detection")
    if param.eval_type == "classification":
        return ""
    if param.ap_version not in VERSIONS:
        raise SolverError(f"ap_version is '{param.ap_version}', expected one of {', '.join(VERSIONS)}")
    return str(param.ap_version)


def outputs(engine: BlobNet) -> dict[int, np.ndarray]:
    """The outputs of the last forward pass, by number of the blob."""
    return {blob: widened(engine.blobs[blob].tensor.detach()).cpu().numpy() for blob in engine.net.plan.outputs}


def output_lines(engine: BlobNet, values: Mapping[int, np.ndarray], weighted: bool = True) -> Iterator[str]:
    """One line per element: ``NAME = V``, and if ``weighted`` what a loss counts: ``NAME = V (* W = WV loss)``."""
    for blob, array in values.items():
        weight = engine.net.plan.losses.get(blob, 0.0) if weighted else 0.0
        for value in np.ravel(array):
            loss = f" (* {log.number(weight)} = {log.number(weight * value)} loss)" if weight else ""
            yield f"{engine.names[blob]} = {log.number(value)}{loss}"


def tell_display(engine: BlobNet, iteration: int, loss: float, every: int, since: tuple[int, float]) -> None:
    """Log a displayed iteration and the net's outputs.

    Args:
        loss: smoothed.
        every: iterations from display to display.
        since: iterations since the last, and the seconds that they took.
    """
    done, seconds = since
    rate = done / seconds if seconds > 0 else 0.0
    log.info(
        f"Iteration {iteration} ({log.number(rate)} iter/s, {log.number(seconds)}s/{every} iters), "
        f"loss = {log.number(loss)}",
        "solver.cpp:218",
    )
    for number, line in enumerate(output_lines(engine, outputs(engine))):
        log.info(f"    Train net output #{number}: {line}", "solver.cpp:237")


class Scores:
    """Mean of every output element over test iterations.

    Outputs of layers with ``running_metric`` cover the whole test already: of those the last value counts.

    Attributes:
        complete: whether all iterations were done.
    """

    def __init__(self, engine: BlobNet, precision: str = "") -> None:
        self.engine, self.complete, self.precision = engine, True, precision
        self._rows: dict[int, dict[int, np.ndarray]] = {}
        self._sums: dict[int, np.ndarray] = {}
        self._losses: dict[int, float] = {}
        self._running: set[int] = set()
        for node in engine.net.nodes:
            node.layer.start_over()
            if node.layer.running_metric:
                self._running |= set(node.top_ids)

    def add(self, loss: float, number: int | None = None) -> None:
        """Take the outputs of the last forward pass, of batch ``number`` (by default the one that comes next)."""
        place = len(self._losses) if number is None else number
        self._losses[place] = loss
        for blob, value in outputs(self.engine).items():
            if self.precision:
                rows = value.reshape(-1, value.shape[-1] if value.ndim else 1).copy()
                self._rows.setdefault(blob, {})[place] = rows
            elif blob in self._running or blob not in self._sums:
                self._sums[blob] = value.astype(np.float64)
            else:
                self._sums[blob] = self._sums[blob] + value

    def unite(self, group: Group, divided: bool) -> None:
        """Have the scores of all batches in every process of a group.

        Args:
            divided: whether every process has tested with some of the batches; else rank 0 has with all.
        """
        if not group.ranks.several:
            return
        parts = [_unpacked(part) for part in group.gather(_packed(self._losses, self._sums, self._rows))]
        self._losses = dict(sorted((number, loss) for part in parts for number, loss in part[0].items()))
        rows = [(blob, *row) for part in parts for blob, found in part[2].items() for row in found.items()]
        self._rows = {}
        for blob, number, values in sorted(rows, key=lambda row: row[1]):
            self._rows.setdefault(blob, {})[number] = values
        sums, self._sums = [part[1] for part in parts], {}
        for blob in self.engine.net.plan.outputs:
            found = [part[blob] for part in sums if blob in part]
            if found:
                self._sums[blob] = found[0] if blob in self._running else np.asarray(sum(found[1:], found[0]))
        if divided:
            self._unite_running(group)

    def _unite_running(self, group: Group) -> None:
        """Let layers with a score over a whole test say what it is over the batches of all processes."""
        for node in self.engine.net.nodes:
            if node.layer.running_metric:
                value = node.layer.unite(lambda part: torch.from_numpy(group.total(part.numpy())))
                if value is not None and node.top_ids[0] in self._sums:
                    self._sums[node.top_ids[0]] = value.double().numpy()

    def loss(self) -> float:
        """Mean loss."""
        return sum(self._losses.values()) / max(len(self._losses), 1)

    def means(self) -> dict[int, np.ndarray]:
        """Mean of every output, by number of the blob; with ``precision`` that average precision of its rows."""
        if self.precision:
            rows = {blob: np.concatenate(list(found.values())) for blob, found in self._rows.items()}
            return {blob: np.array(mean_precision(found, self.precision)) for blob, found in rows.items()}
        count = max(len(self._losses), 1)
        return {blob: total if blob in self._running else total / count for blob, total in self._sums.items()}

    def class_lines(self) -> Iterator[str]:
        """Of ``show_per_class_result``: one line for each class of each output that DetectionEvaluate counts."""
        for found in self._rows.values():
            for label, value in class_precisions(np.concatenate(list(found.values())), self.precision).items():
                yield f"Missing true_pos for label: {label}" if value is None else f"class{label}: {log.number(value)}"

    def named(self) -> dict[str, Any]:
        """Mean of every output, by name; scalars as floats."""
        means = self.means().items()
        return {self.engine.names[blob]: float(mean) if np.ndim(mean) == 0 else mean for blob, mean in means}


Parts = tuple[dict[int, float], dict[int, np.ndarray], dict[int, dict[int, np.ndarray]]]


def _packed(
    losses: Mapping[int, float], sums: Mapping[int, np.ndarray], rows: Mapping[int, Mapping[int, np.ndarray]]
) -> bytes:
    """The scores of a process as bytes; see :func:`_unpacked`."""
    stream = io.BytesIO()
    arrays: dict[str, Any] = {f"sum/{blob}": values for blob, values in sums.items()}
    arrays |= {f"rows/{blob}/{number}": values for blob, found in rows.items() for number, values in found.items()}
    np.savez(stream, numbers=np.array([*losses], np.int64), losses=np.array([*losses.values()], np.float64), **arrays)
    return stream.getvalue()


def _unpacked(data: bytes) -> Parts:
    """Losses by batch, sums by blob, rows by blob and batch."""
    sums: dict[int, np.ndarray] = {}
    rows: dict[int, dict[int, np.ndarray]] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        losses = dict(zip(held["numbers"].tolist(), held["losses"].tolist(), strict=True))
        for name in held.files:
            kind, *numbers = name.split("/")
            if kind == "sum":
                sums[int(numbers[0])] = held[name]
            elif kind == "rows":
                rows.setdefault(int(numbers[0]), {})[int(numbers[1])] = held[name]
    return losses, sums, rows


def score(
    engine: BlobNet,
    iterations: int,
    go_on: Callable[[], bool] = lambda: True,
    seen: Callable[[int], None] = lambda number: None,
    precision: str = "",
) -> Scores:
    """Run a net and average its outputs.

    Args:
        iterations: how many batches.
        go_on: asked before every batch.
        seen: called after every batch, with its number.
        precision: of :func:`precision_asked`.

    Returns:
        The scores; not ``complete`` if ``go_on`` said no.
    """
    scores = Scores(engine, precision)
    for number in range(iterations):
        if not go_on():
            scores.complete = False
            break
        scores.add(engine.forward())
        seen(number)
    return scores
