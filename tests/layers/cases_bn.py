"""Configurations for the registry tests: bn.py."""

SEGNET = 'scale_filler { type: "gaussian" std: 1 } shift_filler { type: "gaussian" std: 1 }'
PSPNET = 'slope_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 }'

CASES = {
    "BN": [
        (f"bn_param {{ {SEGNET} }}", [(2, 3, 4, 2)], {}),
        (f"bn_param {{ {SEGNET} }}", [(4, 3, 1, 2)], {"tops": 3}),
        (f"bn_param {{ {SEGNET} bn_mode: INFERENCE }}", [(2, 3, 2, 2)], {}),
        (f"bn_param {{ {SEGNET} bn_mode: INFERENCE }}", [(2, 3)], {}),
        # in TEST the gradient is the fork's and not the derivative
        (f"bn_param {{ {PSPNET} eps: 0.1 }}", [(2, 3, 2, 2)], {"gradcheck": False}),
        (f"bn_param {{ {PSPNET} frozen: true momentum: 0.95 }}", [(2, 3, 4)], {}),
        ("param {} param {} param {} param {}", [(2, 3, 2, 2)], {"gradcheck": False}),
    ],
}
