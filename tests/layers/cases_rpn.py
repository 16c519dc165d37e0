"""Configurations for the registry tests: rpn.py, rpn_targets.py."""


def named(module: str, layer: str, text: str) -> str:
    return f'python_param {{ module: "{module}" layer: "{layer}" param_str: "{text}" }}'


_INFO = [[96, 80, 1.5]]
_GT = [[10, 12, 60, 70, 2], [30, 5, 44, 90, 1], [0, 0, 20, 20, 1]]
_ROIS = [[0, 8, 8, 66, 75], [0, 0, 0, 30, 30], [0, 28, 0, 50, 90], [0, 70, 70, 79, 95], [0, 12, 14, 61, 69]]
ANCHORS = "'feat_stride': 16, 'scales': !!python/tuple [1, 2, 4]"

CASES = {
    "Python": [
        (
            named("rpn.proposal_layer", "ProposalLayer", ANCHORS.replace(", ", "\\n", 1)),
            [(1, 18, 6, 5), (1, 36, 6, 5), (1, 3)],
            {"values": {2: _INFO}, "tops": 2},
        ),
        (
            named("rpn.proposal_layer", "ProposalLayer", "{feat_stride: 8, scales: [2], post_nms_top_n: 7}"),
            [(1, 6, 9, 10), (1, 12, 9, 10), (1, 6)],
            {"values": {2: [[*_INFO[0], 1.5, 0, 0]]}},
        ),
        (
            named("rpn.anchor_target_layer", "AnchorTargetLayer", "{feat_stride: 16, scales: [1, 2], batch_size: 32}"),
            [(1, 12, 6, 5), (3, 5), (1, 3), (1, 3, 96, 80)],
            {"values": {1: _GT, 2: _INFO}, "tops": 4},
        ),
        (
            named("rpn.proposal_target_layer", "ProposalTargetLayer", "'num_classes': 3"),
            [(5, 5), (3, 5)],
            {"values": {0: _ROIS, 1: _GT}, "tops": 5},
        ),
        (
            named("roi_data_layer.layer", "RoIDataLayer", "'num_classes': 21"),
            [],
            {"top_names": ["data", "im_info", "gt_boxes"], "forward": False},
        ),
        (named("roi_data_layer.layer", "RoIDataLayer", "'num_classes': 21"), [], {"tops": 6, "forward": False}),
    ],
}
