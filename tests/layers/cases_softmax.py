"""Configurations for the registry tests: softmax.py."""

CASES = {
    "Softmax": [
        ("", [(3, 5)], {}),
        ("", [(2, 4, 3, 2)], {}),
        ("softmax_param { axis: -1 }", [(2, 3, 4)], {}),
        ("softmax_param { axis: 0 }", [(4, 2)], {}),
    ],
}
