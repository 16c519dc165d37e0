"""Ctrl-C and SIGHUP while training, as Caffe's command line treats them."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from caffe_compat.errors import UsageError
from caffe_compat.solver.solver import Action

__all__ = ["EFFECTS", "SignalHandler"]

EFFECTS = tuple(action.value for action in Action)


class SignalHandler:
    """Context that turns SIGINT and SIGHUP into actions, one at a time.

    Args:
        sigint, sighup: ``"stop"``, ``"snapshot"`` or ``"none"``.

    A second Ctrl-C before the first was polled ends the program at once, as usual.
    """

    def __init__(self, sigint: str = "stop", sighup: str = "snapshot") -> None:
        for name, effect in (("sigint_effect", sigint), ("sighup_effect", sighup)):
            if effect not in EFFECTS:
                raise UsageError(f"{name} is '{effect}', expected one of {', '.join(EFFECTS)}")
        self._effects = {"SIGINT": Action(sigint), "SIGHUP": Action(sighup)}
        self._got: dict[str, bool] = {"SIGHUP": False, "SIGINT": False}
        self._previous: dict[int, object] = {}

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
        if name == "SIGINT" and self._got[name]:
            raise KeyboardInterrupt
        self._got[name] = True

    def poll(self) -> Action:
        """The action of the oldest signal not yet seen (SIGHUP first), or none."""
        for name, got in self._got.items():
            if got:
                self._got[name] = False
                return self._effects[name]
        return Action.NONE
