"""Configurations for the registry tests: detectnet.py, detectnet_boxes.py, L1Loss."""

from __future__ import annotations

from cases_rpn import named

_GRID = "detectnet_groundtruth_param { stride: 8 image_size_x: 48 image_size_y: 32 min_cvg_len: 10 max_cvg_len: 12 "
_OBJECTS = [
    [[[2, 16, *[0] * 14], [5, 4, 20, 18, 0, 1, *[0] * 10], [22.5, 9, 15, 30, 0, 3, *[0] * 10], [0] * 16]],
    [[[0, 16, *[0] * 14], *[[0] * 16] * 3]],
]
_FOUND = [[[4, 4, 24, 24, 1.1], [30, 30, 50, 60, 0.7], *[[0] * 5] * 48]]

CASES = {
    "L1Loss": [("", [(3, 2, 2), (3, 4)], {})],
    "DetectNetTransformation": [
        (
            _GRID + "} transform_param { mean_value: 127 }",
            [(2, 3, 30, 50), (2, 1, 4, 16)],
            {"values": {1: _OBJECTS}, "tops": 2},
        ),
        (
            _GRID + "gridbox_type: GRIDBOX_MIN obj_norm: true object_class { src: 1 dst: 1 } "
            "object_class { src: 3 dst: 0 } }",
            [(2, 3, 32, 48), (2, 1, 4, 16)],
            {"values": {1: _OBJECTS}, "tops": 2},
        ),
    ],
    "Python": [
        (
            named("caffe.layers.detectnet.clustering", "ClusterDetections", "48, 32, 8, 0.6, 1, 0.2, 3"),
            [(2, 1, 4, 6), (2, 4, 4, 6)],
            {},
        ),
        (
            named("caffe.layers.detectnet.clustering", "ClusterGroundtruth", "48,32,8,2"),
            [(1, 2, 4, 6), (1, 4, 4, 6)],
            {"tops": 2},
        ),
        (
            named("caffe.layers.detectnet.mean_ap", "ScoreDetections", ""),
            [(1, 50, 5), (1, 50, 5)],
            {"values": {0: _FOUND, 1: _FOUND}},
        ),
        (
            named("caffe.layers.detectnet.mean_ap", "mAP", "48, 32, 8"),
            [(1, 50, 5)],
            {"values": {0: _FOUND}, "tops": 3},
        ),
    ],
}
