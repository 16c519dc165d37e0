"""Configurations for the registry tests: psroi.py."""

_ROIS = [[0, 0, 0, 40, 30], [1, 17, 9, 80, 60], [1, 24, 24, 24, 24], [0, -20, 50, 10, 200], [1, 90, 5, 30, 2]]

CASES = {
    "PSROIPooling": [
        (
            "psroi_pooling_param { spatial_scale: 0.0625 output_dim: 2 group_size: 3 }",
            [(2, 18, 6, 7), (5, 5)],
            {"values": {1: _ROIS}},
        ),
        (
            "psroi_pooling_param { spatial_scale: 0.1 output_dim: 3 group_size: 1 }",
            [(2, 3, 7, 6), (5, 5, 1, 1)],
            {"values": {1: _ROIS}},
        ),
    ],
}
