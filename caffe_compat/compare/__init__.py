"""One comparison: tolerance, NaN, the first divergence, and a report; a net against anything."""

from caffe_compat.compare.arrays import TOLERANCE, Difference, difference, nan_in, worst
from caffe_compat.compare.layers import Place, compare, unroll
from caffe_compat.compare.references import from_module, from_npz, read_npz
from caffe_compat.compare.report import Comparison, Row

__all__ = [
    "TOLERANCE",
    "Comparison",
    "Difference",
    "Place",
    "Row",
    "compare",
    "difference",
    "from_module",
    "from_npz",
    "nan_in",
    "read_npz",
    "unroll",
    "worst",
]
