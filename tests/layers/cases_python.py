"""Configurations of the Python layer for the tests over the whole registry; the class is in ``user_layers.py``.

fast-rcnn's data layers need minibatches before their forward pass.
"""

import tempfile
from pathlib import Path

from fcn_folders import FOLDERS, TOPS, body, write_folders

_folder = tempfile.TemporaryDirectory(prefix="caffe_compat_cases_")
write_folders(Path(_folder.name))


def regions(module: str, layer: str, text: str) -> str:
    return f'python_param {{ module: "{module}" layer: "{layer}" param_str: "{text}" }}'


CASES = {
    "Python": [
        ("python_param { module: 'user_layers' layer: 'Square' param_str: '0.5' }", [(2, 3)], {}),
        (
            regions("roi_data_layer.layer_pi", "RoIDataLayerPi", "--num_classes 20 --num_data 2"),
            [],
            {"tops": 6, "forward": False},
        ),
        (regions("roi_data_layer.layer", "RoIDataLayer", "'num_classes': 21"), [], {"tops": 3, "forward": False}),
        (
            regions("lib.sds.hypercolumn_data_layer", "HypercolumnDataLayer", "--max_size 688 --num_images 2"),
            [],
            {"tops": 7, "forward": False},
        ),
        *(
            (body(which, _folder.name, "'split': 'val'"), [], {"tops": TOPS.get(which.split()[1], 2)})
            for which in FOLDERS
        ),
    ],
}
