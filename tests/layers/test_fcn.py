"""The data layers of fully convolutional networks against what NumPy, Pillow and SciPy read of the same folders."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from fcn_folders import FOLDERS, NAMES, OUTDOOR, TOPS, body, write_folders
from one_layer import one_layer
from PIL import Image

from caffe_compat.errors import CaffeCompatError, MissingFileError
from caffe_compat.layers.data.fcn import SegFolder

VAL = "'split': 'val', 'seed': 1337"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fcn")
    write_folders(made)
    return made


def _layer(which: str, folder: object, rest: str, tops: int | None = None) -> SegFolder:
    count = TOPS.get(which.split()[1], 2) if tops is None else tops
    made = one_layer("Python", body(which, folder, rest), tops=tuple("abcde"[:count]))
    assert isinstance(made, SegFolder)
    return made


def _less(path: str, mean: tuple[float, ...], kind: type, rgb: bool = False) -> np.ndarray:
    values = np.array(Image.open(path), dtype=np.float32)
    values = values if rgb else values[:, :, ::-1]
    values = values - np.float32(0)  # a copy
    values -= np.array(mean, kind)
    return values.transpose(2, 0, 1)


def _mat(path: str, name: str) -> np.ndarray:
    return scipy.io.loadmat(path)[name]


VOC_MEAN = (104.00699, 116.66877, 122.67892)


def _expected(which: str, folder: Path, name: str) -> list[np.ndarray]:
    """What the original's load_* give, step by step."""
    base = str(folder)
    if "VOCSeg" in which:
        label = np.array(Image.open(f"{base}/voc/SegmentationClass/{name}.png"), dtype=np.uint8)
        return [_less(f"{base}/voc/JPEGImages/{name}.jpg", VOC_MEAN, float), label[None]]
    if "SBDD" in which:
        found = scipy.io.loadmat(f"{base}/sbdd/cls/{name}.mat")["GTcls"][0]["Segmentation"][0].astype(np.uint8)
        return [_less(f"{base}/sbdd/img/{name}.jpg", VOC_MEAN, float), found[None]]
    if "NYUD" in which:
        depth = np.log(np.array(Image.open(f"{base}/nyud/data/depth/img_{name}.png"), dtype=np.float32))
        depth -= np.array((7.844,), np.float32)
        label = _mat(f"{base}/nyud/segmentation/img_{name}.mat", "segmentation").astype(np.uint8)
        label -= 1
        color = _less(f"{base}/nyud/data/images/img_{name}.png", (116.190, 97.203, 92.318), np.float32)
        hha = _less(f"{base}/nyud/data/hha/img_{name}.png", (132.431, 94.076, 118.477), np.float32, rgb=True)
        return [color, depth[None], hha, label[None]]
    if "SIFTFlow" in which:
        semantic = _mat(f"{base}/sift/SemanticLabels/{OUTDOOR}/{name}.mat", "S").astype(np.uint8)
        geometric = _mat(f"{base}/sift/GeoLabels/{OUTDOOR}/{name}.mat", "S")
        geometric[geometric == -1] = 0
        geometric = geometric.astype(np.uint8)
        semantic -= 1
        geometric -= 1
        picture = _less(f"{base}/sift/Images/{OUTDOOR}/{name}.jpg", (114.578, 115.294, 108.353), np.float32)
        return [picture, semantic[None], geometric[None]]
    every = ["dog", "table", "cloth", "bedclothes", "trafficlight", "unused"]
    wanted = ["trafficlight", "bedclothes", "dog", "cloth", "table"]
    numbers = _mat(f"{base}/context/trainval/{name}.mat", "LabelMap")
    label = np.zeros_like(numbers, dtype=np.uint8)
    for place, one in enumerate(wanted):
        label[numbers == every.index(one) + 1] = place + 1
    return [
        _less(f"{base}/context/VOC2010/JPEGImages/{name}.jpg", (104.007, 116.669, 122.679), np.float32),
        label[None],
    ]


@pytest.mark.parametrize("which", FOLDERS)
def test_blobs_are_the_originals_in_the_order_of_the_list(which: str, folder: Path) -> None:
    layer = _layer(which, folder, VAL)
    for name in (*NAMES, NAMES[0]):
        expected = _expected(which, folder, name)
        announced = layer.top_shapes([])
        for top, shape, values in zip(layer(), announced, expected, strict=True):
            assert tuple(top.shape) == shape == (1, *values.shape)
            np.testing.assert_array_equal(top[0].numpy(), values.astype(np.float32))


@pytest.mark.parametrize("which", FOLDERS)
def test_train_draws_as_python_2_did(which: str, folder: Path) -> None:
    layer = _layer(which, folder, "'split': 'train', 'seed': 1337")
    drawing = random.Random(1337)
    drawn = [NAMES[int(drawing.random() * len(NAMES))] for _ in range(9)]
    assert len(set(drawn)) > 2 and drawn != [NAMES[n % 4] for n in range(9)]
    for name in drawn:
        np.testing.assert_array_equal(layer()[-1][0].numpy(), _expected(which, folder, name)[-1])
    layer.seek(3)
    np.testing.assert_array_equal(layer()[-1][0].numpy(), _expected(which, folder, drawn[3])[-1])


def test_randomize_false_and_no_seed(folder: Path) -> None:
    which = "voc_layers VOCSegDataLayer"
    plain = _layer(which, folder, "'split': 'train', 'randomize': False")
    assert [plain.job(n) for n in range(5)] == [*NAMES, NAMES[0]]
    free = _layer(which, folder, "'split': 'train', 'seed': None")
    assert {free.job(n) for n in range(60)} == set(NAMES)


def test_what_the_net_wants_of_pictures(folder: Path) -> None:
    layer = _layer("nyud_layers NYUDSegDataLayer", folder, VAL)
    wants = layer.wants()
    assert list(wants) == ["a", "c"] and wants["c"].channels == ("disparity", "height", "angle")
    assert wants["a"].mean == pytest.approx((116.19, 97.203, 92.318))
    voc = _layer("voc_layers VOCSegDataLayer", folder, VAL).wants()
    assert voc["a"].mean == pytest.approx(VOC_MEAN) and not voc["a"].flip


@pytest.mark.parametrize(
    ("which", "rest", "tops", "message"),
    [
        ("voc_layers VOCSegDataLayer", "'seed': 1", 2, "expected split in it"),
        ("voc_layers VOCSegDataLayer", f"{VAL}, 'sed': 1", 2, "'sed'.*expected voc_dir, mean, split"),
        ("voc_layers VOCSegDataLayer", "'split': 'val', 'seed': 1.5", 2, "seed is 1.5"),
        ("voc_layers VOCSegDataLayer", "'split': 'val', 'randomize': 1", 2, "randomize is 1"),
        ("voc_layers VOCSegDataLayer", "'split': 3", 2, "split is 3"),
        ("voc_layers VOCSegDataLayer", "'split': open(1)", 2, "expected a dict"),
        ("voc_layers VOCSegDataLayer", f"{VAL}, 'mean': (1, 2)", 2, "mean is .1, 2., expected three numbers"),
        ("nyud_layers NYUDSegDataLayer", VAL, 3, "has 3 tops, expected 4"),
        ("nyud_layers NYUDSegDataLayer", f"{VAL}, 'tops': ['colour']", 1, "'colour' \\(did you mean 'color'"),
        ("siftflow_layers SIFTFlowSegDataLayer", VAL, 2, "top"),
    ],
)
def test_refusals(folder: Path, which: str, rest: str, tops: int, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"layer 'under_test' .*{message}"):
        _layer(which, folder, rest, tops)


@pytest.mark.parametrize("which", FOLDERS)
def test_without_the_data_set(which: str, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        _layer(which, tmp_path, VAL)


def test_bad_files(tmp_path: Path) -> None:
    write_folders(tmp_path)
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "nyud/data/depth/img_a.png")
    with pytest.raises(CaffeCompatError, match="under_test.*img_a.png: 48 pixels have the depth 0"):
        _layer("nyud_layers NYUDSegDataLayer", tmp_path, VAL)
    scipy.io.savemat(tmp_path / "sbdd/cls/a.mat", {"GTcls": {"Boundaries": 1}})
    with pytest.raises(CaffeCompatError, match="a.mat: GTcls has no field 'Segmentation'"):
        _layer("voc_layers SBDDSegDataLayer", tmp_path, VAL)
    scipy.io.savemat(tmp_path / f"sift/GeoLabels/{OUTDOOR}/a.mat", {"S": np.ones((6, 7))})
    with pytest.raises(CaffeCompatError, match=r"a.mat has \[6, 7\] pixels, .*a.jpg \[6, 8\]"):
        _layer("siftflow_layers SIFTFlowSegDataLayer", tmp_path, VAL)
    scipy.io.savemat(tmp_path / "context/trainval/a.mat", {"LabelMap": np.full((6, 8), 0.5)})
    with pytest.raises(CaffeCompatError, match="LabelMap holds numbers that are not whole"):
        _layer("pascalcontext_layers PASCALContextSegDataLayer", tmp_path, VAL)
    (tmp_path / "context/59_labels.txt").write_text("1: dog\n2: bedcloth\n3: clothes\n4: cat\n")
    with pytest.raises(CaffeCompatError, match="'cat' is none of the labels"):
        _layer("pascalcontext_layers PASCALContextSegDataLayer", tmp_path, VAL)
    (tmp_path / "voc/ImageSets/Segmentation/val.txt").write_text("")
    with pytest.raises(CaffeCompatError, match="val.txt: the list is empty"):
        _layer("voc_layers VOCSegDataLayer", tmp_path, VAL)
