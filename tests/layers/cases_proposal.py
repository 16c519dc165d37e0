"""Configurations for the registry tests: proposal.py."""

SETTINGS = "feat_stride: 8 base_size: 8 min_size: 3 nms_thresh: 0.6"

CASES = {
    "Proposal": [
        (
            f"proposal_param {{ {SETTINGS} ratio: 0.5 ratio: 2 scale: 1 scale: 2 post_nms_topn: 9 }}",
            [(1, 8, 3, 4), (1, 16, 3, 4), (1, 4)],
            {"tops": 2, "values": {2: [[30, 40, 1, 1]]}, "gradcheck": False},
        ),
        (
            "proposal_param { feat_stride: 8 anchor_base_size: 1 anchor_scale: 1 max_rois: 5 }",
            [(1, 6, 3, 4), (1, 12, 3, 4), (1, 3)],
            {"tops": 2, "values": {2: [[60, 70, 1]]}, "gradcheck": False},
        ),
    ],
}
