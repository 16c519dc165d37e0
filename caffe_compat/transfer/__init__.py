"""Supervision transfer: recipes for any pair of nets, the scale of features, franken nets.

Names are loaded on first use, so that a recipe is at hand without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.transfer.branch import Branch, read_branch
    from caffe_compat.transfer.features import Transfer
    from caffe_compat.transfer.files import Written, write_transfer
    from caffe_compat.transfer.recipe import Recipe, Schedule
    from caffe_compat.transfer.scale import NormReport, load_branch, measure_norms

__all__ = [
    "Branch",
    "NormReport",
    "Recipe",
    "Schedule",
    "Transfer",
    "Written",
    "load_branch",
    "measure_norms",
    "read_branch",
    "write_transfer",
]

_HOMES = {
    "Branch": "branch",
    "NormReport": "scale",
    "Recipe": "recipe",
    "Schedule": "recipe",
    "Transfer": "features",
    "Written": "files",
    "load_branch": "scale",
    "measure_norms": "scale",
    "read_branch": "branch",
    "write_transfer": "files",
}

__getattr__ = first_use(__name__, _HOMES)
