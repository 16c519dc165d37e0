"""Configurations for the registry tests: the layers of MS-CNN and Cascade R-CNN."""

import tempfile
from pathlib import Path

from data_files import write_box_lists

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_cases_")
F = _folder.name
write_box_lists(Path(F))
(Path(F) / "sizes.txt").write_text("a 30 40\nb 20 30\n")

NORM = " ".join(f"bbox_mean: {m} bbox_std: {s}" for m, s in zip((0.1, 0, 0.2, 0), (0.1, 0.2, 0.3, 0.4), strict=True))
REG = f"bbox_reg_param {{ {NORM} cls_aware: false }}"
GROUP = "field_w: 8 field_w: 20 field_h: 12 field_h: 10 stride: 8"
ROIS = [[0, 1, 2, 30, 25], [1, 0, 0, 12, 40], [0, 8, 5, 50, 20], [1, 3, 3, 3, 3]]
_TRUTH = [[0, 2, 2, 28, 24, 1, 0], [1, 4, 4, 20, 44, 2, 0], [0, 9, 5, 48, 22, 2, 1]]
_MATCHED = [[1, 2, 2, 28, 24, 0.8], [0, 0, 0, 0, 0, 0], [1, 9, 5, 48, 22, 0.6], [0, 0, 0, 0, 0, 0]]
_DETECTIONS = [
    [0, -1, -1, -1, -1, -1, -1],
    [0, 2, 2, 28, 24, 1, 0.9],
    [0, 1, 1, 9, 9, 2, 0.4],
    [0, 3, 3, 29, 25, 1, 0.7],
]
FIELDS = "field_w: 8 field_h: 12 field_w: 16 field_h: 10"


def truth(cells: int, maps: int = 1) -> list[list[list[float]]]:
    """Classes 0, 1, 2 in turn, boxes around the cells, overlaps from 0 to 0.9: [maps][6][cells]."""
    places = range(cells)
    one = [
        [float(k % 3) for k in places],
        [4.0 * k + 3 for k in places],
        [3.0 * k + 5 for k in places],
        [10.0 + k for k in places],
        [14.0 - k / 2 for k in places],
        [(k * 7 % 10) / 10 for k in places],
    ]
    return [one] * maps


LOSS = "field_w: 10 field_h: 12 downsample_rate: 4 cls_num: 3"
GROUP_LOSS = f"{GROUP} cls_num: 3"

CASES = {
    "DetectionLoss": [
        (
            f'detection_loss_param {{ {LOSS} sample_mode: "all" pos_neg_weighted: true }}',
            [(1, 7, 3, 4), (1, 6, 3, 4)],
            {"values": {1: truth(12)}, "gradcheck": False},
        ),
        (
            f'detection_loss_param {{ {LOSS} sample_mode: "mixture" bb_smooth: false iou_weighted: true }} {REG}',
            [(2, 7, 3, 4), (2, 6, 3, 4)],
            {"values": {1: truth(12, 2)}, "gradcheck": False},
        ),
    ],
    "DetectionAccuracy": [
        (
            f"detection_accuracy_param {{ {LOSS} top_k: 2 }} {REG}",
            [(2, 7, 3, 4), (2, 6, 3, 4)],
            {"values": {1: truth(12, 2)}, "tops": 2},
        ),
    ],
    "DetectionGroupLoss": [
        (
            f'detection_group_loss_param {{ {GROUP_LOSS} neg_mining_type: "bootstrap" pos_neg_weighted: true }}',
            [(2, 3, 3, 4), (2, 4, 3, 4), (2, 6, 3, 4)],
            {"values": {2: truth(12, 2)}, "gradcheck": False},
        ),
        (
            f"detection_group_loss_param {{ {GROUP_LOSS} batch_size: 8 field_xyr: 1 field_whr: 8 }} {REG}",
            [(4, 3, 3, 4), (4, 4, 3, 4), (4, 6, 3, 4)],
            {"values": {2: truth(12, 4)}, "gradcheck": False},
        ),
    ],
    "DetectionGroupAccuracy": [
        (
            f"detection_group_accuracy_param {{ {GROUP_LOSS} }}",
            [(2, 3, 3, 4), (2, 4, 3, 4), (2, 6, 3, 4)],
            {"values": {2: truth(12, 2)}, "tops": 2},
        ),
    ],
    "BoxGroupOutput": [
        (
            f"box_group_output_param {{ box_group_param {{ {GROUP} }} box_group_param {{ field_w: 30 field_h: 30 "
            f"stride: 16 }} fg_thr: -1 min_size: 4 max_nms_num: 9 }} {REG}",
            [(4, 2, 3, 4), (4, 4, 3, 4), (2, 2, 2, 2), (2, 4, 2, 2)],
            {"tops": 2, "gradcheck": False},
        ),
    ],
    "FrcnnOutput": [
        (
            f"frcnn_output_param {{ conf_thr: 0.1 max_det_num: 5 }} {REG}",
            [(4, 3), (4, 8, 1, 1), (4, 5, 1, 1), (1, 2, 1, 1)],
            {"values": {2: [[0, *roi[1:]] for roi in ROIS], 3: [[40, 60]]}, "gradcheck": False},
        ),
        (
            "frcnn_output_param { }",
            [(4, 3), (4, 12), (4, 6), (1, 2)],
            {"values": {2: [[0, *roi[1:], 1] for roi in ROIS], 3: [[40, 60]]}, "gradcheck": False},
        ),
    ],
    "DecodeBBox": [
        (REG, [(4, 8), (4, 5, 1, 1)], {"values": {1: ROIS}, "gradcheck": False}),
    ],
    "ScaleRoute": [
        ("scale_route_param { low_scale: 20 }", [(4, 5), (4, 3)], {"values": {0: ROIS}, "tops": 2, "gradcheck": False}),
        ("", [(4, 5, 1, 1)], {"values": {0: ROIS}, "gradcheck": False}),
    ],
    "HardMining": [
        (
            "hard_mining_param { num_roi_per_image: 1 num_image: 2 }",
            [(4,), (4, 5), (4, 3, 2, 1)],
            {"values": {1: ROIS}, "tops": 2, "gradcheck": False},
        ),
    ],
    "ProposalTarget": [
        (
            f"proposal_target_param {{ cls_num: 3 batch_size: 6 img_width: 60 img_height: 50 }} {REG}",
            [(4, 5, 1, 1), (3, 7, 1, 1)],
            {"values": {0: ROIS, 1: _TRUTH}, "tops": 7, "gradcheck": False},
        ),
        (
            "proposal_target_param { cls_num: 3 batch_size: -1 append_gtbox: false img_width: 90 img_height: 70 }",
            [(4, 5), (3, 8)],
            {"values": {0: ROIS, 1: [[*row, 0] for row in _TRUTH]}, "tops": 6, "gradcheck": False},
        ),
    ],
    "BboxAccuracy": [
        (
            REG,
            [(4, 8), (4, 5), (4, 6)],
            {"values": {1: ROIS, 2: _MATCHED}, "tops": 2, "gradcheck": False},
        ),
    ],
    "ROIAlign": [
        (
            "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.125 }",
            [(2, 3, 6, 7), (4, 5)],
            {"values": {1: ROIS}},
        ),
        (
            "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 pad_ratio: 0.5 }",
            [(2, 2, 6, 7), (4, 5, 1, 1)],
            {"values": {1: ROIS}},
        ),
    ],
    "DetectionEvaluate": [
        (
            f'detection_evaluate_param {{ num_classes: 3 name_size_file: "{F}/sizes.txt" }}',
            [(4, 7, 1, 1), (2, 8, 1, 1), (1, 2, 1, 1)],
            {
                "values": {0: _DETECTIONS, 1: [[0, 2, 3, 27, 25, 1, 0, 0], [0, 5, 5, 9, 9, 2, 0, 1]], 2: [[32, 64]]},
                "gradcheck": False,
            },
        ),
    ],
    "SmoothL1Loss": [
        (
            "smooth_l1_loss_param { sigma: 2 } loss_weight: 1 loss_weight: 0",
            [(3, 4, 2, 1), (3, 4, 2, 1), (3, 4, 2, 1), (3, 4, 2, 1)],
            {"tops": 2, "labels": {2: 2, 3: 2}, "dialect": "cascade"},
        ),
    ],
    "ImageGtData": [
        (
            f'image_gt_data_param {{ source: "{F}/mscnn.txt" root_folder: "{F}/" batch_size: 2 {FIELDS} '
            "downsample_rate: 4 downsample_rate: 8 output_gt_boxes: true crop_width: 24 crop_height: 16 } "
            "transform_param { mirror: true }",
            [],
            {"tops": 4},
        ),
    ],
    "DetectionData": [
        (
            f'detection_data_param {{ source: "{F}/cascade.txt" root_folder: "{F}/" batch_size: 1 {FIELDS} stride: 4 '
            'stride: 8 output_gt_boxes: true short_size: 32 long_size: 64 shuffle: "random_aspect" }',
            [],
            {"tops": 4},
        ),
    ],
    "EvalData": [
        (
            f'eval_data_param {{ source: "{F}/cascade.txt" root_folder: "{F}/" batch_size: 1 short_size: 32 '
            "long_size: 96 }",
            [],
            {"tops": 3},
        ),
    ],
}
