"""A solver that trains with others: each process makes passes of its own, and all make the same updates.

N processes are one whose ``iter_size`` is N times as large, to the rounding of sums.  As in Caffe the exception is
``clip_gradients``: gradients are averaged over processes before they are clipped, but only added up over the passes of
a process.  And as in Caffe every process gathers statistics of BatchNorm of its own batches; those of rank 0 are tested
and written.
"""

from __future__ import annotations

from collections.abc import Iterator

from caffe_compat import log
from caffe_compat.distributed.group import Group
from caffe_compat.distributed.same import check_same
from caffe_compat.errors import SolverError
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.net import Net
from caffe_compat.solver.averaging import Averaging
from caffe_compat.solver.core import Core
from caffe_compat.solver.restoring import Resumable

__all__ = ["join"]


def join(solver: Resumable, group: Group) -> None:
    """Let a solver that stands at its start train with those of the other processes of a group.

    Weights are those of rank 0 from now on; data layers read what is this process's part.

    Raises:
        SolverError: ``random_seed`` is not set, there are more processes than samples, or the lists and databases are
            not the same everywhere.
    """
    if not group.ranks.several:
        return
    group.use(solver.device)
    with group.together():
        _check(solver, group)
    check_same(group, dict(_facts(solver)))
    solver.group = group
    with group.together():
        for node in solver.net.nodes:
            node.layer.take_turns(group.ranks.turns())
        for net, share in zip(solver.test_nets, solver.test_shares(), strict=True):
            for node in net.nodes if share.own else ():
                node.layer.take_turns(share.turns)
    group.share_out(list(solver.net.parameters()))
    solver.averaging = Averaging(solver.engine, group)
    if solver.param.clip_gradients >= 0:
        log.info(
            f"clip_gradients is compared with the norm of the mean over {group.ranks.world} processes, as in Caffe",
            "parallel.cpp:208",
        )


def _check(solver: Core, group: Group) -> None:
    """Refuse what several processes cannot train."""
    param, world = solver.param, group.ranks.world
    if param.random_seed < 0:
        raise SolverError(f"random_seed is not set, but {world} processes need the same order of the data")
    for layer in _data_layers(solver.net):
        if layer.samples is None:
            continue
        if layer.samples < world:
            raise layer.error(f"there are more processes ({world}) than samples ({layer.samples})")
        taken = world * int(param.iter_size) * getattr(layer, "size", 1)
        if taken > layer.samples:
            log.warning(
                f"layer '{layer.name}' ({layer.params.type}): an iteration of {world} processes takes {taken} samples, "
                f"there are {layer.samples}",
                "parallel.cpp:208",
            )


def _data_layers(net: Net) -> Iterator[DataLayer]:
    return (node.layer for node in net.nodes if isinstance(node.layer, DataLayer))


def _facts(solver: Core) -> Iterator[tuple[str, str]]:
    """What tells the data of layers apart."""
    for net in (solver.net, *solver.test_nets):
        for layer in _data_layers(net):
            found = layer.identity()
            if found:
                source = getattr(layer, "source", "")
                what = (
                    f"file {source}" if source else f"database in layer '{layer.name}' ({net.description.state.phase})"
                )
                yield what, found
