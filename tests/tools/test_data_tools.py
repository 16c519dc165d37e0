"""convert_imageset, compute_image_mean and extract_features, against what Caffe's own programs wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from program import ROOT, call

from caffe_compat.commands.image_mean import compute_image_mean
from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import records
from caffe_compat.proto import caffe_pb2

CAFFE = ROOT / "tests" / "data" / "golden" / "data" / "src"


def content(database: Path) -> dict[bytes, bytes]:
    """All records."""
    environment = lmdb.open(str(database), readonly=True, lock=False)
    with environment.begin() as transaction:
        found = {bytes(key): bytes(value) for key, value in transaction.cursor()}
    environment.close()
    return found


def datum(raw: bytes) -> caffe_pb2.Datum:
    return caffe_pb2.Datum.FromString(raw)


@pytest.mark.parametrize(
    "flags, images, written_by_caffe",
    [
        ((), "list_root.txt", "lmdb_rgb"),
        (("-gray",), "list_root_gray.txt", "lmdb_gray"),
        (("--encoded", "--check_size=false"), "list_root.txt", "lmdb_png"),
        (("--encode_type", "png"), "list_root.txt", "lmdb_png"),
        (("--resize_height=16", "--resize_width=15"), "list_root.txt", "lmdb_resized"),
    ],
)
def test_convert_imageset_writes_what_caffe_wrote(
    flags: tuple[str, ...], images: str, written_by_caffe: str, tmp_path: Path
) -> None:
    list_ = CAFFE / images
    if not list_.exists():
        list_ = tmp_path / images
        list_.write_text((CAFFE / "list_gray.txt").read_text().replace("src/", ""))
    done = call("convert_imageset", *flags, f"{CAFFE}/", list_, tmp_path / "db")
    assert done.status == 0, done.stderr
    mine, theirs = content(tmp_path / "db"), content(CAFFE / written_by_caffe)
    assert list(mine) == list(theirs)
    for key in theirs:
        assert datum(mine[key]) == datum(theirs[key])
        assert mine[key] == theirs[key]
    assert f"Processed {len(theirs)} files." in done.stderr


def test_compute_image_mean_writes_what_caffe_wrote(tmp_path: Path) -> None:
    done = call("compute_image_mean", CAFFE / "lmdb_rgb", tmp_path / "mean.binaryproto")
    assert done.status == 0, done.stderr
    assert (tmp_path / "mean.binaryproto").read_bytes() == (CAFFE / "mean_rgb.binaryproto").read_bytes()
    assert "Number of channels: 3" in done.stderr and "mean_value channel [2]: " in done.stderr
    encoded = compute_image_mean(str(CAFFE / "lmdb_png"))
    np.testing.assert_array_equal(encoded, compute_image_mean(str(CAFFE / "lmdb_rgb")))
    with pytest.raises(DataError, match=r"lmdb_sizes, record '00000001' has the shape \[3, 6, 5\]"):
        compute_image_mean(str(CAFFE / "lmdb_sizes"))
    assert call("compute_image_mean", tmp_path / "absent").status == 2


def test_reencoding(tmp_path: Path) -> None:
    flags = ("--encoded", "--encode_type=jpg", "--resize_width=8", "--resize_height=6", "--gray")
    done = call("convert_imageset", *flags, f"{CAFFE}/", CAFFE / "list_root.txt", tmp_path / "db")
    assert done.status == 0, done.stderr
    first = datum(next(iter(content(tmp_path / "db").values())))
    assert first.encoded and first.data[:3] == b"\xff\xd8\xff" and not first.HasField("channels")
    assert cv2.imdecode(np.frombuffer(first.data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (6, 8)


def test_shuffle_and_unreadable_images(tmp_path: Path) -> None:
    list_ = tmp_path / "list.txt"
    list_.write_text("img/absent.png 3\n" + (CAFFE / "list_root.txt").read_text())
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = call("convert_imageset", "--shuffle", f"--seed={seed}", f"{CAFFE}/", list_, tmp_path / name)
        assert done.status == 0 and "Could not open or find file" in done.stderr and "absent.png" in done.stderr
        orders.append([key.partition(b"_")[2] for key in content(tmp_path / name)])
    assert orders[0] == orders[1] != orders[2] and len(orders[0]) == 7
    labels = dict(line.rsplit(" ", 1) for line in list_.read_text().splitlines())
    for key, value in content(tmp_path / "a").items():
        assert datum(value).label == int(labels[key.partition(b"_")[2].decode()])


def test_wrong_use_leaves_nothing(tmp_path: Path) -> None:
    root, list_ = f"{CAFFE}/", CAFFE / "list_root.txt"
    (tmp_path / "there").mkdir()
    (tmp_path / "bad.txt").write_text("img/absent.png 1\n")
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("img/c0.png 0\nimg/v1.png 1\n")
    for words, reason in (
        ((root, list_, tmp_path / "there"), "exists already"),
        ((root, list_, tmp_path / "db", "--resize_width=3"), "expected two positive numbers, or none"),
        ((root, list_, tmp_path / "db", "--backend=sqlite"), "expected one of lmdb, leveldb"),
        ((root, list_, tmp_path / "db", "--encode_type=xyz"), "expected a type that OpenCV writes"),
        ((root, tmp_path / "absent.txt", tmp_path / "db"), "absent.txt"),
        ((root, tmp_path / "bad.txt", tmp_path / "db"), "none of its 1 images could be read"),
        ((root, sizes, tmp_path / "db", "--check_size"), "img/v1.png has"),
    ):
        done = call("convert_imageset", *words)
        assert done.status == 2 and reason in done.stderr.splitlines()[-1], done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "sizes.txt", "there"]


def test_databases_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = bytes(1 << 20)
    with records.create_database(str(tmp_path / "db"), "lmdb") as writer:
        for index in range(80):  # beyond the first map size of 64 MiB
            writer.put(b"%08d" % index, value)
    assert len(content(tmp_path / "db")) == writer.count == 80
    with pytest.raises(ZeroDivisionError), records.create_database(str(tmp_path / "half"), "lmdb") as writer:
        writer.put(b"a", b"b")
        _ = 1 // 0
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_leveldb(tmp_path: Path) -> None:
    try:
        import plyvel  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="plyvel"), records.create_database(str(tmp_path / "db"), "leveldb"):
            pass
        assert not list(tmp_path.iterdir())
        return
    words = ("--backend=leveldb", f"{CAFFE}/", CAFFE / "list_root.txt", tmp_path / "db")
    assert call("convert_imageset", *words).status == 0
    np.testing.assert_array_equal(
        compute_image_mean(str(tmp_path / "db"), backend="leveldb"), compute_image_mean(str(CAFFE / "lmdb_rgb"))
    )


NET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.5 }
  data_param { source: "db" batch_size: 3 backend: LMDB } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
"""


def test_extract_features(tmp_path: Path) -> None:
    shutil.copytree(CAFFE / "lmdb_rgb", tmp_path / "db")
    (tmp_path / "net.prototxt").write_text(NET)
    weights = np.zeros((2, 3 * 20 * 24), np.float32)
    weights[0, 5], weights[1, 7] = 1, -2
    model = caffe_pb2.NetParameter()
    blobs = model.layer.add(name="ip", type="InnerProduct").blobs
    blobs.add(data=weights.ravel().tolist()).shape.dim.extend(weights.shape)
    blobs.add(data=[10.0, 20.0]).shape.dim.append(2)
    (tmp_path / "net.caffemodel").write_bytes(model.SerializeToString())
    words = ("net.caffemodel", "net.prototxt", "data,ip", "f_data,f_ip", "2", "lmdb")
    done = call("extract_features", *words, "CPU", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "Extracted features of 6 query images for feature blob ip" in done.stderr
    images = [datum(value) for value in content(tmp_path / "db").values()]
    pictures, products = content(tmp_path / "f_data"), content(tmp_path / "f_ip")
    assert list(products) == [b"%010d" % index for index in range(6)] == list(pictures)
    for image, picture, product in zip(images, pictures.values(), products.values(), strict=False):
        pixels = np.frombuffer(image.data, np.uint8)
        found, vector = datum(picture), datum(product)
        assert (found.channels, found.height, found.width) == (3, 20, 24) and not found.data
        np.testing.assert_array_equal(np.array(found.float_data, np.float32), pixels * np.float32(0.5))
        assert (vector.channels, vector.height, vector.width) == (2, 1, 1)
        assert list(vector.float_data) == [10 + pixels[5] / 2, 20 - float(pixels[7])]
    for changed, reason in (
        ({2: "data,labl"}, "no blob 'labl' (did you mean 'label'?)"),
        ({3: "only_one"}, "2 blobs and 1 databases"),
        ({4: "0"}, "expected 1 or more"),
    ):
        changed_words = [changed.get(index, word) for index, word in enumerate(words)]
        done = call("extract_features", *changed_words, folder=tmp_path)
        assert done.status == 2 and reason in done.stderr, done.stderr


def test_unknown_backend() -> None:
    with pytest.raises(UsageError, match="backend is 'x'"):
        compute_image_mean("db", backend="x")
