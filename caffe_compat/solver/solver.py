"""The solver template: everything that the six update rules have in common.

One iteration is clear -> test -> forward and backward (iter_size times) -> clip -> normalise -> regularise -> update
-> snapshot, in BVLC Caffe 1.0's order (``solver.cpp``, ``sgd_solver.cpp``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.description import NetDescription
from caffe_compat.errors import in_file
from caffe_compat.net import BlobNet, Learnable, Net
from caffe_compat.net import weights as weight_io
from caffe_compat.net.blobs import gradient_of
from caffe_compat.net.debug import DebugInfo, log_structure
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.proto import text
from caffe_compat.proto.state import SolverState
from caffe_compat.random import Stream, seed_thread
from caffe_compat.solver import lock, snapshots
from caffe_compat.solver.config import check_solver, solver_nets, tests_before, weight_files
from caffe_compat.solver.finite import by_norms, check_hope, check_loss, check_weights
from caffe_compat.solver.gradients import Clipping, normalize, regularize
from caffe_compat.solver.later import Later, SmoothedLoss
from caffe_compat.solver.policies import learning_rate
from caffe_compat.solver.resting import Resting
from caffe_compat.solver.scores import Scores, output_lines, precision_asked, score, tell_display

__all__ = ["Action", "Solver"]


class Action(Enum):
    """What may be asked of a running solver (Caffe's signal actions)."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"


class Solver:
    """Base of the solvers; see :mod:`caffe_compat.solver.rules` for the update rules.

    Args:
        param: an upgraded ``SolverParameter``.
        weights: weight files to start from instead of the definition's ``weights`` field.
        device: where the nets run.

    Attributes:
        net, test_nets: the nets; a test net uses the train net's parameters from its first test on, until then its own.
        iter, history: updates done; the rule's own blobs, in Caffe's order.
        resume_from: state file of the last snapshot, or "".
        poll: asked after every iteration (and between test batches) whether to stop or to snapshot.
        on_weights: called with the path of weights that a snapshot has written, before its state is.
        around_snapshot: called with the path of a snapshot less its endings; its block holds the writing of it.
        on_restore: called with the path of a state once its weights are in the net.
        on_iteration: called after every update with (iteration, smoothed loss).
        on_display: called at a displayed iteration, before its update, with the rate of that.
        on_test: called after a test with the number of the test net and the scores.
        on_start, on_gradients_ready: pycaffe's callbacks.
        stop_at_nan: raise an error for a loss or weights that are not finite, or all units dead.  Caffe goes on.
    """

    type_name: ClassVar[str] = ""
    histories: ClassVar[int] = 1  #: history blobs per learnable parameter
    folded: ClassVar[bool] = False  #: whether the history is a velocity with the rate in it

    def __init__(
        self, param: Any, weights: Iterable[str] | None = None, device: torch.device | str | None = None
    ) -> None:
        self.param = param
        check_solver(param)
        self.check()
        log.info("Initializing solver from parameters: \n" + text.format(param), "solver.cpp:44")
        nets = solver_nets(param)
        snapshots.check_prefix(param)
        self.device = torch.device(device or "cpu")
        files = list(weight_files(param) if weights is None else weights)
        if param.random_seed >= 0:
            seed_thread(param.random_seed)  # for scripts that run the nets by themselves, as in Caffe
        self._random = self._stream()
        with self._random.use():
            filled = weight_io.blobs_in(files)
            self.net = self._build(nets.train.describe(), filled)
            self.test_nets = [self._build(test.describe(), filled) for test in nets.tests]
        self.engine = BlobNet(self.net, keep_graph=False)
        self.test_engines = [BlobNet(net) for net in self.test_nets]
        self._debug = DebugInfo(self.engine, enabled=False)
        for engine in self.test_engines:
            DebugInfo(engine, param.debug_info)
        for file in files:
            self.load_weights(file)
        held = [(file, weight_io.blobs_in([file])) for file in files if not weight_io.is_nothing(file)]
        check_fit(self.net.plan, self.net.description.name, held, strict=False)
        self.learnables: tuple[Learnable, ...] = self.net.learnables
        self.history = [
            torch.zeros_like(learnable.parameter, memory_format=torch.contiguous_format)
            for _ in range(self.histories)
            for learnable in self.learnables
        ]
        self.iter = self.current_step = 0
        self.resume_from, self._locked, self.stopped_early, self.stop_at_nan = "", False, False, False
        self._smoothed, self._clipping, self._resting = SmoothedLoss(), Clipping(), Resting(self.folded)
        self.poll: Callable[[], Action] = lambda: Action.NONE
        self.on_weights: Callable[[str], None] = lambda path: None
        self.around_snapshot: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
        self.on_restore: Callable[[str], None] = lambda path: None
        self.on_iteration: Callable[[int, float], None] = lambda iteration, loss: None
        self.on_display: Callable[[float], None] = lambda rate: None
        self.on_test: Callable[[int, Scores], None] = lambda index, scores: None
        self.on_start: list[Callable[[], Any]] = []
        self.on_gradients_ready: list[Callable[[], Any]] = []
        log.info("Solver scaffolding done.", "solver.cpp:56")

    def _build(self, description: NetDescription, filled: dict[str, set[int]]) -> Net:
        net = Net(description, filled).to(self.device)
        log_structure(net)
        return net

    def _stream(self) -> Stream:
        """Random numbers of this solver alone: a function of ``random_seed``, or else of the stream of the caller."""
        return Stream(self.param.random_seed if self.param.random_seed >= 0 else None)

    def load_weights(self, file: str) -> None:
        """Start from a weights file, in the train net and the test nets."""
        log.info(f"Finetuning from {file}", "caffe.cpp:155")
        for net in (self.net, *self.test_nets):
            tell_ignored(net.copy_from(file, strict=None))

    def to(self, device: torch.device) -> None:
        """Train on another device from now on."""
        if device == self.device:
            return
        for engine in (self.engine, *self.test_engines):
            engine.to(device)
        self.history = [blob.to(device) for blob in self.history]
        self.device = device

    # -- what a rule overrides --------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse settings that the rule cannot use."""

    def compute_update(self, index: int, gradient: Tensor, rate: float) -> None:
        """Turn the processed gradient of learnable ``index`` into the step to subtract, in place."""
        raise NotImplementedError

    def compute_updates(self, which: Sequence[int], gradients: list[Tensor], rates: Sequence[float]) -> None:
        """The same for all that move; a rule that a GPU does faster in one go overrides this."""
        for index, gradient, rate in zip(which, gradients, rates, strict=True):
            self.compute_update(index, gradient, rate)

    # -- training ---------------------------------------------------------------------------------------------

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last ``average_loss`` iterations of this :meth:`step`."""
        return self._smoothed.value

    @property
    def lr(self) -> float:
        """The rate of the coming update; asking advances a ``multistep`` policy, as in Caffe."""
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
            self._random.turn_to(self.iter)
            with self._random.use():
                loss = self.engine.forward()
            self._smoothed.add(loss, self.iter - start, self.param.average_loss)
            log.info(f"Iteration {self.iter}, loss = {log.number(self.smoothed_loss)}", "solver.cpp:310")
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
        """Hold the lock on the snapshots' prefix, if snapshots are due."""
        if not due or not self.param.snapshot_prefix or self._locked:
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
            for function in self.on_gradients_ready:
                function()
            self.apply_update(display)
            self.on_iteration(self.iter, self.smoothed_loss)
            if not self._after_update():
                break
        self._clipping.tell()

    def _after_update(self) -> bool:
        """Snapshots and signals; False to stop."""
        action = self.poll()
        due = self.param.snapshot and self.iter % self.param.snapshot == 0
        if due or action is Action.SNAPSHOT:
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True
            return False
        return True

    def _forward_backward(self) -> float:
        self._random.turn_to(self.iter)  # so that a resumed run draws what an uninterrupted one would
        total = 0.0
        with self._random.use():
            for _ in range(self.param.iter_size):
                loss = Later(self.engine.forward_loss())
                if not loss.underway and self.stop_at_nan:
                    check_loss(self.engine, loss.get(), self.iter)
                self.engine.backward()
                if loss.underway:  # a GPU has the backward pass to do meanwhile
                    self._look(loss.get())
                total += loss.get()
        return total / int(self.param.iter_size)

    def _look(self, loss: float) -> None:
        """Look at what a GPU has computed: the loss of this iteration, and the norm of the gradients before it."""
        self._clipping.tell()
        if self.stop_at_nan:
            who = partial(by_norms, self.engine, self._resting.moved, self._clipping.norms)
            check_loss(self.engine, loss, self.iter, who)

    def _display(self, clock: tuple[float, int]) -> tuple[float, int]:
        now = time.perf_counter()
        since = (self.iter - clock[1], now - clock[0])
        tell_display(self.engine, self.iter, self.smoothed_loss, self.param.display, since)
        return now, self.iter

    # -- the update -------------------------------------------------------------------------------------------

    def apply_update(self, display: bool = False) -> None:
        """Clip, normalise, regularise, compute and apply the update; counts as one iteration."""
        self.engine.write_back()
        rate = self.lr
        if display:
            log.info(f"Iteration {self.iter}, lr = {log.number(rate)}", "sgd_solver.cpp:105")
            self.on_display(rate)
        with torch.no_grad():
            which, moved = self._resting.moving(self.learnables, self.history)
            parameters: list[Tensor] = [learnable.parameter for learnable in moved]
            gradients = [gradient_of(learnable.parameter) for learnable in moved]
            self._clipping.apply(gradients, self.param.clip_gradients, self.stop_at_nan)
            if gradients:
                normalize(gradients, self.param.iter_size)
                regularize(gradients, parameters, [one.decay_mult for one in moved], self.param)
                self.compute_updates(which, gradients, [rate * learnable.lr_mult for learnable in moved])
                torch._foreach_sub_(parameters, gradients)
        self.iter += 1

    # -- tests ------------------------------------------------------------------------------------------------

    def test_all(self) -> list[dict[str, Any]]:
        """Test every test net and log its scores; the scores by output name."""
        results = []
        for index, engine in enumerate(self.test_engines):
            scores = self._test(index, engine)
            if scores is None:
                break
            results.append(scores)
        return results

    def _test(self, index: int, engine: BlobNet) -> dict[str, Any] | None:
        log.info(f"Iteration {self.iter}, Testing net (#{index})", "solver.cpp:330")
        engine.net.share_with(self.net)
        self._random.turn_to(("test", index, self.iter))
        with self._random.use():
            scores = score(engine, self.param.test_iter[index], self._goes_on, precision=precision_asked(self.param))
        if not scores.complete:
            log.info("Test interrupted.", "solver.cpp:379")
            return None
        if self.param.test_compute_loss:
            log.info(f"Test loss: {log.number(scores.loss())}", "solver.cpp:384")
        for number, line in enumerate(output_lines(engine, scores.means())):
            log.info(f"    Test net output #{number}: {line}", "solver.cpp:397")
        self.on_test(index, scores)
        if self.stop_at_nan:
            check_hope(engine, self.iter)
        return scores.named()

    def _goes_on(self) -> bool:
        action = self.poll()
        if action is Action.SNAPSHOT:
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True
        return action is not Action.STOP

    # -- snapshots --------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[str, str]:
        """Write weights and solver state; returns both paths.

        Raises:
            SolverError: with ``stop_at_nan``, a weight that is not finite; nothing is written.
        """
        self.engine.write_back()
        if self.stop_at_nan:
            check_weights(self.engine, self.iter)
        values = tuple(blob.detach().cpu().numpy() for blob in self.history)
        state = SolverState(self.iter, "", self.current_step, values)
        with self.around_snapshot(snapshots.stem(self.param, self.iter)):
            model, self.resume_from = snapshots.write(self.param, self.net, state, self.on_weights)
        return model, self.resume_from

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
        self._resting.forget()
        self.iter, self.current_step = state.iter, state.current_step
        self.seek_data()

    def seek_data(self) -> None:
        """Move the data layers to where they would be after ``iter`` iterations."""
        for node in self.net.nodes:
            node.layer.seek(self.iter * self.param.iter_size)
        tests = tests_before(self.param, self.iter)
        for net, per_test in zip(self.test_nets, self.param.test_iter, strict=True):
            for node in net.nodes:
                node.layer.seek(tests * per_test)
