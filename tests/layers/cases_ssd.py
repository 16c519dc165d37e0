"""Configurations for the registry tests: priors.py, detection_output.py, multibox.py, detection_evaluate.py."""

from __future__ import annotations

_SIZES = "min_size: 3 max_size: 5 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"

BOXES = [[0, 0, 0.5, 0.5], [0.1, 0.1, 0.6, 0.5], [0.5, 0.5, 1, 1], [0.5, 0, 1, 0.6], [0.2, 0.3, 0.4, 0.9]]
PRIORS = [BOXES, [[0.1, 0.1, 0.2, 0.2]] * 5]
TRUTH = [[0, 1, 0, 0, 0, 0.5, 0.4, 0], [0, 2, 0, 0.5, 0.6, 0.9, 1, 0], [1, 2, 0, 0.5, 0, 1, 0.5, 1]]
_FOUND = [[0, 1, 0.9, 0, 0, 0.5, 0.5], [0, 2, 0.8, 0, 0, 0.5, 0.5], [1, 2, 0.7, 0.5, 0, 1, 0.6]]
_NMS = "nms_param { nms_threshold: 0.45 top_k: 4 }"

CASES = {
    "DetectionEvaluate": [
        (
            "detection_evaluate_param { num_classes: 3 overlap_threshold: 0.4 }",
            [(1, 1, 3, 7), (1, 1, 3, 8)],
            {"values": {0: _FOUND, 1: TRUTH}},
        )
    ],
    "DetectionOutput": [
        (
            f"detection_output_param {{ num_classes: 3 code_type: CENTER_SIZE keep_top_k: 5 {_NMS} "
            "confidence_threshold: 0.01 }",
            [(2, 20), (2, 15), (1, 2, 20)],
            {"values": {2: PRIORS}},
        ),
        (
            f"detection_output_param {{ num_classes: 3 background_label_id: 1 share_location: false {_NMS} "
            "code_type: CORNER_SIZE }",
            [(2, 60), (2, 15), (1, 2, 20)],
            {"values": {2: PRIORS}},
        ),
        (
            "detection_output_param { num_classes: 2 background_label_id: -1 variance_encoded_in_target: true "
            "keep_top_k: 3 }",
            [(1, 20), (1, 10), (1, 2, 20), (1, 3, 4, 4)],
            {"values": {2: PRIORS}},
        ),
        (
            "detection_output_param { num_classes: 2 confidence_threshold: 9 }",  # nothing is found
            [(2, 20), (2, 10), (1, 2, 20)],
            {"values": {2: PRIORS}},
        ),
    ],
    "MultiBoxLoss": [
        (
            "multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE overlap_threshold: 0.3 }",
            [(2, 20), (2, 15), (1, 2, 20), (1, 1, 3, 8)],
            {"values": {2: PRIORS, 3: TRUTH}},
        ),
        (
            "multibox_loss_param { num_classes: 3 share_location: false mining_type: NONE }",
            [(2, 60), (2, 15), (1, 2, 20), (1, 1, 3, 8)],
            {"values": {2: PRIORS, 3: TRUTH}},
        ),
    ],
    "Permute": [
        ("permute_param { order: 0 order: 2 order: 3 order: 1 }", [(2, 3, 4, 5)], {}),
        ("permute_param { order: 2 }", [(2, 3, 4)], {}),
        ("", [(2, 3)], {}),
    ],
    "PriorBoxClustered": [
        (
            "prior_box_param { width: 9.4 width: 25.1 height: 15 height: 39.6 step: 16 variance: 0.1 }",
            [(2, 3, 3, 2), (2, 3, 48, 32)],
            {},
        ),
    ],
    "PriorBox": [
        (f"prior_box_param {{ {_SIZES} clip: true }}", [(2, 3, 2, 3), (2, 3, 12, 20)], {}),
        ("prior_box_param { min_size: 3.7 step: 8 offset: 0.25 img_size: 30 }", [(1, 2, 3, 2)], {}),
    ],
}
