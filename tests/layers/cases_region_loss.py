"""Configurations for the registry tests: region_loss.py."""

BIASES = " ".join(f"biases: {value}" for value in (1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52))
_OBJECTS = [[[1, 0.3, 0.4, 0.2, 0.5], [0, 0.7, 0.9, 0.5, 0.1], *[[0] * 5] * 298], [[0] * 5] * 300]
_ANNOTATED = [[[[0, 2, 0, 0.2, 0.15, 0.4, 0.65, 0], [1, 1, 0, 0.4, 0.8, 0.9, 0.95, 0], [-1] * 8]]]

CASES = {
    # the gradient is the fork's, not that of the top
    "RegionLoss": [
        (
            f"region_loss_param {{ num_class: 2 num: 3 {BIASES} {body} }}",
            [(2, 21, 4, 4), (2, 1, 300, 5)],
            {"values": {1: _OBJECTS}, "gradcheck": False},
        )
        for body in ("", "rescore: 0 bias_match: 0 thresh: 0.6")
    ]
    + [
        (
            f"region_loss_param {{ num_class: 2 num: 3 {BIASES} }}",
            [(2, 21, 4, 4), (1, 1, 3, 8)],
            {"values": {1: _ANNOTATED}, "gradcheck": False},
        )
    ],
}
