"""Configurations for the registry tests: lstm.py, turning.py."""

_FILLED = "num_output: 3 weight_filler { type: 'uniform' min: -1 } bias_filler { type: 'gaussian' }"

CASES = {
    "Lstm": [
        (f"lstm_param {{ {_FILLED} }}", [(4, 2, 5)], {}),
        (f"lstm_param {{ {_FILLED} batch_size: 2 }}", [(6, 5)], {}),
        (f"lstm_param {{ {_FILLED} }}", [(3, 2, 2, 2)], {}),
        # the state of one pass is the start of the next; and the gradient is the fork's, not the derivative
        (f"lstm_param {{ {_FILLED} }}", [(4, 5), (4,)], {"labels": {1: 2}, "gradcheck": False, "onnx": False}),
    ],
    "Transpose": [("transpose_param { dim: 3 dim: 2 dim: 0 dim: 1 }", [(2, 3, 4, 5)], {})],
    "Reverse": [
        ("", [(3, 2, 4)], {}),
        ("reverse_param { axis: 1 axis: -1 }", [(2, 3, 4)], {}),
    ],
}
