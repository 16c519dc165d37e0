"""Configurations for the registry tests: box_output.py, and ROIPooling's pad_ratio."""

SETTINGS = "field_w: 8 field_h: 10 downsample_rate: 4 field_w: 16 field_h: 20 downsample_rate: 8 min_size: 4"
_ROIS = [[0, 1, 1, 5, 6], [1, 0, 2, 3, 3], [0, 2, 0, 6, 4]]

CASES = {
    "BoxOutput": [
        (
            f"box_output_param {{ {SETTINGS} fg_thr: -1 max_nms_num: 9 }}",
            [(2, 6, 4, 6), (2, 6, 2, 3)],
            {"tops": 2, "gradcheck": False},
        ),
    ],
    "ROIPooling": [
        (
            "roi_pooling_param { pooled_h: 2 pooled_w: 3 pad_ratio: 0.25 }",
            [(2, 3, 7, 8), (3, 5)],
            {"values": {1: _ROIS}},
        ),
    ],
}
