"""preprocessing.json beside weights: what data layers say, and that every command that makes weights writes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from layers.data_files import image, write_images, write_lmdb
from program import call
from transfer.tiny_nets import MAKE_TRANSFER, write_nets, write_pairs, write_teacher

from caffe_compat.commands import compress_net, detect, make_transfer, match_norms, net_surgery, train_net
from caffe_compat.commands.describing import fed
from caffe_compat.commands.detecting import encoder_for
from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.camera import Camera
from caffe_compat.depth.modalities import Options
from caffe_compat.depth.stated import encoder_of, stated_encoding
from caffe_compat.detection.description import check_described, describe_detector
from caffe_compat.errors import DataError, UsageError
from caffe_compat.frames.png import write_encoded
from caffe_compat.media import (
    Encoding,
    Preparation,
    Preprocessing,
    describe_weights,
    model_preparation,
    read_preparation,
    stored_preparation,
    write_mean,
)
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2

LAYER = """name: "t"
layer { name: "in" type: "%s" top: "data" top: "label" transform_param { %s } %s }
"""
LIST = 'image_data_param { source: "list.txt" batch_size: 1 %s }'
DB = 'data_param { source: "db" backend: LMDB batch_size: 1 }'


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, height=12, width=14)
    mean = np.random.default_rng(0).normal(100, 20, (3, 12, 14)).astype(np.float32)
    write_mean("m.binaryproto", mean)


def datum(number: int, height: int = 12, width: int = 14, channels: int = 3) -> bytes:
    pixels = image(number, height, width)[..., :channels].transpose(2, 0, 1)
    return caffe_pb2.Datum(channels=channels, height=height, width=width, data=pixels.tobytes()).SerializeToString()


# -- data layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, transform, own",
    [
        ("ImageData", "mean_value: 104.00699 mean_value: 116.66877 mean_value: 122.67892 scale: 0.017", LIST % ""),
        ("ImageData", "mean_value: 100 crop_size: 8", LIST % "new_height: 10 new_width: 11"),
        ("ImageData", 'mean_file: "m.binaryproto" crop_size: 7', LIST % ""),
        ("ImageData", "scale: 0.00390625", LIST % "is_color: false"),
        ("Data", 'mean_file: "m.binaryproto" crop_size: 7 scale: 2', DB),
        ("Data", "mean_value: 3", DB),
    ],
)
def test_what_a_layer_says_gives_what_it_reads(kind: str, transform: str, own: str) -> None:
    write_lmdb(Path("db"), [datum(number) for number in range(3)])
    Path("n.prototxt").write_text(LAYER % (kind, transform, own))
    net = load_net("n.prototxt", phase="TEST")
    wanted = fed(net)["data"]
    picture = wanted.picture("0.png") if kind == "ImageData" else image(0, 12, 14)
    assert np.array_equal(net()["data"][0].numpy(), wanted.blob(picture))
    assert wanted.modality == ("gray" if "is_color" in own else "color") and not wanted.flip


def test_records_of_several_sizes_and_channels_that_no_picture_has() -> None:
    write_lmdb(Path("db"), [datum(0), datum(1, 20, 30)])
    Path("n.prototxt").write_text(LAYER % ("Data", "crop_size: 8 mirror: true", DB))
    assert fed(load_net("n.prototxt", phase="TEST"))["data"] == Preprocessing(mean=(), crop=(8, 8))
    write_lmdb(Path("db2"), [datum(0, channels=2)])
    Path("n.prototxt").write_text(LAYER % ("Data", "", DB.replace('"db"', '"db2"')))
    assert fed(load_net("n.prototxt", phase="TEST")) == {}


def test_pairs_say_what_both_pictures_are() -> None:
    pairs = """name: "t" layer { name: "in" type: "PairedImageData" top: "data" top: "depth"
      paired_image_data_param { source: "pairs.txt" batch_size: 1 scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3
        mean_value_1: 128 short_side: 10 crop_height: 8 crop_width: 9 } }"""
    Path("n.prototxt").write_text(pairs)
    net = load_net("n.prototxt", phase="TEST")
    wanted = fed(net)
    assert [one.modality for one in wanted.values()] == ["color", "unknown"]
    tops = net(blobs=["data", "depth"])
    for (name, one), file in zip(wanted.items(), ("0.png", "0 second.png"), strict=True):
        assert np.array_equal(tops[name][0].numpy(), one.blob(one.picture(file)))


# -- encodings --------------------------------------------------------------------------------------------------------

CAMERA = Camera(30.0, 31.0, 15.5, 11.5, origin=1)


def write_hha(folder: Path, count: int = 3, camera: Camera = CAMERA, **options: object) -> list[str]:
    encoder = Options("hha", "none", **{"nearest": 0.5, "scale": 12000.0, **options}).encoder(camera)
    paths = []
    folder.mkdir(exist_ok=True)
    for number in range(count):
        paths.append(str(folder / f"{number}.png"))
        write_encoded(paths[-1], np.full((24, 32, 3), number, np.uint8), encoder.parameters())
    return paths


def test_pictures_say_how_they_were_made_and_are_made_so_again(tmp_path: Path) -> None:
    paths = write_hha(tmp_path / "one")
    found = stated_encoding(paths)
    assert found is not None and (found.kind, found.fill, found.scale, found.min_depth) == ("hha", "none", 12000.0, 0.5)
    assert found.camera == (30.0, 31.0, 15.5, 11.5) and found.origin == 1 and found.gravity[0] == (45.0, 5)
    encoder = encoder_of(found)
    assert encoder.options == Options("hha", "none", nearest=0.5, scale=12000.0) and encoder.camera == CAMERA
    describe = Preparation({"data": Preprocessing("hha", encoding=found)})
    Path("w").write_bytes(b"w")
    describe_weights("w", describe)
    assert read_preparation("preprocessing.json").first.encoding == found
    other = stated_encoding(paths + write_hha(tmp_path / "two", camera=Camera(40.0, 41.0, 15.5, 11.5)))
    assert other == dataclasses.replace(found, camera=None, origin=0)
    with pytest.raises(DataError, match="camera"):
        encoder_of(dataclasses.replace(found, camera=None))
    assert stated_encoding(paths + write_hha(tmp_path / "three", scale=31000.0)) is None
    assert stated_encoding(["0.png"]) is None and stated_encoding([*paths, "0.png"]) is None and not stated_encoding([])
    with pytest.raises(UsageError, match="made by version 9"):
        encoder_of(dataclasses.replace(found, version=9))


def test_detect_encodes_depth_as_in_training_but_for_what_it_is_told() -> None:
    known = Encoding("hha", "none", 12000.0, 0.5, 8.0, (30.0, 31.0, 15.5, 11.5), 1)
    Path("w").write_bytes(b"")
    words = ["--def", "0.png", "--net", "w", "--depth", "0.png"]
    asked = encoder_for(detect.make_parser().parse_args(words), known)
    assert asked.options == Options("hha", "none", nearest=0.5, farthest=8.0, scale=12000.0) and asked.camera == CAMERA
    more = ["--camera", "40,41,15.5,11.5", "--near", "1", "--fill", "nearest", "--min-depth", "0.1"]
    asked = encoder_for(detect.make_parser().parse_args([*words, *more]), known)
    assert asked.options == Options("hha", "nearest", nearest=0.1, farthest=8.0, scale=25500.0)
    assert asked.camera == Camera(40.0, 41.0, 15.5, 11.5)
    assert encoder_for(detect.make_parser().parse_args([*words, *more[:2]]), None).options == Options("hha")
    with pytest.raises(UsageError, match="--camera is missing"):
        encoder_for(detect.make_parser().parse_args(words), None)


def test_a_detector_of_two_modalities_has_an_entry_for_each(tmp_path: Path) -> None:
    hha = write_hha(tmp_path / "hha")
    records = [FrameRecord(str(n), paths={"images": f"{n}.png", "hha": hha[n]}, size=(24, 32)) for n in range(3)]
    imdb = ImageDatabase("x", ("bed", "chair"), ("images", "hha"), records)
    config = Config()
    test = dataclasses.replace(config.test, modality_scales=((600,), (400,)))
    found = describe_detector(imdb, dataclasses.replace(config, test=test))
    assert list(found.inputs) == ["data", "data_1"] and found.classes == ("__background__", "bed", "chair")
    color, depth = found.inputs.values()
    assert (color.modality, color.short_side, color.encoding) == ("color", 600, None)
    assert (depth.modality, depth.short_side) == ("hha", 400) and depth.encoding == stated_encoding(hha)
    check_described(found, imdb, config, "w")
    for wrong, message in (
        (
            dataclasses.replace(imdb, classes=("bed", "table")),
            "w: was trained on other classes than those of x: chair and",
        ),
        (dataclasses.replace(imdb, classes=("bed",)), "their number differ"),
    ):
        with pytest.raises(UsageError, match=message):
            check_described(found, wrong, config, "w")
    with pytest.raises(UsageError, match="wants a mean of .*PIXEL_MEANS are"):
        check_described(found, imdb, dataclasses.replace(config, pixel_means=(1.0, 2.0, 3.0)), "w")
    own = dataclasses.replace(config, modality_means=(config.pixel_means, (128.0,) * 3))
    with pytest.raises(UsageError, match="input 'data_1' wants a mean of .*MODALITY_MEANS are .128.0"):
        check_described(found, imdb, own, "w")
    fed = describe_detector(imdb, own)
    assert fed.inputs["data"].mean == config.pixel_means and fed.inputs["data_1"].mean == (128.0,) * 3
    check_described(fed, imdb, own, "w")
    alone = Preparation({"data": fed.inputs["data_1"]})  # of weights that are the net's second part
    check_described(alone, imdb, own, "w", first=1)
    with pytest.raises(UsageError, match="input 'data' wants a mean of .128.0"):
        check_described(alone, imdb, config, "w", first=1)


# -- commands ---------------------------------------------------------------------------------------------------------

NET = """name: "small"
layer { name: "in" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mean_value: 100 crop_size: 8 mirror: true } image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "in" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { mean_value: 100 crop_size: 9 } image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6"
  inner_product_param { num_output: 20 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 4 snapshot: 2 snapshot_prefix: "out/small"
test_iter: 1 test_interval: 100 random_seed: 1 %s
"""
SHAPE = "input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } }"
DEPLOY = f"""name: "small" layer {{ name: "data" type: "Input" top: "data" {SHAPE} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 5 }} }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ pool: AVE global_pooling: true }} }}
"""
FC6 = 'layer { name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6" inner_product_param { num_output: 20 } }\n'
SVD = """layer { name: "fc6_L" type: "InnerProduct" bottom: "pool" top: "fc6_L"
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "fc6_U" type: "InnerProduct" bottom: "fc6_L" top: "fc6" inner_product_param { num_output: 20 } }
"""
WANTED = Preprocessing(mean=(100.0,), crop=(9, 9), flip=True)


def write_training(more: str = "") -> None:
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER % more)
    Path("out").mkdir(exist_ok=True)


@pytest.mark.parametrize("more, ending", [("", ""), ("snapshot_format: HDF5", ".h5")])
def test_training_writes_it_beside_every_snapshot(more: str, ending: str) -> None:
    write_training(more)
    assert train_net.main(["--solver", "solver.prototxt", "--gpu", "-1"]) == 0
    found = read_preparation("out/preprocessing.json")
    assert dict(found.inputs) == {"data": WANTED}
    assert sorted(found.weights) == [f"small_iter_{number}.caffemodel{ending}" for number in (2, 4)]
    for name in found.weights:
        assert stored_preparation(Path("out", name)) == found
    with open(f"out/small_iter_2.caffemodel{ending}", "r+b") as stream:
        stream.write(b"?")
    with pytest.raises(DataError, match="out/preprocessing.json: was written for other weights: .*small_iter_2"):
        stored_preparation(f"out/small_iter_2.caffemodel{ending}")


def test_caffe_train_and_a_resumed_run_write_it_too() -> None:
    write_training()
    assert call("caffe", "train", "-solver", "solver.prototxt", folder=Path.cwd()).status == 0
    before = read_preparation("out/preprocessing.json")
    Path("solver.prototxt").write_text((SOLVER % "").replace("max_iter: 4", "max_iter: 6"))
    words = ("train", "-solver", "solver.prototxt", "-snapshot", "out/small_iter_4.solverstate")
    assert call("caffe", *words, folder=Path.cwd()).status == 0
    after = read_preparation("out/preprocessing.json")
    assert after.inputs == before.inputs and dict(before.weights).items() < dict(after.weights).items()
    assert len(after.weights) == 3


def test_a_net_without_pictures_gets_none(tmp_path: Path) -> None:
    text = NET
    start = text.index('layer { name: "conv"')
    dummy = """layer { name: "in" type: "DummyData" top: "data" top: "label"
      dummy_data_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } shape { dim: 2 } } }
    """
    Path("net.prototxt").write_text('name: "small"\n' + dummy + text[start:])
    Path("solver.prototxt").write_text(SOLVER % "")
    Path("out").mkdir()
    assert train_net.main(["--solver", "solver.prototxt", "--gpu", "-1"]) == 0
    assert Path("out/small_iter_4.caffemodel").exists() and not Path("out/preprocessing.json").exists()


def test_compression_and_surgery_hand_it_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_training()
    assert train_net.main(["--solver", "solver.prototxt", "--gpu", "-1"]) == 0
    Path("deploy.prototxt").write_text(DEPLOY + FC6)
    Path("svd.prototxt").write_text(DEPLOY + SVD)
    words = ["--def", "deploy.prototxt", "--def-svd", "svd.prototxt", "--net", "out/small_iter_4.caffemodel"]
    assert compress_net.main(words) == 0
    assert "and what it wants of pictures in out/preprocessing.json" in capsys.readouterr().out
    assert stored_preparation("out/small_iter_4_svd_fc6_2.caffemodel").first == WANTED  # type: ignore[union-attr]
    # two nets side by side: the second input wants what the other net does
    both = (DEPLOY + FC6).replace('bottom: "pool"', 'bottom: "joined"')
    second = DEPLOY.split("\n", 1)
    renamed = (
        second[0].replace('"data"', '"hha"').replace('name: "small" ', "")
        + "\n"
        + second[1].replace('"conv"', '"conv_2"')
    )
    renamed = renamed.replace('bottom: "data"', 'bottom: "hha"').replace('"pool"', '"pool_2"')
    concat = 'layer { name: "joined" type: "Eltwise" bottom: "pool" bottom: "pool_2" top: "joined" }\n'
    head, tail = both.split('layer { name: "fc6"')
    Path("both.prototxt").write_text(f'{head}{renamed}{concat}layer {{ name: "fc6"{tail}')
    Path("other").mkdir()
    load_net("deploy.prototxt").save("other/hha.caffemodel")
    hha = Preprocessing("hha", classes=("a", "b"))
    describe_weights("other/hha.caffemodel", Preparation({"data": hha}))
    copies = [
        ("out/small_iter_4.caffemodel", ["conv", "fc6"], ["conv", "fc6"]),
        ("other/hha.caffemodel", ["conv", "fc6"], ["conv_2", "fc6"]),
    ]
    entries = [
        {"prototxt": "deploy.prototxt", "model": model, "copy_ops": {"source": source, "dest": dest, "reshape": [0, 0]}}
        for model, source, dest in copies
    ]
    Path("surgery.json").write_text(json.dumps(entries))
    Path("made").mkdir()
    words = ["--out_net_def", "both.prototxt", "--net_surgery_json", "surgery.json"]
    assert net_surgery.main([*words, "--out_net_file", "made/both.caffemodel"]) == 0
    found = stored_preparation("made/both.caffemodel")
    assert found is not None and found.classes == ("a", "b")  # of the net that the last layer is from
    assert dict(found.inputs) == {"data": dataclasses.replace(WANTED, classes=("a", "b")), "hha": hha}


def test_a_transfer_from_recipe_to_franken_net() -> None:
    """What the recipe says of the student stands beside its snapshots and beside the net that surgery makes."""
    folder = Path.cwd()
    write_nets(folder)
    write_pairs(folder / "pairs")
    write_teacher(folder)
    words = [*MAKE_TRANSFER, "--modality", "thermal", "--max-iter", "2", "--teacher-weights", "teacher.caffemodel"]
    assert make_transfer.main([*words, "--no-measure"]) == 0
    assert train_net.main(["--solver", "out/solver.prototxt", "--gpu", "-1"]) == 0
    snapshot = "out/transfer_iter_2.caffemodel"
    found = stored_preparation(snapshot)
    assert found is not None and {name: one.modality for name, one in found.inputs.items()} == {
        "data": "color",
        "da_data": "thermal",
    }
    assert found.of(["da_data"])["da_data"].crop is None
    words = ["--out_net_def", "out/franken_deploy.prototxt", "--net_surgery_json", "out/surgery.json"]
    assert net_surgery.main([*words, "--out_net_file", "out/franken.caffemodel"]) == 0
    franken = model_preparation("out/franken_deploy.prototxt", "out/franken.caffemodel")
    assert franken is not None and {name: one.modality for name, one in franken.inputs.items()} == {
        "da_data": "thermal"
    }
    words = ["--model", "out/train_val.prototxt", "--weights", snapshot, "--output", "out/matched.caffemodel"]
    assert match_norms.main([*words, "--count", "1"]) == 0
    assert stored_preparation("out/matched.caffemodel").inputs == found.inputs  # type: ignore[union-attr]


def test_extract_features_tells_of_other_numbers(tmp_path: Path) -> None:
    write_training()
    torch.manual_seed(0)
    load_net("net.prototxt", phase="TEST").save("out/n.caffemodel")
    describe_weights("out/n.caffemodel", Preparation({"data": Preprocessing(mean=(99.0,))}))
    done = call("extract_features", "out/n.caffemodel", "net.prototxt", "fc6", "db_out", 1, "lmdb", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "feeds 'data' with mean (100.0,), the weights want (99.0,)" in done.stderr


def test_pictures_of_one_channel_are_read_so() -> None:
    cv2.imwrite("g.png", np.arange(20, dtype=np.uint8).reshape(4, 5))
    wanted = Preprocessing("gray", scale=0.5)
    assert np.array_equal(wanted.blob(wanted.picture("g.png"))[0], np.arange(20).reshape(4, 5) / 2)
