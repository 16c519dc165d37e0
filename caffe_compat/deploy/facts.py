"""What the exporter stores in a model's metadata, by key, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = [
    "IN_GRAPH",
    "MASKS",
    "NET",
    "PRECISION",
    "PREPARATION",
    "RENAMED",
    "ROIS",
    "SIZES",
    "read_rois",
    "read_stride",
]

NET = "caffe_net"
"""Key: name of the net."""
PRECISION = "caffe_precision"
"""Key: ``float16`` or ``int8`` where a model was made of one in float32."""
PREPARATION = "preprocessing"
"""Key: what the net wants of its inputs, as the text of a ``preprocessing.json`` with the means in it."""
IN_GRAPH = "preprocessing_in_graph"
"""Key: which inputs take bytes of pictures, as ``{"data_picture": {"of": "data", "order": "bgr", "size": [9, 9]}}``:
for which input of the net, blue first (or ``rgb``), and what the graph resizes to (null: pictures come in the net's
size).  For them the rest of ``preprocessing`` is a part of the graph."""
RENAMED = "caffe_renamed_outputs"
"""Key: outputs that could not have the name of their blob, and that blob."""
SIZES = "caffe_sizes"
"""Key: what the dynamic sizes are in the prototxt."""
MASKS = "caffe_masks"
"""Key: of nets that segment boxes, ``{"stride": 16}``: pixels of the scaled picture for a cell of ``sppboxes``."""
ROIS = "caffe_rois"
"""Key: inputs that hold regions (image index, corners), and the input with the images that they are of."""


def read_rois(metadata: Mapping[str, str], inputs: Mapping[str, Any]) -> dict[str, str]:
    """The inputs that hold regions, each with the input with its images; none where nothing is said of these inputs."""
    try:
        found = json.loads(metadata.get(ROIS, "{}"))
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: of for name, of in pairs if name in inputs and isinstance(of, str) and of in inputs}


def read_stride(metadata: Mapping[str, str]) -> int | None:
    """Pixels for a cell of the boxes that a net is given which segments boxes; None: it does not say."""
    try:
        found = json.loads(metadata.get(MASKS, "{}"))
    except (ValueError, RecursionError):
        return None
    stride = found.get("stride") if isinstance(found, dict) else None
    return stride if type(stride) is int and stride > 0 else None
