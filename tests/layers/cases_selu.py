"""Configurations for the registry tests: selu.py."""

CASES = {
    "SeLu": [("", [(2, 3, 4, 5)], {}), ("selu_param { lambda: 1.5 alpha: 0.3 }", [(6,)], {})],
    "SeLuDropout": [("", [(2, 3, 4, 5)], {}), ("selu_dropout_param { dropout_ratio: 0.3 alpha: -1 }", [(2, 3)], {})],
}
