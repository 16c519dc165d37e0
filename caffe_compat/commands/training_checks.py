"""What our training tools refuse or tell before the first iteration; Caffe's own programs go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caffe_compat import log
from caffe_compat.errors import WeightsError
from caffe_compat.net.fit import refuse_foreign
from caffe_compat.net.weights import blobs_in, is_nothing
from caffe_compat.solver.solver import Solver

__all__ = ["check_start", "shorten_tests"]

SOURCE = "caffe.cpp:239"


def check_start(solver: Solver, weights: Sequence[str]) -> None:
    """Look at a solver that is built and has its weights.

    Args:
        weights: files it started from.

    Raises:
        WeightsError: a file of which no layer fits, or a frozen layer without weights.
    """
    files = [file for file in weights if not is_nothing(file)]
    refuse_foreign(solver.net.plan, solver.net.description.name, [(file, blobs_in([file])) for file in files])
    _refuse_empty_teacher(solver)


def _refuse_empty_teacher(solver: Solver) -> None:
    """A layer that no update changes and whose weights are all zero gives the same whatever it sees."""
    gathering = {node.name for node in solver.net.nodes if node.layer.gathers}
    rates: dict[str, float] = {}
    empty = []
    for learnable in solver.learnables:
        rates[learnable.layer] = max(rates.get(learnable.layer, 0.0), learnable.lr_mult)
    for learnable in solver.learnables:
        frozen = rates[learnable.layer] == 0 and learnable.layer not in gathering
        if frozen and learnable.index == 0 and not bool(learnable.parameter.any()):
            empty.append(learnable.layer)
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise WeightsError(
            f"layer '{empty[0]}'{more} of net '{solver.net.description.name}' have lr_mult 0 and no weights: a teacher "
            "without weights teaches nothing; give --weights (random ones: make_transfer --teacher-weights random)"
        )


def shorten_tests(solver: Solver) -> None:
    """Let no test go more than once through its list, and say so; of several lists the longest counts."""
    for number, net in enumerate(solver.test_nets):
        there = {node.name: node.layer.batches for node in net.nodes if node.layer.batches is not None}
        if not there:
            continue
        name, batches = max(there.items(), key=lambda item: item[1])
        asked, whole = solver.param.test_iter[number], math.ceil(batches)
        if asked > whole > 0:
            solver.param.test_iter[number] = whole
            log.warning(
                f"test_iter is {asked}, but layer '{name}' of test net #{number} has only {batches:g} batches, of "
                f"which each would be tested {asked / batches:.3g} times: tests take {whole}",
                SOURCE,
            )
