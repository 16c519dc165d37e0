"""Configurations of the arithmetic layers for the tests over the whole registry."""

IMAGE = (2, 3, 4, 5)

CASES = {
    "Power": [
        ("", [IMAGE], {}),
        ("power_param { scale: 0.5 shift: 1.5 }", [IMAGE], {}),
        ("power_param { power: 2 scale: -2 shift: 0.3 }", [(2, 3)], {}),
        ("power_param { power: 3 scale: 0.5 shift: 0.1 }", [IMAGE], {}),
        ("power_param { power: 0 shift: 4 }", [IMAGE], {}),
    ],
    "Exp": [("", [IMAGE], {}), ("exp_param { base: 2 scale: 0.5 shift: 1 }", [(2, 3)], {})],
    "Log": [
        ("log_param { shift: 5 }", [IMAGE], {}),
        ("log_param { base: 10 scale: 0.5 shift: 4 }", [(2, 3)], {}),
    ],
    "Eltwise": [
        ("", [IMAGE, IMAGE], {}),
        ("eltwise_param { coeff: 0.5 coeff: -1 coeff: 1 }", [IMAGE] * 3, {}),
        ("eltwise_param { operation: PROD }", [IMAGE] * 3, {}),
        ("eltwise_param { operation: PROD stable_prod_grad: false }", [(2, 3)] * 2, {}),
        ("eltwise_param { operation: MAX }", [IMAGE] * 3, {}),
    ],
    "Bias": [
        ("bias_param { filler { value: 0.7 } }", [IMAGE], {}),
        ("bias_param { axis: 0 num_axes: -1 filler { type: 'uniform' } }", [(2, 3)], {}),
        ("bias_param { num_axes: 0 filler { value: 2 } }", [IMAGE], {}),
        ("bias_param { axis: 0 }", [IMAGE, (2, 3)], {}),
    ],
    "Scale": [
        ("", [IMAGE], {}),
        ("scale_param { bias_term: true filler { type: 'uniform' } bias_filler { value: 0.3 } }", [IMAGE], {}),
        ("scale_param { axis: -2 num_axes: 2 filler { type: 'uniform' } }", [IMAGE], {}),
        ("scale_param { axis: 0 bias_term: true bias_filler { value: 1 } }", [IMAGE, (2, 3)], {}),
        ("scale_param { scale: 0.25 }", [IMAGE], {}),
    ],
    "Sum": [("", [IMAGE] * 3, {}), ("", [(2, 3, 1, 1), (2, 3)], {}), ("", [(2, 3)], {})],
}
