"""COCO's classes, and what they are called in NYUD2."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COCO_CLASSES", "NYUD2_IN_COCO"]

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip
"""The 80 in the order of their ids, as the instances files of 2014 and 2017 name them."""

NYUD2_IN_COCO: Mapping[str, str] = MappingProxyType(
    {
        "bed": "bed",
        "chair": "chair",
        "sink": "sink",
        "sofa": "couch",
        "table": "dining table",
        "television": "tv",
        "toilet": "toilet",
    }
)
"""The classes of NYUD2 that COCO has too; the paper's Table 5 is over these."""
