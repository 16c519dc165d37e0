"""What commands say where several processes do a share of the work each (:mod:`caffe_compat.ranks`)."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.frames import Report
from caffe_compat.gathering import Gathering

__all__ = ["joined_report"]


def joined_report(others: Gathering, report: Report, order: Sequence[str] = ()) -> Report | None:
    """The report on what all processes did, on rank 0; the others print their own, and get None.

    Args:
        order: names of the sources, in which order they are told.
    """
    ranks = others.ranks
    if not ranks.several:
        return report
    parts = others.gather(report.part())
    if parts is not None:
        return Report.joined(parts, order)
    print("\n".join(f"{ranks}: {line}" for line in report.lines()), flush=True)
    return None
