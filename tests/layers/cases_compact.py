"""Configurations for the registry tests: compact.py."""

CASES = {
    "ReLU6": [("", [(2, 3, 2)], {}), ("relu6_param { negative_slope: 0.1 }", [(2, 3, 2, 2)], {})],
    "Axpy": [
        ("", [(2, 3), (2, 3, 2, 4), (2, 3, 2, 4)], {}),
        ("", [(2, 3, 1, 1), (2, 3, 2, 1), (2, 3, 2, 1)], {}),
        ("", [(2, 3, 1, 1), (2, 3), (2, 3)], {}),
    ],
    "ShuffleChannel": [
        ("shuffle_channel_param { group: 3 }", [(2, 6, 2, 3)], {}),
        ("shuffle_channel_param { group: 2 }", [(2, 4)], {}),
        ("", [(1, 3, 2, 1)], {}),
    ],
}
