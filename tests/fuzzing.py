"""Mutated files: each must give a CaffeCompatError that names the file, or a result.

    python tests/fuzzing.py --count 10000                  # the full run
    python tests/fuzzing.py --kind caffemodel --only 1234  # one mutant again, with its traceback

Mutants are a pure function of kind and number.  They run in a child process with a limit on its memory and a clock, so
that a crash, a hang and a blow-up are findings like any other.  All children are forked off one process that has
imported what they need.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from mutations import mutate_binary, mutate_text

GOLDEN = Path(__file__).resolve().parent / "data" / "golden"
HERE = Path(__file__).resolve()
SECONDS = 20  #: for one mutant
MEMORY = 400 << 20  #: how much one mutant may add to the peak
SAID = ("said.out", "said.err")  #: files of what a child says


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        seeds: good files (and hand-made bad ones).
        use: reads a file and uses what it holds; called with its path.
    """

    suffix: str
    seeds: Callable[[], list[bytes]]
    use: Callable[[], Callable[[str], None]]
    text: bool = False


# -- mutants ---------------------------------------------------------------------------------------------------------


def mutant(kind: Kind, name: str, number: int, seeds: list[bytes]) -> bytes:
    """Mutant ``number``; every third is a truncation, and all truncations of all seeds come before one comes twice."""
    rng = random.Random(f"{name}/{number}")
    if number % 3 == 0:
        total = sum(len(seed) for seed in seeds)
        stride = next(step for step in range(int(total * 0.618) | 1, 2 * total, 2) if _coprime(step, total))
        at = number // 3 * stride % total
        for seed in seeds:
            if at < len(seed):
                return seed[:at]
            at -= len(seed)
    data, other = rng.choice(seeds), rng.choice(seeds)
    if rng.random() < 0.02:
        return data
    return (mutate_text if kind.text else mutate_binary)(data, other, rng)


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


# -- seeds -------------------------------------------------------------------------------------------------------


def golden_files(pattern: str, largest: int = 16000) -> list[bytes]:
    found = sorted(GOLDEN.glob(pattern))
    return [path.read_bytes() for path in found if path.stat().st_size <= largest]


def golden_texts(pattern: str, entry: str = "prototxt") -> list[bytes]:
    """Nets of golden cases that neither write files nor run Python."""
    import numpy as np

    texts = []
    for path in sorted(GOLDEN.glob(pattern)):
        with np.load(path, allow_pickle=False) as case:
            text = str(case[entry][()]) if entry in case.files else ""
        if text and "HDF5Output" not in text and "Python" not in text and len(text) < 3000:
            texts.append(text.encode())
    return texts


def net_seeds() -> list[bytes]:
    layers = golden_texts("layers/*.npz")
    return layers[::9] + golden_texts("nets/*.npz")[::9] + golden_texts("files/v[01]*.npz")


def solver_seeds() -> list[bytes]:
    net = "net_param {\n" + NET.replace("\n", "\n  ") + "\n}\n"
    common = "base_lr: 0.01 lr_policy: 'fixed' max_iter: 3\n"
    return [
        (net + common + rest).encode()
        for rest in (
            "momentum: 0.9 weight_decay: 0.001",
            "type: 'Adam' momentum2: 0.999 delta: 1e-8 snapshot_prefix: 'x'",
            "lr_policy: 'multistep' stepvalue: 1 stepvalue: 2 gamma: 0.5 iter_size: 2 clip_gradients: 1",
            "solver_type: RMSPROP rms_decay: 0.9 test_iter: 1 test_interval: 2 random_seed: 3 solver_mode: CPU",
            "train_state { stage: 'a' level: 1 } test_state { phase: TEST } test_iter: 2 test_interval: 1",
        )
    ]


def hdf5_seeds() -> list[bytes]:
    seeds = golden_files("files/src/*.h5") + golden_files("errors/src/*.h5")
    return [*seeds, *(hand_made_hdf5(number) for number in range(9))]


def hand_made_hdf5(number: int, name: str = "0", beside: str = "") -> bytes:
    """HDF5 files whose structure lies."""
    import h5py
    import numpy as np

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        layer = file if beside else file.create_group("data/ip")
        if beside:
            file[beside] = np.zeros(3, np.float32)
        if number == 0:
            layer.create_dataset(name, (2**31 - 1,), "f4", chunks=(1 << 20,))
        elif number == 1:
            layer.create_dataset(name, (2**20, 2**20), "f4", chunks=(1, 1 << 20), compression="gzip")
        elif number == 2:
            layer[name] = h5py.SoftLink(f"{layer.name}/{name}")
        elif number == 3:
            layer[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif number == 4:
            for depth in range(200):
                layer = layer.create_group(str(depth % 2))
        elif number == 5:
            layer[name] = np.array([("a", 1.0)], [("x", "S1"), ("y", "f4")])
        elif number == 6:
            layer.create_dataset(name, (3, 4), "f4", fillvalue=np.nan, chunks=(1, 1), maxshape=(None, None))
        elif number == 7:
            layer[name] = h5py.Empty("f4")
            layer["99999999999999999999"] = 1.0
        else:
            layout = h5py.VirtualLayout((3, 4), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4))
            layer.create_virtual_dataset(name, layout)
    return stream.getvalue()


def datum_seeds() -> list[bytes]:
    from caffe_compat.proto import caffe_pb2

    shape = {"channels": 3, "height": 4, "width": 5}
    image = (GOLDEN / "errors/src/ok.png").read_bytes()
    return [
        caffe_pb2.Datum(**shape, data=bytes(range(60)), label=3).SerializeToString(),
        caffe_pb2.Datum(**shape, float_data=[0.5] * 60, label=-1).SerializeToString(),
        caffe_pb2.Datum(data=image, encoded=True, label=7).SerializeToString(),
        caffe_pb2.Datum().SerializeToString(),
    ]


# -- what is done with a file --------------------------------------------------------------------------------------

NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def use_net() -> Callable[[str], None]:
    from caffe_compat.net import BlobNet, load_net

    def use(path: str) -> None:
        for phase in ("TEST", "TRAIN"):
            net = load_net(path, phase=phase)
            sizes = [dim for shape in net.plan.shapes for dim in shape]
            counts = [product(shape) for shape in net.plan.shapes]
            weights = sum(parameter.numel() for parameter in net.parameters())
            if sum(counts) < 1e5 and max(sizes, default=0) < 1e4 and weights < 1e5:
                engine = BlobNet(net)
                engine.forward()
                engine.backward()

    return use


def product(shape: tuple[int, ...]) -> int:
    result = 1
    for dim in shape:
        result *= dim
    return result


def use_solver() -> Callable[[str], None]:
    from caffe_compat.solver import load_solver

    def use(path: str) -> None:
        solver = load_solver(path)
        param = solver.param
        param.test_interval = param.snapshot = 0
        elements = sum(learnable.parameter.numel() for learnable in solver.learnables)
        if param.iter_size < 4 and elements < 1e5 and max(map(product, solver.net.plan.shapes), default=0) < 1e5:
            solver.step(1)

    return use


def use_weights() -> Callable[[str], None]:
    import numpy as np

    from caffe_compat.net import load_net
    from caffe_compat.proto import is_hdf5, read_hdf5, scan_weights

    with np.load(GOLDEN / "files" / "load_current_copy_from.npz", allow_pickle=False) as case:
        Path("weights_net.txt").write_text(str(case["prototxt"][()]))
    net = load_net("weights_net.txt")

    def use(path: str) -> None:
        if is_hdf5(path):
            assert all(array.dtype == np.float32 for layer in read_hdf5(path) for array in layer.blobs.values())
        else:
            for layer in scan_weights(path).layers:
                for blob in layer.blobs:
                    assert blob.read().shape == blob.shape
        net.copy_from(path)

    return use


def use_state() -> Callable[[str], None]:
    from caffe_compat.solver import load_solver

    Path("solver.txt").write_bytes(solver_seeds()[0])
    return load_solver("solver.txt").restore


def use_mean() -> Callable[[str], None]:
    from caffe_compat.proto import read_blob_proto

    def use(path: str) -> None:
        array = read_blob_proto(path)
        assert array.dtype == "float32" and array.size < 2**31

    return use


def use_datum() -> Callable[[str], None]:
    """The file's content becomes a record of a database that a Data layer reads."""
    import lmdb

    from caffe_compat.net import BlobNet, load_net

    def use(path: str) -> None:
        folder = path + ".lmdb"
        with (
            lmdb.open(folder, map_size=1 << 20, lock=False, sync=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            transaction.put(b"0", Path(path).read_bytes() or b"\0")
        try:
            text = f'layer {{ name: "d" type: "Data" top: "x" top: "y" data_param {{ source: "{folder}" batch_size: 2 '
            Path("data.txt").write_text(text + "backend: LMDB prefetch: 0 } }")
            BlobNet(load_net("data.txt")).forward()
        finally:
            for file in Path(folder).iterdir():
                file.unlink()
            Path(folder).rmdir()

    return use


def use_rows() -> Callable[[str], None]:
    """An HDF5Data layer reads the file."""
    from caffe_compat.net import BlobNet, load_net

    def use(path: str) -> None:
        Path("list.txt").write_text(path)
        text = 'layer { name: "d" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" '
        Path("rows.txt").write_text(text + "batch_size: 3 } }")
        BlobNet(load_net("rows.txt")).forward()

    return use


def row_seeds() -> list[bytes]:
    """Good files, and ones whose datasets are not what they seem."""
    return [*golden_files("data/src/part*.h5"), *(hand_made_hdf5(number, "data", "label") for number in range(9))]


def use_image() -> Callable[[str], None]:
    from caffe_compat.media import read_picture

    def use(path: str) -> None:
        assert read_picture(path).shape[2] == 3 and read_picture(path, "gray").ndim == 2

    return use


def each(path: str, *readers: Callable[[str], object]) -> None:
    """Every reader gets the file, whatever the others think of it."""
    from caffe_compat.errors import CaffeCompatError

    for reader in readers:
        try:
            reader(path)
        except CaffeCompatError as error:
            assert path in str(error), str(error)


def mat_values() -> dict[str, object]:
    """Variables of the kinds that NYUD2's files have."""
    import numpy as np

    boxes, names = np.empty((1, 2), object), np.empty((1, 2), object)
    boxes[0] = [np.array([[1.0, 1, 5, 5], [2, 2, 3, 9]])] * 2
    names[0] = ["img_5001", "img_5002"]
    thing = np.empty((1, 1), [("class", object), ("bbox", object), ("difficult", object)])
    thing[0, 0] = ("bed", np.array([[1.0, 1, 9, 8]]), np.array([[False]]))
    return {
        "rec": {"imgsize": np.array([[20.0, 30.0]]), "objects": thing},
        "bboxes": boxes,
        "imnames": names,
        "train": np.array([[5001.0]]),
        "val": np.array([[5002.0]]),
        "test": np.array([[5003], [5004]], np.uint16),
    }


def mat_seeds() -> list[bytes]:
    from scipy.io import savemat

    seeds = []
    for content in [mat_values(), *({name: value} for name, value in mat_values().items())]:
        for compressed in (False, False, True):
            stream = io.BytesIO()
            savemat(stream, content, do_compression=compressed)
            seeds.append(stream.getvalue())
    return seeds


def mat73_seeds() -> list[bytes]:
    import h5py
    from nyud2_files import USER_BLOCK, V73Writer

    seeds = []
    for content in [mat_values(), *({name: value} for name, value in mat_values().items())]:
        stream = io.BytesIO()
        with h5py.File(stream, "w", userblock_size=USER_BLOCK) as file:
            writer = V73Writer(file)
            for name, value in content.items():
                if name == "rec":
                    value = {**value, "objects": {"class": "bed", "bbox": value["imgsize"]}}  # type: ignore[dict-item]
                writer.put(file, name, value)
        seeds.append(stream.getvalue())
    return seeds


def use_mat() -> Callable[[str], None]:
    from caffe_compat.datasets import NYUD2Tree, read_any, read_ground_truth, read_mat, read_proposals

    some = lambda path: read_any(path, ["a"])  # noqa: E731
    return lambda path: each(path, read_mat, read_ground_truth, read_proposals, some, NYUD2Tree.read_splits)


def proposal_seeds() -> list[bytes]:
    import numpy as np

    arrays = {"boxes": np.ones((3, 4), "f4"), "counts": np.array([2, 1]), "images": np.array(["a", "b"])}
    seeds = []
    for more in ({}, {"scores": np.ones(3, "f4"), "settings": np.array('{"a": [1, 2]}')}):
        for write in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            write(stream, **arrays, **more)
            seeds.append(stream.getvalue())
    return seeds


def use_proposals() -> Callable[[str], None]:
    from caffe_compat.datasets import read_any

    return lambda path: each(path, lambda name: read_any(name, ["a", "b"]))


def detection_seeds() -> list[bytes]:
    """As archives and for Matlab; with names and without."""
    import numpy as np
    from scipy.io import savemat

    rows = np.ones((1, 5), "f4")
    where = {"class_index": np.array([0, 1]), "image_index": np.array([1, 0])}
    names = {"classes": np.array(["bed", "lamp"]), "images": np.array(["a", "b"])}
    cells = np.empty((3, 2), object)
    for number in range(6):
        cells[number // 2, number % 2] = rows if number > 2 else np.zeros((0, 0))
    lists = {key: np.array([["bg", *values] if key == "classes" else values], object) for key, values in names.items()}
    seeds = []
    for more in ({}, lists):
        for packed in (False, True):
            stream = io.BytesIO()
            savemat(stream, {"all_boxes": cells, **more}, do_compression=packed)
            seeds.append(stream.getvalue())
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        write(stream, boxes=np.vstack([rows, rows]), **where, **names)
        seeds.append(stream.getvalue())
    return seeds


def use_detections() -> Callable[[str], None]:
    from caffe_compat.evaluation.detections import read_detections

    return lambda path: each(path, lambda name: read_detections(name, ["bed", "lamp"], ["a", "b"]))


def json_seeds() -> list[bytes]:
    camera = {"fx": 1.5, "fy": 2, "cx": 3, "cy": 4, "width": 20, "height": 10, "origin": 1}
    entry = {"color": "c.png", "depth": "d.png", "K_fx_fy_cx_cy": [1, 2, 3, 4], "depth_units_per_metre": 1000}
    frame = {"scene": "s", "depth": "d", "color": "c", "time": 1.5, "gap": 0.01}
    head = {"format": "caffe_compat.nyud2_selection", "version": 1, "count": 1, "frames": [frame]}
    more = {"scene": "a", "invalid": [0, 65535], "origin": 1, "encoding": "sun", "rawdepth": "r.png"}
    contents = [camera, [entry, {**entry, **more, "depth": "e.png"}], head]
    return [*(json.dumps(content).encode() for content in contents), b"[" * 20000, b'{"fx": %s}' % (b"9" * 5000)]


def use_json() -> Callable[[str], None]:
    from caffe_compat.datasets import index_records, read_selection
    from caffe_compat.depth import Camera
    from caffe_compat.depth.calibration import read_calibration
    from caffe_compat.stamps import read_stamp

    def calibration(name):
        return read_calibration(name, (640, 480), (640, 576))

    return lambda path: each(
        path, Camera.from_file, calibration, index_records, lambda name: read_selection(name, "."), read_stamp
    )


def metrics_seeds() -> list[bytes]:
    start = {"phase": "start", "iteration": 0, "random_seed": 3, "threads": 1, "device": "cpu", "weights": ["a"]}
    train = {"phase": "train", "iteration": 0, "loss": 1.5, "lr": 0.1, "outputs": {"loss": 1.5}, "seconds": 0.2}
    scores = {"explained_variance_a": 0.5, "each": [1, 2], "dead_units_a": None}
    test = {"phase": "test", "iteration": 20, "net": 0, "loss": None, "scores": scores, "seconds": 3}
    return [
        "".join(json.dumps(line) + "\n" for line in lines).encode() for lines in ((start, train, test), (test, test))
    ]


def use_metrics() -> Callable[[str], None]:
    from caffe_compat.transfer.curves import group_runs
    from caffe_compat.transfer.report import contents
    from caffe_compat.transfer.report_page import page
    from caffe_compat.transfer.runs import read_run

    def use(path: str) -> None:
        said = contents(group_runs([read_run(path)]))
        json.dumps(said, allow_nan=False)
        page(said)

    return use


def coco_seeds() -> list[bytes]:
    image = {"id": 9, "file_name": "a.jpg", "width": 30, "height": 20, "split": "x", "depth": "d.png"}
    head = {"image_id": 9, "category_id": 5, "bbox": [2, 3, 8, 10.5], "area": 80, "iscrowd": 0}
    shapes = [[[2, 3, 10.25, 3, 10, 13]], {"size": [20, 30], "counts": [0, 20, 580]}]
    shapes.append({"size": [20, 30], "counts": "0d0oa0A"})
    objects = [{"id": k, **head, "segmentation": shape} for k, shape in enumerate(shapes)]
    content = {"images": [image], "categories": [{"id": 5, "name": "cup"}], "annotations": objects}
    labelled = [{"id": 1, **head, "difficult": 1, "label_values": [20, 21]}]
    return [json.dumps(found).encode() for found in (content, {**content, "annotations": labelled})]


def use_coco() -> Callable[[str], None]:
    from caffe_compat.datasets.coco_file import depth_files, read_coco
    from caffe_compat.datasets.masks import coco_masks

    def masks(path: str) -> None:
        for found in read_coco(path, lenient=True).objects.values():
            if found.shapes is not None:
                coco_masks(found.shapes, (20, 30), path)

    return lambda path: each(path, read_coco, masks, depth_files)


def voc_seeds() -> list[bytes]:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30.0</xmax><ymax>20</ymax></bndbox>"
    item = f"<object><name>cat</name><difficult>1</difficult>{box}</object>"
    size = "<size><width>30</width><height>20</height></size>"
    return [f"<annotation>{size}{item}{item.replace('cat', 'dog')}</annotation>".encode()]


def use_voc() -> Callable[[str], None]:
    from caffe_compat.datasets.voc import read_voc_xml

    return lambda path: each(path, lambda name: read_voc_xml(name, "a.jpg"))


def yaml_seeds() -> list[bytes]:
    return [
        b"TRAIN:\n  SCALES: [600]\n  USE_FLIPPED: True\nPIXEL_MEANS: !!python/tuple [[[1.0, 2, 3]]]\nRNG_SEED: 3\n",
        b"RNG_SEED: 2020-99-99\n",
        b"PIXEL_MEANS: &a [*a]\n",
        b"TRAIN: &t {SCALES: [1, 2], BBOX_THRESH: 1_0.5}\nTEST: {SCALES: [3], <<: *t}\n",
        b"a: &a [1, 1]\nb: &b [*a, *a]\nEPS: 1e400\nRNG_SEED: 1:2:3\n",
        b"EXP_DIR: !!binary aGk=\nROOT_DIR: ~\n? [1, 2]\n: 3\n",
    ]


def use_yaml() -> Callable[[str], None]:
    from caffe_compat.config import load_config

    return load_config


def depth_seeds() -> list[bytes]:
    import numpy as np
    from PIL import Image

    codes = np.linspace(800, 4000, 48).reshape(6, 8).astype(np.uint16)
    seeds = [b"P2\n8 1\n65535\n1 2 3 4 5 6 7 99999999999999999999\n"]
    for image, form in ((codes, "png"), (codes, "tiff"), (codes, "ppm"), ((codes >> 4).astype(np.uint8), "jpeg")):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, form)
        seeds.append(stream.getvalue())
    for array in (codes, codes / 1000):
        stream = io.BytesIO()
        np.save(stream, array)
        seeds.append(stream.getvalue())
    return seeds


def use_depth() -> Callable[[str], None]:
    from caffe_compat.depth import DepthFormat, read_depth
    from caffe_compat.depth.io import read_color
    from caffe_compat.frames import read_encoded, read_parameters

    def depth(path: str) -> None:
        read_depth(path, DepthFormat(1000))

    return lambda path: each(path, depth, read_color, read_encoded, read_parameters)


def flow_seeds() -> list[bytes]:
    """Two files of flow, one with unknown pixels."""
    import numpy as np

    flow = np.random.default_rng(0).normal(0, 5, (4, 6, 2)).astype("<f4")
    holes = np.where(flow > 6, np.float32(1e10), flow)
    return [b"PIEH" + struct.pack("<ii", 6, 4) + values.tobytes() for values in (flow, holes)]


def use_flow() -> Callable[[str], None]:
    """Read flow, and encode what is there."""
    from caffe_compat.errors import in_file
    from caffe_compat.flow import color_wheel, encode, read_flo

    def use(path: str) -> None:
        flow = read_flo(path)
        color_wheel(flow)
        with in_file(path):
            encode(flow[..., 0], flow[..., 1])

    return use


KINDS = {
    "prototxt": Kind(".prototxt", net_seeds, use_net, text=True),
    "solver": Kind(".prototxt", solver_seeds, use_solver, text=True),
    "caffemodel": Kind(".caffemodel", lambda: golden_files("*/src/*.caffemodel", 3000), use_weights),
    "hdf5": Kind(".h5", hdf5_seeds, use_weights),
    "rows": Kind(".h5", row_seeds, use_rows),
    "solverstate": Kind(".solverstate", lambda: golden_files("*/src/*.solverstate"), use_state),
    "hdf5state": Kind(".solverstate.h5", lambda: golden_files("solvers/src/*.solverstate.h5"), use_state),
    "mean": Kind(".binaryproto", lambda: golden_files("*/src/*.binaryproto"), use_mean),
    "datum": Kind(".datum", datum_seeds, use_datum),
    "mat": Kind(".mat", mat_seeds, use_mat),
    "mat73": Kind(".mat", mat73_seeds, use_mat),
    "proposals": Kind(".npz", proposal_seeds, use_proposals),
    "detections": Kind(".npz", detection_seeds, use_detections),
    "json": Kind(".json", json_seeds, use_json, text=True),
    "metrics": Kind(".jsonl", metrics_seeds, use_metrics, text=True),
    "coco": Kind(".json", coco_seeds, use_coco, text=True),
    "voc": Kind(".xml", voc_seeds, use_voc, text=True),
    "yaml": Kind(".yml", yaml_seeds, use_yaml, text=True),
    "depth": Kind(".img", depth_seeds, use_depth),
    "flow": Kind(".flo", flow_seeds, use_flow),
    "image": Kind(".img", lambda: golden_files("data/src/img/*"), use_image),
}


# -- running -------------------------------------------------------------------------------------------------------


def peak() -> int:
    """Largest resident size of this process; getrusage() would count that of the parent, which it inherits."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def judge(use: Callable[[str], None], path: str) -> str:
    """What is wrong with how a file was taken; '' if nothing is."""
    from caffe_compat.errors import CaffeCompatError

    before = peak()
    try:
        use(path)
    except CaffeCompatError as error:
        text = str(error)
        if path not in text and not getattr(error, "path", ""):
            return f"{type(error).__name__} does not name the file: {text[:300]}"
        if len(text) > 100_000:
            return f"a message of {len(text)} characters"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(where))
        return f"{type(error).__name__}: {str(error)[:300]} ({places})"
    grown = peak() - before
    return f"the peak of memory grew by {grown >> 20} MB" if grown > MEMORY else ""


def work(name: str, start: int, stop: int) -> None:
    """Run mutants in this process, in the current folder; findings are printed as JSON lines."""
    import torch

    torch.set_num_threads(1)
    kind = KINDS[name]
    seeds, use = kind.seeds(), kind.use()
    for seed in seeds[:3]:  # what libraries allocate once is no finding
        Path("warm" + kind.suffix).write_bytes(seed)
        judge(use, "warm" + kind.suffix)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (3 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    path = f"mutant{kind.suffix}"
    for number in range(start, stop):
        Path("progress").write_text(str(number))
        Path(path).write_bytes(mutant(kind, name, number, seeds))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        found = judge(use, path)
        faulthandler.cancel_dump_traceback_later()
        if found:
            print(json.dumps([number, found]), flush=True)
    Path("progress").write_text(str(stop))


def serve() -> None:
    """Fork a child for each line of standard input (folder, kind, first and last mutant); print how it ended."""
    import torch  # noqa: F401

    import caffe_compat.datasets
    import caffe_compat.solver  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _live(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _live(folder: str, name: str, start: int, stop: int) -> NoReturn:
    """The life of a child; what it says goes into files of the folder."""
    status = 1
    try:
        os.chdir(folder)
        for descriptor, said in enumerate(SAID, 1):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        work(name, start, stop)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


class Server:
    """The process (of ``script``) off which children are forked; it starts with the first of them."""

    def __init__(self, script: Path = HERE) -> None:
        self.script, self.process = script, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.communicate()

    def work(self, folder: Path, name: str, start: int, stop: int) -> int:
        """Run mutants in a child; its exit status."""
        if self.process is None:
            paths = (HERE.parents[1], HERE.parent, HERE.parent / "datasets")
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", str(self.script), "--serve"], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))},
            )  # fmt: skip
        print(json.dumps([str(folder), name, start, stop]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


def run(name: str, count: int, folder: Path, server: Server, start: int = 0) -> list[tuple[int, str]]:
    """Run ``count`` mutants of a kind in children of a server; the findings."""
    found: list[tuple[int, str]] = []
    stop, at = start + count, start
    while at < stop:
        (folder / "progress").write_text(str(at))
        status = server.work(folder, name, at, stop)
        out, err = ((folder / said).read_text(errors="replace") for said in SAID)
        found += [tuple(json.loads(line)) for line in out.splitlines() if line.startswith("[")]
        at = int((folder / "progress").read_text())
        if status and at < stop:
            found.append((at, f"the process ended with status {status}: {err[-1500:]}"))
            at += 1
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10000, help="mutants of all kinds together (%(default)s)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind")
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--only", type=int, help="run this mutant of --kind here, and show what happens")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    kinds = arguments.kind or list(KINDS)
    with tempfile.TemporaryDirectory() as name, Server() as server:
        if arguments.only is not None:
            os.chdir(name)
            kind = KINDS[kinds[0]]
            path = Path(f"mutant{kind.suffix}")
            path.write_bytes(mutant(kind, kinds[0], arguments.only, kind.seeds()))
            print(path.read_text("utf-8") if kind.text else path.read_bytes())
            kind.use()(str(path))
            return 0
        bad = 0
        for kind_name in kinds:
            clock = time.perf_counter()
            count = arguments.count // len(kinds)
            found = run(kind_name, count, Path(name), server, arguments.start)
            bad += len(found)
            print(f"{kind_name}: {count} mutants, {len(found)} findings, {time.perf_counter() - clock:.0f} s")
            for number, what in found[:20]:
                print(f"  {number}: {what}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
