"""Configurations for the registry tests: sequences.py and refinedet.py."""

from cases_data import TWO, F
from cases_ssd import BOXES, PRIORS, TRUTH

_OUT = "detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 5 confidence_threshold: 0.01"
_LOSS = "multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE overlap_threshold: 0.3 objectness_score: 0.2 }"
_LOSS_BOTTOMS = [(2, 20), (2, 15), (1, 2, 20), (1, 1, 3, 8)]
_OBJECTS = [[0.9, 0.1, 0.2, 0.8, 0.3, 0.7, 0.95, 0.05, 0.4, 0.6]] * 2
_MOVED = [[0.1, -0.2, 0.3, 0.1] * len(BOXES)] * 2

CASES = {
    "ContinuationIndicator": [
        ("continuation_indicator_param { time_step: 3 }", [(2, 3, 4)], {}),
        ("continuation_indicator_param { time_step: 1 axis: -1 }", [(2, 3)], {}),
        ("continuation_indicator_param { time_step: 3 batch_size: 2 }", [], {}),
    ],
    "CtcLoss": [
        (
            "ctc_loss_param { alphabet_size: 4 time_step: 5 blank_label: 3 }",
            [(6, 2, 4), (2, 3)],
            {"values": {1: [[0, 0, 3], [3, 1, 2]]}},
        )
    ],
    "LabelsequenceAccuracy": [
        ("labelsequence_accuracy_param { blank_label: 1 }", [(2, 4, 3), (2, 3)], {"labels": {1: 3}})
    ],
    "SparseData": [(f'data_param {{ source: "{F}/sparse" backend: LMDB batch_size: 2 }}', [], TWO)],
    "SparseInnerProduct": [("inner_product_param { num_output: 3 weight_filler { type: 'xavier' } }", [(2, 4)], {})],
    "DetectionOutput": [
        (
            f"{_OUT} objectness_score: 0.2 nms_param {{ nms_threshold: 0.45 top_k: 4 }} }}",
            [(2, 20), (2, 15), (1, 2, 20), (2, 10), (2, 20)],
            {"values": {2: PRIORS, 3: _OBJECTS, 4: _MOVED}},
        ),
        (
            f"{_OUT} objectness_score: 0.2 nms_param {{ nms_threshold: 0.45 top_k: 4 }} }}",
            [(2, 20), (2, 15), (1, 2, 20), (2, 10)],
            {"values": {2: PRIORS, 3: _OBJECTS}},
        ),
        (
            f"{_OUT} nms_param {{ nms_threshold: 0.45 soft_nms: true theta: 0.4 }} }}",
            [(2, 20), (2, 15), (1, 2, 20)],
            {"values": {2: PRIORS}, "onnx": False},
        ),
    ],
    "MultiBoxLoss": [
        (_LOSS, [*_LOSS_BOTTOMS, (2, 10)], {"values": {2: PRIORS, 3: TRUTH, 4: _OBJECTS}}),
        (_LOSS, [*_LOSS_BOTTOMS, (2, 10), (2, 20)], {"values": {2: PRIORS, 3: TRUTH, 4: _OBJECTS, 5: _MOVED}}),
    ],
}
