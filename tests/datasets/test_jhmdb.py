"""JHMDB: the annotation, the lists of its splits, and the databases made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import needs

from caffe_compat.datasets import find_imdb
from caffe_compat.datasets.actions import ActionClip, read_annotation, read_clip_split, write_annotation
from caffe_compat.datasets.downloads import DOWNLOADS, verify
from caffe_compat.datasets.jhmdb import JHMDB_CLASSES
from caffe_compat.datasets.mat import write_mat
from caffe_compat.errors import DataError, MissingFileError, UsageError
from tests.datasets.action_files import FRAMES, SIZE, make_clips, make_jhmdb, save_flow
from tests.datasets.nyud2_files import cell

CLIPS_AND_FRAMES = {
    "brush_hair": (41, 1640),
    "catch": (48, 1521),
    "clap": (44, 1651),
    "climb_stairs": (40, 1492),
    "golf": (42, 1679),
    "jump": (39, 1173),
    "kick_ball": (36, 1045),
    "pick": (40, 1369),
    "pour": (55, 1729),
    "pullup": (55, 2199),
    "push": (42, 1570),
    "run": (40, 1274),
    "shoot_ball": (40, 1038),
    "shoot_bow": (53, 1929),
    "shoot_gun": (55, 1657),
    "sit": (39, 1272),
    "stand": (36, 1129),
    "swing_baseball": (54, 1911),
    "throw": (46, 1687),
    "walk": (41, 1442),
    "wave": (42, 1431),
}


def test_the_published_annotation() -> None:
    """Counted from the published file by hand: 928 clips, 31,838 boxes, all within 320 x 240."""
    path = needs("real/video/jhmdb/jhmdb_annot.mat")
    assert "as recorded" in verify(path, DOWNLOADS["jhmdb_annot"], progress=False)
    found = read_annotation(path)
    assert len(found) == 928 and sum(len(clip.boxes) for clip in found.values()) == 31838
    of_class = {action: [clip for clip in found.values() if clip.action == action] for action in JHMDB_CLASSES}
    counts = {action: (len(some), sum(len(clip.boxes) for clip in some)) for action, some in of_class.items()}
    assert counts == CLIPS_AND_FRAMES
    boxes = np.concatenate([clip.boxes for clip in found.values()])
    assert boxes.dtype == np.float32 and boxes.min() == 0 and boxes.max(0).tolist()[2:] == [319, 239]
    spans = boxes[:, 2:] - boxes[:, :2] + 1
    assert (spans.min(0), spans.max(0)) == (pytest.approx([14, 34]), pytest.approx([320, 240]))
    lengths = [len(clip.boxes) for clip in found.values()]
    assert (min(lengths), max(lengths)) == (15, 40)


def test_an_annotation_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Whatever the order of its rows."""
    clips = make_clips(("run", "jump"), frames=3)
    write_annotation(tmp_path / "a.mat", clips)
    found = read_annotation(tmp_path / "a.mat")
    assert list(found) == [clip.name for clip in clips]
    content = annot_of(clips)
    order = np.random.default_rng(3).permutation(len(content["frame"]))
    write_mat(tmp_path / "b.mat", {"annot": {field: value[order] for field, value in content.items()}})
    for name, clip in read_annotation(tmp_path / "b.mat").items():
        np.testing.assert_array_equal(clip.boxes, found[name].boxes)
        np.testing.assert_array_equal(clip.boxes, next(c for c in clips if c.name == name).boxes)
        assert clip.action == found[name].action


def annot_of(clips: list[ActionClip]) -> dict[str, np.ndarray]:
    """The struct as ActionTubes' file has it, written out by hand: x y w h from 1."""
    rows = [(clip, number, box) for clip in clips for number, box in zip(clip.frames, clip.boxes, strict=True)]
    return {
        "action": cell([clip.action for clip, _, _ in rows]),
        "video_id": cell([clip.name for clip, _, _ in rows]),
        "frame": np.array([[number] for _, number, _ in rows], np.uint16),
        "bound": np.array([[b[0] + 1, b[1] + 1, b[2] - b[0] + 1, b[3] - b[1] + 1] for _, _, b in rows], np.float32),
    }


def test_wrong_annotations(tmp_path: Path) -> None:
    path, clips = tmp_path / "annot.mat", make_clips(("run", "jump"), each=1, frames=3)

    def refused(reason: str, **changes: object) -> None:
        write_mat(path, {"annot": annot_of(clips) | changes})
        with pytest.raises(DataError, match=rf"annot\.mat: .*{reason}"):
            read_annotation(path)

    good = annot_of(clips)
    bounds = {value: good["bound"].copy() for value in (0, np.nan, np.inf, -3)}
    for value, bound in bounds.items():
        bound[4, 2] = value
        refused(r"bound of row 5 \(frame 2 of 0_jump_x\) is x y w h = .*, expected numbers from 1", bound=bound)
    twice = good["frame"].copy()
    twice[1] = 1
    refused("row 2: frame 1 of clip 0_run_x where frame 2 is expected: each of its 3 frames once", frame=twice)
    gap = good["frame"].copy()
    gap[2] = 4
    refused("row 3: frame 4 of clip 0_run_x where frame 3", frame=gap)
    refused("frame of row 1 is 0, expected a number from 1", frame=good["frame"] - 1)
    refused("frame of row 1 is 1.5", frame=good["frame"] + 0.5)
    refused(r"bound is of shape \(5, 4\) beside 6 actions", bound=good["bound"][:5])
    refused(r"frame is of shape \(5,\) beside 6 actions", frame=good["frame"][:5])
    refused("action is no cell array of text", action=good["frame"])
    refused("bound holds no numbers", bound=good["action"])
    other = good["action"].copy()
    other[5, 0] = "run"
    refused("clip 0_jump_x is of the action jump, but in row 6 of run", action=other)
    evil = good["video_id"].copy()
    evil[1, 0] = "../x"
    refused("video_id of row 2 is '../x', expected a name", video_id=evil)
    write_mat(path, {"annot": {name: value for name, value in good.items() if name != "bound"}})
    with pytest.raises(DataError, match=r"annot\.mat: annot has no field 'bound'"):
        read_annotation(path)
    write_mat(path, {"annot": np.zeros((2, 2))})
    with pytest.raises(DataError, match="annot is a ndarray, expected a struct"):
        read_annotation(path)
    with pytest.raises(MissingFileError):
        read_annotation(tmp_path / "none.mat")


def test_wrong_lists(tmp_path: Path) -> None:
    clips = make_clips(("run", "jump"), each=2)
    make_jhmdb(tmp_path, clips)
    known, file = {clip.name: clip for clip in clips}, tmp_path / "splits" / "run_test_split2.txt"
    for text, reason in (
        ("0_run_x.avi 3\n", r"line 1: '0_run_x\.avi 3', expected 'CLIP\.avi 1'"),
        ("0_run_x 1\n", "expected 'CLIP.avi 1'"),
        ("\n0_run_x.avi\n", "line 2: "),
        ("0_run_x.avi 1\n0_run_x.avi 2\n", "line 2: clip 0_run_x is there more than once"),
        ("0_rum_x.avi 1\n", "clip 0_rum_x has no boxes.*0_run_x"),
        ("0_jump_x.avi 1\n", "clip 0_jump_x shows jump, not run"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=rf"run_test_split2\.txt, {reason if 'line' in reason else f'.*{reason}'}"):
            read_clip_split(tmp_path / "splits", 2, known, ("run", "jump"))
    file.write_text("1_run_x.avi 1 \r\n0_run_x.avi 2 \r\n")
    found = read_clip_split(tmp_path / "splits", 2, known, ("run", "jump"))
    assert list(found.items())[:2] == [("1_run_x", "train"), ("0_run_x", "test")] and len(found) == 4
    file.unlink()
    with pytest.raises(MissingFileError, match=r"run_test_split2\.txt"):
        read_clip_split(tmp_path / "splits", 2, known, ("run", "jump"))


@pytest.mark.parametrize("images", ["Rename_Images", "images"])
def test_jhmdb(tmp_path: Path, images: str) -> None:
    make_jhmdb(tmp_path / "data" / "jhmdb", images=images)
    colour, flow, both = (
        find_imdb(f"jhmdb_{kind}_split2_test", tmp_path) for kind in ("images", "flow", "images+flow")
    )
    assert colour.name == "jhmdb_images_split2_test" and colour.classes == JHMDB_CLASSES and colour.metric == "action"
    assert (len(colour.records), len(flow.records), len(both.records)) == (21 * FRAMES, 21 * (FRAMES - 1), 21 * 3)
    assert both.modalities == ("images", "flow") and len(find_imdb("jhmdb_flow_split1_train", tmp_path).records) == 63
    first = colour.records[1]
    assert first.name == "brush_hair/1_brush_hair_x/00002" and first.scene == "1_brush_hair_x" and first.size == SIZE
    assert first.paths == {"images": str(tmp_path / f"data/jhmdb/{images}/{first.name}.png")}
    assert first.boxes is not None and first.boxes.tolist() == [[4, 4, 15, 19]] and first.classes == ("brush_hair",)
    assert [record.name for record in both.records] == [record.name for record in flow.records]
    assert both.records[4].paths["flow"] == str(tmp_path / "data/jhmdb/flow/catch/1_catch_x/00002.png")
    train = {record.scene for record in find_imdb("jhmdb_images_split2_train", tmp_path).records}
    assert len(train) == 21 and not train & {record.scene for record in colour.records}


def test_a_last_flow_that_is_there_counts(tmp_path: Path) -> None:
    make_jhmdb(tmp_path / "data" / "jhmdb")
    save_flow(tmp_path / "data/jhmdb/flow/run/1_run_x" / f"{FRAMES:05d}.png")
    names = [record.name for record in find_imdb("jhmdb_flow_split1_test", tmp_path).records]
    assert len(names) == 21 * (FRAMES - 1) + 1 and f"run/1_run_x/{FRAMES:05d}" in names


def test_clips_of_ones_own(tmp_path: Path) -> None:
    make_jhmdb(tmp_path / "mine", make_clips(("wink", "nod")), images="images")
    found = find_imdb(f"clips:{tmp_path / 'mine'},split=3_test,modalities=images+flow")
    assert found.name == "mine_images+flow_split3_test" and found.classes == ("nod", "wink")
    assert [record.classes for record in found.records] == [("nod",)] * 3 + [("wink",)] * 3
    assert find_imdb(f"clips:{tmp_path / 'mine'},split=1_train").modalities == ("images",)


def test_parts_that_are_missing(tmp_path: Path) -> None:
    """What is not there is said once, with how much is."""
    base = tmp_path / "data" / "jhmdb"
    make_jhmdb(base)
    (base / "flow/run/1_run_x/00002.png").unlink()
    shutil.rmtree(base / "flow/walk")
    with pytest.raises(DataError) as error:
        find_imdb("jhmdb_images+flow_split1_test", tmp_path)
    assert str(error.value) == (
        f"jhmdb_images+flow_split1_test: 4 frames that have a box have no picture in {base / 'flow'}: "
        "run/1_run_x/00002.png, walk/1_walk_x/00001.png, walk/1_walk_x/00002.png, walk/1_walk_x/00003.png; 19 of its "
        "21 clips are complete"
    )
    assert len(find_imdb("jhmdb_images_split1_test", tmp_path).records) == 21 * FRAMES
    (base / "Rename_Images/run/1_run_x" / f"{FRAMES:05d}.png").unlink()  # of colour the last frame counts
    with pytest.raises(DataError, match="1 frames that have a box have no picture in .*Rename_Images.*20 of its 21"):
        find_imdb("jhmdb_images_split1_test", tmp_path)
    shutil.rmtree(base / "flow")
    with pytest.raises(MissingFileError, match="jhmdb.flow .*which make_flow makes"):
        find_imdb("jhmdb_flow_split1_test", tmp_path)
    for wrong in ("jhmdb_flow_split4_test", "jhmdb_flow_split1_val"):
        with pytest.raises(UsageError, match="no image database 'jhmdb_"):
            find_imdb(wrong, tmp_path)


def test_a_box_beyond_its_picture(tmp_path: Path) -> None:
    make_jhmdb(tmp_path / "data" / "jhmdb", size=(24, 17))
    with pytest.raises(DataError, match=r"jhmdb_annot\.mat: the box of frame 4 of 1_brush_hair_x ends at x, y = \[18"):
        find_imdb("jhmdb_images_split1_test", tmp_path)
