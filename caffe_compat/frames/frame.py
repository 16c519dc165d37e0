"""One picture to make: where its measurement comes from, and what encodes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

__all__ = ["Encoder", "Extra", "Frame", "Reading", "Source"]


class Reading(Protocol):
    """A measurement as read; a modality adds its own fields."""

    @property
    def color(self) -> np.ndarray | None:
        """uint8 [H, W, 3] RGB of the same view; None if there is none."""


class Source(Protocol):
    """What a measurement is read from.  It goes to worker processes: it holds paths and numbers, no open files."""

    @property
    def name(self) -> str:
        """For messages and reports: the file, and the frame if the file holds several."""

    def fingerprint(self) -> dict[str, Any]:
        """What the reading depends on, in JSON's terms, inputs by content; kept in the picture that is made of it."""

    def read(self) -> Any:
        """Read it, as a :class:`Reading` that the encoder understands.

        Raises:
            MissingFileError, DataError: it cannot be used; names the file.
        """


class Encoder(Protocol):
    """What makes a picture of a reading.  It goes to worker processes too."""

    @property
    def assumed(self) -> Mapping[str, Any]:
        """Parameters that older pictures do not mention, and what they were made with."""

    def parameters(self) -> dict[str, Any]:
        """What the pixels depend on besides the reading, in JSON's terms."""

    def encode(self, reading: Any) -> np.ndarray:
        """The picture, uint8 [H, W, 3].

        Raises:
            DataError: a reading that cannot be encoded; need not name the file.
        """


class Extra(Protocol):
    """A further file that is made of a reading, beside the picture.  It goes to worker processes too."""

    @property
    def path(self) -> str:
        """The file."""

    def write(self, reading: Any) -> None:
        """Write it.

        Raises:
            DataError: a reading of which it cannot be made; need not name the file.
            WriteError: it cannot be written.
        """


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture to make.

    Args:
        source: where the measurement is read from.
        encoder: what makes a picture of it.
        output: png to write.
        color_output: where to write the colour image that belongs to it as png.
        scene: frames of one scene are held out together; None if it is not known.
        extras: what else is made of the reading.
    """

    source: Source
    encoder: Encoder
    output: str
    color_output: str | None = None
    scene: str | None = None
    extras: tuple[Extra, ...] = ()
