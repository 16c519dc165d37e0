"""Small folders in the form of the data sets that fully convolutional networks were trained on."""

from pathlib import Path

import numpy as np
import scipy.io
from data_files import image
from PIL import Image

OUTDOOR = "spatial_envelope_256x256_static_8outdoorcategories"
NAMES = ("a", "b", "c", "d")
SIZE = (6, 8)


def labels(number: int, low: int, high: int) -> np.ndarray:
    """Whole numbers from ``low`` to below ``high``."""
    return np.random.default_rng(number).integers(low, high, SIZE)


def _save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(pixels, mode) if mode == "P" else Image.fromarray(pixels)
    if mode == "P":
        made.putpalette([(7 * value) % 256 for value in range(768)])
    made.save(path)


def _mat(path: Path, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, values)


def _list(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(NAMES) + "\n")


def write_folders(folder: Path) -> None:
    """``voc``, ``sbdd``, ``nyud``, ``sift`` and ``context``, four samples each, with the splits train and val."""
    for split in ("train", "val"):
        for base in ("voc/ImageSets/Segmentation", "sbdd", "nyud", "sift", "context/VOC2010/ImageSets/Main"):
            _list(folder / base / f"{split}.txt")
    for number, name in enumerate(NAMES):
        pixels = image(number, *SIZE)[..., ::-1]
        _save(folder / f"voc/JPEGImages/{name}.jpg", pixels)
        _save(folder / f"voc/SegmentationClass/{name}.png", labels(number, 0, 256).astype(np.uint8), "P")
        _save(folder / f"sbdd/img/{name}.jpg", pixels)
        _mat(folder / f"sbdd/cls/{name}.mat", GTcls={"Segmentation": labels(number, 0, 21).astype(np.uint8)})
        _save(folder / f"nyud/data/images/img_{name}.png", pixels)
        _save(folder / f"nyud/data/hha/img_{name}.png", image(number + 9, *SIZE))
        _save(folder / f"nyud/data/depth/img_{name}.png", labels(number, 500, 9000).astype(np.uint16))
        _mat(folder / f"nyud/segmentation/img_{name}.mat", segmentation=labels(number, 0, 41).astype(np.uint16))
        _save(folder / f"sift/Images/{OUTDOOR}/{name}.jpg", pixels)
        _mat(folder / f"sift/SemanticLabels/{OUTDOOR}/{name}.mat", S=labels(number, 0, 34).astype(np.float64))
        _mat(folder / f"sift/GeoLabels/{OUTDOOR}/{name}.mat", S=labels(number, -1, 4).astype(np.int16))
        _save(folder / f"context/VOC2010/JPEGImages/{name}.jpg", pixels)
        _mat(folder / f"context/trainval/{name}.mat", LabelMap=labels(number, 0, 8).astype(np.uint16))
    (folder / "context/labels.txt").write_text(
        "1: dog\n2: table\n3: cloth\n4: bed clothes\n5: traffic light\n6: unused\n"
    )
    (folder / "context/59_labels.txt").write_text("1: traffic light\n2: bedcloth\n3: dog\n4: clothes\n5: diningtable\n")


FOLDERS = {
    "voc_layers VOCSegDataLayer": "'voc_dir': '{}/voc', 'mean': (104.00699, 116.66877, 122.67892)",
    "voc_layers SBDDSegDataLayer": "'sbdd_dir': '{}/sbdd', 'mean': (104.00699, 116.66877, 122.67892)",
    "nyud_layers NYUDSegDataLayer": "'nyud_dir': '{}/nyud', 'tops': ['color', 'depth', 'hha', 'label']",
    "siftflow_layers SIFTFlowSegDataLayer": "'siftflow_dir': '{}/sift'",
    "pascalcontext_layers PASCALContextSegDataLayer": "'voc_dir': '{}/context', 'context_dir': '{}/context'",
}
TOPS = {"NYUDSegDataLayer": 4, "SIFTFlowSegDataLayer": 3}


def body(which: str, folder: object, rest: str) -> str:
    """The parameters of a layer of ``FOLDERS``."""
    module, layer = which.split()
    text = FOLDERS[which].replace("{}", str(folder)) + ", " + rest
    return f"""python_param {{ module: "{module}" layer: "{layer}" param_str: "{{{text}}}" }}"""
