"""Ctrl-C, SIGHUP and SIGTERM while training, as Caffe's command line treats the first two."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from caffe_compat.errors import UsageError
from caffe_compat.solver.actions import Action

__all__ = ["EFFECTS", "SignalHandler"]

EFFECTS = tuple(action.value for action in Action)


class SignalHandler:
    """Context that turns SIGINT, SIGHUP and SIGTERM into actions, one at a time.

    Caffe leaves SIGTERM alone and loses what was trained since the last snapshot.  Here it stops a run as Ctrl-C does
    by default: schedulers send it some time before they kill.

    Args:
        sigint, sighup: ``"stop"``, ``"snapshot"`` or ``"none"``.

    Attributes:
        stopped_by: number of the signal that stopped the run, or 0.

    A second Ctrl-C or SIGTERM before the first was polled ends the program at once.
    """

    def __init__(self, sigint: str = "stop", sighup: str = "snapshot") -> None:
        for name, effect in (("sigint_effect", sigint), ("sighup_effect", sighup)):
            if effect not in EFFECTS:
                raise UsageError(f"{name} is '{effect}', expected one of {', '.join(EFFECTS)}")
        self._effects = {"SIGHUP": Action(sighup), "SIGINT": Action(sigint), "SIGTERM": Action.STOP}
        self._got = dict.fromkeys(self._effects, False)
        self._previous: dict[int, object] = {}
        self.stopped_by = 0

    def __enter__(self) -> SignalHandler:
        if threading.current_thread() is threading.main_thread():
            for name in self._got:
                number = getattr(signal, name, None)
                if number is not None:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._got[name] and name == "SIGINT":
            raise KeyboardInterrupt
        if self._got[name] and name == "SIGTERM":
            raise SystemExit(128 + number)
        self._got[name] = True

    def poll(self) -> Action:
        """The action of the oldest signal not yet seen (SIGHUP first), or none."""
        for name, got in self._got.items():
            if got:
                self._got[name] = False
                if self._effects[name] is Action.STOP:
                    self.stopped_by = int(getattr(signal, name))
                return self._effects[name]
        return Action.NONE
