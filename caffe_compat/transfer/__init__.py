"""Supervision transfer: recipes for any pair of nets, the scale of features, franken nets."""

from caffe_compat.transfer.branch import Branch, read_branch
from caffe_compat.transfer.files import Schedule, Written, write_transfer
from caffe_compat.transfer.recipe import MEANS, Recipe, Transfer
from caffe_compat.transfer.scale import NormReport, load_branch, measure_norms, read_image_names

__all__ = [
    "MEANS",
    "Branch",
    "NormReport",
    "Recipe",
    "Schedule",
    "Transfer",
    "Written",
    "load_branch",
    "measure_norms",
    "read_branch",
    "read_image_names",
    "write_transfer",
]
