"""Filters as pictures: where every number goes, which layer is meant, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from program import call

from caffe_compat import load_net
from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.figures.filters import Filters, columns_for, mosaic, read_filters
from caffe_compat.figures.panels import Look, draw_filters, sorted_like

NET = """
name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: %d dim: 20 dim: 20 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 5 weight_filler { type: "gaussian" std: 2 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc" inner_product_param { num_output: 2 } }
"""
TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "nowhere" batch_size: 4 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 5 weight_filler { type: "gaussian" std: 2 } } }
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """``grey.prototxt`` (one channel) and ``colour.prototxt`` with weights; the numbers of their conv1."""
    monkeypatch.chdir(tmp_path)
    found = {}
    torch.manual_seed(1)
    for name, channels in (("grey", 1), ("colour", 3)):
        Path(f"{name}.prototxt").write_text(NET % channels)
        net = load_net(f"{name}.prototxt")
        net.save(f"{name}.caffemodel")
        net.save_hdf5(f"{name}.caffemodel.h5")
        found[name] = net.layer("conv1").blobs[0].detach().numpy()
    Path("train_val.prototxt").write_text(TRAIN_VAL)
    return found


# -- mosaics ----------------------------------------------------------------------------------------------------


def _slowly(weight: np.ndarray, columns: int) -> np.ndarray:
    """Each filter from its smallest to its largest number, one pixel a number, white between."""
    count, _, height, width = weight.shape
    rows = -(-count // columns)
    picture = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.float32)
    for n in range(count):
        low, high = weight[n].min(), weight[n].max()
        for y in range(height):
            for x in range(width):
                for color in range(3):
                    channel = 2 - color if weight.shape[1] == 3 else 0
                    value = (weight[n, channel, y, x] - low) / (high - low)
                    picture[n // columns * (height + 1) + y, n % columns * (width + 1) + x, color] = value
    return picture


@pytest.mark.parametrize("shape", [(7, 3, 4, 5), (6, 1, 3, 3), (1, 3, 5, 5), (2, 1, 2, 2)])
def test_every_number_in_its_place(shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    columns = min(3, shape[0])
    np.testing.assert_allclose(mosaic(weight, columns=columns), _slowly(weight, columns), atol=1e-6)


def test_numbers_become_squares() -> None:
    weight = np.random.default_rng(0).normal(size=(2, 3, 2, 3)).astype(np.float32)
    small, large = mosaic(weight, columns=2, gap=0), mosaic(weight, columns=2, times=4, gap=3)
    assert large.shape == (8, 27, 3)
    np.testing.assert_array_equal(large[:, :12], small[:, :3].repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(large[:, 15:], small[:, 3:].repeat(4, 0).repeat(4, 1))
    assert (large[:, 12:15] == 1).all()


def test_other_numbers_of_channels_stand_side_by_side() -> None:
    weight = np.arange(2 * 4 * 2 * 2, dtype=np.float32).reshape(2, 4, 2, 2)
    found = mosaic(weight, columns=1)
    assert found.shape == (2 + 3 + 2, 4 * 3 - 1, 3)
    np.testing.assert_allclose(found[:2, :2, 0], weight[0, 0] / 15)
    np.testing.assert_allclose(found[:2, 9:11, 0], weight[0, 3] / 15)
    np.testing.assert_allclose(found[5:, 3:5, 0], (weight[1, 1] - 16) / 15)
    assert (found[:2, 2] == 1).all() and (found[2:5] == 1).all()


def test_one_scale_for_all() -> None:
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0, :, 0, 0], weight[1, :, 0, 0] = (-2, 0, 2), (1, -1, 4)
    found = mosaic(weight, 2.0, columns=2)
    np.testing.assert_allclose(found[0, 0], [1, 0.5, 0])  # red first
    np.testing.assert_allclose(found[0, 2], [1, 0.25, 0.75])
    np.testing.assert_allclose(mosaic(weight * 0)[0, 0], 0.5)
    np.testing.assert_allclose(mosaic(weight * 0, 0.0)[0, 0], 0.5)


def test_rows_are_full_where_they_can_be() -> None:
    assert [columns_for((n, 3, 11, 11)) for n in (96, 64, 16, 20, 32, 13, 1)] == [12, 8, 4, 5, 8, 4, 1]
    assert columns_for((50, 20, 5, 5)) == 2


# -- which filters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grey", "colour"])
@pytest.mark.parametrize("kind", ["caffemodel", "caffemodel.h5"])
@pytest.mark.parametrize("model", ["own", "train_val"])
def test_weights_from_files(nets: dict[str, np.ndarray], name: str, kind: str, model: str) -> None:
    """A prototxt whose data are not there says nothing of channels; the file does."""
    found = read_filters("t", f"{name if model == 'own' else model}.prototxt", f"{name}.{kind}")
    np.testing.assert_array_equal(found.weight, nets[name])
    assert str(found) == f"t: 6 filters, {nets[name].shape[1]} x 3 x 5, layer 'conv1', {name}.{kind}"


def test_a_layer_with_groups(nets: dict[str, np.ndarray]) -> None:
    found = read_filters("t", "grey.prototxt", "grey.caffemodel", "conv2")
    assert found.weight.shape == (4, 3, 3, 3) and found.layer == "conv2"


def test_random_filters_are_those_of_the_fillers(nets: dict[str, np.ndarray]) -> None:
    first, again, other = (read_filters("t", "colour.prototxt", "random", seed=seed).weight for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and 1.5 < first.std() < 2.5
    assert read_filters("t", "grey.prototxt", "random").weight.shape == (6, 1, 3, 5)
    assert read_filters("t", "train_val.prototxt", "random").weight.shape == (6, 3, 3, 5)
    assert read_filters("t", "grey.prototxt", "random", "conv2").weight.std() > 0  # MSRA's, where there is no filler


def test_torch_modules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = __import__("torchvision").models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "s.pth")
    found = read_filters("t", "torchvision:squeezenet1_1", str(tmp_path / "s.pth"))
    assert found.layer == "features.0"
    np.testing.assert_array_equal(found.weight, state["features.0.weight"].numpy()[:, ::-1])  # it takes red first
    assert read_filters("t", "torchvision:squeezenet1_1", "random", "features.3.squeeze").weight.shape == (16, 64, 1, 1)
    with pytest.raises(UsageError, match="no layer 'features.1' with filters .*features.0"):
        read_filters("t", "torchvision:squeezenet1_1", "random", "features.1")


@pytest.mark.parametrize(
    ("model", "weights", "layer", "says"),
    [
        ("grey", "grey", "relu1", r"layer 'relu1' \(ReLU\) has no weights; those with filters are conv1, conv2"),
        ("grey", "grey", "comv1", "no layer 'comv1' .*conv1"),
        ("grey", "grey", "fc", r"layer 'fc' \(InnerProduct\) has no filters; those with filters are conv1, conv2"),
        ("grey", "grey", "xyz", "no layer 'xyz'; those with filters are conv1, conv2"),
        ("colour", "grey", "", None),
        ("other", "grey", "", "no weights for layer 'da_conv1' of other.prototxt .*conv1"),
        ("small", "grey", "", r"shape mismatch, the file has \[6, 1, 3, 5\], the net has \[6, 1, 3, 3\]"),
        ("none", "grey", "", "no layer has filters"),
        ("gone", "grey", "", "gone.prototxt"),
        ("grey", "gone", "", "gone.caffemodel"),
    ],
)
def test_bad_input(nets: dict[str, np.ndarray], model: str, weights: str, layer: str, says: str | None) -> None:
    Path("other.prototxt").write_text((NET % 1).replace('"conv1"', '"da_conv1"'))
    Path("small.prototxt").write_text((NET % 1).replace("kernel_w: 5", "kernel_w: 3"))
    Path("none.prototxt").write_text((NET % 1)[: (NET % 1).index('layer { name: "conv1"')])
    if says is None:  # as many numbers as the file says; the prototxt's own images do not matter
        assert read_filters("t", f"{model}.prototxt", f"{weights}.caffemodel", layer).weight.shape[1] == 1
        return
    with pytest.raises(CaffeCompatError, match=says):
        read_filters("t", f"{model}.prototxt", f"{weights}.caffemodel", layer)


def test_order() -> None:
    weight = np.ones((3, 1, 1, 1), np.float32) * np.array([1, -3, 2], np.float32).reshape(3, 1, 1, 1)
    one, other = Filters("a", weight, "c", ""), Filters("b", weight[::-1], "c", "")
    assert [list(f.weight.ravel()) for f in sorted_like([one, other])] == [[-3, 2, 1], [-3, 2, 1]]
    assert [list(f.weight.ravel()) for f in sorted_like([one, other], first=True)] == [[-3, 2, 1], [-3, 1, 2]]
    with pytest.raises(UsageError, match="3, 2 filters"):
        sorted_like([one, Filters("b", weight[:2], "c", "")], first=True)


# -- the whole picture ------------------------------------------------------------------------------------------


def _boxes(figure: Figure) -> list[tuple[float, float, float, float]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    parts = [*(axes.get_window_extent(renderer) for axes in figure.axes)]
    parts += [text.get_window_extent(renderer) for text in figure.texts]
    return [(box.x0, box.y0, box.x1, box.y1) for box in parts]


def apart(figure: Figure) -> None:
    """Panels and texts lie in the picture, none over another."""
    width, height = figure.get_size_inches() * figure.dpi
    boxes = _boxes(figure)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        assert x0 >= -1 and y0 >= -1 and x1 <= width + 1 and y1 <= height + 1
        for a0, b0, a1, b1 in boxes[:n]:
            assert min(x1, a1) - max(x0, a0) < 1 or min(y1, b1) - max(y0, b0) < 1


@pytest.mark.parametrize("columns", [0, 2])
def test_nothing_overlaps(columns: int) -> None:
    random = np.random.default_rng(0)
    shapes = [(96, 3, 11, 11), (64, 1, 3, 3), (16, 20, 5, 5), (5, 3, 7, 3), (1, 3, 2, 2)]
    titles = ["teacher", "copied: many words that do not fit into one line $x", "MMMM WWWW MMMM WWWW", "", "b"]
    filters = [Filters(t, random.normal(size=s), "c", "") for t, s in zip(titles, shapes, strict=True)]
    for look in (Look(columns=columns), Look(width=1.0, columns=columns, dpi=100)):
        apart(draw_filters(filters, look))


def test_command(nets: dict[str, np.ndarray]) -> None:
    done = call(
        "show_filters", "--output", "f.png", "--dpi", 100, "--net", "teacher", "colour.prototxt", "colour.caffemodel",
        "--net", "grey one", "grey.prototxt", "grey.caffemodel", "conv1", "--net", "random", "grey.prototxt", "random",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[0] == "teacher: 6 filters, 3 x 3 x 5, layer 'conv1', colour.caffemodel"
    picture = cv2.imread("f.png")[..., ::-1] / 255
    tile = mosaic(nets["colour"][:1], times=22)
    found = cv2.matchTemplate(picture.astype(np.float32), tile.astype(np.float32), cv2.TM_SQDIFF)
    assert found.min() / tile.size < 1e-4, "the first filter stands there, dot by dot"
    call("show_filters", "--output", "again.png", "--dpi", 100, *_nets())
    call("show_filters", "--output", "f.pdf", *_nets())
    first = [Path(name).read_bytes() for name in ("again.png", "f.pdf")]
    call("show_filters", "--output", "again.png", "--dpi", 100, *_nets())
    call("show_filters", "--output", "f.pdf", *_nets())
    assert first == [Path(name).read_bytes() for name in ("again.png", "f.pdf")]


def _nets() -> list[str]:
    return ["--same-scale", "all", "--sort", "first", "--net", "a", "grey.prototxt", "grey.caffemodel"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output", "f.jpg", "--net", "a", "grey.prototxt", "random"], ".png or .pdf"),
        (["--output", "f.png", "--net", "a", "grey.prototxt"], "expected TITLE MODEL WEIGHTS"),
        (["--output", "f.png", "--dpi", "1", "--net", "a", "grey.prototxt", "random"], "expected 20 to 1200"),
        (
            ["--output", "f.png", "--net", "a", "grey.prototxt", "grey.caffemodel", "relu1"],
            "'relu1' (ReLU) has no weights",
        ),
    ],
)
def test_command_refuses(nets: dict[str, np.ndarray], words: list[str], says: str) -> None:
    done = call("show_filters", *words)
    assert done.status == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not Path("f.png").exists()
