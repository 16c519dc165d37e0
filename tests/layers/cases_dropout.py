"""Configurations for the registry tests: dropout.py."""

from cases_rpn import named

SPATIAL = "spatial_dropout", "SpatialDropoutLayer"

CASES = {
    "Dropout": [
        ("", [(2, 3, 4, 5)], {}),
        ("dropout_param { dropout_ratio: 0.3 scale_train: false }", [(2, 3)], {}),
        ("dropout_param { dropout_ratio: 0 sample_weights_test: true }", [(2, 3)], {}),
    ],
    "Python": [
        (named(*SPATIAL, "{'phase': 'TEST', 'p': '0.1'}"), [(2, 3, 4, 5)], {}),
        (
            named(*SPATIAL, "{'phase': 'TRAIN', 'p': 0.0000001}"),
            [(2, 3, 4, 5)],
            {"gradcheck": False, "onnx": False},
        ),
    ],
}
