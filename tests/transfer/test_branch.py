"""Cutting a branch out of a net."""

from __future__ import annotations

from pathlib import Path

import pytest
from transfer.tiny_nets import write_nets

from caffe_compat.errors import UsageError
from caffe_compat.transfer import read_branch


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nets(tmp_path)


def test_only_ancestors_are_kept_and_in_place_layers_belong_to_the_blob() -> None:
    branch = read_branch("teacher.prototxt", ["pool1"], "TEST")
    assert [layer.name for layer in branch.layers] == ["conv1", "relu1", "bn1", "pool1", "drop1"]
    assert (branch.input, branch.size, branch.fixed) == ("data", (32, 32), False)
    assert read_branch("teacher.prototxt", ["fc2"], "TEST").fixed


def test_data_layers_of_a_train_val_file_are_dropped() -> None:
    branch = read_branch("teacher_train_val.prototxt", ["pool1"], "TEST")
    assert [layer.name for layer in branch.layers] == ["conv1", "relu1", "pool1"]
    assert (branch.input, branch.size) == ("data", (32, 32))


def test_several_blobs_give_the_union() -> None:
    branch = read_branch("student.prototxt", ["c1", "c2"], "TRAIN")
    assert [layer.name for layer in branch.layers] == ["c1", "r1", "c2", "r2"]


def test_strides_and_shapes_follow_from_the_layers() -> None:
    branch = read_branch("student.prototxt", ["c2"], "TRAIN")
    plan = branch.plan((41, 57))
    assert branch.shapes(plan, (41, 57))["c2"] == (1, 7, 10, 14)
    assert branch.shapes(plan, (480, 640))["c2"] == (1, 7, 120, 160)
    assert branch.stride(plan, (41, 57), "c2") == 4
    assert branch.stride(plan, (41, 57), "c1") == 2


def test_unknown_blob_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"teacher.prototxt: the net has no blob 'pool'.*did you mean 'pool1'"):
        read_branch("teacher.prototxt", ["pool"], "TEST")


def test_a_feature_of_labels_and_images_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must depend on one blob of images, found \['data', 'label'\]"):
        read_branch("teacher_train_val.prototxt", ["loss"], "TRAIN")


def test_an_input_that_holds_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grey.prototxt").write_text(
        Path("student.prototxt").read_text().replace("dim: 1 dim: 3", "dim: 1 dim: 1")
    )
    with pytest.raises(UsageError, match=r"input 'data' has the shape \[1, 1, 32, 32\]"):
        read_branch("grey.prototxt", ["c2"], "TRAIN")
