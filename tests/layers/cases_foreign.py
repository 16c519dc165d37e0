"""Configurations of the layer that holds a net of another framework; the module is in ``user_layers.py``."""

NUMBERS = "mean: 0.5 mean: 0.4 mean: 0.3 std: 0.2 std: 0.3 std: 0.4"

CASES = {
    "ForeignNet": [
        ("foreign_net_param { source: 'user_layers:tiny_module' feature: 'act' }", [(2, 3, 9, 8)], {}),
        (
            f"foreign_net_param {{ source: 'user_layers:tiny_module' feature: 'pool' feature: 'conv' {NUMBERS} "
            "pixel_range: 1.0 rgb: false }",
            [(1, 3, 8, 8)],
            {"tops": 2},
        ),
    ],
}
