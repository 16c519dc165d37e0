"""Configurations of the activation layers for the tests over the whole registry."""

CASES = {
    "ReLU": [("", [(2, 3, 4, 5)], {}), ("relu_param { negative_slope: 0.1 }", [(2, 3)], {})],
    "PReLU": [
        ("", [(2, 3, 2, 1, 2)], {}),
        ("", [(2, 3, 4, 5)], {}),
        ("prelu_param { channel_shared: true filler { value: 0.4 } }", [(2, 3)], {}),
        ("prelu_param { filler { type: 'uniform' min: 0.1 max: 0.6 } }", [(2, 3, 4)], {}),
    ],
    "ELU": [("", [(2, 3, 4, 5)], {}), ("elu_param { alpha: 0.3 }", [(6,)], {})],
    "Sigmoid": [("", [(2, 3, 4, 5)], {})],
    "TanH": [("", [(2, 3, 4, 5)], {})],
    "Swish": [("", [(2, 3, 4, 5)], {}), ("swish_param { beta: 1.5 }", [(2, 3)], {})],
    "AbsVal": [("", [(2, 3, 4, 5)], {})],
    "BNLL": [("", [(2, 3, 4, 5)], {})],
    "Clip": [("clip_param { min: -0.5 max: 0.7 }", [(2, 3, 4, 5)], {})],
    "Threshold": [("", [(2, 3, 4, 5)], {}), ("threshold_param { threshold: 0.5 }", [(7,)], {})],
}
