import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from program import ROOT, call, end, start
from scipy.io import savemat
from waiting import wait_for

from caffe_compat.depth import complete, disparity
from caffe_compat.frames import read_encoded, read_parameters

REAL = ROOT.parent / "shared" / "real" / "rgbd"
SETTINGS = ["--camera", "30,30,12,9", "--units-per-metre", "1000", "--quiet"]


def frame(seed: int) -> np.ndarray:
    """uint16 millimetres [18, 24] of a sloping floor with a hole."""
    rows = np.linspace(4000, 1500, 18)[:, None] + np.random.default_rng(seed).normal(0, 5, (18, 24))
    rows[3:5, 4:6] = 0
    return rows.astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for seed in range(3):
        Image.fromarray(frame(seed)).save(tmp_path / "in" / f"{seed}.png")
    return tmp_path


def test_motorcycle_pair(tmp_path):
    done = call("make_hha", "--stereo-motorcycle", tmp_path / "m")
    assert done.status == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["color.png", "depth.png", "hha.png"]
    image = read_encoded(tmp_path / "m" / "hha.png")
    depth = np.array(Image.open(tmp_path / "m" / "depth.png"))
    assert image.shape == (500, 741, 3) and depth.dtype == np.uint16
    assert depth[depth > 0].min() > 1500 and depth.max() < 6000
    known = depth > 0
    assert np.array_equal(image[known][:, 0], np.floor(310000 / depth[known] + 0.5))
    assert image[470:, 300:450, 2].mean() < 60 < image[:100, :, 2].mean()  # garage floor below, things above


def test_folder_resumes_reports_bad_frames_and_refuses_other_settings(folder):
    (folder / "in" / "bad.png").write_text("no image")
    first = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS)
    assert first.status == 1
    assert "3 written, 0 already there, 1 failed" in first.stdout and "bad.png" in first.stdout
    (folder / "in" / "bad.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    Image.fromarray(frame(9)).save(folder / "in" / "9.png")
    again = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS, "--workers", 2)
    assert again.status == 0, again.stdout + again.stderr
    assert "1 written, 3 already there, 0 failed" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = ["--camera", "31,30,12,9", *SETTINGS[2:]]
    refused = call("make_hha", folder / "in", "-o", folder / "out", *other)
    assert refused.status == 1 and "made with camera = [30.0" in refused.stdout
    assert "4 failed" in refused.stdout
    redone = call("make_hha", folder / "in", "-o", folder / "out", *other, "--overwrite")
    assert "4 written" in redone.stdout
    assert read_parameters(folder / "out" / "0.png")["camera"][0] == 31.0


def test_inputs_are_safe_and_not_mixed_up(folder):
    source = folder / "in" / "0.png"
    content = source.read_bytes()
    for words, message in (
        ([source, "-o", source], "is its own output"),
        ([folder / "in", "-o", folder / "in"], "is its own output"),
        ([folder / "in", "-o", folder / "out", "--raw-depth", source], "is one file for 3 depth files"),
        ([folder / "in", "-o", folder / "one.png"], "expected a png for one input, or a folder"),
        ([source, "-o", folder / "one.jpg"], "expected a png for one input, or a folder"),
        ([source, "-o", folder / "in" / "1.png" / "x.png"], "cannot write"),
    ):
        done = call("make_hha", *words, *SETTINGS, "--overwrite")
        assert done.status == 2 and message in done.stderr, done.stdout + done.stderr
    assert source.read_bytes() == content
    (folder / "in" / ".hidden.png").write_text("left over")
    (folder / "in" / "folder.png").mkdir()
    done = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS)
    assert "3 written, 0 already there, 0 failed" in done.stdout


def test_values_out_of_range_are_not_measured(folder):
    depth = frame(5)
    depth[9:11, 9:12], depth[0, 0] = 11, 60000
    Image.fromarray(depth).save(folder / "d.png")
    done = call(
        "make_disparity", folder / "d.png", "-o", folder / "o.png", *SETTINGS[2:], "--min-depth", 0.5, "--max-depth", 10
    )
    assert done.status == 0, done.stderr
    image = read_encoded(folder / "o.png", {"range": [0.5, 10.0]})
    assert image[9:11, 9:12].max() < 255 and image[0, 0, 0] in (image[0, 1, 0], image[1, 0, 0])
    done = call(
        "make_disparity", folder / "d.png", "-o", folder / "x.png", *SETTINGS[2:], "--min-depth", 5, "--max-depth", 4
    )
    assert done.status == 2 and "from 5.0 to 4.0 m" in done.stderr


def test_a_bad_frame_never_ends_the_run(folder):
    """Any exception of one frame is noted: a number of 20 digits, an old output whose parameters nest 100,000 deep."""
    shutil.copy(ROOT / "tests/data/faults/p2_big.pgm", folder / "in" / "big.pgm")
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("caffe_compat.depth", "[" * 100_000)
    (folder / "out").mkdir()
    Image.new("RGB", (1, 1)).save(folder / "out" / "1.png", pnginfo=chunks)
    for workers in (0, 1):
        done = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS, "--workers", workers)
        assert done.status == 1 and "2 failed" in done.stdout, done.stdout + done.stderr
        assert "big.pgm: has a number of 20 digits" in done.stdout
        assert "1.png: text chunk 'caffe_compat.depth': not JSON that can be used" in done.stdout
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_an_error_of_all_frames_is_said_once(folder):
    for seed in range(3, 9):
        Image.fromarray(frame(seed)).save(folder / "in" / f"{seed}.png")
    words = (folder / "in", "-o", folder / "out", *SETTINGS)
    assert "9 written" in call("make_hha", *words).stdout
    lines = call("make_hha", *words, "--fill", "none").stdout.splitlines()
    assert len(lines) == 2 and lines[0].startswith("failed: all 9 frames, the first: ")
    assert "was made with fill = 'nearest', now 'none'" in lines[0] and lines[1].endswith("9 failed")
    lines = call(
        "make_hha", folder / "in", "-o", folder / "new", *SETTINGS, "--fill", "colorization"
    ).stdout.splitlines()
    assert len(lines) == 2 and "needs the colour image" in lines[0]


def test_near_scenes_have_a_scale_of_their_own(folder):
    for seed in range(3):
        Image.fromarray((frame(seed) // 4).astype(np.uint16)).save(folder / "in" / f"{seed}.png")
    words = (folder / "in", "-o", folder / "out", *SETTINGS)
    first = call("make_disparity", *words[:3], *SETTINGS[2:])
    (warning, sums) = first.stdout.splitlines()
    assert sums.startswith("3 written") and warning.startswith("warning: in 3 of 3 frames over 20 % of the measured")
    near = warning.partition("--near ")[2].split(",")[0]
    assert "near = " not in warning and 0.3 < float(near) < 0.4
    refused = call("make_disparity", *words[:3], *SETTINGS[2:], "--near", near)
    assert "failed: all 3 frames, the first: " in refused.stdout
    assert refused.stdout.count("was made with scale = 31000.0, now 9") == 1
    done = call("make_disparity", *words[:3], *SETTINGS[2:], "--near", near, "--overwrite")
    assert done.stdout == "3 written, 0 already there, 0 failed\n"
    image, depth = read_encoded(folder / "out" / "0.png"), np.array(Image.open(folder / "in" / "0.png"))
    assert np.array_equal(image, disparity(complete(depth / 1000), depth == 0, near=float(near)))
    assert "3 already there" in call("make_disparity", *words[:3], *SETTINGS[2:], "--scale", 25500 * float(near)).stdout
    for bad, message in (
        (("--near", 1, "--scale", 2), "expected one of them"),
        (("--near", 0), "near is 0.0 m, expected a positive number"),
        (("--scale", "nan"), "disparity scale is nan"),
    ):
        done = call("make_hha", *words, *bad)
        assert done.status == 2 and message in done.stderr


def test_pictures_of_depth_are_warned_of_once(folder):
    for seed in range(5):
        Image.fromarray((frame(seed) // 20).astype(np.uint8)).save(folder / "in" / f"{seed}.png")
    done = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS[:2], "--units-per-metre", 50, "--quiet")
    assert done.stdout.splitlines()[0].startswith("warning: all 5 frames, the first: ")
    assert "8-bit numbers" in done.stdout and len(done.stdout.splitlines()) == 2


def test_a_mat_of_version_5_is_told_what_it_is(folder):
    savemat(folder / "mine.mat", {"depth": np.ones((4, 5)), "mask": np.ones((4, 5), bool)})
    for words in ([], SETTINGS):
        done = call("make_hha", folder / "mine.mat", "-o", folder / "out", *words)
        assert done.status == 2 and done.stderr.count("\n") == 1
        assert (
            "mine.mat: a Matlab file of version 5 with the variables depth, mask; expected version 7.3" in done.stderr
        )
        assert "nyu_depth_v2_labeled.mat, depth of your own goes in as png, pgm, tiff or npy" in done.stderr


def test_an_output_that_was_cut_off_is_made_again(folder):
    call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS)
    content = (folder / "out" / "1.png").read_bytes()
    (folder / "out" / "1.png").write_bytes(content[:-20])
    again = call("make_hha", folder / "in", "-o", folder / "out", *SETTINGS)
    assert "1 written, 2 already there" in again.stdout and (folder / "out" / "1.png").read_bytes() == content


def test_a_changed_depth_file_is_noticed(folder):
    call("make_disparity", folder / "in", "-o", folder / "out", *SETTINGS[2:])
    Image.fromarray(frame(7)).save(folder / "in" / "0.png")
    again = call("make_disparity", folder / "in", "-o", folder / "out", *SETTINGS[2:])
    assert again.status == 1 and "depth_sha1" in again.stdout and "2 already there, 1 failed" in again.stdout


def test_single_frame_list_and_disparity(folder):
    done = call("make_disparity", folder / "in" / "0.png", "-o", folder / "d.png", "--units-per-metre", 1000)
    assert done.status == 0, done.stderr
    depth = np.array(Image.open(folder / "in" / "0.png"))
    image = read_encoded(folder / "d.png", {"kind": "disparity", "units_per_metre": 1000.0})
    assert np.array_equal(image[depth > 0][:, 2], np.floor(310000 / depth[depth > 0] + 0.5))
    (folder / "in" / "list.txt").write_text("1.png\n2.png\n")
    done = call("make_hha", "--list", folder / "in" / "list.txt", "-o", folder / "out", *SETTINGS)
    assert done.status == 0, done.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["1.png", "2.png"]


def write_index(folder: Path, size: tuple[int, int] = (24, 18)) -> Path:
    entries = []
    for seed in range(2):
        Image.new("RGB", size, (seed, 2, 3)).save(folder / "in" / f"c{seed}.jpg")
        entries.append(
            {
                "color": f"in/c{seed}.jpg",
                "depth": f"in/{seed}.png",
                "K_fx_fy_cx_cy": [30, 30, 12, 9],
                "depth_units_per_metre": 1000,
            }
        )
    path = folder / "index.json"
    path.write_text(json.dumps(entries))
    return path


def test_index_writes_pairs(folder):
    done = call("make_hha", "--index", write_index(folder), "-o", folder / "out", "--quiet")
    assert done.status == 0, done.stdout + done.stderr
    lines = (folder / "out" / "pairs.txt").read_text().splitlines()
    assert lines == ["color/in_0.png hha/in_0.png", "color/in_1.png hha/in_1.png"]
    for line in lines:
        assert all(Image.open(folder / "out" / name).size == (24, 18) for name in line.split())


def test_a_refused_run_leaves_the_lists(folder):
    index = write_index(folder)
    call("make_hha", "--index", index, "-o", folder / "out", "--quiet")
    content = (folder / "out" / "pairs.txt").read_text()
    refused = call("make_hha", "--index", index, "-o", folder / "out", "--quiet", "--fill", "none")
    assert refused.status == 1 and "2 failed" in refused.stdout
    assert (folder / "out" / "pairs.txt").read_text() == content


def test_several_indexes_without_the_pictures_of_a_test(folder):
    index = write_index(folder)
    more = folder / "more.json"
    entries = json.loads(index.read_text())
    more.write_text(json.dumps([entries.pop()]))
    index.write_text(json.dumps(entries))
    images = [{"id": k, "file_name": f"in/c{k}.jpg", "width": 24, "height": 18, "split": "ab"[k]} for k in range(2)]
    (folder / "set.json").write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "x"}]}))
    words = ["make_hha", "--index", index, more, "--quiet", "-o"]
    done = call(*words, folder / "both")
    assert done.status == 0 and len((folder / "both" / "pairs.txt").read_text().splitlines()) == 2
    done = call(*words, folder / "one", "--without", f"{folder / 'set.json'},split=b")
    assert (folder / "one" / "pairs.txt").read_text() == "color/in_0.png hha/in_0.png\n", done.stderr
    done = call(*words, folder / "none", "--without", folder / "set.json")
    assert done.status == 2 and "leaves out 2 of 2 frames" in done.stderr
    done = call("make_hha", "--index", index, index, "--quiet", "-o", folder / "twice")
    assert done.status == 2 and "another index has a frame in_0 too" in done.stderr


def test_index_keeps_outputs_in_their_folder_and_apart(folder):
    index = write_index(folder)
    entries = json.loads(index.read_text())
    entries[0]["depth"] = str(folder / "in" / "0.png")
    index.write_text(json.dumps(entries))
    done = call("make_hha", "--index", index, "-o", folder / "out", "--quiet")
    assert done.status == 0 and len(list((folder / "out" / "hha").iterdir())) == 2, done.stderr
    entries[0]["depth"] = "./in/1.png"
    index.write_text(json.dumps(entries))
    refused = call("make_hha", "--index", index, "-o", folder / "out", "--quiet")
    assert refused.status == 2 and "frames 0 and 1 would both be" in refused.stderr


def test_index_refuses_colour_of_another_size(folder):
    done = call("make_hha", "--index", write_index(folder, (48, 36)), "-o", folder / "out", "--quiet")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "all 2 depth files, such as" in done.stderr and "colour is 48 x 36: depth is not registered" in done.stderr
    assert "24 x 18 (width x height)" in done.stderr and "tools/index.py with --calibration" in done.stderr
    assert not (folder / "out").exists()
    Image.new("RGB", (24, 18)).save(folder / "in" / "c1.jpg")  # one that fits: the run goes on without the other
    done = call("make_hha", "--index", folder / "index.json", "-o", folder / "out", "--quiet")
    assert done.status == 1 and "36 x 48" in done.stdout and "1 written, 0 already there, 1 failed" in done.stdout


def test_a_camera_of_another_size_is_said_once(folder):
    words = ("make_hha", folder / "in", "-o", folder / "out", "--units-per-metre", 1000, "--quiet", "--camera")
    done = call(*words, "kinect_v1")
    assert done.status == 2 and done.stderr.count("\n") == 1 and not (folder / "out").exists()
    assert "--camera kinect_v1 makes pictures of 640 x 480 (width x height), but all 3 depth files" in done.stderr
    assert "are 24 x 18; give the fx,fy,cx,cy of these very pictures" in done.stderr
    for seed in range(3):
        Image.fromarray(np.full((240, 424), 2000, np.uint16)).save(folder / "in" / f"{seed}.png")
    done = call(*words, "realsense_d435")
    assert done.status == 2 and "; --camera realsense_d435@424x240 is this camera at that resolution" in done.stderr
    done = call("make_disparity", folder / "in", "-o", folder / "d", "--units-per-metre", 1000, "--quiet")
    assert done.status == 0, done.stderr  # it needs no camera
    Image.fromarray(np.full((480, 640), 2000, np.uint16)).save(folder / "in" / "1.png")  # it fits: the run goes on
    (folder / "in" / "bad.png").write_text("no picture")
    done = call(*words, "realsense_d435")
    assert done.status == 1 and "1 written, 0 already there, 3 failed" in done.stdout


def test_units_that_no_frame_can_have_are_said_once(folder):
    words = ("make_hha", folder / "in", "-o", folder / "out", *SETTINGS[:2], "--quiet")
    for seed in range(3):
        Image.fromarray((frame(seed).astype(float) * 4).astype(np.uint16)).save(folder / "in" / f"{seed}.png")
    done = call(*words)
    assert done.status == 2 and done.stderr.startswith("error: --units-per-metre is missing: ")
    assert "(--units-per-metre), one of: 1 (" in done.stderr and "3 files" in done.stderr
    done = call(*words, "--units-per-metre", 1)
    assert done.status == 2 and "--units-per-metre cannot be 1: " in done.stderr and not (folder / "out").exists()
    assert "3 written" in call(*words, "--units-per-metre", 4000).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of them"),
        (["in/0.png"], "--output is missing"),
        (["in/0.png", "-o", "x.png"], "--camera is missing"),
        (["in/0.png", "-o", "x.png", "--camera", "kinect"], "no camera of that name"),
        (["in", "-o", "x", "--camera", "30,30,12,9", "--units-per-metre", "-1"], "positive number"),
        (["--index", "none.json", "-o", "x"], "none.json"),
        (["--index", "some.json", "-o", "x", "--camera", "kinect_v1"], "does not go with --index"),
        (["in/0.png", "in/../in/0.png", "-o", "x", *SETTINGS], "would both become 0.png"),
        (["in/0.png", "-o", "x", "--encoding", "nyud2_raw"], "needs its colour image (--color)"),
        (["in/0.png", "-o", "x", "--camera", "30,30,12,9", "--encoding", "nyud2_raw"], "its camera is nyud2_color"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "some.json").write_text("[]")
    done = call("make_hha", *arguments)
    assert done.status == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_unknown_units_are_not_guessed(folder):
    Image.fromarray((frame(0).astype(float) * 4).astype(np.uint16)).save(folder / "in" / "0.png")
    done = call("make_hha", folder / "in" / "0.png", "-o", folder / "x.png", "--camera", "30,30,12,9")
    assert done.status == 2 and "pass units_per_metre" in done.stderr
    assert not (folder / "x.png").exists()


def test_ctrl_c_leaves_no_half_written_file(tmp_path):
    (tmp_path / "in").mkdir()
    rows = np.linspace(4000, 1500, 240)[:, None].repeat(320, 1).astype(np.uint16)
    Image.fromarray(rows).save(tmp_path / "in" / "0.png")
    for number in range(1, 5000):  # many, so that some are left however late the signal comes
        os.link(tmp_path / "in" / "0.png", tmp_path / "in" / f"{number}.png")
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--camera", "300,300,160,120", "--units-per-metre", 1000)
    process = start("make_hha", *arguments, "--quiet", "--workers", 1)
    wait_for(lambda: list((tmp_path / "out").glob("[0-9]*.png")), process)
    os.killpg(process.pid, signal.SIGINT)
    done = end(process)
    assert done.status == 130 and done.stderr.splitlines()[-1] == "interrupted"
    written = list((tmp_path / "out").iterdir())
    assert 0 < len(written) < 5000 and all(not path.name.startswith(".") for path in written)
    assert all(read_parameters(path)["kind"] == "hha" for path in written)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real frames here")
def test_matlab_golden_through_the_tool(tmp_path):
    arguments = (
        REAL / "nyud2_labelled/0_depth.png",
        *("-o", tmp_path / "hha.png", "--camera", "nyud2_color", "--units-per-metre", 10000, "--quiet"),
    )
    done = end(start("make_hha", *arguments))
    assert done.status == 0, done.stderr
    golden = read_encoded(REAL / "nyud2_labelled/0_hha_9ff088f.png")
    assert np.array_equal(read_encoded(tmp_path / "hha.png"), golden)


def test_the_depth_of_a_coco_style_json_serves_a_detector(folder):
    """One folder from the json to a database of two modalities."""
    names = ["2", "0"]
    images = [
        {"id": k, "file_name": f"{name}_color.png", "depth": f"in/{name}.png", "width": 24, "height": 18}
        for k, name in enumerate(names)
    ]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (folder / "set.json").write_text(json.dumps(content))
    for name in names:
        Image.new("RGB", (24, 18)).save(folder / f"{name}_color.png")
    done = call("make_hha", "set.json", "-o", "hha", *SETTINGS, folder=folder)
    assert done.status == 0 and sorted(path.name for path in (folder / "hha").iterdir()) == ["0.png", "2.png"]
    done = call("imdb", "coco:set.json,images,hha=hha", "--quiet", folder=folder)
    assert done.status == 0 and "modalities: images, hha" in done.stdout and "all there" in done.stdout
    del images[1]["depth"]
    (folder / "set.json").write_text(json.dumps(content))
    done = call("make_hha", "set.json", "-o", "hha", *SETTINGS, folder=folder)
    assert done.status == 2 and "set.json: image 1 (0_color.png): depth is None, not a file" in done.stderr
    (folder / "set.json").write_text("[]")
    assert "set.json: not COCO-style" in call("make_hha", "set.json", "-o", "hha", *SETTINGS, folder=folder).stderr
