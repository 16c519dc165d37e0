"""What became of many frames, in few lines."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from caffe_compat.errors import CaffeCompatError, one_line

__all__ = ["Report", "SummedWarning", "reason_of"]

SHOWN = 3
"""A reason that more frames than these share is said once."""


class SummedWarning(UserWarning):
    """A warning about a frame that a run over many frames sums up in one line."""

    @classmethod
    def summary(cls, warned: Sequence[tuple[str, Self]], total: int) -> str:
        """One line for the run.

        Args:
            warned: name of the frame and warning, one or more.
            total: frames of the run that were encoded.
        """
        raise NotImplementedError


@dataclasses.dataclass
class Report:
    """What became of the frames.

    Attributes:
        written: outputs written.
        skipped: outputs found complete.
        failed: (name of the source, reason); the reason names it too.
        warned: (name of the source, text).
        summed: (name of the source, warning), said in one line for all.
    """

    written: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    warned: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    summed: list[tuple[str, SummedWarning]] = dataclasses.field(default_factory=list)

    def part(self) -> dict[str, Any]:
        """All of it as JSON holds it; :meth:`joined` reads that."""
        summed = [[name, type(warning).__name__, list(warning.args)] for name, warning in self.summed]
        return {**vars(self), "summed": summed}

    @classmethod
    def joined(cls, parts: Sequence[Mapping[str, Any]], order: Sequence[str] = ()) -> Self:
        """The report on frames of which several processes had a part each.

        Args:
            parts: of each, from :meth:`part`.
            order: names of sources, in which order they are told; others stand behind, part after part.
        """
        kinds = {kind.__name__: kind for kind in SummedWarning.__subclasses__()}
        place = {name: number for number, name in enumerate(order)}
        every = {name: [item for part in parts for item in part[name]] for name in vars(cls())}
        told = {
            name: sorted(map(tuple, every[name]), key=lambda item: place.get(item[0], len(place)))
            for name in ("failed", "warned", "summed")
        }
        summed = [(name, kinds[kind](*given)) for name, kind, given in told["summed"]]
        return cls(every["written"], every["skipped"], told["failed"], told["warned"], summed)

    def lines(self) -> list[str]:
        """The report as text: warnings, failures, and last one line for the sums.

        What all frames, or more than three, share (but for their own names) is said once, with the first of them.
        """
        total = len(self.written) + len(self.skipped) + len(self.failed)
        sums = f"{len(self.written)} written, {len(self.skipped)} already there, {len(self.failed)} failed"
        warned = _grouped([(name, text if name in text else f"{name}: {text}") for name, text in self.warned], total)
        failed = _grouped(self.failed, total)
        lines = [f"warning: {line}" for line in (*self._sums(), *warned)]
        return [*lines, *(f"failed: {line}" for line in failed), sums]

    def _sums(self) -> list[str]:
        kinds: dict[type[SummedWarning], list[tuple[str, SummedWarning]]] = {}
        for name, warning in self.summed:
            kinds.setdefault(type(warning), []).append((name, warning))
        return [kind.summary(warned, len(self.written)) for kind, warned in kinds.items()]


def reason_of(name: str, error: Exception) -> str:
    """Why a frame failed: our own errors name it themselves; of others, whatever they are, type and text."""
    return str(error) if isinstance(error, CaffeCompatError) else f"{name}: {type(error).__name__}: {one_line(error)}"


def _grouped(told: Sequence[tuple[str, str]], total: int) -> list[str]:
    """Texts in order; of those that are the same without their names, if they are many or all, only the first."""
    groups: dict[str, list[str]] = {}
    for name, text in told:
        groups.setdefault(_without(name, text), []).append(text)
    lines = []
    for texts in groups.values():
        if len(texts) > SHOWN or len(texts) == total > 1:
            every = "all " if len(texts) == total else ""
            lines.append(f"{every}{len(texts)} frames, the first: {texts[0]}")
        else:
            lines += texts
    return lines


def _without(name: str, text: str) -> str:
    """A text without what is its frame's own: its name, its stem (outputs are called after it), checksums."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    short = re.sub(r"\b[0-9a-f]{40}\b", "#", text.replace(name, "*"))
    return re.sub(rf"(?<![\w.-]){re.escape(stem)}(?=\.)", "*", short) if stem else short
