"""ImageData, Data, MemoryData and the transformer; see also test_data_paired.py and test_data_files.py."""

import logging
import threading
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from data_files import datum, image, write_images, write_lmdb
from one_layer import one_layer

from caffe_compat.errors import CaffeCompatError, DataError, LayerError, MissingFileError, ModelFileError
from caffe_compat.media import datum_channels, read_image_list, read_mean
from caffe_compat.proto import caffe_pb2
from caffe_compat.ranks import Turns

TWO = ("data", "label")
FAULTS = Path(__file__).parents[1] / "data" / "faults"


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    write_lmdb(tmp_path / "lmdb", [datum(number) for number in range(5)])
    return tmp_path


def images(folder, text="", transform="", phase="TEST"):
    body = f'image_data_param {{ source: "{folder}/list.txt" {text} }} transform_param {{ {transform} }}'
    return one_layer("ImageData", body, tops=TWO, phase=phase)


def records(folder, text="batch_size: 2", transform="", phase="TEST", tops=TWO, name="lmdb"):
    body = f'data_param {{ source: "{folder}/{name}" backend: LMDB {text} }} transform_param {{ {transform} }}'
    return one_layer("Data", body, tops=tops, phase=phase)


def write_mean(path, mean, legacy=True):
    blob = caffe_pb2.BlobProto(data=mean.reshape(-1).tolist())
    if legacy:
        blob.num, (blob.channels, blob.height, blob.width) = 1, mean.shape
    else:
        blob.shape.dim.extend(mean.shape)
    path.write_bytes(blob.SerializeToString())


# -- ImageData ----------------------------------------------------------------------------------------------------


def test_images_in_order(folder):
    data = images(folder, "batch_size: 3")
    assert data.top_shapes([]) == [(3, 3, 6, 8), (3,)]
    data()
    pixels, labels = data()
    assert labels.tolist() == [13, 14, 10]
    assert np.array_equal(pixels[0].permute(1, 2, 0), image(3))


def test_grey_and_resized(folder):
    pixels, _ = images(folder, "is_color: false new_height: 3 new_width: 5")()
    want = cv2.resize(cv2.cvtColor(image(0), cv2.COLOR_BGR2GRAY), (5, 3))
    assert pixels.shape == (1, 1, 3, 5)
    assert np.abs(pixels[0, 0].numpy() - want).max() <= 1


@pytest.mark.parametrize(
    ("least", "size"),
    [((12, 12), (12, 16)), ((6, 12), (9, 12)), ((3, 4), (6, 8)), ((7, 20), (15, 20)), ((8, 8), (8, 11))],
)
def test_small_images_enlarged(folder, least, size):
    """6 x 8 pixels; the side that lacks more decides, and the other one keeps the proportions."""
    pixels, _ = images(folder, f"batch_size: 1 min_height: {least[0]} min_width: {least[1]}", "bgr2rgb: true")()
    want = cv2.resize(image(0), (size[1], size[0]))[..., ::-1]
    assert np.array_equal(pixels[0].permute(1, 2, 0), want)
    with pytest.raises(LayerError, match="min_height and min_width are 3 and 0"):
        images(folder, "min_height: 3")


@pytest.mark.parametrize("mean", ["mean_value: 3.3", ""])
def test_pictures_with_a_border(folder, mean):
    """Transform(cv::Mat) of intel/caffe: one row and column of the border is taken for the picture."""
    pixels, _ = images(folder, "batch_size: 1", f"crop_size: 4 pad: 2 mirror: true scale: 0.37 {mean}")()
    assert pixels.shape == (1, 3, 8, 8)
    found, cut = [], image(0)[1:5, 2:6]
    for mirrored in (False, True):
        want = np.zeros((3, 8, 8), np.float32)
        for c, h, w in np.ndindex(3, 8, 8):
            inside = 2 <= h < 6 and 2 <= w < 6
            pixel = np.float32(cut[h - 2, w - 2, c] if inside else 0)
            if not (h < 2 or w < 2 or h > 6 or w > 6):
                pixel = (pixel - np.float32(3.3 if mean else 0)) * np.float32(0.37)
                pixel = np.rint(pixel) if mean else pixel
            want[c, h, 7 - w if mirrored else w] = pixel
        found.append(np.array_equal(pixels[0].numpy(), want))
    assert any(found)
    with pytest.raises(DataError, match="is no encoded picture, but transform_param has pad 2"):
        records(folder, "batch_size: 1", "pad: 2")()


def test_flow_of_raw_records_turns_in_a_mirror(folder, caplog):
    """Only of records that are no encoded pictures, as in the forks."""
    data = records(folder, "batch_size: 1", "mirror: true flow: true")
    seen = set()
    for number in range(10):
        pixels = data()[0][0].permute(1, 2, 0).numpy()
        plain = image(number % 5)
        turned = plain[:, ::-1].copy()
        turned[..., 2] = 255 - turned[..., 2]
        seen.add(next(name for name, one in (("plain", plain), ("turned", turned)) if np.array_equal(pixels, one)))
    assert seen == {"plain", "turned"} and not caplog.records
    assert data.transformer.plain().flow
    images(folder, "batch_size: 1", "flow: true")
    assert "flow does nothing to decoded pictures" in caplog.text


@pytest.mark.parametrize("make", [images, records])
@pytest.mark.parametrize("mean", ["", "mean_value: 3", "mean_value: 1 mean_value: 2 mean_value: 4", "file"])
def test_transformation_against_a_slow_reference(folder, make, mean):
    rng = np.random.default_rng(0)
    array = rng.uniform(0, 200, (3, 6, 8)).astype(np.float32)
    offsets = {"": 0, "mean_value: 3": 3, "file": array}.get(mean, np.array([1, 2, 4]).reshape(3, 1, 1))
    if mean == "file":
        write_mean(folder / "mean.binaryproto", array)
        mean = f'mean_file: "{folder}/mean.binaryproto"'
    seen = set()
    data = make(folder, "batch_size: 20", f"crop_size: 4 mirror: true scale: 0.5 {mean}", "TRAIN")
    for got, label in zip(*data(), strict=True):
        whole = (image(int(label) - 10).transpose(2, 0, 1).astype(np.float32) - offsets) * 0.5
        found = [
            (y, x, flip)
            for y in range(3)
            for x in range(5)
            for flip in (1, -1)
            if np.allclose(got, whole[:, y : y + 4, x : x + 4][:, :, ::flip])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 8
    assert {flip for _, _, flip in seen} == {1, -1}
    test = make(folder, "batch_size: 1", f"crop_size: 4 scale: 0.5 {mean}", "TEST")
    whole = (image(0).transpose(2, 0, 1).astype(np.float32) - offsets) * 0.5
    assert np.allclose(test()[0][0], whole[:, 1:5, 2:6])


@pytest.mark.parametrize("make", [images, records])
@pytest.mark.parametrize(
    ("crop", "high", "wide"),
    [("crop_height: 2 crop_width: 5", 2, 5), ("crop_size: 4 crop_width: 7", 4, 7), ("crop_height: 3", 3, 8)],
)
def test_crops_that_are_not_square(folder, make, crop, high, wide):
    """Cysu/caffe's crop_height and crop_width; the one that is not given is crop_size, or all."""
    seen = set()
    places = [(y, x) for y in range(7 - high) for x in range(9 - wide)]
    data = make(folder, "batch_size: 40", f"{crop} mirror: true mean_value: 3", "TRAIN")
    assert data.wants()[data.params.tops[0]].crop == ((high, wide) if wide < 8 else None)
    for got, label in (pair for _ in range(4) for pair in zip(*data(), strict=True)):
        whole = image(int(label) - 10).transpose(2, 0, 1).astype(np.float32) - 3
        cuts = {(y, x): whole[:, y : y + high, x : x + wide] for y, x in places}
        found = {at for at, cut in cuts.items() for flip in (1, -1) if np.array_equal(got, cut[:, :, ::flip])}
        assert len(found) == 1
        seen |= found
    assert seen == set(places)
    top, left = (6 - high) // 2, (8 - wide) // 2
    middle = image(0).transpose(2, 0, 1)[:, top : top + high, left : left + wide]
    assert np.array_equal(make(folder, "batch_size: 1", crop, "TEST")()[0][0], middle)
    with pytest.raises(DataError, match="is 8x6, smaller than the crop of 9x2"):
        make(folder, "batch_size: 1", "crop_height: 2 crop_width: 9", "TEST")()


def test_mirrors_in_test_too(folder):
    pixels, _ = images(folder, "batch_size: 10", "mirror: true")()
    flipped = [not np.array_equal(got.permute(1, 2, 0), image(k % 5)) for k, got in enumerate(pixels)]
    assert any(flipped)
    assert not all(flipped)


@pytest.mark.parametrize("make", [images, records])
def test_seek(folder, make):
    text = "batch_size: 3" + (" shuffle: true rand_skip: 3" if make is images else "")
    torch.manual_seed(4)
    one = make(folder, text, "crop_size: 3 mirror: true", "TRAIN")
    whole = [one()[0].clone() for _ in range(6)]
    two = make(folder, text, "crop_size: 3 mirror: true", "TRAIN")
    two.seek(4)
    assert torch.equal(two()[0], whole[4])
    assert torch.equal(two()[0], whole[5])


def test_shuffle_takes_every_image_once_an_epoch(folder):
    data = images(folder, "batch_size: 1 shuffle: true", phase="TEST")
    epochs = [[int(data()[1]) for _ in range(5)] for _ in range(6)]
    assert all(sorted(epoch) == [10, 11, 12, 13, 14] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_unequal_sizes(folder):
    cv2.imwrite(str(folder / "1.png"), image(1, 7, 9))
    with pytest.raises(DataError, match=r"line 2: .*1\.png is 9x7, the first image of the batch 8x6"):
        images(folder, "batch_size: 2")()
    data = images(folder, "batch_size: 1")
    assert [tuple(data()[0].shape[2:]) for _ in range(3)] == [(6, 8), (7, 9), (6, 8)]
    assert data.top_shapes([])[0] == (1, 3, 6, 8)


def test_image_list(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"a b.png 7\nc.png x3\nd.png -2\r\ne.png  12abc\nnolabel\n")
    entries = read_image_list(str(path), "root-")
    assert [(entry.path, entry.label) for entry in entries] == [
        ("root-a b.png", 7),
        ("root-c.png", 0),
        ("root-d.png", -2),
        ("root-e.png ", 12),
        ("root-nolabel", 0),
    ]
    path.write_text("a.png 1\n\nb.png 2\n")
    with pytest.raises(DataError, match="line 2: is empty"):
        read_image_list(str(path))


@pytest.mark.parametrize(
    "text, transform, message",
    [
        ("batch_size: 0", "", "batch_size"),
        ("new_width: 3", "", "new_height and new_width"),
        ("", "crop_size: 7", r"0\.png: is 8x6, smaller than crop_size 7"),
        ("", "mean_value: 1 mean_value: 2", "2 mean_value entries"),
        ("", "mean_file: 'absent.binaryproto'", "absent.binaryproto"),
        ("", "mean_file: 'a' mean_value: 1", "expected one of them"),
        ("rand_skip: 1000000", "", "rand_skip"),
    ],
)
def test_image_refusals(folder, text, transform, message):
    with pytest.raises(CaffeCompatError, match=message):
        images(folder, text, transform)


def test_fields_in_the_old_place_are_ignored_aloud(folder, caplog):
    with caplog.at_level(logging.WARNING):
        pixels, _ = images(folder, "crop_size: 2 scale: 7")()
    assert pixels.shape == (1, 3, 6, 8)
    assert "image_data_param.scale, crop_size is ignored" in caplog.text


def test_threads_end_with_the_net(folder):
    data = images(folder, "batch_size: 1")
    before = set(threading.enumerate())
    data()
    threads = set(threading.enumerate()) - before
    assert threads
    del data
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


# -- Data ---------------------------------------------------------------------------------------------------------


def test_records_in_order_and_around(folder):
    data = records(folder, "batch_size: 3")
    data()
    pixels, labels = data()
    assert labels.tolist() == [13, 14, 10]
    assert np.array_equal(pixels[1].permute(1, 2, 0), image(4))
    assert len(records(folder, tops=("data",))()) == 1


def test_records_shuffled(folder):
    data = records(folder, "batch_size: 5 shuffle: true")
    epochs = [data()[1].tolist() for _ in range(6)]
    assert all(sorted(epoch) == [10, 11, 12, 13, 14] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    data.seek(2)
    assert data()[1].tolist() == epochs[2]


def test_processes_take_turns(folder):
    whole = records(folder, "batch_size: 2 prefetch: 3 shuffle: true", phase="TRAIN")
    batches = [whole()[1].tolist() for _ in range(9)]
    for rank in range(3):
        data = records(folder, "batch_size: 2 prefetch: 3 shuffle: true", phase="TRAIN")
        data()  # what was read ahead is of no use any more
        data.seek(0)
        data.take_turns(Turns(rank, 3))
        assert [data()[1].tolist() for _ in range(3)] == batches[rank::3]
        data.seek(1)
        assert data()[1].tolist() == batches[3 + rank]
    test = records(folder, "batch_size: 1", phase="TEST")
    test.take_turns(Turns(1, 2, 5))  # of every test of five batches the second and the fourth
    assert [int(test()[1]) for _ in range(5)] == [11, 13, 11, 13, 11]
    assert test.samples == 5
    assert test.identity() == records(folder, "batch_size: 2", phase="TRAIN").identity() != ""


def test_datum_kinds():
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 7
    message = caffe_pb2.Datum(channels=3, height=2, width=2, float_data=values.reshape(-1).tolist(), label=4)
    channels, label = datum_channels(message.SerializeToString(), "x")
    assert np.array_equal(channels, values)
    assert label == 4
    alpha = np.dstack([image(0), image(1)[:, :, :1]])
    for pixels, count in ((alpha, 4), (image(0), 3), (image(0)[:, :, 0], 1)):
        raw = caffe_pb2.Datum(encoded=True, data=cv2.imencode(".png", pixels)[1].tobytes()).SerializeToString()
        channels, _ = datum_channels(raw, "x")
        assert np.array_equal(np.dstack(channels).reshape(pixels.shape), pixels)
        assert len(channels) == count
        assert len(datum_channels(raw, "x", force_color=True)[0]) == 3
        assert len(datum_channels(raw, "x", force_gray=True)[0]) == 1
        with pytest.raises(DataError, match="force_color and force_gray"):
            datum_channels(raw, "x", True, True)


def test_malformed_datums():
    deep = cv2.imencode(".png", image(0).astype(np.uint16))[1].tobytes()
    for raw, message in (
        (b"\xff\xff", "rec: is no Datum"),
        (b"", "0 values"),
        (caffe_pb2.Datum(channels=3, height=2, width=2, data=b"abc").SerializeToString(), "3 values"),
        (caffe_pb2.Datum(encoded=True, data=b"abc").SerializeToString(), "no image"),
        (caffe_pb2.Datum(encoded=True, data=b"").SerializeToString(), "no image"),
        (caffe_pb2.Datum(encoded=True, data=deep).SerializeToString(), "8 bits"),
    ):
        with pytest.raises(DataError, match=message):
            datum_channels(raw, "rec")


def test_databases_that_are_refused(folder):
    with pytest.raises(MissingFileError, match="absent"):
        records(folder, name="absent")
    (folder / "junk").mkdir()
    (folder / "junk" / "data.mdb").write_bytes(b"x" * 10000)
    with pytest.raises(DataError, match="junk: is no LMDB"):
        records(folder, name="junk")
    lmdb.open(str(folder / "empty")).close()
    with pytest.raises(DataError, match="empty: the database is empty"):
        records(folder, name="empty")
    write_lmdb(
        folder / "mixed", [datum(0), caffe_pb2.Datum(channels=1, height=1, width=1, data=b"a").SerializeToString()]
    )
    with pytest.raises(DataError, match=r"00000001.*\[1, 1, 1\].*\[3, 6, 8\]"):
        records(folder, name="mixed")()


def test_leveldb(folder):
    plyvel = pytest.importorskip("plyvel")
    with plyvel.DB(str(folder / "level"), create_if_missing=True) as database:
        for number in range(5):
            database.put(b"%08d" % number, datum(number))
    body = f'data_param {{ source: "{folder}/level" batch_size: 3 }}'
    one, two = (one_layer("Data", body, tops=TWO) for _ in range(2))
    for data in (one, two):
        data()
        pixels, labels = data()
        assert labels.tolist() == [13, 14, 10]
        assert np.array_equal(pixels[0].permute(1, 2, 0), image(3))
    with pytest.raises(MissingFileError, match="nowhere"):
        one_layer("Data", f'data_param {{ source: "{folder}/nowhere" batch_size: 3 }}', tops=TWO)


# -- the mean, MemoryData -----------------------------------------------------------------------------------------


def test_mean_files(tmp_path):
    mean = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_mean(tmp_path / "legacy", mean)
    assert np.array_equal(read_mean(str(tmp_path / "legacy")), mean)
    write_mean(tmp_path / "shape", mean[None], legacy=False)
    assert np.array_equal(read_mean(str(tmp_path / "shape")), mean)
    write_mean(tmp_path / "three", mean, legacy=False)
    assert read_mean(str(tmp_path / "three")).shape == (3, 4, 1)  # fits no image, as in Caffe
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ModelFileError, match="empty"):
        read_mean(str(tmp_path / "empty"))
    with pytest.raises(ModelFileError, match=r"neg_mean.binaryproto: a mean blob of shape \[.*-3.*cannot be used"):
        read_mean(str(FAULTS / "neg_mean.binaryproto"))
    mean[0, 0, 0] = np.nan
    write_mean(tmp_path / "nan", mean)
    with pytest.raises(ModelFileError, match="1 values of the mean are NaN"):
        read_mean(str(tmp_path / "nan"))


MEMORY = "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } transform_param { scale: 9 }"


def test_memory():
    data = one_layer("MemoryData", MEMORY, tops=TWO)
    assert data.top_shapes([]) == [(2, 3, 4, 5), (2,)]
    with pytest.raises(LayerError, match="set_input_arrays"):
        data()
    values = np.random.default_rng(0).random((6, 3, 4, 5), np.float32)
    labels = np.arange(6, dtype=np.float32)
    data.reset(values, labels)
    for start in (0, 2, 4, 0):
        got, label = data()
        assert np.array_equal(got, values[start : start + 2])
        assert label.shape == (2, 1, 1, 1)
        assert label.flatten().tolist() == [start, start + 1]
        got.zero_()
    assert values.min() > 0 or values[0].any()
    assert data.top_shapes([])[1] == (2, 1, 1, 1)


@pytest.mark.parametrize(
    "shape, dtype, labels, message",
    [
        ((4, 2, 4, 5), np.float32, 4, "wrong number of channels"),
        ((4, 3, 4, 6), np.float32, 4, "wrong width"),
        ((4, 60), np.float32, 4, "number of axes"),
        ((4, 3, 4, 5), np.float64, 4, "C-contiguous float32"),
        ((4, 3, 4, 5), np.float32, 2, "same first dimension"),
        ((3, 3, 4, 5), np.float32, 3, "multiple of batch size 2"),
        ((0, 3, 4, 5), np.float32, 0, "multiple of batch size 2"),
    ],
)
def test_memory_refusals(shape, dtype, labels, message):
    data = one_layer("MemoryData", MEMORY, tops=TWO)
    with pytest.raises(LayerError, match=message):
        data.reset(np.zeros(shape, dtype), np.zeros(labels, np.float32))


def test_memory_sizes():
    with pytest.raises(LayerError, match="expected positive numbers"):
        one_layer("MemoryData", "memory_data_param { batch_size: 2 channels: 3 height: 4 }", tops=TWO)


def test_a_database_that_this_process_has_open(tmp_path):
    environment = lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        for number in range(5):
            transaction.put(b"%08d" % number, datum(number))
    data = records(tmp_path, "batch_size: 4")
    assert data()[1].tolist() == [10, 11, 12, 13]
    with environment.begin() as transaction:
        assert transaction.get(b"00000004") == datum(4)
    environment.close()
    assert lmdb.open(str(tmp_path / "lmdb"), readonly=True).stat()["entries"] == 5  # while a net holds it


@pytest.mark.parametrize("name", ["crash_sigbus_lmdb", "none_lmdb"])
def test_damaged_databases(name):
    with pytest.raises(DataError, match=f"layer 'under_test'.*{name}: is a damaged LMDB database"):
        records(FAULTS, name=name)


# -- flow in a mirror ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [-1, 0, 2])
def test_a_mirror_turns_flow_to_the_other_side(folder, channel):
    """v becomes 256 - v in the channel of flow to the right, and 0, 8 pixels or more to the left, becomes 255."""
    picture = image(0).copy()
    picture[0, 0], picture[0, 1] = 0, 128
    cv2.imwrite(str(folder / "0.png"), picture)
    data = images(folder, "batch_size: 1", f"mirror: true mean_value: 128 negate_x_channel: {channel}", "TRAIN")
    seen = set()
    for _ in range(40):
        pixels, labels = data()
        if labels.item() == 10:
            seen.add(pixels.numpy().tobytes())
    turned = picture.astype(np.float32)
    if channel >= 0:
        turned[..., channel] = np.minimum(256 - turned[..., channel], 255)
    want = [(one - 128).transpose(2, 0, 1) for one in (picture.astype(np.float32), turned[:, ::-1])]
    assert seen == {np.ascontiguousarray(one, np.float32).tobytes() for one in want}
    assert data.wants()["data"].modality == ("flow" if channel == 2 else "color")


def test_channels_of_flow_that_are_not_there(folder):
    with pytest.raises(CaffeCompatError, match="negate_x_channel is 3, expected 0, 1, 2 or -1"):
        images(folder, "batch_size: 1", "negate_x_channel: 3")
    with pytest.raises(CaffeCompatError, match=r"has 1 channel\(s\), but negate_x_channel is 2"):
        images(folder, "batch_size: 1 is_color: false", "negate_x_channel: 2")
