"""A transfer tried out: a few batches whose teacher's features are kept, and students trained on them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from caffe_compat.description import State, describe_net
from caffe_compat.description.names import adapted
from caffe_compat.net import Net
from caffe_compat.net.blobs import gradient_of
from caffe_compat.net.fit import check_fit
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import Stream
from caffe_compat.solver.actions import Action
from caffe_compat.solver.rules import solver_class
from caffe_compat.solver.solver import Solver
from caffe_compat.transfer.branch import ROIS
from caffe_compat.transfer.features import Transfer
from caffe_compat.transfer.nets import TransferNets
from caffe_compat.transfer.recipe import Schedule

__all__ = ["Batch", "Run", "Trial", "draw", "training_batches"]


@dataclass(frozen=True)
class Batch:
    """The second images of some pairs (N x 3 x H x W), the teacher's features of the first ones, unscaled, and the
    boxes (R x 5) of features over boxes.
    """

    images: Tensor
    targets: tuple[Tensor, ...]
    rois: Tensor | None = None


@dataclass
class Run:
    """What happened in a short training.

    Attributes:
        losses: of every iteration.
        gradients: L2 norm of all gradients of every iteration, before clipping.
        dead: per feature, part of the adaptation's units that are zero on all batches at the end, of those whose
            target is not.
    """

    losses: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)


def draw(transfer: Transfer, weights: Sequence[str], count: int, seed: int, device: torch.device) -> list[Batch]:
    """The first ``count`` training batches, with the features of the teacher that has these weights.

    Raises:
        WeightsError: weights of which no layer fits.
        CaffeCompatError: an image or a file that cannot be used.
    """
    return list(itertools.islice(training_batches(transfer, weights, seed, device), count))


def training_batches(
    transfer: Transfer, weights: Sequence[str], seed: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The training batches without end, as :func:`draw` gives the first ones.

    Raises:
        CaffeCompatError: as there.
    """
    nets = TransferNets(transfer)
    message = caffe_pb2.NetParameter(name=transfer.teacher.name)
    message.layer.extend(nets.teacher_side())
    held = [(file, blobs_in([file])) for file in weights]
    filled: dict[str, set[int]] = {}
    for name, blobs in (item for _, one in held for item in one.items()):
        filled.setdefault(name, set()).update(blobs)
    description = describe_net(message, State("TRAIN"), source=transfer.teacher.path)
    names = [feature.teacher for feature in transfer.features]
    wanted = [nets.student_input, *names, *([ROIS] if transfer.over_boxes else [])]
    with Stream(seed).use():
        net = Net(description, filled).to(device)
    check_fit(net.plan, description.name, held)
    for file in weights:
        net.copy_from(file, strict=None)
    while True:
        with torch.no_grad():
            found = net(blobs=wanted)
        yield Batch(found[nets.student_input], tuple(found[name] for name in names), found.get(ROIS))


class Trial:
    """A fresh student of a transfer, without the teacher, and batches to feed it with.

    Args:
        schedule: its ``base_lr`` stays the rate for all iterations.
        batches: taken round and round.
    """

    def __init__(self, transfer: Transfer, schedule: Schedule, batches: Sequence[Batch], device: torch.device) -> None:
        self.transfer, self.schedule, self.batches = transfer, schedule, batches
        nets = TransferNets(transfer)
        self._input = nets.student_input
        message = caffe_pb2.NetParameter(name="trial")
        shapes = {blob: tuple(values.shape) for blob, values in self._inputs(batches[0]).items()}
        message.layer.extend(nets.student_side(shapes))
        param = caffe_pb2.SolverParameter(
            net_param=message,
            base_lr=schedule.base_lr,
            lr_policy="fixed",
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            random_seed=schedule.random_seed,
            max_iter=schedule.max_iter,
        )
        if schedule.clip_gradients:
            param.clip_gradients = schedule.clip_gradients
        self.solver: Solver = solver_class(param)(param, [], device)
        if transfer.recipe.student_weights:
            self.solver.net.copy_from(transfer.recipe.student_weights, strict=None)

    def train(self, iterations: int) -> Run:
        """Some iterations, fewer where the loss leaves all bounds; what happened."""
        solver, run = self.solver, Run()

        def start() -> None:
            self._feed(self.batches[solver.iter % len(self.batches)])

        def ready() -> None:
            norms = [gradient_of(learnable.parameter).norm() for learnable in solver.learnables]
            run.gradients.append(float(torch.stack(norms).norm()))

        def done(iteration: int, loss: float) -> None:
            run.losses.append(solver.smoothed_loss)

        def poll() -> Action:
            lost = bool(run.losses) and not run.losses[-1] <= 1e6 * (1 + run.losses[0])
            return Action.STOP if lost else Action.NONE

        solver.on_start, solver.on_gradients_ready = [start], [ready]
        solver.on_iteration, solver.poll = done, poll
        solver.step(iterations)
        run.dead = self._dead()
        return run

    def feature_norms(self) -> list[float]:
        """Per feature of the student, before the adaptation: its mean norm over the channels at a location."""
        totals, counts = [0.0] * len(self.transfer.features), [0] * len(self.transfer.features)
        for batch in self.batches:
            self._forward(batch)
            for index, feature in enumerate(self.transfer.features):
                norms = self._bottom(feature.teacher).norm(dim=1)
                totals[index] += float(norms.double().sum())
                counts[index] += norms.numel()
        return [total / count if math.isfinite(total) else total for total, count in zip(totals, counts, strict=True)]

    def _dead(self) -> list[float]:
        """Per feature, which part of the adaptation's units never is above zero where the teacher's is somewhere.

        The sigmoid loss has a gradient there too: none is dead.
        """
        if self.transfer.recipe.loss == "sigmoid":
            return [0.0] * len(self.transfer.features)
        names = [adapted(feature.teacher) for feature in self.transfer.features]
        alive, wanted = ([torch.zeros((), dtype=torch.bool)] * len(names) for _ in range(2))
        for batch in self.batches:
            self._forward(batch)
            for index, name in enumerate(names):
                alive[index] = alive[index] | _positive(self.solver.engine.blob(name).tensor)
                wanted[index] = wanted[index] | _positive(batch.targets[index])
        return [float((want & ~on).sum() / want.sum().clamp(min=1)) for want, on in zip(wanted, alive, strict=True)]

    def _bottom(self, feature: str) -> Tensor:
        engine = self.solver.engine
        (node,) = (node for node in engine.net.nodes if node.name == adapted(feature))
        return engine.blobs[node.bottom_ids[0]].tensor

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What a batch puts into the net, by blob."""
        names = [feature.teacher for feature in self.transfer.features]
        boxes = {} if batch.rois is None else {ROIS: batch.rois}
        return {self._input: batch.images, **boxes, **dict(zip(names, batch.targets, strict=True))}

    def _feed(self, batch: Batch) -> None:
        for blob, values in self._inputs(batch).items():
            self.solver.engine.blob(blob).set_data(values)

    def _forward(self, batch: Batch) -> None:
        self._feed(batch)
        self.solver.engine.forward()


def _positive(values: Tensor) -> Tensor:
    """Which units (axis 1) are above zero anywhere; on the CPU."""
    return (values.transpose(0, 1).flatten(1) > 0).any(1).cpu()
