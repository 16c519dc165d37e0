"""What a solver holds: its nets, the histories of its rule, and whom it tells what happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch

from caffe_compat import log
from caffe_compat.description import NetDescription
from caffe_compat.distributed.group import Group
from caffe_compat.net import BlobNet, Learnable, Net
from caffe_compat.net import weights as weight_io
from caffe_compat.net.debug import DebugInfo, log_structure
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.net.precision import Precision
from caffe_compat.proto import text
from caffe_compat.random import Stream, seed_thread
from caffe_compat.solver import snapshots
from caffe_compat.solver.actions import Action
from caffe_compat.solver.averaging import Averaging
from caffe_compat.solver.config import check_solver, solver_nets, weight_files
from caffe_compat.solver.gradients import Clipping
from caffe_compat.solver.later import SmoothedLoss, Verdicts, runs_ahead
from caffe_compat.solver.policies import Plateau
from caffe_compat.solver.resting import Resting
from caffe_compat.solver.scaling import LossScale
from caffe_compat.solver.scores import Scores
from caffe_compat.solver.watch import Watch

__all__ = ["Core"]


class Core:
    """Base of the solvers; see :mod:`caffe_compat.solver.rules` for the update rules.

    Args:
        param: an upgraded ``SolverParameter``.
        weights: weight files to start from instead of the definition's ``weights`` field.
        device: where the nets run.

    Attributes:
        net, test_nets: the nets; a test net uses the train net's parameters from its first test on, until then its own.
        plateau: what the plateau policy remembers.
        iter, history: updates done; the rule's own blobs, in Caffe's order.
        resume_from: state file of the last snapshot, or "".
        poll: asked after every iteration (and between test batches) whether to stop or to snapshot.
        on_weights: called with the path of weights that a snapshot has written, before its state is.
        around_snapshot: called with the path of a snapshot less its endings; its block holds the writing of it.
        on_restore: called with the path of a state once its weights are in the net.
        on_iteration: called after every update with (iteration, smoothed loss); on a GPU the loss is that of the
            iterations whose losses have arrived, NaN before the first: ``smoothed_loss`` waits for the last.
        on_display: called at a displayed iteration, before its update, with the rate of that.
        on_test: called after a test with the number of the test net and the scores.
        on_start, on_gradients_ready: pycaffe's callbacks.
        amp: mixed precision of the training net: "bf16", "fp16" or "" (:mod:`caffe_compat.net.precision`).  Weights and
            histories stay float32, tests are in float32.
        group: the processes that train together; this one alone unless :func:`~caffe_compat.solver.joining.join` was
            called.
        shown_loss: the smoothed loss of the last displayed iteration, its mean over the group.
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
        self.plateau = Plateau()
        self.resume_from, self._locked, self.stopped_early, self.stop_at_nan = "", False, False, False
        self._scale: LossScale | None = None
        self._smoothed, self._clipping, self._resting = SmoothedLoss(), Clipping(), Resting(self.folded)
        if runs_ahead(self.device):
            self._resting.know([torch.zeros(1)] * len(self.history))
        self._watch, self._verdicts = Watch(self.engine), Verdicts()
        self.group = Group()
        self.averaging: Averaging | None = None
        self.shown_loss = 0.0
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

    def _turn_to(self, number: int, *chapter: object) -> None:
        """Begin the random numbers of a pass: those that a resumed run draws, or one process that makes all passes.

        Args:
            number: of the pass within the iteration, or of the batch within the test, counted over all processes.
            chapter: which iteration, or test.
        """
        words = (*chapter, number) if number else chapter
        self._random.turn_to(words[0] if len(words) == 1 else words)

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
        if runs_ahead(device) and not runs_ahead(self.device):
            self._resting.know(self.history)
        self.history = [blob.to(device) for blob in self.history]
        if self._scale is not None:
            self._scale.to(device)
        self._watch.forget()
        self.device = device

    @property
    def amp(self) -> str:
        """The kind of mixed precision, or ""."""
        return "" if self.engine.precision is None else self.engine.precision.kind

    @amp.setter
    def amp(self, kind: str) -> None:
        """Train in mixed precision from now on; float16 with a loss scale that starts anew.

        Raises:
            UsageError: no such kind.
        """
        self.engine.precision = Precision(kind) if kind else None
        self._scale = LossScale(self.device) if kind == "fp16" else None
        if self.engine.precision is not None and self._scale is not None:
            self.engine.precision.loss_scale = self._scale.scale

    def _settle(self) -> None:
        """Wait for what a GPU still computes of the iterations so far, and tell what is to be told of it.

        Raises:
            SolverError: with ``stop_at_nan``, a loss that was not finite, or float16's gradients never are.
            LayerError: a label that has no class.
        """
        self._verdicts.tell(wait=True)
        self._clipping.tell(wait=True)
        if self.stop_at_nan:
            self._watch.tell(wait=True)
        if self._scale is not None:
            self._scale.tell(self.iter)

    def check(self) -> None:
        """Refuse settings that the rule cannot use."""

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last ``average_loss`` iterations of this :meth:`step`."""
        return self._smoothed.value
