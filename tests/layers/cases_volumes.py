"""Configurations for the registry tests: volumes.py, voxels.py, data/volumes.py."""

import tempfile
from pathlib import Path

from data_files import write_volumes

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_volumes_")
F = _folder.name
write_volumes(Path(F))

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
LABELS = [0, 1, 2, 1, 0, 2, 2, 1]

CASES = {
    "Convolution3D": [
        (
            "convolution3d_param { num_output: 4 kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 1 pad: 1 "
            f"temporal_pad: 1 filter_group: 2 {FILLERS} }}",
            [(2, 2, 3, 4, 5)],
            {},
        ),
        (
            f"convolution3d_param {{ num_output: 2 kernel_size: 2 kernel_depth: 1 bias_term: false {FILLERS} }}",
            [(1, 3, 2, 3, 2)],
            {},
        ),
    ],
    "Deconvolution3D": [
        (
            "convolution3d_param { num_output: 2 kernel_size: 4 kernel_depth: 3 stride: 2 temporal_stride: 2 pad: 1 "
            f"temporal_pad: 1 {FILLERS} }}",
            [(1, 3, 2, 2, 3)],
            {},
        ),
    ],
    "Pooling3D": [
        ("pooling3d_param { kernel_size: 2 kernel_depth: 2 stride: 2 temporal_stride: 2 }", [(2, 2, 3, 5, 4)], {}),
        ("pooling3d_param { kernel_size: 2 kernel_depth: 1 stride: 3 }", [(1, 2, 2, 4, 5)], {}),
        (
            "pooling3d_param { pool: AVE kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 1 pad: 1 }",
            [(1, 2, 3, 5, 4)],
            {},
        ),
        ("pooling3d_param { pool: AVE kernel_size: 2 kernel_depth: 2 stride: 2 }", [(1, 2, 4, 4, 4)], {}),
    ],
    "Pooling": [
        ("pooling_param { kernel_size_3d: 2 stride_3d: 2 }", [(2, 2, 3, 5, 4)], {}),
        (
            "pooling_param { pool: AVE kernel_size_3d: 2 kernel_size_3d: 3 kernel_size_3d: 3 stride_3d: 2 pad_3d: 1 }",
            [(1, 2, 3, 5, 4)],
            {},
        ),
        ("pooling_param { pool: AVE global_pooling: true pad_3d: 0 }", [(1, 2, 3, 2, 4)], {}),
        ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 avg_include_pad: false }", [(1, 2, 5, 4)], {}),
        ("pooling_param { kernel_size: 1 stride: 2 last_inside: true }", [(1, 2, 4, 5)], {}),
    ],
    "VoxelSoftmaxWithLoss": [("", [(1, 3, 2, 2, 2), (1, 1, 2, 2, 2)], {"values": {1: LABELS}})],
    "VoxelCustomLoss": [("", [(2, 2, 1, 2, 2), (2, 2, 1, 2, 2)], {"gradcheck": False})],
    "DownSampling": [
        (
            "down_sampling_param { spatial_factor: 2 temporal_factor: 2 }",
            [(1, 1, 2, 2, 3)],
            {"labels": {0: 3}, "gradcheck": False},
        ),
    ],
    "VideoData": [
        (
            f'video_data_param {{ source: "{F}/frames.txt" use_image: true batch_size: 2 new_length: 2 new_height: 5 '
            "new_width: 6 } transform_param { crop_size: 4 mean_value: 3 }",
            [],
            {"tops": 2},
        ),
    ],
    "VideoSegmentationData": [
        (
            f'video_data_param {{ source: "{F}/bytes.txt" batch_size: 2 }} transform_param {{ crop_size: 4 }}',
            [],
            {"tops": 2},
        ),
    ],
    "VideoWithVoxelTruthData": [
        (f'video_data_param {{ source: "{F}/floats.txt" batch_size: 2 num_truth_channels: 2 }}', [], {"tops": 2}),
    ],
}
