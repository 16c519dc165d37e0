"""test_net.py --sds 1 and save_sds.py on drawn scenes: what they write, skip and refuse."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from forked import ranked
from PIL import Image
from program import Done, call
from segmentation.small_masks import OUT, TEST, TESTED, TESTING, TRAINING, write_near, write_run, write_scenes

from caffe_compat.config import load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.detection.nms import apply_nms
from caffe_compat.evaluation.detections import Detections, read_detections, write_detections
from caffe_compat.media import read_picture
from caffe_compat.net import load_net
from caffe_compat.segmentation.asking import ask_masks
from caffe_compat.segmentation.inference import Masks, load_mask_net
from caffe_compat.segmentation.regions import region_masks
from caffe_compat.segmentation.stored import read_segmented
from caffe_compat.segmentation.superpixels import SuperpixelsOfFolder
from caffe_compat.segmentation.testing import PartialRegions, SegmentRun, segment_all

NET = OUT / "inst_segm_iter_2.caffemodel"
RUN = TESTED / "inst_segm_iter_2"
FILES = {"config.yml", "detections.npz"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, a detector with weights of fillers, and masks that learned a little on it."""
    folder = tmp_path_factory.mktemp("made")
    write_scenes(folder)
    write_run(folder, folder)
    done = call("train_net", *TRAINING, "--iters", 2, folder=folder)
    assert done.status == 0, done.stderr
    write_near(folder)
    write_blocks(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "own", dirs_exist_ok=True)
    return tmp_path / "own"


def write_blocks(folder: Path) -> None:
    """Superpixels of 6 x 6 pixels for the test frames, of 16 bits."""
    y, x = np.mgrid[:72, :96] // 6
    (folder / "sp").mkdir()
    for record in records(folder):
        Image.fromarray((1 + y * 16 + x).astype(np.uint16)).save(folder / "sp" / f"{record.name}.png")


def records(folder: Path) -> list:
    return list(find_imdb(TEST.replace("tree:", f"tree:{folder}/")).records)


def segment(folder: Path, *words: object, file: str = "near.npz", superpixels: bool = True) -> Done:
    given = ["--sds_sp_dir", "sp"] if superpixels else []
    return call("test_net", *TESTING, "--net", NET, "--sds_detection_file", file, *given, *words, folder=folder)


def pieces(folder: Path) -> tuple[SegmentRun, Masks]:
    """The same as library calls."""
    config = load_config(folder / "masks" / "config.yml")
    imdb = find_imdb(TEST.replace("tree:", f"tree:{folder}/"))
    net, _ = load_mask_net(folder / "masks" / "test.prototxt", [folder / NET], config)
    masks = Masks(net, 1, config)
    kept = apply_nms(read_detections(folder / "near.npz"), 0.3)
    return SegmentRun(imdb, kept, masks, SuperpixelsOfFolder(folder / "sp"), config), masks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("superpixels", [True, False])
def test_several_processes_write_what_one_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, superpixels: bool
) -> None:
    monkeypatch.chdir(folder)
    given = ["--sds_sp_dir", "sp"] if superpixels else ["--sds_sp_count", 200]
    words = ["test_net", *TESTING, "--net", NET, "--sds_detection_file", "near.npz", *given]
    alone = ranked(1, *words, folder=folder)[0]
    names = [path for path in (folder / RUN).rglob("*") if path.is_file()]
    expected = {path: path.read_bytes() for path in names}
    shutil.rmtree(folder / RUN)
    first, second = ranked(2, *words, folder=folder)
    assert (first.status, second.status) == (alone.status, 0) == (0, 0), first
    assert {path: path.read_bytes() for path in (folder / RUN).rglob("*") if path.is_file()} == expected
    told = [[line for line in one.stdout.splitlines() if "Doing" not in line] for one in (first, alone)]
    assert told[0] == told[1] and ("superpixels of 5 images were made" in first.stdout) != superpixels
    assert second.stdout.endswith("rank 1 of 2: 2 images\n")


def test_output(folder: Path) -> None:
    done = segment(folder)
    assert done.status == 0, done.stderr
    assert {path.name for path in (folder / RUN).iterdir()} == {
        "segm", "segm_eval.txt", "segm_eval.mat", "segm_eval.json",
    }  # fmt: skip
    assert {path.name for path in (folder / RUN / "segm").iterdir()} == FILES
    lines = (folder / RUN / "segm_eval.txt").read_text().splitlines()
    figures = json.loads((folder / RUN / "segm_eval.json").read_text())
    assert figures["skipped"] == [] and [one["threshold"] for one in figures["thresholds"]] == [0.5, 0.7]
    assert lines[-1].split(":")[0].strip() == "mean" and len(lines) == 9
    for place, one in enumerate(figures["thresholds"]):
        assert one["images"] == 5 and one["metric"] == "region"
        assert float(lines[-1].split(":")[1].split(",")[place]) == pytest.approx(100 * one["mean"], abs=1e-5)
    assert "AP^r 0.5  AP^r 0.7" in done.stdout and "Doing :    5 /    5" in done.stdout
    assert "SDS.TARGET_SIZE" not in done.stdout
    other = segment(folder, "--set", "SDS.TARGET_SIZE", 100, "SDS.DET_SALT", "_100")
    assert other.status == 0 and "trained on pictures of 72 pixels, SDS.TARGET_SIZE is 100" in other.stdout
    assert read_detections(folder / RUN / "segm" / "detections.npz").classes[0] == "ball", "boxes are readable as such"


def test_regions_are_what_the_net_says_of_each_box(folder: Path) -> None:
    """A box at a time, pixel by pixel, on blocks: a slow and plain reference."""
    assert segment(folder).status == 0
    run, masks = pieces(folder)
    stored = read_segmented(folder / RUN / "segm" / "detections.npz")
    count = 0
    for number, record in enumerate(run.imdb.records):
        picture = read_picture(record.paths["images"])
        held = stored.regions[number]
        assert held is not None and held.shape[1] == 192
        question = ask_masks([picture], stored.detections.of_image(number), run.config)
        for row, box in enumerate(question.boxes):
            blobs = dataclasses.replace(
                question.blobs,
                **{
                    key: getattr(question.blobs, key)[row : row + 1]
                    for key in ("sppboxes", "normalizedboxes", "categids")
                },
            )
            (grid,) = masks(dataclasses.replace(question, boxes=question.boxes[row : row + 1], blobs=blobs))[:, 0]
            x1, y1, x2, y2 = np.clip(np.floor(box + 0.5), 0, [95, 71, 95, 71]).astype(int)
            whole = np.zeros((72, 96))
            for y in range(y1, y2 + 1):
                for x in range(x1, x2 + 1):
                    whole[y, x] = grid[(y - y1) * 50 // (y2 - y1 + 1), (x - x1) * 50 // (x2 - x1 + 1)]
            values = whole.reshape(12, 6, 16, 6).mean((1, 3)).ravel()
            sure = np.abs(values - 0.4) > 1e-4
            assert ((values >= 0.4) == held[row])[sure].all()
            count += 1
    assert count == len(stored.detections) > 15


def test_the_branch_s_detections_give_the_same(folder: Path) -> None:
    assert segment(folder).status == 0
    expected = {path.name: path.read_bytes() for path in (folder / RUN).glob("segm_eval*")}
    boxes = read_detections(folder / "near.npz").boxes
    content = {"all_boxes": [[[] for _ in boxes[0]], *[[cell if len(cell) else [] for cell in row] for row in boxes]]}
    (folder / "near.pkl").write_bytes(pickle.dumps(content, 2))
    shutil.rmtree(folder / RUN)
    done = segment(folder, file="near.pkl")
    assert done.status == 0, done.stderr
    found = {path.name: path.read_bytes() for path in (folder / RUN).glob("segm_eval*")}
    assert [name for name in expected if not name.endswith("mat") and expected[name] != found[name]] == []


def test_its_segmented_pickles_are_read_too(folder: Path) -> None:
    assert segment(folder).status == 0
    ours = read_segmented(folder / RUN / "segm" / "detections.npz")
    boxes = ours.detections.boxes
    regions = [[ours.of_class(c, i) for i in range(len(row))] for c, row in enumerate(boxes)]
    (folder / "segm.pkl").write_bytes(pickle.dumps({"nms_boxes": boxes, "nms_sds": regions}, 2))
    theirs = read_segmented(folder / "segm.pkl", ours.detections.classes, ours.detections.images)
    assert all((one == other).all() for one, other in zip(ours.regions, theirs.regions, strict=True))
    done = call(
        "save_sds", "--imdb_name", TEST, "--sds_detection_file", "segm.pkl", "--sds_sp_dir", "sp", folder=folder
    )
    assert done.status == 0, done.stderr
    assert (folder / "vis" / "ball.png").exists()


def test_parity_salts_and_superpixels_that_are_made(folder: Path) -> None:
    assert segment(folder).status == 0
    words = ["--parity", "--sds_save_output", 0, "--sds_coco", "--set", "SDS.DET_SALT", "_d", "SDS.EVAL_SALT", "_e"]
    done = segment(folder, *words, superpixels=False)
    assert done.status == 0, done.stderr
    assert "superpixels of 5 images were made from color" in done.stdout and "coco masks rule" in done.stdout
    assert (folder / RUN / "segm_eval_d_e.txt").exists() and not (folder / RUN / "segm" / "detections_d.npz").exists()
    assert load_config(folder / RUN / "segm" / "config_d.yml").parity
    made = Image.open(folder / RUN / "segm" / "superpixels" / f"{records(folder)[0].name}.png")
    assert np.asarray(made).min() == 1 and made.size == (96, 72)
    (folder / "sp" / f"{records(folder)[2].name}.png").unlink()
    done = segment(folder, "--sds_sp_make", "color")
    assert done.status == 0 and "superpixels of 1 images were made from color" in done.stdout


def test_a_run_that_was_stopped_asks_the_net_only_about_the_rest(folder: Path) -> None:
    run, masks = pieces(folder)
    whole = [one.regions for one in segment_all(run)]
    asked = []

    def stopping(question):
        asked.append(len(question))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return masks(question)

    partial = folder / "regions.part"
    with pytest.raises(KeyboardInterrupt):
        list(segment_all(dataclasses.replace(run, masks=stopping), PartialRegions(partial, {"a": 1})))
    partial.write_bytes(partial.read_bytes()[:-3])  # the last record is not whole
    again = list(segment_all(dataclasses.replace(run, masks=stopping), PartialRegions(partial, {"a": 1})))
    assert [one.resumed for one in again] == [True, False, False, False, False] and len(asked) == 3 + 4
    assert all((one.regions == other).all() for one, other in zip(again, whole, strict=True))
    kept = PartialRegions(partial, {"a": 1})
    Image.fromarray(np.ones((72, 96), np.uint16)).save(folder / "sp" / f"{run.imdb.records[1].name}.png")
    changed = list(segment_all(run, kept))
    assert [one.resumed for one in changed] == [True, False, True, True, True], "other superpixels, other regions"
    assert not any(one.resumed for one in segment_all(run, PartialRegions(partial, {"a": 2})))


def test_images_that_cannot_be_used_are_skipped_and_named(folder: Path) -> None:
    names = [record.name for record in records(folder)]
    (folder / "sp" / f"{names[0]}.png").unlink()
    Image.fromarray(np.zeros((72, 96), np.uint16)).save(folder / "sp" / f"{names[1]}.png")
    Image.fromarray(np.ones((50, 96), np.uint16)).save(folder / "sp" / f"{names[2]}.png")
    truth = folder / "scenes" / "benchmarkData"
    (truth / "groundTruth" / f"{names[3]}.mat").unlink()
    done = segment(folder)
    assert done.status == 1, done.stderr
    told = done.stdout[done.stdout.index("skipped 4 of 5 images") :].splitlines()
    for name, words, line in zip(
        names,
        (
            f"{names[0]}.png",
            "ids start at 0, expected 1",
            "has 96 x 50 pixels, its image 96 x 72",
            "not known (no masks)",
        ),
        told[1:],
        strict=False,
    ):
        assert name in line and words in line, line
    assert json.loads((folder / RUN / "segm_eval.json").read_text())["skipped"] == names[:4]
    stored = read_segmented(folder / RUN / "segm" / "detections.npz")
    assert [regions is None for regions in stored.regions] == [True, True, True, False, False]
    done = call("save_sds", "--imdb_name", TEST, "--sds_detection_file", RUN / "segm" / "detections.npz",
                "--sds_sp_dir", "sp", "--images", -1, "--score", 0, folder=folder)  # fmt: skip
    assert done.status == 1 and f"not drawn: image {names[0]}: was skipped" in done.stdout
    assert {path.stem for path in (folder / RUN / "segm" / "vis" / "images").iterdir()} == set(names[3:])


def test_no_detections_one_box_and_empty_classes(folder: Path) -> None:
    near = read_detections(folder / "near.npz")
    none = [[cell[:0] for cell in row] for row in near.boxes]
    place = next((c, i) for c, row in enumerate(near.boxes) for i, cell in enumerate(row) if len(cell))
    one = [list(row) for row in none]
    one[place[0]][place[1]] = near.boxes[place[0]][place[1]][:1]
    write_detections(folder / "one.npz", Detections(near.classes, near.images, one))
    done = segment(folder, file="one.npz")
    assert done.status == 0, done.stderr
    assert "4 of 5 images have no detections" in done.stdout and "no detections of " in done.stdout
    regions = read_segmented(folder / RUN / "segm" / "detections.npz").regions
    assert sorted(len(found) for found in regions if found is not None) == [0, 0, 0, 0, 1]
    write_detections(folder / "none.npz", Detections(near.classes, near.images, none))
    done = segment(folder, file="none.npz")
    assert done.status == 0 and json.loads((folder / RUN / "segm_eval.json").read_text())["thresholds"][0]["mean"] == 0
    done = call("save_sds", "--imdb_name", TEST, "--sds_detection_file", RUN / "segm" / "detections.npz", folder=folder)
    assert done.status == 0 and "wrote 0 pictures" in done.stdout and "no detections of ball, box" in done.stdout


def test_detections_of_another_database_are_refused(folder: Path) -> None:
    near = read_detections(folder / "near.npz")
    other = Detections(near.classes, tuple(f"other_{name}" for name in near.images), near.boxes)
    write_detections(folder / "other.npz", other)
    write_detections(folder / "fewer.npz", Detections(near.classes, near.images[1:], [row[1:] for row in near.boxes]))
    write_detections(folder / "kinds.npz", Detections(near.classes[1:], near.images, near.boxes[1:]))
    (folder / "fewer.pkl").write_bytes(pickle.dumps({"all_boxes": [[[]] * 4] * 9}, 2))
    (folder / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    for file, words in (
        ("other.npz", "detections of images that scenes_images_test does not have: other_img_"),
        ("fewer.npz", "no detections of these images of scenes_images_test: img_"),
        ("kinds.npz", "no detections of these classes of scenes_images_test: ball"),
        ("fewer.pkl", "all_boxes has 8 classes x [4] images, expected 8 classes without background x 5 images"),
        ("evil.pkl", "holds os.system, expected numbers"),
    ):
        done = segment(folder, file=file)
        assert done.status == 2 and f"{file}: " in done.stderr and words in done.stderr, done.stderr
    assert not (folder / "owned").exists() and not (folder / TESTED).exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--sds_sp_make", "none"], "expected --sds_sp_dir"),
        (["--sds_sp_dir", "nowhere"], "nowhere"),
        (["--sds_sp_thresh", "4"], "--sds_sp_thresh is 4.0, expected 0 to 1"),
        (["--sds_output_blob_name", "mask"], "no blob 'mask'"),
        (["--sds_output_blob_name", "sum"], "expected a mask for each box"),
        (["--sds_img_blob_names", "image", "da_image"], "for images of 1 modality"),
        (["--imdb", f"{TEST},modalities=images+hha"], "for images of 2 modalities"),
        (["--proposals", "builtin"], "boxes come from --sds_detection_file"),
        (["--comp"], "no files for servers"),
        (["--set", "SDS.MASK_SIZE", "30"], "gives masks of 50 x 50"),
        (["--set", "SDS.FEAT_SCALE", "16"], "cells of 8 pixels"),
        (["--set", "PIXEL_MEANS", "[1, 2, 3]"], "wants a mean of"),
    ],
)
def test_what_is_refused(made: Path, words: list[str], part: str) -> None:
    done = segment(made, *words, superpixels=False)
    assert done.status == 2 and part in done.stderr, done.stderr
    assert not list((made / TESTED).rglob("*.npz"))


def test_flags_of_segmentation_without_it(made: Path) -> None:
    words = [word for word in TESTING if word not in ("--sds", 1)]
    done = call("test_net", *words, "--net", NET, "--sds_sp_thresh", "0.3", folder=made)
    assert done.status == 2 and "--sds_sp_thresh: only --sds 1 reads this" in done.stderr
    done = call("test_net", *TESTING, "--net", NET, folder=made)
    assert done.status == 2 and "which boxes? expected --sds_detection_file" in done.stderr


def test_sheets_show_regions_over_pictures(folder: Path) -> None:
    assert segment(folder).status == 0
    words = ["--imdb_name", TEST, "--sds_detection_file", f"output/sds/masks/{{}}/{RUN.name}/segm/detections.npz"]
    done = call("save_sds", *words, "--sds_sp_dir", "sp", "--sds_output_dir", "vis", "--nx", 2, "--ny", 1, "--sx", 1,
                "--sy", 0.75, "--ext", "jpg", "--images", 2, "--score", 0, folder=folder)  # fmt: skip
    assert done.status == 0, done.stderr
    stored = read_segmented(folder / RUN / "segm" / "detections.npz")
    there = {
        name for name, row in zip(stored.detections.classes, stored.detections.boxes, strict=True) if any(map(len, row))
    }
    assert {path.stem for path in (folder / "vis").glob("*.jpg")} == there
    assert read_picture(folder / "vis" / f"{min(there)}.jpg").shape[1] == 2 * (100 + 6) + 6
    run, _ = pieces(folder)
    record = run.imdb.records[0]
    drawn, plain = read_picture(folder / "vis" / "images" / f"{record.name}.jpg"), read_picture(record.paths["images"])
    regions = stored.regions[0]
    assert regions is not None
    inside = region_masks(regions, run.superpixels(record)).any(0)
    times = drawn.shape[0] // 72
    changed = np.abs(drawn[::times, ::times].astype(int) - plain).max(2)
    assert inside.any() and np.median(changed[inside]) > 20
    done = call("save_sds", *words, "--sds_sp_dir", "sp", "--ext", "xyz", folder=folder)
    assert done.status == 2 and "--ext xyz" in done.stderr
    done = call("save_sds", *words[:2], "--sds_detection_file", "near.npz", folder=folder)
    assert done.status == 2 and "near.npz: no 'superpixels': boxes without regions" in done.stderr


def test_two_modalities_are_averaged(folder: Path) -> None:
    """Both are trained alone and given to one net, by the branch's flags."""
    hha = "tree:scenes,split={},modalities=hha"
    words = ["--net", "small_hha", "--classes", 8, "--fillers", "--folder", "detector_hha"]
    assert call("make_detection", *words, folder=folder).status == 0
    load_net(folder / "detector_hha" / "train.prototxt", phase="TRAIN").save(folder / "hha.caffemodel")
    write_run(folder, folder, "--net", "small_hha", "--imdb", hha.format("train"), name="masks_hha")
    words = ["--solver", "masks_hha/solver.prototxt", "--cfg", "masks_hha/config.yml", "--imdb", hha.format("train")]
    done = call("train_net", *words, "--weights", "hha.caffemodel", "--iters", 2, "--gpu", -1, folder=folder)
    assert done.status == 0, done.stderr
    other = Path("output/sds/masks_hha/scenes_hha_train/inst_segm_iter_2.caffemodel")
    both = ["--net", "small", "--second", "small_hha", "--classes", 8, "--short-side", 72, "--folder", "fused"]
    assert call("make_sds", *both, folder=folder).status == 0
    words = ["--def", "fused/test.prototxt", "--cfg", "fused/config.yml", "--net", NET, other, "--sds", 1]
    words += ["--imdb", f"{TEST},modalities=images+hha", "--sds_detection_file", "near.npz", "--sds_sp_dir", "sp"]
    words += ["--sds_img_blob_name", "image", "da_image", "--sds_output_blob_name", "fusion_loss"]
    done = call("test_net", *words, folder=folder)
    assert done.status == 0, done.stderr
    out = folder / "output/sds/fused/scenes_images+hha_test/inst_segm_iter_2+inst_segm_iter_2"
    assert (out / "segm_eval.txt").exists()
    config, near = load_config(folder / "fused" / "config.yml"), read_detections(folder / "near.npz")
    record = find_imdb(f"tree:{folder}/scenes,split=test,modalities=images+hha").records[0]
    pictures = [read_picture(record.paths[kind]) for kind in ("images", "hha")]
    said = []
    for prototxt, weights, seen in (
        ("masks", [NET], pictures[:1]),
        ("masks_hha", [other], pictures[1:]),
        ("fused", [NET, other], pictures),
    ):
        net, _ = load_mask_net(folder / prototxt / "test.prototxt", [folder / file for file in weights], config)
        said.append(Masks(net, len(seen), config)(ask_masks(seen, near.of_image(0), config)))
    np.testing.assert_allclose(said[2], (said[0] + said[1]) / 2, rtol=1e-5)
    assert np.abs(said[0] - said[1]).max() > 1e-3
