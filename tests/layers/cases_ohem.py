"""Configurations for the registry tests: ohem.py."""

THREE = "loss_weight: 1 loss_weight: 0 loss_weight: 0"

CASES = {
    "SoftmaxWithLossOHEM": [
        ("", [(4, 5), (4,)], {"labels": {1: 5}}),
        (f"loss_param {{ ignore_label: 2 }} {THREE}", [(2, 5, 3, 2), (2, 1, 3, 2)], {"labels": {1: 5}, "tops": 3}),
        (
            "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 7.5 }",
            [(2, 5, 3), (2, 3)],
            {"labels": {1: 5}},
        ),
        (
            "softmax_param { axis: -1 } loss_weight: 2 loss_weight: 0",
            [(2, 3, 5), (2, 3)],
            {"labels": {1: 5}, "tops": 2},
        ),
    ],
    "SmoothL1LossOHEM": [
        ("", [(3, 4), (3, 4)], {}),
        ("loss_param { normalization: BATCH_SIZE }", [(3, 4), (3, 4), (3, 4)], {"labels": {2: 2}}),
        (
            "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 3.5 } loss_weight: 1 loss_weight: 0",
            [(2, 4, 3, 2), (2, 4, 3, 2)],
            {"tops": 2},
        ),
    ],
    "SoftmaxWithLoss": [(THREE, [(2, 5, 3, 2), (2, 1, 3, 2)], {"labels": {1: 5}, "tops": 3, "dialect": "rfcn"})],
    "SmoothL1Loss": [
        ("loss_weight: 1 loss_weight: 0", [(3, 4), (3, 4), (3, 4)], {"labels": {2: 2}, "tops": 2, "dialect": "rfcn"})
    ],
    "BoxAnnotatorOHEM": [
        (
            "box_annotator_ohem_param { roi_per_img: 2 }",
            [(5, 5), (5, 1), (5,), (5, 4)],
            {"tops": 2, "labels": {0: 2, 2: 3}},
        ),
        (
            "box_annotator_ohem_param { roi_per_img: 3 ignore_label: -2 }",
            [(3, 5, 2, 1), (3, 1, 2, 1), (3, 1, 2, 1), (3, 8, 2, 1)],
            {"tops": 2, "labels": {0: 2, 2: 3}},
        ),
    ],
}
