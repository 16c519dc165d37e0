"""Drawn clips: the flow is where things go, the label is how they move, and the layout is JHMDB's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.commands import make_scenes
from caffe_compat.datasets import find_imdb
from caffe_compat.errors import DataError, UsageError
from caffe_compat.flow import read_flo
from caffe_compat.media import read_image_list, read_pair_list
from caffe_compat.scenes import (
    ACTIONS,
    VIDEO_ACTIONS,
    ClipSettings,
    clip_specs,
    draw_clip,
    open_clips,
    write_clip,
    write_clip_lists,
)
from caffe_compat.scenes.motion import Motion, make_track, true_flow
from caffe_compat.scenes.render import make_room, render

SMALL = ClipSettings(train=7, videos=12, test=7, frames=4, seed=2, width=64, height=48)
WORDS = [*("--clips", "--train", "7", "--pairs", "12", "--test", "7", "--frames", "4", "--seed", "2"),
         *("--width", "64", "--height", "48")]  # fmt: skip


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "set"
    open_clips(folder, SMALL)
    assert sum(write_clip(folder, SMALL, True, spec) for spec in clip_specs(SMALL)) == 26
    write_clip_lists(folder, SMALL)
    return folder


# -- the flow ---------------------------------------------------------------------------------------------------------


def lands(frames: list, flows: list) -> tuple[np.ndarray, np.ndarray]:
    """Of all pixels that stay in the picture: whether the surface of that kind is there in the next frame, and by what
    part its depth differs from what the next frame has there, beyond how much the surface itself came nearer."""
    kinds, gaps = [], []
    for here, then, flow in zip(frames, frames[1:], flows, strict=False):
        height, width = here.depth.shape
        v, u = np.mgrid[:height, :width]
        x, y = (np.rint(axis + flow[..., k]).astype(int) for k, axis in enumerate((u, v)))
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y = x[inside], y[inside]
        kinds.append(then.mask[y, x] == here.mask[inside])
        gaps.append(np.abs(then.depth[y, x] / here.depth[inside] - 1))
    return np.concatenate(kinds), np.concatenate(gaps)


@pytest.mark.parametrize("action", ["left", "right", "rise", "turn_back"])
def test_pixels_go_to_where_their_surface_is_in_the_next_frame(action: str) -> None:
    settings = dataclasses.replace(SMALL, width=128, height=96)
    frames, flows = draw_clip(settings, next(spec for spec in clip_specs(settings) if spec.action == action))
    assert len(flows) == 3 and flows[0].shape == (96, 128, 2) and flows[0].dtype == np.float32
    kinds, gaps = lands(frames, flows)
    wrong, _ = lands(frames, [-flow for flow in flows])
    still, _ = lands(frames, [0 * flow for flow in flows])
    assert kinds.mean() > 0.97 and np.median(gaps) < 0.02
    assert 1 - wrong.mean() > 1.2 * (1 - still.mean()) > 1.6 * (1 - kinds.mean())


def test_a_camera_that_stands_sees_what_moves_across_by_the_pinhole_formula() -> None:
    rng = np.random.default_rng(3)
    room, camera = make_room(rng), SMALL.camera
    here, *_ = make_track(Motion(right=1), room, camera, rng, 2)
    step = 0.1 * here.pose.rotation[:, 0]  # along the picture's x axis
    then = dataclasses.replace(here, position=(here.position + step).astype(np.float32))
    frame = render(room, here, camera, rng)
    flow = true_flow(frame, here, then, camera)
    np.testing.assert_allclose(flow[~frame.mask], 0, atol=2e-4)
    expected = camera.fx * 0.1 / frame.depth[frame.mask]
    np.testing.assert_allclose(flow[frame.mask, 0], expected, rtol=2e-4)
    np.testing.assert_allclose(flow[frame.mask, 1], 0, atol=2e-4)


def test_a_camera_that_turns_sees_everything_move_alike() -> None:
    rng = np.random.default_rng(4)
    room, camera = make_room(rng), SMALL.camera
    here, *_ = make_track(Motion(), room, camera, rng, 2)
    angle = 0.01
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    then = dataclasses.replace(here, pose=dataclasses.replace(here.pose, rotation=here.pose.rotation @ turn))
    flow = true_flow(render(room, here, camera, rng), here, then, camera)
    x = (np.arange(64) - camera.cx) / camera.fx
    expected = camera.fx * (np.tan(np.arctan(x) - angle) - x)
    np.testing.assert_allclose(flow[24, :, 0], expected, atol=2e-3)


def relative(settings: ClipSettings, action: str, seeds: range) -> np.ndarray:
    """Mean flow of the object less that of the room, and how much it grows, of one clip a seed."""
    found = []
    for seed in seeds:
        chosen = dataclasses.replace(settings, seed=seed)
        spec = next(spec for spec in clip_specs(chosen) if spec.action == action and spec.split == "train")
        frames, flows = draw_clip(chosen, spec)
        mask, flow = frames[0].mask, flows[0]
        sizes = [frame.mask.sum() for frame in frames]
        found.append([*(flow[mask].mean(0) - flow[~mask].mean(0)), sizes[-1] / sizes[0] - 1])
    return np.array(found)


@pytest.mark.parametrize(
    ("action", "column", "sign"),
    [("left", 0, -1), ("right", 0, 1), ("rise", 1, -1), ("sink", 1, 1), ("approach", 2, 1), ("recede", 2, -1)],
)
def test_actions_move_as_they_are_called(action: str, column: int, sign: int) -> None:
    found = relative(SMALL, action, range(4))
    assert (sign * found[:, column] > 0).all()
    if column < 2:
        assert (np.abs(found[:, column]) > 2 * np.abs(found[:, 1 - column])).mean() >= 0.75


def test_colour_does_not_tell_the_action() -> None:
    """Every solid does every action: and what moves hangs in the air always."""
    settings = dataclasses.replace(SMALL, train=70)
    rng = np.random.default_rng(0)
    for action, motion in ACTIONS.items():
        labels = {make_track(motion, make_room(rng), settings.camera, rng, 2)[0].label for _ in range(12)}
        assert len(labels) >= 4, action
        lowest = [make_track(motion, make_room(rng), settings.camera, rng, 6)[3].position[1] for _ in range(6)]
        assert min(lowest) > 0.2


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_flow_pictures_hold_the_flow_and_the_last_frame_has_none(root: Path) -> None:
    for spec in clip_specs(SMALL)[::6]:
        assert sorted(path.name for path in (root / "images" / spec.name).iterdir()) == [
            f"0000{t}.png" for t in range(1, 5)
        ]
        _, flows = draw_clip(SMALL, spec)
        pictures = sorted((root / "flow" / spec.name).iterdir())
        assert [path.name for path in pictures] == ["00001.png", "00002.png", "00003.png"]
        for path, flow in zip(pictures, flows, strict=True):
            image = cv2.imread(str(path)).astype(float)  # magnitude, y, x
            size = np.hypot(flow[..., 0], flow[..., 1])
            for channel, values in enumerate((size, flow[..., 1], flow[..., 0])):
                inside = np.abs(values) < 7.9
                assert np.abs(image[..., channel] - 128 - 16 * values)[inside].max() <= 0.5 + 1e-4
            np.testing.assert_array_equal(read_flo(root / "flo" / spec.name / f"{path.stem}.flo"), flow)


def test_it_is_an_image_database_with_tight_boxes(root: Path) -> None:
    train, test = (find_imdb(f"clips:{root},split=1_{part},modalities=images+flow") for part in ("train", "test"))
    assert train.classes == tuple(ACTIONS) and train.modalities == ("images", "flow")
    assert len(train.records) == len(test.records) == 7 * 3
    specs = {spec.name: spec for spec in clip_specs(SMALL)}
    assert not {record.scene for record in train.records} & {record.scene for record in test.records}
    for record in train.records[::4]:
        clip, _, frame = record.name.rpartition("/")
        assert record.classes == (specs[clip].action,) and record.size == (48, 64)
        mask = draw_clip(SMALL, specs[clip])[0][int(frame) - 1].mask
        x1, y1, x2, y2 = map(int, record.boxes[0])
        assert mask[y1 : y2 + 1, x1 : x2 + 1].sum() == mask.sum()
        assert mask[y1].any() and mask[y2].any() and mask[:, x1].any() and mask[:, x2].any()


def test_lists_pair_colour_with_flow_and_label_videos(root: Path) -> None:
    specs = {spec.name: spec for spec in clip_specs(SMALL) if spec.split == "videos"}
    seen = {}
    for part, count in (("train", 10), ("val", 2)):
        pairs = read_pair_list(root / "lists" / f"pairs_{part}.txt", root)
        assert len(pairs) == 3 * count
        for pair in pairs:
            first, second = (Path(path).relative_to(root) for path in (pair.first, pair.second))
            assert first.parts[0] == "images" and second.parts[0] == "flow" and first.parts[1:] == second.parts[1:]
            assert (root / second).exists()
        for kind in ("images", "flow"):
            images = read_image_list(root / "lists" / f"videos_{kind}_{part}.txt", f"{root}/")
            names = ["/".join(Path(image.path).relative_to(root).parts[1:3]) for image in images]
            assert [image.label for image in images] == [specs[name].label for name in names]
            seen[part] = set(names)
    assert not seen["train"] & seen["val"] and seen["train"] | seen["val"] == set(specs)
    assert (root / "videos.txt").read_text().split() == list(VIDEO_ACTIONS)


def test_actions_are_balanced_and_videos_have_others() -> None:
    specs = clip_specs(ClipSettings())
    counts = {split: Counter(s.action for s in specs if s.split == split) for split in ("train", "videos", "test")}
    assert set(counts["train"]) == set(counts["test"]) == set(ACTIONS) and set(counts["videos"]) == set(VIDEO_ACTIONS)
    assert all(max(count.values()) - min(count.values()) <= 1 for count in counts.values())
    assert set(ACTIONS) - set(VIDEO_ACTIONS) == {"left", "right", "rise", "sink"}
    assert sum(spec.held_out for spec in specs) == 32 and not any(s.held_out for s in specs if s.split != "videos")
    assert [s.action for s in specs] != [s.action for s in clip_specs(ClipSettings(seed=1))]


@pytest.mark.slow
def test_the_tool_completes_a_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_clips(tmp_path / "out", SMALL)
    for spec in clip_specs(SMALL)[::2]:
        write_clip(tmp_path / "out", SMALL, False, spec)
    kept = next((tmp_path / "out/flow").rglob("00001.png"))
    before = kept.stat().st_mtime_ns
    assert make_scenes.main(["--out", str(tmp_path / "out"), *WORDS, "--workers", "1"]) == 0
    assert "26 clips of 4 frames of 64 x 48" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before
    made = digest(tmp_path / "out")
    assert made == {name: value for name, value in digest(root).items() if not name.startswith("flo/")}
    assert make_scenes.main(["--out", str(tmp_path / "out"), *WORDS, "--flo", "--workers", "1"]) == 0
    assert digest(tmp_path / "out") == digest(root)


def test_what_is_wrong_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was made with seed = 2, now 3; choose another folder or --overwrite"):
        open_clips(root, dataclasses.replace(SMALL, seed=3))
    (tmp_path / "scenes.json").write_text("{}")
    with pytest.raises(UsageError, match=r"not empty and no data set of this tool \(no clips.json\)"):
        open_clips(tmp_path, SMALL)
    with pytest.raises(UsageError, match="--val is of frames"):
        make_scenes.main(["--clips", "--val", "3", "--out", str(tmp_path / "new")])
    with pytest.raises(UsageError, match="--frames and --flo are of clips"):
        make_scenes.main(["--frames", "3", "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("field", "value"), [("train", 0), ("videos", 1), ("frames", 1), ("seed", -1), ("width", 47)])
def test_settings_out_of_range(field: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{field} is {value}, expected at least"):
        ClipSettings(**{field: value})
    with pytest.raises(UsageError, match="frames is 41, expected at most 40"):
        ClipSettings(frames=41)


def test_changed_boxes_are_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, train=1, videos=2, test=1)
    open_clips(tmp_path, settings)
    for spec in clip_specs(settings):
        write_clip(tmp_path, settings, False, spec)
    path = next((tmp_path / "boxes").rglob("*.csv"))
    text = path.read_text()
    for changed in (text.replace("\n2,", "\n3,"), text + "5,1,1,2,2\n", text.replace("\n1,", "\none,")):
        path.write_text(changed)
        with pytest.raises(DataError, match=r"expected frame,x1,y1,x2,y2 of frames 1 to 4; remove it"):
            write_clip_lists(tmp_path, settings)


def test_objects_that_leave_the_picture_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = clip_specs(SMALL)[0]
    monkeypatch.setattr("caffe_compat.scenes.clips.LEAST", 0.2)
    monkeypatch.setattr("caffe_compat.scenes.clips.TRIES", 40)
    frames, _ = draw_clip(SMALL, spec)
    assert min(frame.mask.mean() for frame in frames) >= 0.2
    monkeypatch.setattr("caffe_compat.scenes.clips.LEAST", 0.9)
    monkeypatch.setattr("caffe_compat.scenes.clips.TRIES", 3)
    with pytest.raises(DataError, match="in 3 tries no object stays in sight for 4 frames"):
        draw_clip(SMALL, spec)
