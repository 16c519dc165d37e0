"""Configurations for the registry tests: metrics.py."""

CASES = {
    "Accuracy": [
        ("", [(4, 5), (4,)], {"labels": {1: 5}}),
        ("accuracy_param { top_k: 2 ignore_label: 1 }", [(2, 5, 3, 2), (2, 1, 3, 2)], {"labels": {1: 5}}),
        ("accuracy_param { axis: -1 }", [(2, 3, 5), (6,)], {"labels": {1: 5}, "tops": 2}),
    ],
    "SegAccuracy": [
        ("", [(2, 5, 3, 4), (2, 1, 3, 4)], {"labels": {1: 5}}),
        ("seg_accuracy_param { ignore_label: 1 reset: false metric: PixelIOU }", [(3, 4), (3,)], {"labels": {1: 4}}),
    ],
}
