"""preprocessing.json: several inputs, the weights that it holds for, and what is told of others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.media import (
    Encoding,
    MeanPicture,
    Preparation,
    Preprocessing,
    describe_weights,
    model_preparation,
    parse_preparation,
    read_preparation,
    stored_preparation,
    write_mean,
    write_preparation,
    write_preprocessing,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
HHA = Preprocessing(
    "hha",
    short_side=12,
    resize_rule="fast-rcnn",
    classes=("bed", "chair"),
    encoding=Encoding("hha", "none", 12000.0, 0.5, 8.0, (570.5, 571.0, 320.0, 240.0), 1, ((45.0, 5), (15.0, 5)), 1),
)
BOTH = Preparation({"data": Preprocessing(short_side=12, classes=("bed", "chair")), "data_1": HHA})


def test_several_inputs_in_their_order(tmp_path: Path) -> None:
    write_preparation(tmp_path / "preprocessing.json", BOTH)
    found = read_preparation(tmp_path / "preprocessing.json")
    assert found == BOTH and list(found.inputs) == ["data", "data_1"]
    assert (found.first.modality, found.classes) == ("color", ("bed", "chair"))
    assert found.of(["data_1"]) == {"data_1": HHA}
    with pytest.raises(DataError, match=r"nothing of the input 'depth', only of data \(color\), data_1 \(hha\)"):
        found.of(["data", "depth"])
    assert Preparation({"data": HHA}).of(["image"]) == {"image": HHA}
    with pytest.raises(UsageError, match="different classes"):
        Preparation({"data": Preprocessing(), "data_1": HHA})
    with pytest.raises(UsageError, match="without inputs"):
        Preparation({})


def test_version_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps({"version": 1, "modality": "hha", "mean": [1.0], "short_side": 9, "classes": ["a"]}))
    found = read_preparation(path)
    assert found == Preparation({"data": Preprocessing("hha", mean=(1.0,), short_side=9, classes=("a",))})


def test_a_text_carries_the_mean(tmp_path: Path) -> None:
    mean = RNG.normal(size=(3, 20, 30)).astype(np.float32)
    write_mean(tmp_path / "m.binaryproto", mean)
    wanted = Preprocessing(mean_file=str(tmp_path / "m.binaryproto"), scale=0.5)
    text = Preparation({"data": wanted}).text()
    (tmp_path / "m.binaryproto").unlink()
    found = parse_preparation(text, "model.onnx").first
    assert found.mean_file == "" and found.mean_picture == MeanPicture.of(mean)
    assert np.array_equal(found.blob(IMAGE), (IMAGE.transpose(2, 0, 1) - mean) * np.float32(0.5))
    with pytest.raises(MissingFileError, match="m.binaryproto"):
        Preparation({"data": dataclasses.replace(wanted)}).text()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(version=3), "version: expected 1 or 2, found 3"),
        (lambda c: c.pop("inputs"), "inputs: expected a JSON object"),
        (lambda c: c.update(inputs={}), "inputs: expected at least one"),
        (lambda c: c.update(imputs=1), "unknown key 'imputs'.*inputs"),
        (lambda c: c.update(weights={"a.caffemodel": "12"}), "weights: a.caffemodel: expected a SHA-256"),
        (lambda c: c["inputs"]["data_1"].update(scale="1"), "input 'data_1': scale: expected a number"),
        (lambda c: c["inputs"]["data_1"]["encoding"].update(scale=-1), "input 'data_1': encoding: scale -1"),
        (lambda c: c["inputs"]["data_1"]["encoding"].update(near=1), "unknown key 'near'"),
        (lambda c: c["inputs"]["data_1"]["encoding"].update(camera=[1, 2]), "camera .*expected fx, fy, cx, cy"),
        (lambda c: c["inputs"]["data"].update(encoding={"kind": "hha"}), "of hha pictures, the modality is 'color'"),
        (
            lambda c: c["inputs"]["data"].update(mean=[], mean_picture={"shape": [3, 1, 1], "float32": "AAAA"}),
            "3 bytes for the shape",
        ),
        (
            lambda c: c["inputs"]["data"].update(mean=[], mean_picture={"shape": [1, 1, 1], "float32": "AACAfw=="}),
            "NaN or infinity",
        ),
        (lambda c: c["inputs"]["data"].update(mean_picture={"shape": [1, 1, 1], "float32": "?"}), "mean_picture: exp"),
    ],
)
def test_refused(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "preprocessing.json"
    write_preparation(path, BOTH)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"preprocessing.json: .*{message}"):
        read_preparation(path)


def weights(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(name.encode())
    return path


def test_weights_are_told_from_others(tmp_path: Path) -> None:
    first, second = weights(tmp_path, "net_iter_1.caffemodel"), weights(tmp_path, "net_iter_2.caffemodel.h5")
    assert stored_preparation(first) is None
    assert describe_weights(first, BOTH) == tmp_path / "preprocessing.json" == describe_weights(second, BOTH)
    found = stored_preparation(first)
    assert found is not None and found.inputs == BOTH.inputs
    assert sorted(found.weights) == [first.name, second.name] and stored_preparation(second) == found
    assert stored_preparation(first.rename(tmp_path / "renamed.caffemodel")) == found
    with pytest.raises(DataError, match=r"preprocessing.json: was written for other weights: .*alien.*net_iter_1"):
        stored_preparation(weights(tmp_path, "alien.caffemodel"))
    assert stored_preparation(tmp_path / "alien.caffemodel", strict=False) is None
    second.write_bytes(b"other")
    with pytest.raises(DataError, match=r"written for other weights: .*net_iter_2.*SHA-256 .*expected [0-9a-f]{12}"):
        stored_preparation(second)
    assert not list(tmp_path.glob("*.lock"))


def test_another_net_in_the_same_folder_has_a_file_of_its_own(tmp_path: Path) -> None:
    one, other = weights(tmp_path, "a.caffemodel"), weights(tmp_path, "b.caffemodel")
    describe_weights(one, BOTH)
    assert describe_weights(other, Preparation({"data": Preprocessing()})) == tmp_path / "b.preprocessing.json"
    assert stored_preparation(one).inputs == BOTH.inputs  # type: ignore[union-attr]
    assert stored_preparation(other).first == Preprocessing()  # type: ignore[union-attr]
    other.write_bytes(b"trained again")
    assert describe_weights(other, BOTH) == tmp_path / "b.preprocessing.json"  # the one that is read
    assert stored_preparation(other).inputs == BOTH.inputs  # type: ignore[union-attr]
    for file in (one, other):
        file.unlink()
    new = weights(tmp_path, "c.caffemodel")  # what is gone says nothing any more
    assert describe_weights(new, Preparation({"data": Preprocessing()})) == tmp_path / "preprocessing.json"
    assert list(read_preparation(tmp_path / "preprocessing.json").weights) == ["c.caffemodel"]


def test_what_stands_there_without_weights_is_kept_where_wanted(tmp_path: Path) -> None:
    write_preprocessing(tmp_path / "preprocessing.json", HHA)
    file = weights(tmp_path, "a.caffemodel")
    assert model_preparation(tmp_path / "deploy.prototxt", file) == Preparation({"data": HHA})
    describe_weights(file, BOTH, keep=True)
    assert stored_preparation(file).inputs == {"data": HHA}  # type: ignore[union-attr]
    describe_weights(file, BOTH)
    assert stored_preparation(file).inputs == BOTH.inputs  # type: ignore[union-attr]


def test_beside_the_prototxt_where_nothing_stands_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    file = weights(tmp_path / "out", "a.caffemodel")
    assert model_preparation(tmp_path / "deploy.prototxt", file) is None
    write_preparation(tmp_path / "preprocessing.json", BOTH)
    assert model_preparation(tmp_path / "deploy.prototxt", file) == BOTH
    assert model_preparation(tmp_path / "deploy.prototxt") == BOTH
    describe_weights(file, Preparation({"data": HHA}))
    assert model_preparation(tmp_path / "deploy.prototxt", file).first == HHA  # type: ignore[union-attr]
