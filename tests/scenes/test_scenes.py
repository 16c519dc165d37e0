"""The drawn data set: geometry, layout, splits, and that nothing depends on how it was made."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from program import start
from scipy.io import loadmat
from waiting import LIMIT, wait_for

from caffe_compat.commands import make_scenes
from caffe_compat.depth import Camera
from caffe_compat.errors import DataError, UsageError
from caffe_compat.scenes import CLASSES, Settings, draw, frame_specs, open_root, write_frame, write_lists
from caffe_compat.scenes.render import make_room, make_view, render
from caffe_compat.scenes.sensor import sense
from caffe_compat.scenes.solids import bounding_radius, intersect, make_object, occluded, scaled

SMALL = Settings(train=8, pairs=6, val=3, test=5, seed=3, width=64, height=48)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in (root / "data").rglob("*.png"))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    open_root(folder, SMALL)
    assert sum(write_frame(folder, SMALL, spec) for spec in frame_specs(SMALL)) == 22
    write_lists(folder, SMALL)
    return folder


# Solids


def inside(parts, points):
    """Membership from the definition of a part, the slow way."""
    found = np.zeros(len(points), bool)
    for part in parts:
        within = (points @ part.normals.T <= part.offsets).all(1)
        if part.quadric is not None:
            a, b, c = part.quadric
            within &= (points**2 * a + points * b).sum(1) + c[0] <= 0
        found |= within
    return found


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_rays_meet_solids_where_they_begin(label: int) -> None:
    rng = np.random.default_rng(label)
    parts = scaled(make_object(label, rng), 0.8)
    origin = rng.normal(size=(3, 400))
    origin *= 3 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-0.5, 0.5, (3, 400)) + [[0], [0.3], [0]] - origin
    hits = intersect(parts, origin, direction)
    steps = np.linspace(0.3, 1.3, 801)
    points = origin.T[:, None] + steps[:, None] * direction.T[:, None]
    marched = inside(parts, points.reshape(-1, 3)).reshape(400, 801)
    first = np.where(marched.any(1), steps[marched.argmax(1)], 1e9)
    hit = hits.t < 1e8
    assert (hit != marched.any(1)).mean() < 0.02  # thin chords fall between the steps
    both = hit & marched.any(1)
    assert both.sum() > 60
    assert np.quantile(np.abs(hits.t - first)[both], 0.98) < 0.003
    np.testing.assert_allclose(np.linalg.norm(hits.normals[hit], axis=1), 1, atol=1e-5)
    assert ((hits.normals * direction.T).sum(1)[hit] < 1e-5).all()
    np.testing.assert_array_equal(occluded(parts, origin, direction), hit)
    centre = np.array([0, 0.3, 0])
    cloud = rng.uniform(-1, 1, (4000, 3)) + centre
    assert np.linalg.norm(cloud[inside(parts, cloud)] - centre, axis=1).max() <= bounding_radius(parts, centre)


# Geometry of a drawn frame


def test_floor_walls_and_object_lie_where_the_room_says() -> None:
    rng = np.random.default_rng(5)
    for label in range(len(CLASSES)):
        room = make_room(rng)
        view = make_view(label, room, rng)
        frame = render(room, view, SMALL.camera, rng)
        v, u = np.mgrid[: SMALL.height, : SMALL.width]
        camera = SMALL.camera
        rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)], -1)
        points = view.pose.position + (rays * frame.depth[..., None]) @ view.pose.rotation.T
        low, high = np.array([-room.size[0] / 2, 0, 0]), room.size * [0.5, 1, 1]
        gap = np.minimum(np.abs(points - low), np.abs(points - high)).min(-1)
        assert gap[~frame.mask].max() < 1e-4
        assert (np.abs(points[~frame.mask][:, 1]) < 1e-4).mean() > 0.15, "floor in sight"
        assert 0.03 < frame.mask.mean() < 0.6
        local = (points[frame.mask] - view.position) @ view.turn
        assert not inside(
            view.parts, local + 1e-3 * (view.turn.T @ (view.pose.position - points[frame.mask]).T).T
        ).any()
        assert (
            inside(view.parts, local - 3e-3 * (view.turn.T @ (view.pose.position - points[frame.mask]).T).T).mean()
            > 0.9
        )
        assert 0.95 <= view.pose.position[1] <= 1.5
        down = view.pose.rotation.T @ [0, -1, 0]
        assert np.degrees(np.arcsin(down[2])) == pytest.approx(view.pose.tilt, abs=0.1)


def test_a_camera_without_size_is_refused() -> None:
    rng = np.random.default_rng(0)
    room = make_room(rng)
    with pytest.raises(DataError, match="width and height"):
        render(room, make_view(0, room, rng), Camera(50, 50, 30, 20), rng)


def test_sensor_noise_grows_with_depth_and_holes_follow_edges() -> None:
    rng = np.random.default_rng(1)
    spread = []
    for z in (1.0, 2.0, 4.0):
        raw = sense(np.full((96, 128), z, np.float32), np.ones((96, 128), np.float32), 100, rng)
        assert raw.dtype == np.uint16
        assert 0 < (raw == 0).mean() < 0.04
        measured = raw[raw > 0] / 1000
        assert measured.mean() == pytest.approx(z, rel=0.01)
        assert len(np.unique(measured)) < 8, "quantised"
        spread.append(measured.std())
    assert spread[1] == pytest.approx(4 * spread[0], rel=0.3)
    assert spread[2] == pytest.approx(16 * spread[0], rel=0.3)
    step = np.full((96, 128), 3.0, np.float32)
    step[:, 64:] = 1.0
    raw = sense(step, np.ones_like(step), 100, rng)
    # The projector is on the right: the shadow, 100 * 0.075 * (1 - 1/3) = 5 pixels, lies left of the near surface.
    assert (raw[:, 60:63] == 0).all()
    assert (raw[:, 66:] == 0).mean() < 0.05
    grazing = sense(np.full((96, 128), 2.0, np.float32), np.full((96, 128), 0.05, np.float32), 100, rng)
    assert (grazing == 0).all()


# Layout


def test_pictures_have_the_layout_of_nyud2(root: Path) -> None:
    for spec in frame_specs(SMALL):
        image, raw, depth, hha = (
            cv2.imread(str(root / "data" / kind / f"{spec.name}.png"), cv2.IMREAD_UNCHANGED)
            for kind in ("images", "rawdepth", "depth", "hha")
        )
        assert image.shape == hha.shape == (48, 64, 3)
        assert image.dtype == hha.dtype == np.uint8
        assert raw.dtype == depth.dtype == np.uint16
        assert (depth > 500).all()
        np.testing.assert_array_equal(raw[raw > 0], depth[raw > 0])
        disparity = np.minimum(31000 / np.maximum(depth / 10, 100), 255)
        assert np.abs(hha[..., 2] - disparity).max() <= 0.51  # BGR: disparity is red
        lowest = hha[-1, :, 1][hha[-1, :, 0] < 50]  # pixels of the last row that face up
        assert np.median(lowest) < 40, "the floor is low"
    camera = Camera.from_file(root / "camera.json")
    assert camera == SMALL.camera
    assert camera.fx == pytest.approx(519 / 640 * 64)


def test_boxes_are_tight_and_count_from_one(root: Path) -> None:
    folder = root / "benchmarkData" / "gt_box_cache_dir"
    labelled = [spec for spec in frame_specs(SMALL) if spec.split != "pairs"]
    assert sorted(path.stem for path in folder.iterdir()) == [spec.name for spec in labelled]
    for spec in labelled:
        rec = loadmat(folder / f"{spec.name}.mat")["rec"]
        assert rec["imgsize"][0][0].tolist() == [[48, 64]]
        (item,) = rec["objects"][0][0][0]
        assert item["class"][0] == CLASSES[spec.label]
        assert (item["difficult"].item(), item["instanceId"].item()) == (0, 1)
        x1, y1, x2, y2 = (int(value) for value in item["bbox"][0])
        mask = draw(SMALL, spec)[0].mask
        outside = mask.copy()
        outside[y1 - 1 : y2, x1 - 1 : x2] = False
        assert not outside.any()
        assert mask[y1 - 1].any() and mask[y2 - 1].any() and mask[:, x1 - 1].any() and mask[:, x2 - 1].any()
        assert item["truncated"].item() == (x1 == 1 or y1 == 1 or x2 == 64 or y2 == 48)


def test_splits_and_lists(root: Path) -> None:
    splits = {
        k: v.ravel().astype(int).tolist()
        for k, v in loadmat(root / "benchmarkData/metadata/nyusplits.mat").items()
        if k[0] != "_"
    }
    assert {name: len(ids) for name, ids in splits.items()} == {
        "train": 8,
        "pairs": 6,
        "val": 3,
        "test": 5,
        "trainval": 11,
    }
    assert splits["train"] + splits["pairs"] + splits["val"] + splits["test"] == list(range(5001, 5023))
    assert splits["trainval"] == splits["train"] + splits["val"]
    lists = {path.stem: path.read_text().splitlines() for path in (root / "lists").iterdir()}
    assert sorted(lists) == [
        "pairs_train",
        "pairs_train_disparity",
        "pairs_val",
        "pairs_val_disparity",
        "teacher_train_images",
        "teacher_val_images",
        "test_hha",
        "test_images",
    ]
    assert lists["pairs_train"][0] == "data/images/img_5009.png data/hha/img_5009.png"
    assert lists["pairs_val_disparity"][0] == "data/images/img_5015.png data/disparity/img_5015.png"
    labels = {spec.id: spec.label for spec in frame_specs(SMALL)}
    for name, split, folder in (("teacher_train_images", "train", "images"), ("test_hha", "test", "hha")):
        assert lists[name] == [f"data/{folder}/img_{i}.png {labels[i]}" for i in splits[split]]
    assert all((root / part).exists() for lines in lists.values() for line in lines for part in line.split()[:1])
    assert (root / "classes.txt").read_text().split() == list(CLASSES)
    assert (root / "frames.csv").read_text().splitlines()[9] == "5009,pairs,2,"


def test_scenes_belong_to_one_split_and_labels_are_balanced() -> None:
    specs = frame_specs(Settings())
    owners: dict[int, set[str]] = {}
    for spec in specs:
        owners.setdefault(spec.scene, set()).add(spec.split)
    assert all(len(splits) == 1 for splits in owners.values())
    assert len(owners) == 4700 / 4
    for split in ("train", "pairs", "val", "test"):
        counts = Counter(spec.label for spec in specs if spec.split == split)
        assert len(counts) == 8
        assert max(counts.values()) - min(counts.values()) <= 1
    assert [s.label for s in specs] != [s.label for s in frame_specs(Settings(seed=1))]


# Determinism, resuming, refusals


@pytest.mark.slow
def test_tool_completes_a_folder_and_workers_do_not_matter(root: Path, tmp_path: Path) -> None:
    arguments = ["--train", 8, "--pairs", 6, "--val", 3, "--test", 5, "--seed", 3, "--width", 64, "--height", 48]
    half = [spec for spec in frame_specs(SMALL) if spec.id % 2]
    open_root(tmp_path / "out", SMALL)
    assert all(write_frame(tmp_path / "out", SMALL, spec) for spec in half)
    kept = tmp_path / "out/data/hha/img_5001.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out/data/depth/img_5003.png").unlink()
    tool = start("make_scenes", "--out", tmp_path / "out", *arguments, "--workers", 2)
    output, errors = tool.communicate(timeout=LIMIT)
    assert tool.returncode == 0, errors
    assert "22 frames of 64 x 48" in output
    assert kept.stat().st_mtime_ns == before
    assert digest(tmp_path / "out") == digest(root)
    assert not list((tmp_path / "out").rglob(".*"))


def test_ctrl_c_leaves_whole_frames(tmp_path: Path) -> None:
    tool = start("make_scenes", "--out", tmp_path / "out", "--train", 5000, "--workers", 1)
    images = tmp_path / "out/data/images"
    wait_for(lambda: len(list(images.glob("*.png"))) > 3, tool)
    tool.send_signal(signal.SIGINT)
    _, errors = tool.communicate(timeout=LIMIT)
    assert tool.returncode == 130
    assert "Traceback" not in errors
    assert all(cv2.imread(str(path)) is not None for path in (tmp_path / "out").rglob("*.png"))
    assert not list((tmp_path / "out").rglob(".*"))


def test_other_settings_are_refused_unless_overwritten(root: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SMALL, seed=4)
    with pytest.raises(UsageError, match="was made with seed = 3, now 4; choose another folder or --overwrite"):
        open_root(root, other)
    open_root(tmp_path, SMALL)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/old.png").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    open_root(tmp_path, other, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "scenes.json"]


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_marker(tmp_path: Path, content: str) -> None:
    (tmp_path / "scenes.json").write_text(content)
    with pytest.raises(DataError, match="scenes.json: not (settings|JSON).*; remove it"):
        open_root(tmp_path, SMALL)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match="not empty and no data set of this tool"):
        open_root(tmp_path, SMALL, overwrite=True)
    with pytest.raises(UsageError, match="not empty"):
        open_root(tmp_path / "thesis.txt", SMALL)


@pytest.mark.parametrize("field", ["train", "pairs", "val", "test", "seed", "width", "height"])
def test_settings_out_of_range(field: str) -> None:
    with pytest.raises(UsageError, match=f"{field} is -1, expected at least"):
        Settings(**{field: -1})


def test_no_workers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--workers is 0, expected at least 1"):
        make_scenes.main(["--out", str(tmp_path / "out"), "--workers", "0"])
    assert not (tmp_path / "out").exists()
