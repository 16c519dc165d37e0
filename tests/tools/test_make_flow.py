"""make_flow: clips of known motion become pictures of it; layouts, resume, bad input."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import needs
from flow.clips import moved, read_rgb, write_frames, write_video
from program import call, end, start

from caffe_compat.flow import color_wheel, decode, encode, opencv_method, read_flo, write_flo
from caffe_compat.frames import read_parameters

STEPS = [(3, -2), (-4, 1), (0, 0), (2, 2)]
FRAMES = moved(STEPS)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def check_motion(path: Path, u: int, v: int) -> None:
    """The picture says so: mostly to the pixel, away from the border."""
    inner = read_rgb(path)[12:-12, 12:-12].astype(float)
    wanted = encode(np.full((1, 1), float(u)), np.full((1, 1), float(v)))[0, 0]
    assert np.abs(np.median(inner, (0, 1)) - wanted).max() <= 1, (path, np.median(inner, (0, 1)), wanted)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_frames(tmp_path / "in", FRAMES)
    return tmp_path


def test_a_folder_of_frames(folder: Path) -> None:
    done = call("make_flow", folder / "in", "-o", folder / "out")
    assert (done.status, done.stdout) == (0, "4 written, 0 already there, 0 failed\n")
    assert names(folder / "out") == ["00001.png", "00002.png", "00003.png", "00004.png"]  # the last frame has none
    for number, (u, v) in enumerate(STEPS, 1):
        check_motion(folder / "out" / f"{number:05d}.png", u, v)
    assert (read_rgb(folder / "out" / "00003.png") == 128).all()  # nothing moves: a valid picture
    flow = opencv_method().flow(FRAMES[0], FRAMES[1])
    np.testing.assert_array_equal(read_rgb(folder / "out" / "00001.png"), encode(flow[..., 0], flow[..., 1]))
    found = read_parameters(folder / "out" / "00002.png")
    assert found is not None and found["kind"] == "flow" and found["scale"] == 16
    assert (found["method"], found["preset"], found["frame"], found["next"]) == (
        "dis",
        "medium",
        "00002.png",
        "00003.png",
    )


def test_a_video_counts_from_one(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", FRAMES)
    done = call("make_flow", tmp_path / "clip.avi", "-o", tmp_path / "out", "--color", tmp_path / "color")
    assert done.status == 0, done.stderr
    assert names(tmp_path / "out") == names(tmp_path / "color") == [f"0000{number}.png" for number in (1, 2, 3, 4)]
    for number, (u, v) in enumerate(STEPS, 1):
        check_motion(tmp_path / "out" / f"{number:05d}.png", u, v)
        np.testing.assert_array_equal(read_rgb(tmp_path / "color" / f"{number:05d}.png"), FRAMES[number - 1][..., ::-1])
    write_frames(tmp_path / "in", FRAMES)
    call("make_flow", tmp_path / "in", "-o", tmp_path / "other")
    for name in names(tmp_path / "out"):
        np.testing.assert_array_equal(read_rgb(tmp_path / "out" / name), read_rgb(tmp_path / "other" / name))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_is_mirrored(tmp_path: Path, workers: int) -> None:
    write_video(tmp_path / "in" / "run" / "a.b.avi", FRAMES[:3])
    write_video(tmp_path / "in" / "run" / "c.avi", FRAMES[2:])
    write_frames(tmp_path / "in" / "walk" / "d", FRAMES[:2], "frame{}.jpg", 9)
    (tmp_path / "in" / "README.txt").write_text("not a clip")
    words = (tmp_path / "in", "-o", tmp_path / "in" / "flow", "--workers", workers)
    done = call("make_flow", *words)
    made = ["run/a.b/00001.png", "run/a.b/00002.png", "run/c/00001.png", "run/c/00002.png", "walk/d/frame9.png"]
    assert done.status == 0 and names(tmp_path / "in" / "flow") == made, done.stderr
    check_motion(tmp_path / "in" / "flow" / made[1], *STEPS[1])
    again = call("make_flow", *words)  # what it has written there itself is no input
    assert again.stdout == "0 written, 5 already there, 0 failed\n" and again.status == 0


def test_a_list_with_labels(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / "set" / "act" / f"v {name}.avi", moved([(1, 0)] * 12))
    (tmp_path / "train.txt").write_text("act/v a.avi 1\n\nact/v c.avi 2\n")
    words = ("--list", tmp_path / "train.txt", "--root", tmp_path / "set", "--per-clip", 5)
    done = call("make_flow", *words, "-o", tmp_path / "out")
    assert done.status == 0, done.stderr
    # 13 frames: round(1.2 (2k + 1)) from 0, of 5 frames each
    stems = [f"{1 + round(1.2 * (2 * k + 1)):05d}" for k in range(5)]
    assert names(tmp_path / "out") == [f"act/v {name}/{stem}.png" for name in "ac" for stem in stems]
    (tmp_path / "set" / "train.txt").write_text("act/v b.avi\n")
    done = call("make_flow", "--list", tmp_path / "set" / "train.txt", "-o", tmp_path / "other")
    assert done.stdout.startswith("12 written"), done.stderr
    (tmp_path / "set" / "bad.txt").write_text("../train.txt\n")
    assert "is not below" in call("make_flow", "--list", tmp_path / "set" / "bad.txt", "-o", tmp_path / "o").stderr
    (tmp_path / "set" / "bad.txt").write_text("act/v b.avi\nact/none.avi 3\n")
    done = call("make_flow", "--list", tmp_path / "set" / "bad.txt", "-o", tmp_path / "other")
    assert done.status == 1 and "failed: Could not open file" in done.stdout and "act/none.avi" in done.stdout


def test_a_pair_with_everything(tmp_path: Path) -> None:
    write_frames(tmp_path, FRAMES[:2])
    write_flo(tmp_path / "true.flo", np.broadcast_to(np.float32(STEPS[0]), (48, 64, 2)))
    done = call(
        "make_flow", "00001.png", "00002.png", "-o", "f.png", "--flo", "f.flo", "--wheel", "w.png", "--longest", 5,
        "--truth", "true.flo", folder=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    flow = read_flo(tmp_path / "f.flo")
    np.testing.assert_array_equal(flow, opencv_method().flow(*FRAMES[:2]))
    np.testing.assert_array_equal(read_rgb(tmp_path / "f.png"), encode(flow[..., 0], flow[..., 1]))
    np.testing.assert_array_equal(read_rgb(tmp_path / "w.png"), color_wheel(flow, 5))
    error = float(np.hypot(*np.moveaxis(flow - STEPS[0], -1, 0)).mean())
    assert f"00001.png: end-point error {error:.3f} px" in done.stdout and "3072 pixels" in done.stdout
    other = call("make_flow", "00001.png", "00002.png", "-o", "g.png", "--preset", "fast", folder=tmp_path)
    assert other.status == 0  # one file of each method, side by side
    (tmp_path / "w.png").unlink()
    again = call(
        "make_flow", "00001.png", "00002.png", "-o", "f.png", "--wheel", "w.png", "--longest", 5, folder=tmp_path
    )
    assert "1 written" in again.stdout and (tmp_path / "w.png").exists()


@pytest.mark.slow
def test_truth_of_a_folder(folder: Path) -> None:
    for number, step in enumerate(STEPS[:2], 1):
        (folder / "true").mkdir(exist_ok=True)
        write_flo(folder / "true" / f"{number:05d}.flo", np.broadcast_to(np.float32(step), (48, 64, 2)))
    done = call("make_flow", folder / "in", "-o", folder / "out", "--truth", folder / "true", "--workers", 2)
    lines = done.stdout.splitlines()
    assert done.status == 0 and len(lines) == 4, done.stdout
    assert "00001.png: end-point error" in lines[0] and lines[2].startswith("mean of 2 frames: end-point error")
    write_frames(folder / "in" / "sizes", [FRAMES[0], FRAMES[1][:40]])  # its own affair
    (folder / "true" / "00002.flo").write_bytes(b"nothing")
    done = call("make_flow", folder / "in", "-o", folder / "out", "--truth", folder / "true")
    assert done.status == 1 and "00002.flo: is no .flo file" in done.stdout and "4 already there" in done.stdout


def test_resume_and_other_settings(folder: Path) -> None:
    words = ("make_flow", folder / "in", "-o", folder / "out")
    assert call(*words).status == 0
    (folder / "out" / "00002.png").unlink()
    (folder / "out" / "00003.png").write_bytes((folder / "out" / "00003.png").read_bytes()[:-20])  # cut off
    assert call(*words).stdout == "2 written, 2 already there, 0 failed\n"
    before = {name: (folder / "out" / name).read_bytes() for name in names(folder / "out")}
    (folder / "out" / "00002.png").unlink()
    for other, told in (
        (("--preset", "fast"), "preset = 'medium', now 'fast'"),
        (("--method", "farneback"), "method = 'dis', now 'farneback'"),
        (("--option", "patch_stride=4"), "patch_stride = 3, now 4"),
    ):
        refused = call(*words, *other)
        assert refused.status == 2 and told in refused.stderr and "one folder holds flow of one kind" in refused.stderr
        assert not (folder / "out" / "00002.png").exists()  # not mixed: nothing was done
    redone = call(*words, "--preset", "fast", "--overwrite")
    assert redone.stdout == "4 written, 0 already there, 0 failed\n"
    assert all((folder / "out" / name).read_bytes() != data for name, data in before.items())
    cv2.imwrite(str(folder / "in" / "00001.png"), FRAMES[3])  # another frame under the same name
    done = call(*words, "--preset", "fast")
    assert done.status == 1 and "frame_sha1" in done.stdout and "3 already there, 1 failed" in done.stdout


def test_a_video_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", FRAMES)
    words = ("make_flow", tmp_path / "clip.avi", "-o", tmp_path / "out")
    assert call(*words).status == 0
    (tmp_path / "out" / "00003.png").unlink()
    assert call(*words).stdout == "1 written, 3 already there, 0 failed\n"
    assert call(*words).stdout == "0 written, 4 already there, 0 failed\n"
    check_motion(tmp_path / "out" / "00003.png", *STEPS[2])
    redone = call(*words, "--preset", "fast", "--overwrite", "--workers", 1)
    assert redone.stdout == "4 written, 0 already there, 0 failed\n"


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_the_same_call_goes_on(tmp_path: Path) -> None:
    write_frames(tmp_path / "in", moved([(1, 0)] * 60, 240, 320))
    words = ("make_flow", tmp_path / "in", "-o", tmp_path / "out", "--quiet", "--workers", 1)
    process = start(*words)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    done = end(process)
    left = len(names(tmp_path / "out"))
    assert done.status != 0 and 3 <= left < 60
    assert all(path.suffix == ".png" for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    again = call(*words)
    assert again.status == 0 and f"{60 - left} written, {left} already there, 0 failed" in again.stdout


def test_every_offender_is_told_and_the_others_are_done(tmp_path: Path) -> None:
    """A folder with all that can be wrong: one clear error each, the rest is done, exit status 1."""
    root = tmp_path / "in"
    write_video(root / "good.avi", FRAMES)
    write_video(root / "cut.avi", moved([(1, 1)] * 20))
    whole = (root / "cut.avi").read_bytes()
    (root / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (root / "text.avi").write_text("no video")
    (root / "empty.mp4").write_bytes(b"")
    write_video(root / "one.avi", FRAMES[:1])
    write_frames(root / "single", FRAMES[:1])
    write_frames(root / "sizes", [FRAMES[0], FRAMES[1], FRAMES[2][:40]])
    write_frames(root / "broken", FRAMES)
    (root / "broken" / "00004.png").write_bytes((root / "broken" / "00004.png").read_bytes()[:300])
    write_frames(root / "thin", [frame[:9] for frame in FRAMES[:2]])
    done = call("make_flow", root, "-o", tmp_path / "out")
    assert done.status == 1 and not done.stderr, done.stderr
    lines = [line.replace(f"{root}/", "") for line in done.stdout.splitlines()]
    failed = [line.removeprefix("failed: ") for line in lines if line.startswith("failed: ")]
    for told in (
        "cut.avi: ends after",
        "text.avi: is no video that OpenCV can decode",
        "empty.mp4: is no video that OpenCV can decode",
        "one.avi: has one frame, flow needs two",
        "single: has 1 frames, flow needs two",
        "sizes/00003.png is 64x40, sizes/00001.png is 64x48: expected frames of one size",
        "broken/00004.png: is a truncated or damaged PNG image",
        "thin/00001.png: frames of 64x9: dis needs 16 pixels",
    ):
        assert sum(told in line for line in failed) == 1, (told, failed)
    made = names(tmp_path / "out")
    assert [name for name in made if name.startswith("good/")] == [f"good/0000{number}.png" for number in (1, 2, 3, 4)]
    assert [name for name in made if name.startswith("broken/")] == ["broken/00001.png", "broken/00002.png"]
    assert 0 < sum(name.startswith("cut/") for name in made) < 20
    assert not any(name.startswith(("text", "one", "single", "sizes", "thin")) for name in made)
    assert call("make_flow", root, "-o", tmp_path / "out").status == 1  # and again, with what is done skipped


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_text("no video"), "is no video that OpenCV can decode"),
        (lambda path: write_video(path, FRAMES[:1]), "has one frame, flow needs two"),
        (lambda path: None, "there is none in"),
    ],
)
def test_the_only_clip_is_an_error(tmp_path: Path, make: object, told: str) -> None:
    make(tmp_path / "clip.avi")
    done = call("make_flow", tmp_path / "clip.avi", "-o", tmp_path / "out")
    assert done.status == 2 and done.stderr.startswith("error: ") and told in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames = moved([(2, 0)] * 11)
    write_frames(tmp_path / "in", frames, "f{}.png")
    done = call("make_flow", tmp_path / "in", "-o", tmp_path / "out")
    assert done.status == 0 and len(names(tmp_path / "out")) == 11
    for name in ("f1.png", "f9.png", "f10.png"):
        check_motion(tmp_path / "out" / name, 2, 0)
    (tmp_path / "in" / "f5.png").unlink()
    shutil.rmtree(tmp_path / "out")
    done = call("make_flow", tmp_path / "in", "-o", tmp_path / "out")
    assert done.status == 0 and "f6.png comes after f4.png: frames between them are missing" in done.stdout
    check_motion(tmp_path / "out" / "f4.png", 4, 0)


def test_flow_that_is_there_already(tmp_path: Path) -> None:
    flows = [np.random.default_rng(number).uniform(-9, 9, (20, 30, 2)).astype(np.float32) for number in range(2)]
    for number, flow in enumerate(flows, 1):
        (tmp_path / "flo").mkdir(exist_ok=True)
        write_flo(tmp_path / "flo" / f"{number:05d}.flo", flow)
        codes = np.rint(255 * (flow + 20) / 40).astype(np.uint8)
        for axis, name in enumerate("xy"):
            write_frames(tmp_path / "ts" / "clip", [codes[..., axis]], f"flow_{name}_{{:05d}}.png", number)
    done = call("make_flow", tmp_path / "flo", "-o", tmp_path / "a", "--stored", "flo")
    assert done.status == 0 and names(tmp_path / "a") == ["00001.png", "00002.png"], done.stderr
    np.testing.assert_array_equal(read_rgb(tmp_path / "a" / "00002.png"), encode(flows[1][..., 0], flows[1][..., 1]))
    done = call("make_flow", tmp_path / "ts", "-o", tmp_path / "b", "--stored", "two-stream")
    assert done.status == 0 and names(tmp_path / "b") == ["clip/flow_00001.png", "clip/flow_00002.png"], done.stderr
    u, v = decode(read_rgb(tmp_path / "b" / "clip" / "flow_00001.png"))
    assert np.abs(np.stack([u, v], -1) - flows[0].clip(-8, 7.94)).max() < 20 / 255 + 1 / 16
    pair = [tmp_path / "ts" / "clip" / f"flow_{axis}_00001.png" for axis in "xy"]
    assert call("make_flow", *pair, "-o", tmp_path / "one.png", "--stored", "two-stream").status == 0
    assert (read_rgb(tmp_path / "one.png") == read_rgb(tmp_path / "b" / "clip" / "flow_00001.png")).all()
    one = (tmp_path / "flo" / "00002.flo", "-o", tmp_path / "two.png", "--wheel", tmp_path / "w.png")
    assert call("make_flow", *one, "--stored", "flo").status == 0 and (tmp_path / "w.png").exists()
    assert (read_rgb(tmp_path / "two.png") == read_rgb(tmp_path / "a" / "00002.png")).all()
    other = call("make_flow", tmp_path / "ts", "-o", tmp_path / "b", "--stored", "two-stream", "--most", 15)
    assert other.status == 2 and "most = 20.0, now 15.0" in other.stderr
    refused = call("make_flow", tmp_path / "ts", "-o", tmp_path / "c")  # they are no frames
    assert refused.status == 2 and "look like flow of two-stream networks" in refused.stderr


def test_flow_files_that_are_bad(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = np.ones((20, 30, 2), np.float32)
    write_flo(folder / "a.flo", good)
    good[3, 4] = np.nan
    write_flo(folder / "nan.flo", good)
    (folder / "tag.flo").write_bytes(b"HEIP" + struct.pack("<ii", 2, 1) + bytes(16))
    (folder / "short.flo").write_bytes(b"PIEH" + struct.pack("<ii", 2, 1) + bytes(9))
    done = call("make_flow", folder, "-o", tmp_path / "out", "--stored", "flo")
    assert done.status == 1 and names(tmp_path / "out") == ["a.png"]
    for told in (
        "nan.flo: flow is NaN or infinite at 1 of 600 pixels, the first at row 3, column 4",
        "tag.flo: is no .flo file, it begins with b'HEIP'",
        "short.flo: has 9 bytes after its head, 2 x 1 pixels are 16",
    ):
        assert told in done.stdout


def test_much_that_is_clipped_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_flo(tmp_path / "in" / "a.flo", np.full((20, 30, 2), 9, np.float32))
    done = call("make_flow", tmp_path / "in", "-o", tmp_path / "out", "--stored", "flo")
    assert "in 1 of 1 frames over 20 % of the pixels move by more than 8 pixels and are clipped" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give a video, a folder, two pictures, or --list"),
        (("in", "--list", "l.txt"), "give a video, a folder, two pictures, or --list"),
        (("in/00001.png",), "is one picture, flow needs two"),
        (("in", "in"), "expected two pictures, or a folder"),
        (("a.flo", "--stored", "flo"), "one png is made"),
        (("a.flo", "-o", "f.png"), "is no video"),
        (("in/00001.png", "--stored", "two-stream"), "expected two pictures"),
        (("in/00001.png", "in/00002.png", "-o", "f.png", "--pattern", "*"), "go with videos and folders"),
        (("twice/a.avi", "--pattern", "*"), "--pattern goes with folders"),
        (("twice", "-o", "twice"), "is its own output"),
        (("--list", "l.txt", "--root", "in", "--stored", "flo"), "is no folder, which --stored takes"),
        (("in/00001.png", "in/00002.png", "in/00003.png"), "3 inputs"),
        (("in/00001.png", "in/00002.png"), "one png is made"),
        (("in", "-o", "in"), "is its own output"),
        (("in/00001.png", "in/00002.png", "-o", "in/00001.png"), "is its own output"),
        (("empty",), "no frames or videos in or below this folder"),
        (("empty", "--stored", "flo"), "no .flo files"),
        (("in", "--root", "."), "--root goes with --list"),
        (("in", "--workers", "-1"), "--workers is -1, expected 0 or more"),
        (("in", "--per-clip", "0"), "--per-clip is 0, expected 1 or more"),
        (("in", "--method", "farnback"), "did you mean 'farneback'"),
        (("in", "--method", "farneback", "--preset", "fast"), "--preset goes with --method dis"),
        (("in", "--option", "patch_stride"), "expected NAME=VALUE"),
        (("in", "--method", "raft"), "needs --weights"),
        (("in", "--weights", "l.txt"), "--weights"),
        (("in", "--longest", "3"), "--longest goes with --wheel"),
        (("in", "--wheel", "w", "--longest", "nan"), "expected a positive number"),
        (("in", "--most", "3"), "--most goes with --stored two-stream"),
        (("in", "--stored", "flo", "--method", "dis"), "go with frames"),
        (("in", "--stored", "flo", "--color", "c"), "--color goes with frames"),
        (("in", "--truth", "empty"), "has no .flo file of any of the frames"),
        (("twice",), "would both go to"),
        (("same",), "would both become 00001.png"),
    ],
)
def test_command_lines_that_are_refused(folder: Path, words: tuple[str, ...], told: str) -> None:
    (folder / "empty").mkdir()
    (folder / "l.txt").write_text("00001.png\n")
    write_flo(folder / "a.flo", np.zeros((20, 30, 2), np.float32))
    write_video(folder / "twice" / "a.avi", FRAMES[:2])
    write_video(folder / "twice" / "a.mkv", FRAMES[:2])
    write_frames(folder / "same", FRAMES[:2])
    write_frames(folder / "same", FRAMES[:2], "{:05d}.bmp")
    output = () if "-o" in words else ("-o", "out")
    done = call("make_flow", *words, *output, folder=folder)
    assert done.status == 2 and told in done.stderr, done
    assert len(done.stderr.splitlines()) == 1 and not (folder / "out").exists()


def test_rubberwhale(tmp_path: Path) -> None:
    real = needs("real", "flow")
    first, second, true = (real / name for name in ("rubberwhale1.png", "rubberwhale2.png", "rubberwhale_gt.flo"))
    done = call("make_flow", first, second, "-o", tmp_path / "f.png", "--truth", true)
    assert done.status == 0
    error = float(done.stdout.split("end-point error ")[1].split()[0])
    assert 0.1 < error < 0.4


def test_real_videos(tmp_path: Path) -> None:
    real = needs("real", "video", "ucf101")
    done = call("make_flow", real, "-o", tmp_path / "out", "--per-clip", 5, "--color", tmp_path / "color")
    assert done.status == 0 and "10 written" in done.stdout, done.stderr
    stems = {"v_Biking_g05_c02": 201, "v_Punch_g03_c01": 108}
    wanted = [
        f"{clip}/{1 + int((k + 0.5) * (frames - 1) / 5 + 0.5):05d}.png"
        for clip, frames in stems.items()
        for k in range(5)
    ]
    assert names(tmp_path / "out") == names(tmp_path / "color") == wanted
    for name in wanted:
        assert read_rgb(tmp_path / "out" / name).shape == read_rgb(tmp_path / "color" / name).shape == (240, 320, 3)
