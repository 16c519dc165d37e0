import os
import pickle
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
from nyud2_files import (
    HEIGHT,
    NAMES,
    WIDTH,
    Opaque,
    cell,
    color_frame,
    depth_frame,
    label_frame,
    labelled,
    lengths,
    raw_depth_frame,
    truncated,
    write_v73,
)

from caffe_compat.datasets.labelled import LabelledSource, labelled_numbers, millimetres
from caffe_compat.datasets.nyud2 import CLASSES, CROP, LabelledNYUD2
from caffe_compat.errors import DataError, MissingFileError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_v73(tmp_path_factory.mktemp("nyud2") / "nyu_depth_v2_labeled.mat", labelled(3))


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """40 frames of float32 depth (49 MB) in gzip chunks of 8 frames x 160 columns x 120 rows."""
    path = tmp_path_factory.mktemp("nyud2") / "forty.mat"
    write_v73(path, {"names": cell(NAMES)})
    with h5py.File(path, "r+") as file:
        for name, shape, kind in (
            ("images", (40, 3, WIDTH, HEIGHT), np.uint8),
            ("depths", (40, WIDTH, HEIGHT), np.float32),
            ("rawDepths", (40, WIDTH, HEIGHT), np.float32),
        ):
            chunks = (8, *([1] if name == "images" else []), 160, 120)
            node = file.create_dataset(name, shape, kind, chunks=chunks, compression="gzip", compression_opts=1)
            for index in range(0, 40, 8):
                block = np.zeros((8, *shape[1:]), kind)
                block += np.arange(index, index + 8, dtype=kind).reshape(-1, *[1] * (len(shape) - 1))
                node[index : index + 8] = block
    return path


def changed(tmp_path, **variables):
    """A file of one frame with other variables; None leaves one out."""
    content = {**labelled(1), **variables}
    return write_v73(tmp_path / "x.mat", {name: value for name, value in content.items() if value is not None})


def test_classes():
    assert len(CLASSES) == 19
    assert tuple(sorted(CLASSES)) == CLASSES
    assert CLASSES.index("night-stand") == 12


def test_whole_frames_are_upright(path):
    with LabelledNYUD2(path, crop=False) as frames:
        assert len(frames) == 3
        assert list(frames.numbers) == [5001, 5002, 5003]
        for number in (5001, 5003):
            frame = frames.frame(number)
            assert (frame.color.dtype, frame.depth.dtype, frame.raw_depth.dtype) == (np.uint8, np.float32, np.float32)
            np.testing.assert_array_equal(frame.color, color_frame(number))
            np.testing.assert_array_equal(frame.depth, depth_frame(number))
            np.testing.assert_array_equal(frame.raw_depth, raw_depth_frame(number))


def test_crop(path):
    with LabelledNYUD2(path) as frames:
        frame, labels, instances = frames.frame(5002), frames.labels(5002), frames.instances(5002)
    assert frame.color.shape == (425, 560, 3)
    assert frame.color[0, 0].tolist() == [45, 40, 5002 % 256]
    assert frame.color[-1, -1].tolist() == [469 % 251, 599 % 241, 5002 % 256]
    np.testing.assert_array_equal(frame.depth, depth_frame(5002)[45:470, 40:600])
    np.testing.assert_array_equal(labels, label_frame()[0][CROP])
    np.testing.assert_array_equal(instances, label_frame()[1][CROP])
    assert (labels.dtype, instances.dtype) == (np.uint16, np.uint8)
    assert frame.color.flags.c_contiguous
    assert frame.depth.flags.c_contiguous


def test_texts(path):
    with LabelledNYUD2(path) as frames:
        assert frames.names == NAMES
        assert frames.scenes == ["kitchen_0000", "kitchen_0001", "kitchen_0002"]
        assert frames.scene_types == ["kitchen"] * 3
        assert frames.raw_depth_filenames[2] == "kitchen_0004/d-5003.pgm"
        assert frames.raw_color_filenames[0] == "kitchen_0004/r-5001.ppm"


def test_one_frame_without_its_axis(tmp_path):
    content = {name: value[..., 0] for name, value in labelled(1).items() if name in ("images", "depths", "rawDepths")}
    with LabelledNYUD2(write_v73(tmp_path / "x.mat", content), crop=False) as frames:
        assert len(frames) == 1
        np.testing.assert_array_equal(frames.frame(5001).color, color_frame(5001))


@pytest.mark.parametrize("number", [5000, 5004, 1, -1])
def test_no_such_frame(path, number):
    with LabelledNYUD2(path) as frames, pytest.raises(DataError, match=rf"no frame {number}; .* 5001 to 5003"):
        frames.frame(number)


def test_closed(path):
    frames = LabelledNYUD2(path)
    frames.close()
    with pytest.raises(DataError, match="closed"):
        frames.frame(5001)


@pytest.mark.parametrize("name", ["images", "depths", "rawDepths"])
def test_variable_needed_at_opening(tmp_path, name):
    with pytest.raises(DataError, match=rf"x\.mat: no variable '{name}'"):
        LabelledNYUD2(changed(tmp_path, **{name: None}))


@pytest.mark.parametrize("name", ["labels", "instances"])
def test_variable_needed_when_asked_for(tmp_path, name):
    with LabelledNYUD2(changed(tmp_path, **{name: None})) as frames:
        frames.frame(5001)
        with pytest.raises(DataError, match=rf"x\.mat: no variable '{name}'"):
            getattr(frames, name)(5001)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"images": np.zeros((640, 480, 3, 1), np.uint8)}, r"'images' is uint8 of Matlab shape 640 x 480 x 3 x 1"),
        ({"images": np.zeros((480, 640, 3, 1), np.float32)}, r"'images' is float32 .*expected uint8 480 x 640 x 3 x N"),
        ({"depths": np.zeros((480, 640, 1), np.uint16)}, r"'depths' is uint16 .*expected float32 480 x 640 x N"),
        ({"depths": np.zeros((480, 640, 2), np.float32)}, r"'depths' has 2 frames, images 1"),
        ({"rawDepths": np.zeros((425, 560, 1), np.float32)}, r"'rawDepths' is float32 of Matlab shape 425 x 560 x 1"),
        ({"depths": {"x": "y"}}, r"no variable 'depths'"),
    ],
)
def test_wrong_variables(tmp_path, variables, reason):
    with pytest.raises(DataError, match=rf"x\.mat: variable {reason}|x\.mat: {reason}"):
        LabelledNYUD2(changed(tmp_path, **variables))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (None, "no variable 'scenes'"),
        (Opaque(), "variable 'scenes' is of class"),
        (np.ones((1, 1)), "variable 'scenes': expected a cell array of text"),
        (cell(["a", "b"]), "variable 'scenes' has 2 entries for 1 frames"),
    ],
)
def test_wrong_texts(tmp_path, names, reason):
    with LabelledNYUD2(changed(tmp_path, scenes=names)) as frames, pytest.raises(DataError, match=reason):
        _ = frames.scenes


def test_truncated(path, tmp_path):
    copy = tmp_path / "x.mat"
    shutil.copyfile(path, copy)
    for length in lengths(copy, 8):
        short = truncated(copy, length)
        with pytest.raises(DataError, match=f"x_{length}.mat: "):
            LabelledNYUD2(short)
        short.unlink()


def test_damaged_chunk_names_the_frame(tmp_path):
    content = {name: value for name, value in labelled(2).items() if name in ("images", "depths", "rawDepths")}
    path = write_v73(tmp_path / "x.mat", content, chunks=True, compression="gzip")
    with h5py.File(path) as file:
        node = file["depths"]
        place = next(
            node.id.get_chunk_info(index)
            for index in range(node.id.get_num_chunks())
            if node.id.get_chunk_info(index).chunk_offset[0] + node.chunks[0] == len(node)
        )
        start, size = place.byte_offset, place.size
    with open(path, "r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * size)
    with LabelledNYUD2(path) as frames, pytest.raises(DataError, match="frame 5002 of variable 'depths' is damaged"):
        frames.frame(5002)


def test_a_frame_is_read_alone(forty):
    tracemalloc.start()
    with LabelledNYUD2(forty) as frames:
        for number in (5001, 5020, 5040):
            assert (frames.frame(number).depth == number - 5001).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6  # one frame: 0.9 + 2 * 1.2 MB and copies; depths alone is 49 MB


def test_a_chunk_is_decompressed_once(forty):
    """The cache of each variable holds all chunks that a frame touches: 8 frames."""
    with LabelledNYUD2(forty) as frames:
        for name, size in (("images", 8 * 3 * WIDTH * HEIGHT), ("depths", 8 * 4 * WIDTH * HEIGHT)):
            variable = frames._variable(name)
            slots, bytes_kept, _ = variable.id.get_access_plist().get_chunk_cache()
            assert bytes_kept >= size
            assert slots > 16
            assert variable.chunks[0] == 8


def test_source_is_in_whole_millimetres(path):
    source = LabelledSource(str(path), 5002)
    reading = source.read()
    assert reading.depth.dtype == np.float64
    np.testing.assert_array_equal(
        reading.depth, np.floor((depth_frame(5002)[CROP] * np.float32(1000)).astype(float) + 0.5) / 1000
    )
    holes = np.zeros((480, 640), bool)
    holes[100:121, 200:260] = True  # row 120 holds 0.4 mm
    np.testing.assert_array_equal(reading.missing, holes[CROP])
    np.testing.assert_array_equal(reading.color, color_frame(5002)[CROP])
    assert LabelledSource(str(path), 5002, crop=False).read().depth.shape == (480, 640)


def test_millimetres_are_matlabs_single_product_with_halves_away_from_zero():
    assert millimetres(np.array([[0.5025, 1.2344, 65.535]], np.float32)).tolist() == [[503, 1234, 65535]]


def test_source_travels_and_tells_what_it_is(path):
    source = LabelledSource(str(path), 5002)
    assert source.name == f"{path}: frame 5002"
    assert pickle.loads(pickle.dumps(source)) == source  # noqa: S301 - our own bytes
    assert source.fingerprint() == {
        "depth": "nyu_depth_v2_labeled.mat",
        "depth_bytes": os.path.getsize(path),
        "number": 5002,
        "crop": True,
        "rounding": "millimetres",
    }


@pytest.mark.parametrize("bad", [np.nan, -0.01, 70.0, np.inf])
def test_source_refuses_impossible_depth(tmp_path, bad):
    depths = depth_frame(5001)[..., None]
    depths[200, 300] = bad
    with pytest.raises(DataError, match=r"x\.mat: frame 5001: 1 depth values are negative, NaN or"):
        LabelledSource(str(changed(tmp_path, depths=depths)), 5001).read()


def test_source_notices_another_file(tmp_path):
    path = changed(tmp_path)
    before = LabelledSource(str(path), 5001).read()
    (tmp_path / "new").mkdir()
    os.replace(changed(tmp_path / "new", depths=depth_frame(5001)[..., None] + 1), path)
    np.testing.assert_allclose(LabelledSource(str(path), 5001).read().depth, before.depth + 1, atol=1e-3)


def test_absent_file(tmp_path):
    for attempt in (labelled_numbers, LabelledNYUD2, lambda name: LabelledSource(str(name), 5001).read()):
        with pytest.raises(MissingFileError, match=r"none\.mat"):
            attempt(tmp_path / "none.mat")


def test_labelled_numbers(path):
    assert list(labelled_numbers(path)) == [5001, 5002, 5003]
