"""Configurations for the registry tests: data/clips.py."""

import tempfile
from pathlib import Path

from data_files import write_clips

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_clips_")
F = _folder.name
write_clips(Path(F))

CASES = {
    "VideoData": [
        (
            f'video_data_param {{ source: "{F}/clips.txt" batch_size: 2 new_length: 2 modality: RGB num_segments: 2 '
            'name_pattern: "image_%04d.png" } transform_param { crop_size: 4 mean_value: 3 }',
            [],
            {"tops": 2},
        ),
        (
            f'data_param {{ batch_size: 2 }} video_data_param {{ video_type: VIDEO video_file: "{F}/video.avi" }} '
            "transform_param { resize_param { height: 5 width: 6 } }",
            [],
            {},
        ),
    ],
}
