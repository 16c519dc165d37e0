"""Configurations for the registry tests: what forks of single groups have (DeconvNet, DeepLab, actions, persons)."""

import tempfile
from pathlib import Path

import numpy as np
from data_files import write_images

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_cases_")
F = _folder.name
write_images(Path(F))
(Path(F) / "windows.txt").write_text("".join(f"/{n}.png /{n}.png {n - 1} -1 {n + 3} 7\n" for n in range(5)))

_APART = np.random.default_rng(0).permuted(np.tile(np.arange(30.0), (6, 1)), axis=1)[:, :6].tolist()
_LABELS = [0, 1, 2, 1, 255, 2, 0, 1, 0, 2, 1, 0]

CASES = {
    "Unpooling": [
        (
            "unpooling_param { kernel_size: 2 stride: 2 unpool_h: 5 unpool_w: 6 }",
            [(2, 3, 2, 3), (2, 3, 2, 3)],
            {"values": {1: _APART}},
        ),
        ("unpooling_param { kernel_size: 2 stride: 2 unpool_size: 7 }", [(2, 3, 2, 3)], {}),
        ("unpooling_param { unpool: AVE kernel_size: 3 stride: 2 unpool_size: 6 }", [(2, 3, 3, 2)], {}),
        (
            "unpooling_param { unpool: TILE kernel_h: 2 kernel_w: 3 stride: 2 unpool_h: 4 unpool_w: 8 }",
            [(2, 3, 2, 3)],
            {"gradcheck": False},
        ),
    ],
    "EltwiseAccuracy": [
        (
            "eltwise_accuracy_param { ignore_label: 255 }",
            [(2, 3, 2, 3), (2, 1, 2, 3)],
            {"values": {1: _LABELS}},
        )
    ],
    "Padding": [
        ("padding_param { pad_beg: 1 pad_end: 2 }", [(2, 3, 2, 3)], {}),
        ("padding_param { pad_beg: -1 }", [(2, 3, 2, 3)], {}),
    ],
    "MatWrite": [('mat_write_param { prefix: "there/" }', [(2, 3)], {"tops": 0})],
    "SoftmaxWithLoss": [
        (
            "softmaxloss_param { ignore_label: 255 ignore_label: 1 }",
            [(2, 3, 2, 3), (2, 1, 2, 3)],
            {"values": {1: _LABELS}},
        )
    ],
    "WindowSegData": [
        (
            f'image_data_param {{ source: "{F}/windows.txt" root_folder: "{F}" batch_size: 2 label_type: PIXEL '
            "new_height: 6 new_width: 7 } transform_param { crop_size: 5 mirror: true }",
            [],
            {"tops": 2},
        )
    ],
    "GuidedDropout": [
        ("guided_dropout_param { guidance_threshold: 0.1 }", [(2, 3, 2, 2), (2, 3)], {}),
        ('guided_dropout_param { type: "stochastic" }', [(2, 3), (2, 3, 1, 1)], {}),
    ],
    "K1_EuclideanLoss": [("", [(3, 4), (3, 4)], {"gradcheck": False})],
    "K2_EuclideanLoss": [("", [(3, 4), (3, 4)], {"gradcheck": False})],
    "MultiStageMeanfield": [
        (
            "multi_stage_meanfield_param { num_iterations: 3 theta_alpha: 3 theta_beta: 0.7 theta_gamma: 2 "
            "spatial_filter_weight: 3 bilateral_filter_weight: 5 }",
            [(2, 3, 3, 4)] * 3,
            {},
        )
    ],
    "Gather": [("", [(2, 3), (2,)], {"tops": 2})],
    "Scatter": [("", [(2, 3)], {})],
    "BatchReduction": [
        ("batch_reduction_param { reduction_param { axis: 1 operation: MEAN } }", [(2, 3, 4)], {}),
        ("batch_reduction_param { level: 1 level: 2 reduction_param { axis: 1 operation: MEAN } }", [(2, 5, 4)], {}),
        ("batch_reduction_param { pos: true reduction_param { axis: 1 } }", [(2, 3, 3, 4)], {}),
        ("batch_reduction_param { level: 2 reduction_param { axis: 0 operation: TOPK k: 2 } }", [(4, 3)], {}),
    ],
}
