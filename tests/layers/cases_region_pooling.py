"""Configurations for the registry tests: region_pooling.py, pair_losses.py, data/many_labels.py."""

from cases_data import TWO, F

REGIONS = [
    [0, 0, 0, 5, 4, 2, 1, 4, 4],
    [1, 3, 2, 0, 1, 9, 9, 1, 1],  # in the wrong order
    [1, -4, -3, 9, 9, 0, 0, 3, 5],
]

CASES = {
    "RegionPooling": [
        (
            "region_pooling_param { pooled_h: 2 pooled_w: 3 offset: 0.25 }",
            [(2, 2, 5, 6), (3, 9)],
            {"values": {1: REGIONS}, "onnx": False},
        )
    ],
    "MultiROIPooling": [
        (
            "multi_roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 top_num: 3 }",
            [(2, 2, 5, 6), (2, 3, 2)],
            {"values": {1: [0, 0, 6, 4, 11, 11, 3, 5, -9, -9, 99, 2]}, "tops": 3, "gradcheck": False},
        )
    ],
    "ManhattanLoss": [("", [(3, 2), (3, 2, 1)], {})],
    "AbsLoss": [("", [(3, 2), (3, 2, 1)], {})],
    "SigmoidCrossEntropyLossWeighted": [("", [(3, 2)] * 3, {"positive": (2,), "constant": (1, 2)})],
    "MultiLabelImageData": [
        (
            f'multi_label_image_data_param {{ source: "{F}/list.txt" batch_size: 2 label_num: 1 }} '
            "transform_param { crop_size: 4 mirror: true }",
            [],
            TWO,
        )
    ],
}
