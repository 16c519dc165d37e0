"""Snapshots of a solver, and going on from them."""

from __future__ import annotations

import os

from caffe_compat import log
from caffe_compat.errors import in_file
from caffe_compat.net.fit import tell_ignored
from caffe_compat.proto.state import SolverState
from caffe_compat.solver import snapshots
from caffe_compat.solver.config import tests_before
from caffe_compat.solver.core import Core
from caffe_compat.solver.finite import check_weights
from caffe_compat.solver.later import Verdicts
from caffe_compat.solver.policies import Plateau
from caffe_compat.solver.test_shares import TestShare

__all__ = ["Resumable"]


class Resumable(Core):
    """A solver that writes what it holds, and takes it back."""

    def snapshot(self) -> tuple[str, str]:
        """Write weights and solver state; returns both paths.

        Of several processes rank 0 writes, once all have its statistics (of BatchNorm), and the others wait.

        Raises:
            SolverError: with ``stop_at_nan``, a weight that is not finite; nothing is written.
        """
        self.engine.write_back()
        self._settle()
        self.share_statistics()
        written = self._write() if self.group.ranks.is_first else ("", "")
        model, self.resume_from = self.group.same([*written])
        return model, self.resume_from

    def share_statistics(self) -> None:
        """Let all processes have the statistics that rank 0 has gathered: those are tested and written, as in Caffe."""
        self.group.share_out([blob for blob in self.net.parameters() if not blob.requires_grad])

    def _write(self) -> tuple[str, str]:
        if self.stop_at_nan:
            check_weights(self.engine, self.iter)
        values = tuple(blob.detach().cpu().numpy() for blob in self.history)
        remembered = (self.plateau.minimum_loss, self.plateau.last_event)
        plateau = remembered if self.param.lr_policy == "plateau" else None
        scale = None
        if self._scale is not None:
            scale = self._scale.get()
        state = SolverState(self.iter, "", self.current_step, values, plateau, scale)
        with self.around_snapshot(snapshots.stem(self.param, self.iter)):
            return snapshots.write(self.param, self.net, state, self.on_weights)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a ``.solverstate`` (binary or HDF5) and the weights it names.

        Data layers go on where an uninterrupted run would be.

        Raises:
            SolverError: the state is that of another net or solver.
            WeightsError: its weights are.
        """
        state = snapshots.read(path)
        self.engine.write_back()
        with in_file(path):
            history = snapshots.history(state.history, self.history, self.learnables, self.type_name)
        if state.learned_net:
            tell_ignored(self.net.copy_from(state.learned_net, strict=None))
        self.on_restore(os.fspath(path))
        if not snapshots.is_hdf5(path):
            log.info("SGDSolver: restoring history", "sgd_solver.cpp:318")
        for mine, theirs in zip(self.history, history, strict=True):
            mine.copy_(theirs)
        if self._scale is not None and state.loss_scale is not None:
            self._scale.set(*state.loss_scale)
        elif state.loss_scale is not None:
            log.warning(
                f"{os.fspath(path)} was trained in float16 (amp fp16); this run goes on without", "solver.cpp:279"
            )
        self._resting.know(history)
        self._watch.forget()
        self._verdicts = Verdicts()
        self.iter, self.current_step = state.iter, state.current_step
        self.plateau = Plateau(*state.plateau) if state.plateau else Plateau()
        self.seek_data()

    def seek_data(self) -> None:
        """Move the data layers to where they would be after ``iter`` iterations of as many processes as there are."""
        for node in self.net.nodes:
            node.layer.seek(self.iter * self.param.iter_size)
        tests = tests_before(self.param, self.iter)
        for net, share in zip(self.test_nets, self.test_shares(), strict=True):
            for node in net.nodes:
                node.layer.seek(tests * share.own)

    def test_shares(self) -> list[TestShare]:
        """Of each test net the batches that this process tests with."""
        counts = zip(self.test_nets, self.param.test_iter, strict=True)
        return [TestShare.of(net.nodes, int(count), self.group.ranks) for net, count in counts]
