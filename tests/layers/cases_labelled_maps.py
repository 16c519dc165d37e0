"""Configurations of the layers with a label for each pixel for the tests over the whole registry."""

import tempfile
from pathlib import Path

from data_files import write_images

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_cases_")
F = _folder.name
write_images(Path(F))
(Path(F) / "maps.txt").write_text("".join(f"{n}.png {(n + 1) % 5}.png\n" for n in range(5)))
CROP = "mirror: true crop_height: 4 crop_width: 5 shuffle: true"
HEAD = f'source: "{F}/maps.txt" root_folder: "{F}/"'
SCALED = "transform_param { crop_size: 7 mirror: true mean_value: 9 scale_factors: 0.5 scale_factors: 2 }"

CASES = {
    "DenseImageData": [
        (f"dense_image_data_param {{ {HEAD} batch_size: 2 }}", [], {"tops": 2}),
        (
            f"dense_image_data_param {{ {HEAD} batch_size: 3 {CROP} }}",
            [],
            {"tops": 2},
        ),
        (
            f"dense_image_data_param {{ {HEAD} batch_size: 2 new_height: 9 new_width: 6 label_divide_factor: 2 }}",
            [],
            {"tops": 2},
        ),
    ],
    "ImageSegData": [
        (f"image_data_param {{ {HEAD} batch_size: 2 label_type: PIXEL }}", [], {"tops": 3}),
        (f"image_data_param {{ {HEAD} label_type: PIXEL }} {SCALED}", [], {"tops": 2}),
    ],
    "ImageLabelmapData": [
        (f"image_data_param {{ {HEAD} batch_size: 2 }}", [], {"tops": 2}),
        (
            f"image_data_param {{ {HEAD} new_height: 7 new_width: 5 }} transform_param {{ crop_size: 4 mirror: true }}",
            [],
            {"tops": 2},
        ),
    ],
}
