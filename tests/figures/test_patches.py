"""Top patches of paired units against slow loops, what stands on the sheet, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from figures.test_filters import apart
from program import Done, call
from transfer.tiny_nets import write_nets, write_pairs

from caffe_compat import load_net
from caffe_compat.errors import CaffeCompatError, DataError, UsageError
from caffe_compat.figures.answers import Answers, Moments, answer, choose_units, load_feature
from caffe_compat.figures.pair import NetPair, PairNames, open_pair
from caffe_compat.figures.panels import Look
from caffe_compat.figures.patches import BEYOND, Patches, Windows, crop, cut_patches
from caffe_compat.figures.sheet import Heads, draw_patches
from caffe_compat.figures.sources import Feeding
from caffe_compat.media import Preprocessing, resize_short_side, write_preprocessing
from caffe_compat.net.receptive import ReceptiveFields
from caffe_compat.transfer import read_branch

MEAN = np.array([102.9801, 115.9465, 122.7717], np.float32)
BLOBS = ("pool1", "adapt_pool1")
MODEL, WEIGHTS = "out/train_val.prototxt", "t.caffemodel"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A transfer as make_transfer writes it, with random weights, and nine pairs of 40 x 48."""
    monkeypatch.chdir(tmp_path)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs", 9)
    _make_transfer()
    torch.manual_seed(2)
    net = load_net(MODEL)
    for name in ("conv1", "da_c1", "da_c2", "adapt_pool1"):
        net.layer(name).blobs[0].data.normal_(0, 0.02)
    net.layer("adapt_pool1").blobs[1].data.normal_(0, 0.05)
    net.save(WEIGHTS)
    return tmp_path


def _make_transfer(*more: object) -> None:
    done = call(
        "make_transfer", "--teacher", "teacher.prototxt", "--student", "student.prototxt", "--layer", "pool1",
        "--student-layer", "c2", "--output", "out", "--source", "pairs/train_pairs.txt", "--val-source",
        "pairs/val_pairs.txt", "--no-measure", *more,
    )  # fmt: skip
    assert done.status == 0, done.stderr


def _maps(pairs: int = 9) -> list[list[np.ndarray]]:
    """Both features [C, H, W] of every pair, as the net itself gives them in TEST."""
    net = load_net(MODEL, WEIGHTS)
    found = []
    with torch.no_grad():
        for _ in range(pairs):
            blobs = net(blobs=BLOBS)
            found.append([blobs[name][0].numpy().copy() for name in BLOBS])
    return found


def _slow_top(maps: list[np.ndarray], unit: int, count: int) -> list[tuple[int, int, int, float]]:
    least = min(float(values[unit].min()) for values in maps)
    best = []
    for pair, values in enumerate(maps):
        place = (0, 0)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                if values[unit, y, x] > values[unit][place]:
                    place = (y, x)
        best.append((pair, *place, float(values[unit][place])))
    best.sort(key=lambda one: -one[3])
    return [one for one in best[:count] if one[3] > least]


def _opened(**more: Any) -> NetPair:
    return open_pair(PairNames((MODEL,), (WEIGHTS,), *BLOBS), Feeding(**more))


def _cut(pair: NetPair, units: list[int], count: int = 3) -> tuple[list[Patches], Moments]:
    *answers, moments = answer(pair.teacher, pair.student, pair.source)
    windows = (Windows(pair.teacher, pair.student), Windows(pair.student, pair.teacher))
    return cut_patches(units, count, (answers[0], answers[1]), moments, windows, pair.source), moments


# -- against slow loops -----------------------------------------------------------------------------------------


def test_top_patches_and_correlation(folder: Path) -> None:
    maps, pair = _maps(), _opened()
    units = list(range(8))
    found, moments = _cut(pair, units)
    net = load_net(MODEL, WEIGHTS)
    fields = [ReceptiveFields(net.plan, *args) for args in _field_arguments()]
    for unit in units:
        one = found[unit]
        for side, patches in enumerate((one.teacher, one.student)):
            expected = _slow_top([values[side] for values in maps], unit, 3)
            assert [(p.place.pair, p.place.row, p.place.column) for p in patches] == [e[:3] for e in expected]
            np.testing.assert_allclose([p.place.value for p in patches], [e[3] for e in expected], rtol=1e-4, atol=1e-6)
            for patch in patches:
                assert patch.window == fields[side].field(patch.place.row, patch.place.column).window
                _same_pixels(patch)
        values = [np.concatenate([m[side][unit].ravel() for m in maps]).astype(np.float64) for side in (0, 1)]
        if min(map(np.std, values)) == 0:
            assert np.isnan(one.correlation)
        else:
            np.testing.assert_allclose(one.correlation, np.corrcoef(*values)[0, 1], atol=1e-5)
    assert moments.count == 9 * 10 * 12
    assert any(one.student for one in found) and any(one.teacher for one in found)


def _field_arguments() -> list[tuple[Any, ...]]:
    return [("pool1", (1, 3, 40, 48), "data"), ("adapt_pool1", (1, 3, 40, 48), "da_data")]


def _same_pixels(patch: Any) -> None:
    """Pixel by pixel: from the files, grey beyond them."""
    for name, image in (("a", patch.first), ("b", patch.second)):
        picture = cv2.imread(f"pairs/{name}{patch.place.pair}.png")
        (top, bottom), (left, right) = patch.window
        assert image.shape == (bottom - top + 1, right - left + 1, 3)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                inside = 0 <= y < 40 and 0 <= x < 48
                assert (image[y - top, x - left] == (picture[y, x] if inside else BEYOND)).all()


def test_only_places_within_the_picture(folder: Path) -> None:
    pair = _opened()
    windows = (Windows(pair.teacher, pair.student), Windows(pair.student, pair.teacher))
    *answers, moments = answer(pair.teacher, pair.student, pair.source, (windows[0].inside, windows[1].inside))
    cuts = [side.inside((40, 48)) for side in windows]
    maps = [[values[side][:, cuts[side][0], cuts[side][1]] for side in (0, 1)] for values in _maps()]
    for side in (0, 1):
        rows, columns = cuts[side]
        everywhere = [(y, x) for y in range(10) for x in range(12)]
        inside = [
            (y, x)
            for y, x in everywhere
            if all(
                first >= 0 and last < size
                for (first, last), size in zip(windows[side].window(y, x, (40, 48)), (40, 48), strict=True)
            )
        ]
        assert inside == [(y, x) for y, x in everywhere if y in range(10)[rows] and x in range(12)[columns]]
        for unit in range(8):
            expected = _slow_top([values[side] for values in maps], unit, 9)
            found = [(p.pair, p.row - rows.start, p.column - columns.start) for p in answers[side].top(unit, 9)]
            assert found == [e[:3] for e in expected]
    shared = max(c[0].start for c in cuts), min(c[0].stop for c in cuts)
    assert (
        0
        < moments.count
        == 9 * (shared[1] - shared[0]) * (min(c[1].stop for c in cuts) - max(c[1].start for c in cuts))
    )
    with pytest.raises(DataError, match="no unit of 'pool1' sees only what is within 6 x 40 pixels"):
        windows[0].inside((6, 40))


def test_moments_of_parts_are_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    first = random.normal(1000, 1, (3, 90)).astype(np.float32)
    second = (0.3 * first + random.normal(0, 0.2, (3, 90))).astype(np.float32)
    second[2] = 7
    moments = Moments(3)
    for part in (slice(0, 1), slice(1, 40), slice(40, 90)):
        moments.add(first[:, part], second[:, part])
    expected = [np.corrcoef(first[unit].astype(float), second[unit].astype(float))[0, 1] for unit in (0, 1)]
    np.testing.assert_allclose(moments.correlation()[:2], expected, rtol=1e-9)
    assert np.isnan(moments.correlation()[2])


def test_which_units() -> None:
    most = np.array([[1, 5, 0, 3], [2, 4, 0, 9]], np.float32)
    zeros = np.zeros((2, 4), np.int64)
    teacher = Answers(most, zeros, zeros, np.zeros(4, np.float32))
    student = Answers(np.array([[1, 1, 1, 0], [1, 1, 1, 0]], np.float32), zeros, zeros, np.zeros(4, np.float32))
    moments = Moments(4)
    x = np.arange(6.0)
    moments.add(np.stack([x, x, 0 * x, x]), np.stack([-x, x, x, 0 * x]))
    assert choose_units(teacher, student, moments, "explained", 4) == [1, 0, 2, 3]  # dead ones last
    assert choose_units(teacher, student, moments, "strongest", 3) == [1, 0, 3]
    drawn = choose_units(teacher, student, moments, "random", 4, 1)
    assert sorted(drawn[:2]) == [0, 1] and drawn == choose_units(teacher, student, moments, "random", 4, 1)
    assert teacher.top(2, 5) == [] and [place.pair for place in teacher.top(3, 5)] == [1, 0]
    with pytest.raises(UsageError, match="expected 1 or more"):
        choose_units(teacher, student, moments, "random", 0)


def test_crop() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    found = crop(picture, ((-1, 1), (2, 5)))
    np.testing.assert_array_equal(found[1:, :2], picture[:, 2:])
    assert (found[0] == BEYOND).all() and (found[:, 2:] == BEYOND).all()
    assert (crop(picture, ((5, 6), (9, 9))) == BEYOND).all()


# -- which pictures the nets see ----------------------------------------------------------------------------------


def test_teacher_and_student_by_themselves_see_the_same(folder: Path) -> None:
    """Two deploy nets with preprocessing.json, or none, instead of a train_val: the same patches."""
    write_preprocessing("out/preprocessing.json", Preprocessing("hha"))
    names = PairNames(("teacher.prototxt", "out/student_deploy.prototxt"), (WEIGHTS,), *BLOBS)
    pair = open_pair(names, Feeding("pairs/val_pairs.txt"))
    assert pair.modality == "hha"
    for one, other in zip(_cut(pair, [0, 5])[0], _cut(_opened(), [0, 5])[0], strict=True):
        assert one.correlation == pytest.approx(other.correlation, nan_ok=True)
        for mine, theirs in zip(one.teacher + one.student, other.teacher + other.student, strict=True):
            assert mine.place == theirs.place and mine.window == theirs.window
            np.testing.assert_array_equal(mine.first, theirs.first)
            np.testing.assert_array_equal(mine.second, theirs.second)


def test_size_and_means_are_those_declared(folder: Path) -> None:
    _make_transfer("--short-side", 32, "--crop", 24, 24, "--mean-second", 1, 2, 3, "--multiple-of", 4)
    source = _opened().source
    first, second = source.pictures(2)
    expected = resize_short_side(cv2.imread("pairs/b2.png"), 32)[:, :36]
    np.testing.assert_array_equal(second, expected)  # whole, not the crop
    np.testing.assert_allclose(source.blobs(2)[1][0], (expected - np.float32([1, 2, 3])).transpose(2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(source.blobs(2)[0][0], (first - MEAN).transpose(2, 0, 1), atol=1e-4)
    told = _opened(short_side=0, multiple_of=1, mean=(9.0,), mean_second=(8.0,)).source
    np.testing.assert_array_equal(told.pictures(0)[0], cv2.imread("pairs/a0.png"))
    np.testing.assert_allclose(told.blobs(0)[1][0], told.pictures(0)[1].transpose(2, 0, 1) - 8.0)
    write_preprocessing("out/preprocessing.json", Preprocessing("hha", short_side=32))
    names = PairNames(("teacher.prototxt", "out/student_deploy.prototxt"), (WEIGHTS,), *BLOBS)
    with pytest.raises(UsageError, match="different sizes .*--short-side"):
        open_pair(names, Feeding("pairs/val_pairs.txt"))
    pair = open_pair(names, Feeding("pairs/val_pairs.txt", short_side=20, mean_second=(5.0,)))
    assert pair.source.pictures(0)[1].shape == (20, 24, 3)
    np.testing.assert_allclose(pair.source.blobs(0)[1][0], pair.source.pictures(0)[1].transpose(2, 0, 1) - 5.0)


def test_teachers_of_other_frameworks(folder: Path) -> None:
    """By name, or as the transfer's data layer and its layer of a torch net: the same answers, the student's fields."""
    done = call(
        "make_transfer", "--teacher", "torchvision:resnet18@layer1.0.relu", "--student", "student.prototxt",
        "--student-layer", "c2", "--output", "res", "--source", "pairs/train_pairs.txt", "--val-source",
        "pairs/val_pairs.txt", "--no-measure", "--teacher-weights", "random", "--teacher-seed", 4,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    torch.manual_seed(2)
    net = load_net("res/train_val.prototxt")
    (blob,) = {name for name in net.plan.names if name.startswith("layer1")}
    for name in ("da_c1", "da_c2", f"adapt_{blob}"):
        net.layer(name).blobs[0].data.normal_(0, 0.02)
    net.save("res.caffemodel")
    one = open_pair(PairNames(("res/train_val.prototxt",), ("res.caffemodel",), blob), Feeding())
    models = ("torchvision:resnet18", "res/student_deploy.prototxt")
    names = PairNames(models, ("random", "res.caffemodel"), "layer1.0.relu")
    other = open_pair(names, Feeding("pairs/val_pairs.txt"), seed=4)
    for mine, theirs in zip(_cut(one, [0, 9])[0], _cut(other, [0, 9])[0], strict=True):
        assert mine.correlation == pytest.approx(theirs.correlation, nan_ok=True)
        for a, b in zip(mine.teacher + mine.student, theirs.teacher + theirs.student, strict=True):
            assert (a.place.pair, a.place.row, a.place.column, a.window) == (
                b.place.pair, b.place.row, b.place.column, b.window,
            )  # fmt: skip
        for patch in mine.teacher:
            assert patch.window == Windows(one.student, one.teacher).window(
                patch.place.row, patch.place.column, (40, 48)
            )


def test_features_that_are_no_maps(folder: Path) -> None:
    """fc2 takes pictures of one size: the crop stays, and a unit sees all of it."""
    names = PairNames(("teacher.prototxt", "teacher.prototxt"), ("random",), "fc2", "fc2")
    pair = open_pair(names, Feeding("pairs/val_pairs.txt", short_side=32))
    with pytest.raises(CaffeCompatError):
        _cut(pair, [0])
    write_pairs(folder / "square", 4, (32, 32))
    pair = open_pair(names, Feeding("square/val_pairs.txt"))
    (found,), moments = _cut(pair, [4])
    assert moments.count == 4 and found.teacher[0].window == ((0, 31), (0, 31))


# -- windows ------------------------------------------------------------------------------------------------------


def test_squares_about_the_middle_and_fields_larger_than_the_picture(folder: Path) -> None:
    pair = _opened()
    window = Windows(pair.teacher, pair.student)
    assert str(window.grid((40, 48))) == "fields of 5 pixels, one every 4, the first from -1, -1 on"
    assert Windows(pair.teacher, pair.student, 9).window(3, 4, (40, 48)) == ((9, 17), (13, 21))
    assert Windows(pair.teacher, pair.student, 45).window(3, 4, (40, 48))[0] == (0, 39)
    with pytest.raises(UsageError, match="--patch"):
        Windows(pair.teacher, pair.student, -1)


def test_a_teacher_whose_layers_tell_nothing(folder: Path) -> None:
    """Every unit of a net of another framework may depend on all pixels: the student's fields are shown."""
    text = Path("teacher.prototxt").read_text()
    mixed = 'layer { name: "mvn" type: "MVN" bottom: "data" top: "mvn" }\n'
    at = text.index('layer { name: "conv1"')
    Path("mixed.prototxt").write_text(text[:at] + mixed + text[at:].replace('bottom: "data"', 'bottom: "mvn"', 1))
    branch = read_branch("mixed.prototxt", ["pool1"], "TEST")
    teacher, student = load_feature(branch, WEIGHTS), _opened().student
    window = Windows(teacher, student)
    assert window.grid((40, 48)) is None
    assert window.window(3, 4, (40, 48)) == Windows(student, teacher).window(3, 4, (40, 48))
    assert Windows(teacher, teacher, 8).window(0, 11, (40, 48)) == ((-2, 5), (42, 49))
    assert Windows(teacher, teacher).window(0, 11, (40, 48)) == ((0, 39), (0, 47))


# -- the sheet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [0, 2])
def test_nothing_overlaps(folder: Path, columns: int) -> None:
    found, _ = _cut(_opened(), [0, 1, 2])
    found.append(Patches(1234, float("nan"), found[0].teacher, ()))
    heads = Heads("a title with so many words that it takes more than one line", "student", "colour", "disparity")
    for look in (Look(0.5, columns, 100), Look(0.8, columns, 200)):
        apart(draw_patches(found, 3, heads, look))


def _show(*words: object) -> Done:
    return call("show_patches", *words)


def test_command(folder: Path) -> None:
    given = ("--model", MODEL, "--weights", WEIGHTS, "--teacher-blob", "pool1", "--output", "p.png")
    done = _show(*given, "--units", 5, 0, "--top", 2, "--tile", 0.4, "--dpi", 100, "--json", "p.json")
    assert done.status == 0, done.stderr
    told = json.loads(Path("p.json").read_text())
    assert [one["unit"] for one in told["units"]] == [5, 0]
    assert told["pairs"] == 9 and told["places"] == 1080 and len(told["correlation_of_all_units"]) == 8
    assert told["teacher"]["fields"] == {"size": [5, 5], "jump": [4, 4], "offset": [-1, -1]}
    maps = _maps()
    for one in told["units"]:
        for side, name in enumerate(("teacher", "student")):
            expected = _slow_top([values[side] for values in maps], one["unit"], 2)
            assert [(p["line"] - 1, p["row"], p["column"]) for p in one[name]] == [e[:3] for e in expected]
            assert [p["first"] for p in one[name]] == [f"pairs/a{e[0]}.png" for e in expected]
    assert f"unit 5: correlation {told['units'][0]['correlation']:.3f}, teacher up to" in done.stdout
    _tile_stands_there(told["units"][0]["teacher"][0])
    again = _show(*given, "--units", 5, 0, "--top", 2, "--tile", 0.4, "--dpi", 100)
    first = Path("p.png").read_bytes()
    assert again.status == 0 and first == Path("p.png").read_bytes()


def _tile_stands_there(patch: dict[str, Any]) -> None:
    """The first patch, enlarged to 40 dots, above its second modality."""
    picture = cv2.imread("p.png").astype(np.float32)
    at = patch["window"]
    tiles = []
    for name in ("first", "second"):
        cut = crop(cv2.imread(patch[name]), ((at["top"], at["bottom"]), (at["left"], at["right"])))
        tiles.append(cv2.resize(cut, (40, 40), interpolation=cv2.INTER_CUBIC).astype(np.float32))
    places = []
    for tile in tiles:
        found = cv2.matchTemplate(picture, tile, cv2.TM_SQDIFF)
        assert found.min() / tile.size < 1.0
        places.append(np.unravel_index(found.argmin(), found.shape))
    (y1, x1), (y2, x2) = places
    assert x1 == x2 and y2 - y1 == 41


@pytest.mark.parametrize("choose", ["explained", "strongest", "random"])
def test_command_chooses(folder: Path, choose: str) -> None:
    done = _show(
        "--model", MODEL, "--weights", WEIGHTS, "--teacher-blob", "pool1", "--output", "p.pdf", "--choose", choose,
        "--count", 3, "--inside", "--patch", 6,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert done.stdout.count("unit ") == 3 and Path("p.pdf").read_bytes().startswith(b"%PDF")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"--teacher-blob": "pol1"}, "no blob 'pol1' (did you mean 'pool1'?)"),
    ({"--student-blob": "adapt_pool"}, "no blob 'adapt_pool' (did you mean 'adapt_pool1'?)"),
    ({"--student-blob": "da_c2"}, "have 8 and 7 units, expected pairs of units"),
    ({"--student-blob": "conv1"}, "expected the first and the second top of layer 'pairs'"),
    ({"--teacher-blob": "conv1", "--student-blob": "adapt_pool1"}, "expected a difference of at most one"),
    ({"--units": 8}, "there is no unit 8: the features have 8 units, 0 to 7"),
    ({"--units": -1}, "there is no unit -1"),
    ({"--top": 0}, "0 patches, expected 1 or more"),
    ({"--weights": "teacher_only.caffemodel"}, "no layer of this file fits net 'out_transfer'"),
    ({"--weights": "teacher_only.caffemodel,part.caffemodel"}, "no weights for layer 'adapt_pool1' of out/train_val"),
    ({"--weights": "gone.caffemodel"}, "gone.caffemodel"),
    ({"--model": "teacher.prototxt", "--student-blob": "conv1"}, "reads no pairs of pictures"),
    ({"--model": "teacher_train_val.prototxt", "--student-blob": "conv1"}, "reads no pairs of pictures"),
    ({"--source": "unpaired.txt"}, "the images of the pair have different sizes"),
    ({"--source": "one.txt"}, "expected two: 'first second'"),
    ({"--source": "empty.txt"}, "list is empty"),
    ({"--source": "missing.txt"}, "nowhere.png"),
    ({"--output": "p.jpg"}, "ends in .png or .pdf"),
    ({"--mean": [1, 2]}, "--mean has 2 numbers"),
    ({"--multiple-of": 0}, "--multiple-of is 0"),
    ({"--model": [MODEL, MODEL, MODEL]}, "--model has 3 files"),
]


@pytest.mark.parametrize(("changed", "says"), BAD)
def test_command_refuses(folder: Path, changed: dict[str, Any], says: str) -> None:
    load_net("teacher.prototxt").save("teacher_only.caffemodel")
    Path("p.prototxt").write_text(Path("out/student_deploy.prototxt").read_text().replace('name: "adapt', 'name: "x'))
    load_net("p.prototxt").save("part.caffemodel")
    Path("unpaired.txt").write_text("pairs/a0.png pairs/b0.png\npairs/a1.png small.png\n")
    Path("one.txt").write_text("pairs/a0.png\n")
    Path("empty.txt").write_text("\n")
    Path("missing.txt").write_text("pairs/a0.png nowhere.png\n")
    cv2.imwrite("small.png", np.zeros((20, 20, 3), np.uint8))
    given = {"--model": MODEL, "--weights": WEIGHTS, "--teacher-blob": "pool1", "--output": "p.png"} | changed
    words = [word for name, value in given.items() for word in (name, *(value if isinstance(value, list) else [value]))]
    done = _show(*words)
    assert done.status == 2 and says in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not Path("p.png").exists()


def test_two_deploys_need_a_list(folder: Path) -> None:
    done = _show(
        "--model", "teacher.prototxt", "out/student_deploy.prototxt", "--weights", WEIGHTS, "--teacher-blob", "pool1",
        "--output", "p.png",
    )  # fmt: skip
    assert done.status == 2 and "--source is missing" in done.stderr


def test_numbers_that_are_none(folder: Path) -> None:
    net = load_net(MODEL, WEIGHTS)
    net.layer("da_c1").blobs[0].data[0] = float("nan")
    net.save("nan.caffemodel")
    done = _show("--model", MODEL, "--weights", "nan.caffemodel", "--teacher-blob", "pool1", "--output", "p.png")
    assert done.status == 2 and "'adapt_pool1' is NaN or infinite for line 1 of" in done.stderr
