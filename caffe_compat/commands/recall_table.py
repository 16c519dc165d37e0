"""How well proposals cover objects, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from caffe_compat.evaluation.recall import AREAS, Recall

__all__ = ["recall_table"]


def recall_table(found: Recall) -> Iterator[str]:
    """Lines: proposals of an image, then of each size of objects their number, recall in percent, and AR."""
    counts = found.counts
    yield f"proposals of an image: {counts.mean():.1f} ({counts.min()} to {counts.max()})"
    yield f"{'recall':<8}  {'objects':>8}  {'at 0.5':>7}  {'at 0.7':>7}  {'AR':>7}"
    for area in AREAS:
        shares = (found.at(0.5, area), found.at(0.7, area), found.average(area))
        numbers = "  ".join(f"{'-' if share != share else f'{100 * share:.2f}':>7}" for share in shares)
        yield f"{area:<8}  {found.overlaps[area].size:>8}  {numbers}"
