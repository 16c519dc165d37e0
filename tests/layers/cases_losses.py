"""Configurations for the registry tests: losses.py."""

_SPATIAL = {"labels": {1: 5}}

_WEIGHTS = " ".join(f"class_weighting: {weight}" for weight in (0.2595, 0.1826, 4.564, 0, 1))

CASES = {
    "SoftmaxWithLoss": [
        ("", [(4, 5), (4,)], {"labels": {1: 5}}),
        ("loss_param { ignore_label: 2 }", [(2, 5, 3, 2), (2, 1, 3, 2)], _SPATIAL),
        ("loss_param { normalization: FULL ignore_label: 1 }", [(2, 5, 3, 2), (2, 3, 2)], _SPATIAL),
        ("softmax_param { axis: -1 } loss_param { normalize: false }", [(2, 3, 5), (2, 3)], _SPATIAL),
        (f"loss_param {{ ignore_label: 1 weight_by_label_freqs: true {_WEIGHTS} }}", [(2, 5, 3), (2, 3)], _SPATIAL),
    ],
    "InfogainLoss": [
        ("loss_param { ignore_label: 2 }", [(2, 5, 3), (2, 3), (5, 5)], _SPATIAL),
        ("infogain_loss_param { axis: -1 }", [(2, 3, 5), (2, 3), (1, 1, 5, 5)], _SPATIAL),
    ],
    "MultinomialLogisticLoss": [("", [(3, 4), (3,)], {"labels": {1: 4}, "positive": [0]})],
    "HingeLoss": [
        ("", [(3, 4), (3,)], {"labels": {1: 4}}),
        ("hinge_loss_param { norm: L2 }", [(3, 2, 2, 1), (3, 1, 1, 1)], {"labels": {1: 4}}),
    ],
    "EuclideanLoss": [("", [(3, 4), (3, 4)], {}), ("", [(3, 2, 2), (3, 4, 1, 1)], {})],
    "SigmoidCrossEntropyLoss": [
        ("", [(3, 4), (3, 4)], {"labels": {1: 2}}),
        ("loss_param { ignore_label: 2 normalization: VALID }", [(2, 3, 2), (2, 6)], {"labels": {1: 3}}),
    ],
    "ContrastiveLoss": [
        # the newer form divides by distance + 1e-4 in its gradient, which is not the exact one
        ("", [(4, 3), (4, 3), (4,)], {"labels": {2: 2}, "gradcheck": False}),
        (
            "contrastive_loss_param { margin: 9 legacy_version: true }",
            [(4, 3), (4, 3, 1, 1), (4, 1)],
            {"labels": {2: 2}},
        ),
    ],
}
