"""What users may say of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OnnxSettings"]


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
