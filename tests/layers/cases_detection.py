"""Configurations for the registry tests: detection.py.

``values`` are the values of a bottom; ``constant`` are bottoms that get no gradient by definition.
"""

_ROIS = [[0, 0, 0, 40, 30], [1, 17, 9, 80, 60], [1, 24, 24, 24, 24], [0, -20, 50, 10, 200]]
_CELLS = [[0, 0, 0, 4, 3], [1, 1, 2, 5, 5], [1, 2, 2, 2, 2]]

CASES = {
    "ROIPooling": [
        (
            "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
            [(2, 3, 6, 7), (4, 5)],
            {"values": {1: _ROIS}},
        ),
        ("roi_pooling_param { pooled_h: 1 pooled_w: 7 }", [(2, 2, 6, 6), (3, 5, 1, 1)], {"values": {1: _CELLS}}),
    ],
    "CFMPooling": [
        (
            "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
            [(2, 3, 6, 7), (3, 5), (3, 1, 4, 4)],
            {"values": {1: _CELLS}, "labels": {2: 2}, "tops": 2},
        )
    ],
    "SmoothL1Loss": [
        ("smooth_l1_loss_param { sigma: 2 }", [(3, 4), (3, 4)], {}),
        ("", [(3, 4), (3, 4), (3, 4)], {"constant": [2]}),
        ("smooth_l1_loss_param { sigma: 3 }", [(2, 4, 2, 1), (2, 4, 2), (2, 4, 2), (2, 4, 2)], {"constant": [2, 3]}),
    ],
}
