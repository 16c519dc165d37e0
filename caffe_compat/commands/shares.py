"""What commands say where several processes do a share of the work each (:mod:`caffe_compat.ranks`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffe_compat.errors import printable
from caffe_compat.frames import Report
from caffe_compat.gathering import Gathering

__all__ = ["joined_report"]


def joined_report(
    others: Gathering,
    report: Report,
    order: Sequence[str] = (),
    told: Callable[[Report], list[str]] = Report.lines,
) -> Report | None:
    """The report on what all processes did, on rank 0; the others print their own, and get None.

    Args:
        order: names of the sources, in which order they are told, also of one process.
        told: the lines that tell a report.
    """
    parts = others.gather(report.part())
    if parts is not None:
        return Report.joined(parts, order) if others.ranks.several or order else report
    print(printable("\n".join(f"{others.ranks}: {line}" for line in told(report))), flush=True)
    return None
