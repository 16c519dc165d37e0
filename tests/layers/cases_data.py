"""Configurations of the data layers for the tests over the whole registry.

``tops`` is the number of tops; ``forward: False`` marks layers whose forward pass needs more than a prototxt, or
writes a file.
"""

import tempfile
from pathlib import Path

from data_files import write_all

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_cases_")
F = _folder.name
write_all(Path(F))
TWO = {"tops": 2}

CASES = {
    "BoxData": [
        (
            f'data_param {{ source: "{F}/boxed" backend: LMDB batch_size: 2 }} transform_param {{ crop_size: 20 }}',
            [],
            TWO,
        )
    ],
    "AnnotatedData": [
        (f'data_param {{ source: "{F}/annotated" backend: LMDB batch_size: 2 }}', [], TWO),
        (
            f'data_param {{ source: "{F}/annotated" backend: LMDB batch_size: 3 }} transform_param {{ mirror: true '
            "resize_param { height: 9 width: 7 } distort_param { hue_prob: 0.5 hue_delta: 18 } "
            "expand_param { max_expand_ratio: 2 } } annotated_data_param { batch_sampler { max_trials: 3 sampler { "
            "min_scale: 0.5 } } }",
            [],
            TWO,
        ),
    ],
    "Data": [
        (f'data_param {{ source: "{F}/lmdb" backend: LMDB batch_size: 2 }}', [], TWO),
        (f'data_param {{ source: "{F}/lmdb" backend: LMDB batch_size: 3 }} transform_param {{ crop_size: 4 }}', [], {}),
    ],
    "HDF5Data": [(f'hdf5_data_param {{ source: "{F}/h5.txt" batch_size: 2 }}', [], {"top_names": ["data", "label"]})],
    "HDF5Output": [(f'hdf5_output_param {{ file_name: "{F}/out.h5" }}', [(2, 3), (2,)], {"tops": 0, "forward": False})],
    "ImageData": [
        (f'image_data_param {{ source: "{F}/list.txt" batch_size: 2 }}', [], TWO),
        (f'image_data_param {{ source: "{F}/list.txt" new_height: 3 new_width: 4 is_color: false }}', [], TWO),
    ],
    "MemoryData": [
        ("memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }", [], {"tops": 2, "forward": False})
    ],
    "PairedImageData": [
        (f'paired_image_data_param {{ source: "{F}/pairs.txt" }}', [], TWO),
        (
            f'paired_image_data_param {{ source: "{F}/pairs.txt" crop_height: 4 crop_width: 5 shuffle: true }}',
            [],
            TWO,
        ),
        (
            f'paired_image_data_param {{ source: "{F}/pairs.txt" proposals: "{F}/boxes.npz" rois_per_image: 9 }}',
            [],
            {"tops": 3},
        ),
    ],
    "WindowData": [
        (
            f'window_data_param {{ source: "{F}/windows.txt" batch_size: 4 context_pad: 1 }} '
            "transform_param { crop_size: 6 }",
            [],
            TWO,
        )
    ],
}
