"""One record of a frame for every loader; what is not known is None."""

import dataclasses
import json

import numpy as np
import pytest
from nyud2_files import NAMES, label_frame, labelled, write_v73

from caffe_compat.datasets import FrameRecord, NYUD2Tree, depth_frames, index_records, labelled_records
from caffe_compat.datasets.boxes import boxes_from_labels
from caffe_compat.datasets.nyud2 import CLASSES
from caffe_compat.depth import CAMERAS, Camera, FileSource, Options
from caffe_compat.errors import DataError


def test_what_is_not_known_is_none():
    record = FrameRecord("a")
    values = dataclasses.asdict(record)
    assert values.pop("name") == "a" and values.pop("paths") == {}
    assert set(values.values()) == {None}
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "b"  # type: ignore[misc]


def test_the_published_tree(tmp_path):
    tree, (labels, instances) = NYUD2Tree(tmp_path), label_frame()
    bare = tree.record(5001, "images+hha", maps=True)
    assert bare.name == "img_5001" and bare.boxes is bare.classes is bare.size is bare.instances is None
    assert dict(bare.paths) == {kind: str(tree.path(5001, kind)) for kind in ("images", "hha")}
    tree.write_segmentation(5001, labels, instances)
    tree.write_ground_truth(5001, boxes_from_labels(labels, instances, NAMES))
    found = tree.record(5001, maps=True)
    assert found.classes == ("bed", "bed", "night-stand") and found.size == labels.shape
    assert np.array_equal(found.boxes, tree.ground_truth(5001).boxes)
    assert np.array_equal(found.instances, tree.segmentation(5001).instances)
    assert tree.record(5001).instances is None
    assert set(tree.record(5001, classes=None).classes) - set(CLASSES)


def test_labelled_frames(tmp_path):
    path = write_v73(tmp_path / "x.mat", labelled(2))
    first, second = labelled_records(path)
    assert (first.name, second.name) == ("img_5001", "img_5002")
    assert first.size == (425, 560) and first.camera is CAMERAS["nyud2_color_cropped"]
    assert first.depth.read().depth.shape == first.size
    (whole,) = labelled_records(path, [5002], crop=False)
    assert whole.size == (480, 640) and whole.camera is CAMERAS["nyud2_color"]
    with pytest.raises(DataError, match="no frame 5003; it has 5001 to 5002"):
        labelled_records(path, [5003])


ENTRY = {"color": "c.jpg", "depth": "d/x.png", "K_fx_fy_cx_cy": [1, 2, 3, 4], "depth_units_per_metre": 1000}


def test_an_index(tmp_path):
    (tmp_path / "i.json").write_text(
        json.dumps([ENTRY, {**ENTRY, "depth": "y.png", "rawdepth": "r.png", "scene": "s"}])
    )
    first, second = index_records(tmp_path / "i.json")
    assert first.name == "d_x" and first.scene is None and first.camera == Camera(1, 2, 3, 4)
    assert dict(first.paths) == {"images": str(tmp_path / "c.jpg"), "depth": str(tmp_path / "d/x.png")}
    assert second.scene == "s" and second.paths["rawdepth"] == second.depth.raw_depth == str(tmp_path / "r.png")


def test_gravity_reaches_the_encoder(tmp_path):
    (tmp_path / "i.json").write_text(json.dumps([{**ENTRY, "gravity": [0, 2, 1]}, {**ENTRY, "depth": "y.png"}]))
    records = index_records(tmp_path / "i.json")
    assert records[0].gravity == (0.0, 2.0, 1.0) and records[1].gravity is None
    first, second = (frame.encoder.parameters() for frame in depth_frames(records, tmp_path, Options("hha")))
    assert first["gravity"] == [0.0, 2.0, 1.0] and "gravity" not in second
    disparity = depth_frames(records, tmp_path, Options("disparity"))[0].encoder
    assert disparity.gravity is None and "gravity" not in disparity.parameters()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gravity": [0, 0, 0]}, "frame 0: gravity is .* expected a direction"),
        ({"gravity": [1, 2]}, "frame 0: not enough values"),
        ({"origin": 10**400}, "frame 0: camera: origin is 1000"),
        ({"K_fx_fy_cx_cy": [10**400, 2, 3, 4]}, "frame 0: int too large to convert to float"),
        ({"K_fx_fy_cx_cy": [1, 2, 3]}, "frame 0: not enough values"),
        ({"depth_units_per_metre": 1e400}, "not JSON: Infinity is no number"),
        ({"invalid": [10**30]}, r"frame 0: invalid code 1e\+30 fits no depth file"),
        ({"invalid": 5}, "frame 0: 'int' object is not iterable"),
        ({"depth": None}, "frame 0: "),
    ],
)
def test_an_index_that_cannot_be_used(tmp_path, change, message):
    (tmp_path / "i.json").write_text(json.dumps([{**ENTRY, **change}]))
    with pytest.raises(DataError, match=rf"i\.json: {message}") as caught:
        index_records(tmp_path / "i.json")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_bad_entry_of_an_index_is_noted(tmp_path):
    bad = {**ENTRY, "depth": "y.png", "K_fx_fy_cx_cy": "none"}
    path = tmp_path / "i.json"
    path.write_text(json.dumps([bad, ENTRY, 3]))
    broken: list[tuple[str, str]] = []
    assert [record.name for record in index_records(path, broken)] == ["d_x"]
    assert [name for name, _ in broken] == [f"{path}: frame 0", f"{path}: frame 2"]
    assert all(reason.startswith(f"{name}: ") for name, reason in broken)
    path.write_text(json.dumps([bad]))
    with pytest.raises(DataError, match=r"i\.json: frame 0: could not convert"):
        index_records(path, [])


def test_frames_of_records(tmp_path):
    record = FrameRecord("a/b", depth=FileSource("d.png"), camera=CAMERAS["kinect_v1"], scene="room")
    (frame,) = depth_frames([record], tmp_path, Options())
    assert frame.output == str(tmp_path / "hha/a/b.png") and frame.color_output == str(tmp_path / "color/a/b.png")
    assert frame.scene == "room" and frame.encoder.camera is record.camera
    for records, message in (
        ([record, record], r"d\.png: another frame is written to a/b\.png too"),
        ([FrameRecord("c")], "frame c: it has no depth"),
        ([dataclasses.replace(record, camera=None)], "intrinsics are needed"),
    ):
        with pytest.raises(DataError, match=message):
            depth_frames(records, tmp_path, Options())
    assert depth_frames([dataclasses.replace(record, camera=None)], tmp_path, Options("disparity"))
