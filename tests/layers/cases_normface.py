"""Configurations for the registry tests: normface.py, normface_losses.py, insanity.py."""

GAUSS = 'weight_filler { type: "gaussian" }'

CASES = {
    "Normalize": [
        ("normalize_param { }", [(2, 3, 2, 2)], {}),
        ('normalize_param { normalize_type: "L1" bp_norm: true }', [(2, 3)], {"tops": 2}),
        ("normalize_param { bp_norm: true }", [(2, 3, 2)], {"tops": 2}),
        ('softmax_param { normalize_type: "L2" }', [(2, 3)], {}),
    ],
    "InnerDistance": [
        (f"inner_distance_param {{ num_output: 4 {GAUSS} }}", [(3, 2, 2)], {}),
        ("inner_distance_param { axis: 2 }", [(3, 2, 5), (4, 5)], {}),
        # the fork's gradient of L1 is not the derivative
        ('inner_distance_param { distance_type: "L1" }', [(3, 5), (4, 5, 1)], {"gradcheck": False}),
        (
            "inner_distance_param { update_center_only: true }",
            [(3, 5), (4, 5), (3,)],
            {"labels": {2: 4}, "gradcheck": False},
        ),
        (f"inner_distance_param {{ num_output: 2 normalize: true {GAUSS} }}", [(3, 4)], {"gradcheck": False}),
    ],
    "ChannelScale": [
        ("", [(2, 3, 2, 2), (2, 1, 2, 2)], {}),
        ("", [(2, 3), (2, 1, 1, 1)], {}),
        ("channel_scale_param { do_forward: false }", [(2, 3, 2), (2, 1, 2)], {"gradcheck": False}),
    ],
    "Flip": [
        ("", [(2, 3, 2, 3)], {}),
        ("flip_param { flip_width: false flip_height: true }", [(2, 3, 2, 3)], {}),
        ("flip_param { flip_width: false }", [(2, 3, 2, 3)], {}),
    ],
    "InnerProduct": [
        (f"inner_product_param {{ num_output: 4 normalize: true {GAUSS} }}", [(3, 5)], {"gradcheck": False}),
        (f"inner_product_param {{ num_output: 4 normalize: false {GAUSS} }}", [(3, 5)], {}),
        ("inner_product_param { bias_term: false }", [(3, 5, 1), (4, 5, 1, 1)], {"dialect": "normface"}),
        ("inner_product_param { axis: 2 }", [(3, 2, 5), (4, 5), (4,)], {"dialect": "normface"}),
    ],
    "Scale": [("scale_param { num_axes: 0 min_value: 0.5 max_value: 2 filler { value: 1.5 } }", [(2, 3)], {})],
    "Accuracy": [("accuracy_param { min_is_better: true top_k: 2 }", [(4, 5), (4,)], {"labels": {1: 5}})],
    "Parameter": [('parameter_param { shape { dim: 2 dim: 3 } blob_filler { type: "gaussian_unitball" } }', [], {})],
    "GeneralContrastiveLoss": [
        (
            "general_contrastive_loss_param { negative_margin: 0.8 positive_margin: 0.1 positive_outlier_thresh: 9 }",
            [(4, 5), (4,)],
            {"labels": {1: 5}},
        ),
        (
            "general_contrastive_loss_param { max_negative_only: true exp_negative_weight: true positive_first: true }",
            [(4, 5), (4,), (4, 5)],
            {"labels": {1: 5}, "tops": 2, "gradcheck": False},
        ),
    ],
    "GeneralTripletLoss": [
        ("general_triplet_loss_param { margin: 0.3 }", [(4, 5), (4,)], {"labels": {1: 5}, "gradcheck": False}),
        (
            "general_triplet_loss_param { margin: 0.3 hardest_only: true add_center_loss: false }",
            [(4, 5), (4,), (4,)],
            {"labels": {1: 5}, "tops": 2, "gradcheck": False},
        ),
    ],
    "Insanity": [("", [(2, 3, 2)], {}), ("insanity_param { lb: -3 ub: 5 }", [(2, 3)], {})],
}
