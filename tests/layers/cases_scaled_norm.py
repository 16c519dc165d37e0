"""Configurations for the registry tests: scaled_norm.py."""

CASES = {
    "BatchNorm": [
        ("batch_norm_param { filler { value: 2 } bias_filler { value: 1 } eps: 0.5 }", [(2, 3, 2, 2)], {}),
        ("batch_norm_param { use_weight_bias: true bias_term: false eps: 0.5 }", [(2, 3, 4)], {}),
        ("batch_norm_param { scale_bias: true eps: 0.5 }", [(2, 3, 2, 2)], {}),
        ("batch_norm_param { scale_filler { value: 2 } eps: 0.5 }", [(4, 3)], {}),
    ],
}
