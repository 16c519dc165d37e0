"""HDF5Data, HDF5Output and WindowData."""

import cv2
import h5py
import numpy as np
import pytest
import torch
from data_files import image, write_hdf5, write_images, write_windows
from one_layer import one_layer, seq

from caffe_compat.errors import CaffeCompatError, DataError, LayerError, MissingFileError
from caffe_compat.layers.data.window import place_window
from caffe_compat.ranks import Turns

# -- HDF5 ---------------------------------------------------------------------------------------------------------


def rows(folder, text="batch_size: 4", tops=("data", "label"), extra="", phase="TRAIN"):
    body = f'hdf5_data_param {{ source: "{folder}/h5.txt" {text} }} {extra}'
    return one_layer("HDF5Data", body, tops=tops, phase=phase)


def test_rows_cross_files_and_start_again(tmp_path):
    write_hdf5(tmp_path, [3, 1, 2])
    data = rows(tmp_path)
    assert data.top_shapes([]) == [(4, 2), (4,)]
    got = [data() for _ in range(4)]
    labels = [int(label) for _, batch in got for label in batch]
    assert labels == [k % 6 for k in range(16)]
    assert torch.equal(got[1][0][:, 1], -got[1][1])
    assert got[0][0].dtype == torch.float32
    data.seek(2)
    assert data()[1].tolist() == [2, 3, 4, 5]


def test_shuffled_rows(tmp_path):
    write_hdf5(tmp_path, [5, 4, 6])
    torch.manual_seed(0)
    data = rows(tmp_path, "batch_size: 5 shuffle: true")
    labels = [int(label) for _ in range(12) for label in data()[1]]
    epochs = [labels[start : start + 15] for start in range(0, 60, 15)]
    assert all(sorted(epoch) == list(range(15)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    of_file = [[0] * 5 + [1] * 4 + [2] * 6][0]
    for epoch in epochs:  # rows of one file stay together
        files = [of_file[label] for label in epoch]
        assert sum(a != b for a, b in zip(files, files[1:], strict=False)) == 2
    again = rows(tmp_path, "batch_size: 5 shuffle: true")
    again.seek(7)
    assert again()[1].tolist() == labels[35:40]


def test_processes_take_turns(tmp_path):
    write_hdf5(tmp_path, [3, 2])
    data = rows(tmp_path, "batch_size: 3")
    data.take_turns(Turns(1, 2))
    assert [data()[1].tolist() for _ in range(2)] == [[3, 4, 0], [4, 0, 1]]
    assert data.samples == 5


def test_hdf5_refusals(tmp_path):
    write_hdf5(tmp_path, [3, 2])
    with pytest.raises(DataError, match=r"part0\.h5: has no dataset 'other'; it has data, label"):
        rows(tmp_path, tops=("other",))
    with pytest.raises(LayerError, match="transform_param"):
        rows(tmp_path, extra="transform_param { }")
    with h5py.File(tmp_path / "part1.h5", "w") as file:
        file["data"] = np.zeros((2, 2))
        file["label"] = np.zeros(3)
        file["text"] = [b"a", b"b"]
        file["scalar"] = 3.0
    with pytest.raises(DataError, match=r"part1\.h5: .*'data' 2, 'label' 3"):
        rows(tmp_path)
    (tmp_path / "h5.txt").write_text(f"{tmp_path}/part1.h5")
    for name in ("text", "scalar"):
        with pytest.raises(DataError, match=rf"part1\.h5: .*{name}"):
            rows(tmp_path, tops=(name,))
    (tmp_path / "h5.txt").write_text(f"{tmp_path}/part0.h5 {tmp_path}/gone.h5")
    with pytest.raises(MissingFileError, match=r"gone\.h5"):
        rows(tmp_path)
    (tmp_path / "gone.h5").write_text("no HDF5")
    with pytest.raises(DataError, match=r"gone\.h5: not a usable HDF5 file"):
        rows(tmp_path)
    (tmp_path / "h5.txt").write_text(" \n")
    with pytest.raises(DataError, match="empty"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((5, 2)), "label": np.zeros(5)}, r"'data' had the shape \[4, 2\] and has the shape \[5, 2\]"),
        ({"data": np.zeros((4, 3)), "label": np.zeros(4)}, r"has the shape \[4, 3\]"),
        ({"data": np.zeros((4, 2))}, r"'label' had the shape \[4\] and is gone"),
    ],
)
def test_hdf5_file_that_is_replaced_while_the_net_runs(tmp_path, change, message):
    write_hdf5(tmp_path, [3, 2, 4])
    data = rows(tmp_path)
    with h5py.File(tmp_path / "new.h5", "w") as file:
        for name, values in change.items():
            file[name] = values
    (tmp_path / "new.h5").replace(tmp_path / "part2.h5")  # the layer may be reading the old one
    with pytest.raises(DataError, match=rf"part2\.h5: was replaced while the net runs: .*{message}"):
        for _ in range(4):
            data()


def test_hdf5_output(tmp_path):
    path = tmp_path / "out.h5"
    path.write_text("old")
    layer = one_layer("HDF5Output", f'hdf5_output_param {{ file_name: "{path}" }}', (2, 3), (2,), tops=())
    assert path.read_text() == "old"  # until the forward pass
    assert layer(seq(2, 3), seq(2)) == ()
    with h5py.File(path) as file:
        assert np.array_equal(file["data"][()], seq(2, 3).reshape(2, 3, 1, 1))
        assert file["label"].shape == (2, 1, 1, 1)
        assert file["label"].dtype == np.float32
    with pytest.raises(LayerError, match=r"out\.h5"):
        layer(seq(2, 3), seq(2))
    with pytest.raises(LayerError, match="same number"):
        layer.top_shapes([(2, 3), (3,)])


# -- windows ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    write_windows(tmp_path)
    return tmp_path


def windows(folder, text="batch_size: 4 fg_fraction: 0.5", transform="crop_size: 6", name="windows.txt"):
    body = f'window_data_param {{ source: "{folder}/{name}" {text} }} transform_param {{ {transform} }}'
    return one_layer("WindowData", body, tops=("data", "label"), phase="TRAIN")


def test_background_then_foreground(folder):
    text = "batch_size: 4 fg_fraction: 0.5 bg_threshold: 0.4 scale: 0.5"
    data, labels = windows(folder, text, "crop_size: 6 scale: 9 mean_value: 10")()
    assert labels.tolist() == [0, 0, 3, 3]
    want = (cv2.resize(image(1)[0:6, 2:7], (6, 6)).astype(np.float32) - 10) / 2
    assert np.array_equal(data[1].permute(1, 2, 0), want)
    want = (cv2.resize(image(0)[1:5, 1:5], (6, 6)).astype(np.float32) - 10) / 2
    assert np.array_equal(data[2].permute(1, 2, 0), want)


def test_mirrored_windows(folder):
    (folder / "one.txt").write_text(f"# 0\n{folder}/0.png\n3 6 8\n1\n3 0.9 0 1 3 4\n")
    data = windows(folder, "batch_size: 8 fg_fraction: 1 context_pad: 1", "crop_size: 6 mirror: true", "one.txt")()[0]
    plain = {tensor.numpy().tobytes() for tensor in data}
    assert len(plain) == 2
    one, other = (np.frombuffer(raw, np.float32).reshape(3, 6, 6) for raw in plain)
    assert np.array_equal(one, other[:, :, ::-1])


def test_flow_in_mirrored_windows(folder):
    (folder / "one.txt").write_text(f"# 0\n{folder}/0.png\n3 6 8\n1\n3 0.9 0 1 3 4\n")
    made = windows(
        folder,
        "batch_size: 8 fg_fraction: 1",
        "crop_size: 6 mirror: true negate_x_channel: 0 mean_value: 128",
        "one.txt",
    )()[0]
    one, other = (np.frombuffer(raw, np.float32).reshape(3, 6, 6) for raw in {item.numpy().tobytes() for item in made})
    assert np.array_equal(one[1:], other[1:, :, ::-1])
    assert np.array_equal(np.minimum(-one[0], 127), other[0, :, ::-1])
    assert not np.array_equal(one[0], other[0, :, ::-1])


def test_seek_windows(folder):
    torch.manual_seed(3)
    text = "batch_size: 4 fg_fraction: 0.5 cache_images: true"
    one = windows(folder, text, "crop_size: 6 mirror: true")
    whole = [one()[0].clone() for _ in range(5)]
    two = windows(folder, text, "crop_size: 6 mirror: true")
    two.seek(3)
    assert torch.equal(two()[0], whole[3])
    assert any(not torch.equal(whole[0], other) for other in whole)


@pytest.mark.parametrize(
    "box, pad, square, mirrored, want",
    [
        ((10, 10, 19, 19), 0, False, False, ((10, 10, 19, 19), (14, 14), 0, 0)),
        # crop 14, pad 2: 14/10 of the window around its centre (15, 15), 8 to 22: 15 pixels
        ((10, 10, 19, 19), 2, False, False, ((8, 8, 22, 22), (14, 14), 0, 0)),
        # at the left edge: from -2 on, 2 of 15 columns missing, 2 * 14/15 rounds to 2 columns of margin
        ((0, 10, 9, 19), 2, False, False, ((0, 8, 12, 22), (14, 12), 0, 2)),
        ((0, 10, 9, 19), 2, False, True, ((0, 8, 12, 22), (14, 12), 0, 0)),
        # square: 4 x 10 becomes 11 x 11 around (12, 15)
        ((10, 10, 13, 19), 0, True, False, ((7, 10, 17, 20), (14, 14), 0, 0)),
    ],
)
def test_place_window(box, pad, square, mirrored, want):
    place = place_window(box, (40, 50), 14, pad, square, mirrored)
    assert (place.box, place.size, place.top, place.left) == want


def test_window_refusals(folder):
    (folder / "bad.txt").write_text("")
    with pytest.raises(DataError, match=r"bad\.txt: the window file is empty"):
        windows(folder, name="bad.txt")
    with pytest.raises(MissingFileError, match=r"no\.txt"):
        windows(folder, name="no.txt")
    for content, message in (
        ("0 0\n", "expected '#'"),
        (f"# 0\n{folder}/0.png\n3 6 8\n2\n3 0.9 1 1 4 4\n", "image 0: expected"),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n3 0.9 1 1 4 x\n", "image 0: expected"),
        (f"# 1\n{folder}/0.png\n3 6 8\n1\n3 0.9 1 1 4 4\n", "image number 1"),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n0 0.9 1 1 4 4\n", "class 0"),
        (f"# 0\n{folder}/0.png\n-3 6 8\n1\n3 0.9 1 1 4 4\n", "image 0: expected .*-3 channels"),
        (
            f"# 0\n{folder}/0.png\n1 6 8\n1\n3 0.9 1 1 4 4\n",
            r"image 0 .*0\.png. .* 1 channels, expected 3",
        ),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n{'9' * 5000} 0.9 1 1 4 4\n", "image 0: expected .*no number of 32 bits"),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n3 0.9 1 1 4 4294967296\n", "image 0: expected .*no number of 32 bits"),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n3 nan 1 1 4 4\n", "image 0: expected .*an overlap of nan"),
        (f"# 0\n{folder}/0.png\n3 6 8\n1\n2 0.9 1 1 4 4\n", "no background window"),
    ):
        (folder / "bad.txt").write_text(content)
        with pytest.raises(DataError, match=message):
            windows(folder, name="bad.txt")
    (folder / "bad.txt").write_text(f"# 0\n{folder}/0.png\n3 6 8\n2\n2 0.9 1 1 4 6\n1 0 0 0 1 1\n")
    with pytest.raises(DataError, match=r"\[1, 1, 4, 6\].*0\.png.*8x6"):
        windows(folder, name="bad.txt")()


@pytest.mark.parametrize(
    "text, transform, message",
    [
        ("batch_size: 2", "", "crop_size is not set"),
        ("batch_size: 2 context_pad: 3", "crop_size: 6", "twice context_pad"),
        ("batch_size: 2 crop_mode: 'round'", "crop_size: 6", "crop_mode"),
        ("batch_size: 2", "crop_size: 6 mean_value: 1 mean_value: 2", "2 mean_value entries"),
        ("", "crop_size: 6", "batch_size"),
        ("batch_size: 2", "crop_size: 6 negate_x_channel: -2", "negate_x_channel is -2"),
    ],
)
def test_window_parameters_that_are_refused(folder, text, transform, message):
    with pytest.raises(CaffeCompatError, match=message):
        windows(folder, text, transform)
