"""The solver template: everything that the six update rules have in common.

One iteration is clear -> test -> forward and backward (iter_size times) -> clip -> normalise -> regularise -> update
-> snapshot, in BVLC Caffe 1.0's order (``solver.cpp``, ``sgd_solver.cpp``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.net.blobs import gradient_of
from caffe_compat.net.exhausted import updating
from caffe_compat.solver import lock
from caffe_compat.solver.actions import Action
from caffe_compat.solver.adaptive import adapted
from caffe_compat.solver.later import Later, SmoothedLoss
from caffe_compat.solver.policies import learning_rate, momentum
from caffe_compat.solver.scores import tell_display
from caffe_compat.solver.testing import Tested
from caffe_compat.solver.updates import part_of, update

__all__ = ["Solver"]


class Solver(Tested):
    """Trains; see :class:`~caffe_compat.solver.core.Core` for arguments and attributes, and
    :mod:`caffe_compat.solver.rules` for the update rules."""

    # -- what a rule overrides --------------------------------------------------------------------------------

    def compute_updates(
        self, gradients: list[Tensor], histories: Sequence[list[Tensor]], rates: Sequence[float]
    ) -> None:
        """Turn the processed gradients of some parameters into the steps to subtract, in place.

        Args:
            gradients: Tensor[...] each; of a large parameter possibly a piece.
            histories: per history of the rule the tensors of these parameters.
            rates: per parameter, with its ``lr_mult``.
        """
        raise NotImplementedError

    # -- training ---------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The rate of the coming update; asking advances a ``multistep`` or ``plateau`` policy, as in Caffe."""
        if self.param.lr_policy == "plateau":
            loss = self.group.mean(self.smoothed_loss)
            self.current_step = self.plateau.step(self.param, self.iter, self.current_step, loss)
        rate, self.current_step = learning_rate(self.param, self.iter, self.current_step)
        return rate

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train to ``max_iter``, with snapshots and tests, and log what Caffe logs.

        Raises:
            SolverError: another run is writing snapshots of the same prefix.
        """
        log.info(f"Solving {self.net.description.name}", "solver.cpp:272")
        log.info(f"Learning Rate Policy: {self.param.lr_policy}", "solver.cpp:273")
        self.stopped_early = False
        if resume is not None:
            log.info(f"Restoring previous solver status from {resume}", "solver.cpp:279")
            self.restore(resume)
        start, param = self.iter, self.param
        with self._alone(param.snapshot or param.snapshot_after_train):
            self.step(param.max_iter - start)
            if param.snapshot_after_train and (not param.snapshot or self.iter % param.snapshot):
                self.snapshot()
        if self.stopped_early:
            log.info("Optimization stopped early.", "solver.cpp:294")
            return
        if param.display and self.iter % param.display == 0:
            self._turn_to(self.group.ranks.rank, self.iter)
            with self._random.use():
                loss = self.engine.forward()
            self._smoothed.add(loss, self.iter - start, self.param.average_loss)
            self.shown_loss = self.group.mean(self.smoothed_loss)
            log.info(f"Iteration {self.iter}, loss = {log.number(self.shown_loss)}", "solver.cpp:310")
        if param.test_interval and self.iter % param.test_interval == 0:
            self.test_all()
        log.info("Optimization Done.", "solver.cpp:315")

    def step(self, iterations: int) -> None:
        """Do ``iterations`` updates, with the tests and snapshots that fall due.

        Raises:
            SolverError: snapshots are due, and another run is writing some of the same prefix.
        """
        with self._alone(self.param.snapshot):
            self._step(iterations)

    @contextlib.contextmanager
    def _alone(self, due: int) -> Iterator[None]:
        """Hold the lock on the snapshots' prefix, if snapshots are due and this process writes them."""
        if not due or not self.param.snapshot_prefix or self._locked or not self.group.ranks.is_first:
            yield
            return
        with lock.hold(self.param.snapshot_prefix):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def _step(self, iterations: int) -> None:
        param = self.param
        start, stop = self.iter, self.iter + iterations
        self._random, self._smoothed = self._stream(), SmoothedLoss()
        clock = (time.perf_counter(), self.iter)
        while self.iter < stop:
            self.engine.clear_param_diffs()
            if param.test_interval and self.iter % param.test_interval == 0:
                if self.iter > 0 or param.test_initialization:
                    self.test_all()
                if self.stopped_early:
                    break
            for function in self.on_start:
                function()
            display = bool(param.display) and self.iter % param.display == 0
            self._debug.enabled = display and param.debug_info
            self._smoothed.add(self._forward_backward(), self.iter - start, self.param.average_loss)
            if display:
                clock = self._display(clock)
            if self.averaging is not None:
                self.averaging.finish()
            for function in self.on_gradients_ready:
                function()
            self.apply_update(display)
            self.on_iteration(self.iter, self._smoothed.known)
            if not self._after_update():
                break
        self._settle()

    def _after_update(self) -> bool:
        """Snapshots and signals; False to stop."""
        action = self._asked()
        due = self.param.snapshot and self.iter % self.param.snapshot == 0
        if due or action is Action.SNAPSHOT:
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True
            return False
        return True

    def _forward_backward(self) -> Later:
        """The loss of each pass of an iteration."""
        losses = []
        turns, passes = self.group.ranks.turns(), int(self.param.iter_size)
        with self._random.use(), self._verdicts.collecting():
            for number in range(passes):
                self._turn_to(turns.batch(number), self.iter)
                losses.append(self.engine.forward_loss())
                if self.stop_at_nan:
                    self._watch.look(losses[-1], self.iter, self._resting.moved, self._clipping.norms)
                if self.averaging is not None and number == passes - 1:
                    self.averaging.arm()
                self.engine.backward()
        self._verdicts.tell(wait=False)
        self._clipping.tell(wait=False)
        return Later(*losses)

    def _display(self, clock: tuple[float, int]) -> tuple[float, int]:
        self._settle()
        now = time.perf_counter()
        since = (self.iter - clock[1], now - clock[0])
        self.shown_loss = self.group.mean(self.smoothed_loss)
        if self.group.ranks.is_first:  # whose outputs are told, as in Caffe
            tell_display(self.engine, self.iter, self.shown_loss, self.param.display, since)
        return now, self.iter

    # -- the update -------------------------------------------------------------------------------------------

    def apply_update(self, display: bool = False) -> None:
        """Clip, normalise, regularise, compute and apply the update; counts as one iteration."""
        self.engine.write_back()
        rate = self.lr
        if display:
            log.info(f"Iteration {self.iter}, lr = {log.number(rate)}", "sgd_solver.cpp:105")
            self.on_display(rate)
        with torch.no_grad(), updating(self.learnables):
            which, moved = self._resting.moving(self.learnables, self.history)
            gradients = [gradient_of(learnable.parameter) for learnable in moved]
            if self._scale is not None:
                self._scale.unscale(gradients)
            self._clipping.apply(gradients, self.param.clip_gradients, self.stop_at_nan)
            size = len(self.learnables)
            histories = [self.history[start : start + size] for start in range(0, len(self.history), size or 1)]
            rule = self.compute_updates if self._scale is None else self._scale.guarded(self.compute_updates)
            part = part_of(which, moved, gradients, histories, rate)
            if self.param.larc:
                part = adapted(part, rate, momentum(self.param, self.iter), self.param)
            update(rule, part, self.param)
            if self._scale is not None:
                self._scale.advance()
        self.iter += 1
