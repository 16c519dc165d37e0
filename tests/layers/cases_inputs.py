"""Configurations of the layers without bottoms for the registry tests; ``tops`` is the number of tops."""

CASES = {
    "Input": [("input_param { shape { dim: 2 dim: 3 } }", [], {"tops": 2})],
    "Parameter": [("parameter_param { shape { dim: 2 dim: 3 } }", [], {})],
    "DummyData": [
        ("dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 1.5 } }", [], {"tops": 2}),
        (
            "dummy_data_param { num: 1 num: 2 channels: 3 height: 4 width: 5 data_filler { type: 'uniform' } }",
            [],
            {"tops": 2, "onnx": False},
        ),
        ("dummy_data_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } data_filler { type: 'bilinear' } }", [], {}),
    ],
}
