"""How a transfer starts, so that it works with any pair of nets: all of it measured on the pairs.

Features of different nets differ in size by factors of a thousand, and so do the activations of fresh students.  With
fixed numbers some pair of nets always diverges, or drives its adaptation below zero in the first steps, where a ReLU
passes no gradient any more.  Instead:

* The teacher's feature is scaled to a mean norm of :data:`NORM` at a location; the loss is divided by that.
* Every unit of the adaptation starts at a quarter of the mean of the scaled targets, with weights so small that they
  add a third of that: no unit is dead at the start, and few die soon after.  Most units of a trained teacher are well
  below the mean; started there, all fall at once, and with momentum many of them fall below zero.
* A student whose first weights follow MSRA's or Xavier's rule gets smaller ones, so that its feature is about
  :data:`STUDENT_NORM` large: pixels are a hundred times larger than what these rules expect.  (BatchNorm undoes that;
  nets with it keep their own, and so do students that start from trained weights.)
* For the sigmoid loss: alpha and tau, where they are to be measured, and biases with which every unit is on as often
  as the teacher's are.
* Gradients are clipped at a norm of :data:`CLIP`, which at the usual rate moves a layer by about 1 % an iteration.
* The rate is the largest at which a short training on a few batches makes all of them better and nothing dies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from caffe_compat.errors import UsageError
from caffe_compat.transfer.features import Feature, Transfer
from caffe_compat.transfer.nets import TransferNets
from caffe_compat.transfer.recipe import CLIP, Recipe, Schedule
from caffe_compat.transfer.trial import Batch, Run, Trial, draw

__all__ = ["CLIP", "ITERATIONS", "NORM", "STUDENT_NORM", "Start", "Verdict", "judge", "measure_start"]

NORM = 10.0
STUDENT_NORM = 20.0
BIAS = 0.25
"""The adaptation's first biases, as part of the mean of the targets."""
STEEP, RARE = 4.0, 0.01
"""Of the sigmoid loss: alpha is so many times 1 / the standard deviation; units start no less often on than this."""
ITERATIONS = 30
BATCHES = 6
SIDES = (224, 288)
"""Height and width beyond which a trial takes crops of the frames."""
TOO_LARGE = 3.0
"""A student's feature is made smaller or larger from this factor on."""
MOST_DEAD = 0.1
"""Part of the adaptation's units, among those that have something to learn."""
SPIKE = 2.0
"""A loss so many times that of the same batch at its first turn is no falling loss."""
LOWEST = 1e-7


@dataclass(frozen=True)
class Verdict:
    """What one rate did.

    Attributes:
        rate: the base_lr that was tried.
        first, last: mean loss over the batches, the first and the last time round.
        largest: largest loss.
        gradient: median norm of the gradient before clipping.
        dead: largest part of dead units of an adaptation.
        reason: why it is no rate to train with; empty if it is one.
    """

    rate: float
    first: float
    last: float
    largest: float
    gradient: float
    dead: float
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.rate:10.3g} {self.first:10.4g} {self.last:10.4g} {self.largest:10.4g} {self.gradient:10.3g} "
            f"{100 * self.dead:7.1f}   {self.reason or 'stable'}"
        )


HEAD = "      rate loss first       last    largest   gradient  dead %"


@dataclass(frozen=True)
class Start:
    """A transfer ready to train: the recipe with what was measured, and the schedule."""

    transfer: Transfer
    schedule: Schedule
    table: tuple[Verdict, ...]


def measure_start(
    transfer: Transfer,
    schedule: Schedule,
    weights: Sequence[str],
    device: torch.device,
    tell: Callable[[str], None] = lambda line: None,
    sweep: int = ITERATIONS,
) -> Start:
    """Choose scale, first weights, clipping and rate of a transfer whose mean norms are known.

    What the recipe and the schedule say already stays: scales, gradient clipping.  ``base_lr`` is the largest rate
    that is tried.

    Args:
        weights: the teacher's weights files.
        tell: gets the lines of the table, one after the other.
        sweep: iterations per rate; 0: the rate stays ``base_lr``.

    Raises:
        UsageError: a feature of the teacher that is zero everywhere, a student whose feature is, or no rate at which
            the loss falls.
        CaffeCompatError: weights or images that cannot be used.
    """
    small = Transfer(_small(transfer), transfer)
    batches = draw(small, weights, BATCHES, schedule.random_seed, device)
    changes = _scaled(small, batches, tell)
    small = Transfer(replace(small.recipe, **changes), small)
    if small.recipe.loss == "sigmoid":
        changes |= _odds(small, batches)
        small = Transfer(replace(small.recipe, **changes), small)
    if schedule.clip_gradients is None:
        schedule = replace(schedule, clip_gradients=CLIP)
    changes |= _first_weights(small, schedule, batches, device)
    small = Transfer(replace(small.recipe, **changes), small)
    table: list[Verdict] = []
    if sweep:
        table = _sweep(small, replace(schedule, max_iter=max(sweep, 2 * BATCHES)), batches, device, tell)
        schedule = replace(schedule, base_lr=table[-1].rate)
    return Start(Transfer(replace(transfer.recipe, **changes), transfer), schedule, tuple(table))


def _small(transfer: Transfer) -> Recipe:
    """The recipe with images no larger than a trial needs."""
    recipe = transfer.recipe
    size = recipe.size
    if transfer.teacher.fixed or transfer.student.fixed or (size[0] <= SIDES[0] and size[1] <= SIDES[1]):
        return recipe
    return replace(recipe, crop=(min(size[0], SIDES[0]), min(size[1], SIDES[1])))


def _scaled(transfer: Transfer, batches: Sequence[Batch], tell: Callable[[str], None]) -> dict[str, Any]:
    """Scales that make every feature :data:`NORM` large, and mean norms where they were not measured."""
    recipe = transfer.recipe
    norms = list(recipe.mean_norms)
    for index, feature in enumerate(transfer.features):
        found = [batch.targets[index].double() for batch in batches]
        if not any(bool((values > 0).any()) for values in found):
            raise UsageError(
                f"'{feature.teacher}' of {recipe.teacher} is nowhere above zero on the first {len(batches)} batches; "
                "are these its weights, and is it the feature after its ReLU?"
            )
        if len(norms) == index:
            places = torch.cat([values.norm(dim=1).flatten() for values in found])
            norms.append(_digits(float(places.mean())))
            what = "boxes" if feature.over_boxes else "locations"
            tell(f"{feature.teacher}: mean norm {norms[-1]:g} over {len(places)} {what} of {len(found)} batches")
    scales = recipe.scales or tuple(_digits(NORM / norm, 3) for norm in norms)
    return {"mean_norms": tuple(norms), "scales": scales}


def _odds(transfer: Transfer, batches: Sequence[Batch]) -> dict[str, Any]:
    """alpha = 4 / the standard deviation of the scaled feature, and tau = the median of what is above 0 of it."""
    alphas, taus = [], []
    for index, feature in enumerate(transfer.features):
        values = _values(batches, index) * (feature.scale or 1.0)
        alphas.append(_digits(STEEP / float(values.std())) if feature.alpha is None else feature.alpha)
        taus.append(_digits(float(values[values > 0].median())) if feature.tau is None else feature.tau)
    return {"alphas": tuple(alphas), "taus": tuple(taus)}


def _values(batches: Sequence[Batch], index: int) -> Tensor:
    """All numbers of one of the teacher's features (n)."""
    return torch.cat([batch.targets[index].double().flatten() for batch in batches])


def _adaptation(feature: Feature, norm: float, values: Tensor, loss: str) -> tuple[float, float]:
    """Deviation of an adaptation's weights and value of its biases.

    Args:
        norm: mean norm of the student's feature.
        values: the teacher's numbers, not scaled.
    """
    scaled = values * (feature.scale or 1.0)
    if loss != "sigmoid":
        bias = BIAS * float(scaled.clamp(min=0).mean())
        return _digits(bias / (3 * norm), 3), _digits(bias, 3)
    alpha = feature.alpha or 1.0
    on = min(max(float((scaled > (feature.tau or 0.0)).double().mean()), RARE), 1 - RARE)
    return _digits(1 / (3 * norm * alpha), 3), _digits(math.log(on / (1 - on)) / alpha, 3)


def _first_weights(
    transfer: Transfer, schedule: Schedule, batches: Sequence[Batch], device: torch.device
) -> dict[str, Any]:
    """The first layer's standard deviation where it is ours to choose; weights and biases of the adaptation."""
    recipe = transfer.recipe
    trial = Trial(transfer, schedule, batches, device)
    norms = _student_norms(trial, transfer)
    changes: dict[str, Any] = {}
    own = "" if recipe.student_weights else TransferNets(transfer).first_filled  # trained ones stay
    if own and not STUDENT_NORM / TOO_LARGE <= max(norms) <= STUDENT_NORM * TOO_LARGE:
        std = float(trial.solver.net.layer(own).blob(0).detach().std()) * STUDENT_NORM / max(norms)
        smaller: dict[str, Any] = {"first_std": _digits(std, 3)}
        trial = Trial(Transfer(replace(recipe, **smaller), transfer), schedule, batches, device)
        found = _student_norms(trial, transfer)
        if abs(math.log(max(found) / STUDENT_NORM)) < abs(math.log(max(norms) / STUDENT_NORM)) / 2:
            changes, norms = smaller, found  # not where BatchNorm makes up for it
    starts = [
        _adaptation(feature, norm, _values(batches, index), recipe.loss)
        for index, (feature, norm) in enumerate(zip(transfer.features, norms, strict=True))
    ]
    stds, biases = zip(*starts, strict=True)
    return changes | {"adapt_stds": stds, "adapt_biases": biases}


def _student_norms(trial: Trial, transfer: Transfer) -> list[float]:
    norms = trial.feature_norms()
    for norm, feature in zip(norms, transfer.features, strict=True):
        if not (norm > 0 and math.isfinite(norm)):
            recipe = transfer.recipe
            if recipe.student_weights:
                who, advice = f"{recipe.student} with {recipe.student_weights}", "are these its weights?"
            else:
                who, advice = f"a fresh {recipe.student}", "see its fillers, or give --filler msra"
            raise UsageError(
                f"'{feature.student}' of {who} has the mean norm {norm:g}, from which nothing can be learned; {advice}"
            )
    return norms


def _sweep(
    transfer: Transfer,
    schedule: Schedule,
    batches: Sequence[Batch],
    device: torch.device,
    tell: Callable[[str], None],
) -> list[Verdict]:
    """Rates from ``base_lr`` down, to the first at which training is stable."""
    table: list[Verdict] = []
    clipped = f"clipped at {schedule.clip_gradients:g}" if schedule.clip_gradients else "not clipped"
    tell(f"rates tried for {schedule.max_iter} iterations on {len(batches)} batches, gradients {clipped}:")
    tell(HEAD)
    rate, steps = schedule.base_lr, 0
    while rate >= LOWEST:
        trial = Trial(transfer, replace(schedule, base_lr=rate), batches, device)
        table.append(judge(trial.train(schedule.max_iter), rate, schedule.max_iter, len(batches)))
        tell(str(table[-1]))
        if not table[-1].reason:
            return table
        steps += 1
        rate = _digits(schedule.base_lr * 10 ** -(steps // 2) * (0.3 if steps % 2 else 1), 3)
    names = " and ".join(feature.student for feature in transfer.features)
    raise UsageError(
        f"'{names}' of {transfer.recipe.student} learns '{' and '.join(transfer.recipe.layers)}' of "
        f"{transfer.recipe.teacher} at no rate from {schedule.base_lr:g} down to {LOWEST:g}: {table[-1].reason}"
    )


def judge(run: Run, rate: float, iterations: int, turn: int) -> Verdict:
    """Whether a short training was stable.

    Args:
        iterations: that were asked for.
        turn: number of batches, taken in turn.
    """
    losses = run.losses
    first, last = (sum(part) / max(len(part), 1) for part in (losses[:turn], losses[-turn:]))
    gradient = sorted(run.gradients)[len(run.gradients) // 2]
    dead = max(run.dead)
    spikes = [loss / losses[number % turn] for number, loss in enumerate(losses) if losses[number % turn] > 0]
    if len(losses) < iterations or not all(map(math.isfinite, losses)):
        reason = "diverges"
    elif not last < first:
        reason = "the loss does not fall"
    elif max(spikes, default=0) > SPIKE:
        reason = "the loss has spikes"
    elif dead > MOST_DEAD:
        reason = "units die"
    else:
        reason = ""
    return Verdict(rate, first, last, max(losses), gradient, dead, reason)


def _digits(value: float, count: int = 6) -> float:
    return float(f"{value:.{count}g}")
