"""Configurations for the registry tests: small.py, and data/affine.py."""

from cases_data import TWO, F

CASES = {
    "Sparsify": [
        ("", [(2, 3, 2)], {}),
        ("sparsify_param { thre: 0.2 }", [(2, 3, 2)], {}),
        ("sparsify_param { thre: 0.2 coef: 0.1 }", [(2, 3)], {"gradcheck": False}),
    ],
    "AvgProbs": [("avg_probs_param { multi_infer_size: 2 }", [(4, 3)], {}), ("", [(2, 3, 1, 2)], {})],
    "AvgProbsMultiSources": [("", [(2, 3)] * 3, {}), ("", [(2, 3)], {})],
    "ImageDataAffine": [
        (
            f'image_data_affine_param {{ source: "{F}/list.txt" batch_size: 2 new_size: 5 is_color: false }} '
            "transform_param { crop_size: 4 mirror: true affine_param { max_translation: 1 } }",
            [],
            TWO,
        ),
        (f'image_data_affine_param {{ source: "{F}/list.txt" batch_size: 2 new_size: 6 }}', [], TWO),
    ],
    "ImageDataMultipleInference": [
        (
            f'image_data_multi_infer_param {{ source: "{F}/list.txt" batch_size: 2 new_size: 5 multi_infer_size: 3 }}',
            [],
            TWO,
        )
    ],
}
