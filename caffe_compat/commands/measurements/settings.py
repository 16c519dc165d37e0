"""What users may say of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OnnxSettings", "ScaleSettings"]


@dataclass(frozen=True)
class OnnxSettings:
    """What the benchmark of exported graphs looks at.

    Attributes:
        nets: names, all by default.
        batches: images at a time; by default each net's own choice.
        rois: regions of an image.
        gpu: number of the CUDA device to measure on; None: the CPU.
    """

    nets: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    rois: int = 300
    gpu: int | None = None


@dataclass(frozen=True)
class ScaleSettings:
    """What the curves look at.

    Attributes:
        groups: of curves, all by default.
        seconds: a size that would take longer is left out; None: 20, and 2 among all other benchmarks.
        plot: the picture to write; empty: none.
    """

    groups: tuple[str, ...] = ()
    seconds: float | None = None
    plot: str = ""
