"""Trained models of others, in their old formats, reach on real data what BVLC Caffe reached (``expected.txt``)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from mtcnn import detect
from PIL import Image
from real_data import cifar, digits, expected, figures, write_records

from caffe_compat.net import Net, load_net
from caffe_compat.proto import read_blob_proto, read_solver
from caffe_compat.solver import solver_class

MODELS = "real/models"


def probabilities(net: Net, images: np.ndarray, batch: int = 500) -> np.ndarray:
    """The only output of a net for all images."""
    net.eval()
    with torch.no_grad():
        parts = [net(data=torch.from_numpy(images[i : i + batch])) for i in range(0, len(images), batch)]
    return np.concatenate([next(iter(part.values())).numpy() for part in parts])


@pytest.mark.parametrize(
    "model, prototxt, weights, line",
    [
        ("lenet_mnist", "lenet.prototxt", "lenet_iter_10000.caffemodel", "lenet_iter_10000"),
        ("v1_format", "everpeace/lenet.prototxt", "everpeace/lenet_iter_10000.caffemodel", "everpeace/lenet"),
        ("v1_format", "everpeace/lenet.prototxt", "pl8787/lenet_iter_10000", "pl8787/lenet"),
    ],
)
def test_lenet(model: str, prototxt: str, weights: str, line: str) -> None:
    images, labels = digits()
    net = load_net(needs(MODELS, model, prototxt), needs(MODELS, model, weights))
    prob = probabilities(net, images[:, None].astype(np.float32) / 256)
    text = expected(model, line)
    accuracy = float(re.search(r"(?:acc|digits) (0\.\d+)", text)[1])  # type: ignore[index]
    total = float(re.search(r"(?:probabilities|max prob|sum) (\d+\.\d+)", text)[1])  # type: ignore[index]
    assert round(float((prob.argmax(1) == labels).mean()), 4) == accuracy
    assert prob.max(1).astype(np.float64).sum() == pytest.approx(total, abs=0.05)
    first = re.search(r"p0 \[(.*?)\]", text) or re.search(r"first digit.*?\[(.*?)\]", expected(model, "first digit"))
    np.testing.assert_allclose(prob[0], figures(first[1]), rtol=2e-3)  # type: ignore[index]


CIFAR = [
    ("v1_format", "everpeace/cifar10_quick.prototxt", "everpeace/cifar10_quick_iter_5000.caffemodel", 0.7405),
    ("v1_format", "everpeace/cifar10_full.prototxt", "everpeace/cifar10_full_iter_70000.caffemodel", 0.8040),
    ("v1_format", "gujunli/cifar10_quick.prototxt", "gujunli/cifar10_quick_iter_5000", 0.7150),
    ("cifar10", "cifar10_quick.prototxt", "cifar10_quick_iter_5000.caffemodel.h5", 0.7440),
    ("cifar10", "cifar10_full.prototxt", "cifar10_full_iter_100000.caffemodel.h5", 0.8005),
]
FIRST = {  # of the first picture, in expected.txt
    0: ("v1_format", "first of the 2000: quick"),
    1: ("v1_format", "full "),
    2: ("v1_format", "gujunli ["),
    3: ("cifar10", "cifar10_quick_iter_5000.caffemodel.h5"),
    4: ("cifar10", "cifar10_full_iter_100000.caffemodel.h5"),
}


@pytest.mark.parametrize("number", range(len(CIFAR)))
def test_cifar(number: int) -> None:
    model, prototxt, weights, accuracy = CIFAR[number]
    net = load_net(needs(MODELS, model, prototxt), needs(MODELS, model, weights))
    pictures, labels = cifar()
    mean = read_blob_proto(needs(MODELS, "v1_format/gujunli/mean.binaryproto")).reshape(3, 32, 32)
    prob = probabilities(net, pictures.astype(np.float32) - mean)
    assert float((prob.argmax(1) == labels).mean()) == pytest.approx(accuracy, abs=1e-9)
    line = expected(*FIRST[number])
    np.testing.assert_allclose(prob[0], figures(line[line.index("[") :]), rtol=5e-3, atol=1e-13)


def test_a_real_solver_state_is_taken_up(tmp_path: Path) -> None:
    """Caffe's HDF5 state of CIFAR-10 quick after 5000 iterations, with the weights it names beside it."""
    folder = needs(MODELS, "cifar10")
    pictures, labels = cifar()
    net = (folder / "cifar10_quick_train_test.prototxt").read_text()
    net = net.replace("examples/cifar10/mean.binaryproto", str(needs(MODELS, "v1_format/gujunli/mean.binaryproto")))
    for phase in ("train", "test"):
        net = net.replace(f"examples/cifar10/cifar10_{phase}_lmdb", str(tmp_path / "lmdb"))
    write_records(tmp_path / "lmdb", pictures[:200], labels[:200])
    (tmp_path / "net.prototxt").write_text(net)
    param = read_solver(folder / "cifar10_quick_solver_lr1.prototxt")
    param.net, param.snapshot_prefix = str(tmp_path / "net.prototxt"), str(tmp_path / "quick")
    del param.test_iter[:]
    param.test_iter.append(2)
    solver = solver_class(param)(param)
    before = float(solver.test_all()[0]["accuracy"])
    solver.restore(folder / "cifar10_quick_iter_5000.solverstate.h5")
    assert solver.iter == 5000 and all(float(blob.abs().max()) > 0 for blob in solver.history)
    after = solver.test_all()[0]
    assert before < 0.3 and after["accuracy"] > 0.65
    solver.step(3)
    assert solver.iter == 5003 and solver.smoothed_loss < 1


PHOTOS = {
    "caffe_examples": "real/photos/caffe_examples",
    "voc_demo": "real/photos/voc_demo",
}


def photo(name: str) -> Path:
    """A photo of ``expected.txt``, where it is to be had."""
    folder, _, file = name.partition("/")
    if folder == "skimage":
        import skimage.data

        path = Path(skimage.data.__file__).parent / file
        if not path.exists():
            pytest.skip(f"{name} is not part of this scikit-image")
        return path
    if folder not in PHOTOS:
        pytest.skip(f"{name} is absent")
    return needs(PHOTOS[folder], file)


@pytest.fixture(scope="module")
def squeezenet() -> Net:
    folder = needs(MODELS, "squeezenet_v1.0_deepcomp")
    return load_net(folder / "SqueezeNet_deploy.prototxt", folder / "squeezenet_v1.0_decoded.caffemodel").eval()


@pytest.mark.parametrize(
    "name",
    [
        "caffe_examples/cat.jpg",
        "caffe_examples/fish-bike.jpg",
        "skimage/chelsea.png",
        "skimage/coffee.png",
        "skimage/rocket.jpg",
        "skimage/astronaut.png",
        "voc_demo/000456.jpg",
        "voc_demo/000542.jpg",
        "voc_demo/001150.jpg",
        "voc_demo/001551.jpg",
    ],
)
def test_squeezenet_gives_caffes_scores(name: str, squeezenet: Net) -> None:
    image = Image.open(photo(name)).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)[14:241, 14:241, ::-1] - np.array([104, 117, 123], np.float32)
    with torch.no_grad():
        data = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        scores = squeezenet(data=data)["pool_final"].numpy().ravel()

    _, top, total = expected("squeezenet_v1.0_deepcomp", f"| {name}").strip("| ").split("|")
    found = [(int(part.split()[0]), float(part.split()[-1])) for part in top.split(";")]
    assert list(np.argsort(-scores)[:3]) == [index for index, _ in found]
    np.testing.assert_allclose(scores[[i for i, _ in found]], [score for _, score in found], rtol=1e-3)
    assert scores.sum(dtype=np.float64) == pytest.approx(figures(total)[0], rel=1e-3)


@pytest.mark.parametrize("name", ["test1.jpg", "test2.jpg", "astronaut.png", "chelsea.png"])
def test_mtcnn_finds_the_faces(name: str) -> None:
    folder = needs(MODELS, "mtcnn_kpzhang93")
    nets = [load_net(folder / f"det{k}.prototxt", folder / f"det{k}.caffemodel").eval() for k in (1, 2, 3)]
    path = folder / name if name.endswith("jpg") else photo(f"skimage/{name}")
    boxes, points, counts = detect(np.asarray(Image.open(path).convert("RGB")), (nets[0], nets[1], nets[2]))
    lines = (folder / "expected.txt").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(name))
    faces = int(lines[start].split()[-2])
    assert len(boxes) == faces
    if faces:
        above = next(line for line in reversed(lines[:start]) if "candidates" in line)
        assert counts == [int(number) for number in re.findall(r"\d+", above)]
    for line in lines[start + 1 : start + 1 + faces]:
        corners, score, five = (figures(part) for part in re.split("score|pts", line))
        nearest = int(np.abs(boxes[:, :4] - corners).sum(1).argmin())
        np.testing.assert_allclose(boxes[nearest, :4], corners, atol=0.02)
        assert boxes[nearest, 4] == pytest.approx(score[0], abs=1e-5)
        np.testing.assert_allclose(points[nearest], five, atol=0.02)


SOLVER = """
net: "net.prototxt" test_iter: 10 test_interval: 500 base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005
lr_policy: "inv" gamma: 0.0001 power: 0.75 display: 100 max_iter: 500 snapshot_prefix: "lenet" random_seed: 1
"""


@pytest.mark.slow
def test_lenet_learns_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caffe's own recipe on 9,000 digits, tested on 1,000: Caffe reached 0.973 after 500 iterations."""
    from program import call

    images, labels = digits()
    write_records(tmp_path / "train_lmdb", images[:9000, None], labels[:9000])
    write_records(tmp_path / "test_lmdb", images[9000:, None], labels[9000:])
    net = needs(MODELS, "v1_format/everpeace/lenet_train_test.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(re.sub(r'"examples/mnist/mnist_(\w+_lmdb)"', r'"\1"', net))
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    done = call("caffe", "train", "--solver=solver.prototxt", folder=tmp_path)
    assert done.status == 0, done.stderr
    accuracy = [float(value) for value in re.findall(r"Test net output #0: accuracy = (\S+)", done.stderr)]
    print("accuracy at 0 and 500 iterations:", accuracy)
    assert len(accuracy) == 2 and accuracy[0] < 0.3 and accuracy[1] > 0.963
