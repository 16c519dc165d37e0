"""Depth files brought to their colour camera, as files."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffe_compat.depth.io import DepthFormat, read_depth, write_depth
from caffe_compat.depth.rig import Rig
from caffe_compat.errors import CaffeCompatError, DataError, in_file
from caffe_compat.frames.report import reason_of
from caffe_compat.frames.work import map_jobs

__all__ = ["Registering", "register_files"]


@dataclasses.dataclass(frozen=True)
class Registering:
    """What is done to a depth file; goes to worker processes.

    Args:
        rig: the two cameras.
        form: how its numbers become metres.
        folder: where ``STEM.png`` is written, 16 bits.
        units: per metre, of what is written.
    """

    rig: Rig
    form: DepthFormat
    folder: str
    units: float

    def target(self, path: Path) -> Path:
        """The file that is made of one."""
        return Path(self.folder) / f"{path.stem}.png"

    def __call__(self, path: Path) -> str | None:
        """Register one; what is wrong with it, or None."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of 8 bits: said of the recording before
                depth = read_depth(path, self.form)
            with in_file(path):
                registered = self.rig.register(depth)
                if not registered.any():
                    raise DataError("no pixel of it falls into the colour image: are these its extrinsics?")
            write_depth(self.target(path), registered, self.units)
        except (CaffeCompatError, MemoryError) as error:
            return reason_of(str(path), error)
        return None


def register_files(work: Registering, files: Sequence[Path], workers: int = 0) -> Iterator[tuple[Path, str | None]]:
    """Register depth files; a bad one is said, the others go on.

    Yields:
        File, and what is wrong with it, or None; with workers in no order.
    """
    return map_jobs(work, files, workers, lambda path: f"{path}: its worker process died (out of memory?)")
