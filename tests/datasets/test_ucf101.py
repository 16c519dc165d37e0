"""UCF101: the official lists, and pairs of frames and flow of its clips."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import needs
from flow.clips import write_video
from program import call

from caffe_compat.datasets.ucf101 import UcfClip, read_actions, read_ucf_split
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.flow import decode
from caffe_compat.media import read_image_list, read_pair_list

CLASSES = ("Archery", "Biking")
SIZE = (40, 56)


def test_the_official_lists() -> None:
    folder = needs("real/video/ucf101/ucfTrainTestlist")
    actions = read_actions(folder)
    assert len(actions) == 101 and (actions[0], actions[10], actions[100]) == ("ApplyEyeMakeup", "Biking", "YoYo")
    for number, counts in ((1, (9537, 3783)), (2, (9586, 3734)), (3, (9624, 3696))):
        train, test = read_ucf_split(folder, number, "train"), read_ucf_split(folder, number, "test")
        assert (len(train), len(test)) == counts
        assert not {clip.group for clip in train} & {clip.group for clip in test}
        assert {clip.label for clip in train} == {clip.label for clip in test} == set(range(101))
    clip = next(clip for clip in read_ucf_split(folder, 2, "train") if clip.name == "v_Biking_g05_c02")
    assert clip == UcfClip("Biking", "v_Biking_g05_c02", 10)
    assert (clip.group, clip.stem) == ("v_Biking_g05", "Biking/v_Biking_g05_c02")


def frames(count: int, step: int = 2) -> list[np.ndarray]:
    """A texture that moves ``step`` pixels to the right a frame."""
    texture = np.random.default_rng(1).integers(0, 256, (SIZE[0] // 4, 60), np.uint8)
    wide = cv2.GaussianBlur(cv2.resize(texture, (240, SIZE[0]), interpolation=cv2.INTER_NEAREST), (0, 0), 1.5)
    starts = [150 - step * k for k in range(count)]
    return [np.ascontiguousarray(np.repeat(wide[:, s : s + SIZE[1], None], 3, 2)) for s in starts]


def make_ucf101(root: Path, groups: int = 3, count: int = 12) -> Path:
    """The published layout; group 1 tests, the others train, two clips a group."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{k} {name}\r\n" for k, name in enumerate(CLASSES, 1)))
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for k, name in enumerate(CLASSES, 1):
        for group in range(1, groups + 1):
            for clip in (1, 2):
                path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                write_video(root / "UCF-101" / path, frames(count), "MJPG")
                part = "test" if group == 1 else "train"
                parts[part].append(f"{path} {k}\r\n" if part == "train" else f"{path}\r\n")
    for part, lines in parts.items():
        (lists / f"{part}list01.txt").write_text("".join(lines))
    return root


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*.png"))


def test_pairs_of_the_training_clips(tmp_path: Path) -> None:
    root = make_ucf101(tmp_path / "ucf101")
    words: tuple[Any, ...] = ("--data", root, "--quiet")
    done = call("prepare_ucf101", *words, "--hold-out", 4)
    assert done.status == 0, done.stderr
    out = root / "pairs"
    assert "40 written, 0 already there, 0 failed" in done.stdout
    clips = [f"{name}/v_{name}_g0{group}_c0{clip}" for name in CLASSES for group in (2, 3) for clip in (1, 2)]
    expected = [f"{clip}/{number:05d}.png" for clip in clips for number in (2, 4, 7, 9, 11)]
    assert names(out / "flow") == names(out / "images") == sorted(expected)  # round((k + 0.5) 11 / 5), from 1
    held = [name for name in expected if "Biking_g02" in name]  # the third of 4 groups
    kept = [name for name in expected if name not in held]
    for part, chosen in (("train", kept), ("val", held)):
        pairs = read_pair_list(out / "lists" / f"split1_pairs_{part}.txt")
        found = [(Path(p.first).resolve(), Path(p.second).resolve()) for p in pairs]
        assert found == [((out / "images" / name).resolve(), (out / "flow" / name).resolve()) for name in chosen]
        for kind in ("images", "flow"):
            entries = read_image_list(out / "lists" / f"split1_{kind}_{part}.txt", f"{out}/")
            assert [entry.path for entry in entries] == [str(out / kind / name) for name in chosen]
            assert [entry.label for entry in entries] == [CLASSES.index(name.split("/")[0]) for name in chosen]
    flow = cv2.imread(str(out / "flow" / kept[0]))
    assert flow is not None
    u, v = decode(np.ascontiguousarray(flow[..., ::-1]))
    assert abs(np.median(u) - 2) < 0.2 and abs(np.median(v)) < 0.2
    assert cv2.imread(str(out / "images" / kept[0])).shape == (*SIZE, 3)

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = call("prepare_ucf101", *words, "--hold-out", 0)
    assert again.status == 0 and "0 written, 40 already there" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(read_pair_list(out / "lists" / "split1_pairs_train.txt")) == 40
    assert not list((out / "lists").glob("*_val.txt"))  # what they held is trained on now

    test = call("prepare_ucf101", *words, "--part", "test", "--per-clip", 2)
    assert test.status == 0 and len(read_pair_list(out / "lists" / "split1_pairs_test.txt")) == 8
    assert len(read_image_list(out / "lists" / "split1_flow_train.txt")) == 40


def test_clips_that_cannot_be_used(tmp_path: Path) -> None:
    """The others go on; all is said at the end."""
    root = make_ucf101(tmp_path / "ucf101")
    videos = root / "UCF-101"
    (videos / "Biking/v_Biking_g02_c01.avi").unlink()
    (videos / "Biking/v_Biking_g02_c02.avi").write_bytes(b"RIFF no video")
    write_video(videos / "Biking/v_Biking_g03_c01.avi", frames(5), "MJPG")
    done = call("prepare_ucf101", "--data", root, "--quiet", "--workers", 2)
    assert done.status == 1
    said = done.stdout
    assert "1 of 8 clips of the list are missing: Biking/v_Biking_g02_c01.avi" in said
    assert "v_Biking_g02_c02.avi: is no video that OpenCV can decode" in said
    assert "v_Biking_g03_c01.avi: has 5 frames, expected more than 5" in said
    assert "25 written, 0 already there, 3 failed" in said
    train, val = (read_pair_list(root / "pairs/lists" / f"split1_pairs_{part}.txt") for part in ("train", "val"))
    assert len(train) + len(val) == 25 and len(val) == 10
    shutil.rmtree(videos / "Archery")
    shutil.rmtree(videos / "Biking")
    done = call("prepare_ucf101", "--data", root, "--quiet")
    assert done.status == 2 and "none of the 8 clips of the list is there" in done.stderr
    videos.rmdir()
    done = call("prepare_ucf101", "--data", root, "--quiet")
    assert done.status == 2 and "UCF-101" in done.stderr and "unpacks to" in done.stderr


def test_lists_of_what_make_flow_made(tmp_path: Path) -> None:
    root = make_ucf101(tmp_path / "ucf101")
    out, lists = root / "pairs", root / "ucfTrainTestlist"
    words: tuple[Any, ...] = ("--list", lists / "trainlist01.txt", "--root", root / "UCF-101", "--per-clip", 5)
    made = call("make_flow", *words, "-o", out / "flow", "--color", out / "images", "--quiet")
    assert made.status == 0, made.stderr
    done = call("prepare_ucf101", "--data", root, "--lists-only")
    assert done.status == 0 and "split1_pairs_train.txt: 30" in done.stdout and "pairs_val.txt: 10" in done.stdout
    shutil.rmtree(out / "flow/Biking")
    done = call("prepare_ucf101", "--data", root, "--lists-only", "--hold-out", 0)
    assert done.status == 0 and "split1_pairs_train.txt: 20" in done.stdout
    shutil.rmtree(out)
    done = call("prepare_ucf101", "--data", root, "--lists-only")
    assert done.status == 2 and "no frame of the 8 clips was made" in done.stderr


def test_wrong_words(tmp_path: Path) -> None:
    root = make_ucf101(tmp_path / "ucf101", groups=2)
    for words, told in (
        (("--per-clip", 0), "--per-clip is 0"),
        (("--workers", -1), "--workers is -1"),
        (("--hold-out", 1), "cannot hold out every 1th of 2 groups"),
        (("--hold-out", 3), "expected 2 to 2"),
        (("--hold-out", 2, "--part", "test"), "--hold-out goes with --part train"),
        (("--lists-only", "--workers", 2), "nothing is made with --lists-only"),
        (("--method", "brox"), "method 'brox'"),
        (("--split", 2), "trainlist02.txt"),
    ):
        done = call("prepare_ucf101", "--data", root, "--quiet", *words)
        assert done.status == 2 and told in done.stderr, done


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Archery/v_Archery_g01_c01.avi\n", "line 1: .*, expected 'ACTION/CLIP.avi NUMBER'"),
        ("\nArchery/v_Archery_g01_c01.mp4 1\n", "line 2: "),
        ("Archery v_Archery_g01_c01.avi 1\n", "expected 'ACTION"),
        ("Archey/v_Archery_g01_c01.avi 1\n", "no action 'Archey' in classInd.txt .*Archery"),
        ("Biking/v_Biking_g01_c01.avi 1\n", "Biking has the number 1, in classInd.txt 2"),
        ("Biking/a.avi 2\nBiking/a.avi 2\n", "line 2: clip Biking/a is there more than once"),
        ("\n", "names no clips"),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    (tmp_path / "trainlist03.txt").write_text(text)
    with pytest.raises(DataError, match=rf"trainlist03\.txt(, |: ).*{reason}|trainlist03\.txt, {reason}"):
        read_ucf_split(tmp_path, 3, "train")
    with pytest.raises(MissingFileError, match=r"testlist03\.txt"):
        read_ucf_split(tmp_path, 3, "test")


@pytest.mark.parametrize("text", ["1 Archery\n3 Biking\n", "1 Archery\n2 Archery\n", "Archery\n", ""])
def test_wrong_actions(tmp_path: Path, text: str) -> None:
    (tmp_path / "classInd.txt").write_text(text)
    with pytest.raises(DataError, match=r"classInd\.txt"):
        read_actions(tmp_path)


def test_real_clips(tmp_path: Path) -> None:
    """Two clips of the data set, with the official lists: they train in split 2."""
    source = needs("real/video/ucf101")
    shutil.copytree(source / "ucfTrainTestlist", tmp_path / "ucfTrainTestlist")
    for name in ("Biking/v_Biking_g05_c02.avi", "Punch/v_Punch_g03_c01.avi"):
        path = tmp_path / "UCF-101" / name
        path.parent.mkdir(parents=True)
        shutil.copy(source / path.name, path)
    done = call("prepare_ucf101", "--data", tmp_path, "--split", 2, "--quiet")
    assert done.status == 1 and "9584 of 9586 clips of the list are missing" in done.stdout
    assert "10 written" in done.stdout
    pairs = read_pair_list(tmp_path / "pairs/lists/split2_pairs_train.txt")
    assert len(pairs) == 5 and all(cv2.imread(pair.second).shape == (240, 320, 3) for pair in pairs)
