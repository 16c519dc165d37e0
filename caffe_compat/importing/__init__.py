"""Weights of other frameworks for our nets, where the architectures agree number for number.

Names are loaded on first use, so that the list of architectures is at hand without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.importing.architectures import ARCHITECTURES, Architecture, Part, find_architecture
    from caffe_compat.importing.checking import check_net
    from caffe_compat.importing.folding import fill_net, mean_bgr

__all__ = ["ARCHITECTURES", "Architecture", "Part", "check_net", "fill_net", "find_architecture", "mean_bgr"]

_HOMES = {
    "ARCHITECTURES": "architectures",
    "Architecture": "architectures",
    "Part": "architectures",
    "check_net": "checking",
    "fill_net": "folding",
    "find_architecture": "architectures",
    "mean_bgr": "folding",
}

__getattr__ = first_use(__name__, _HOMES)
