"""The committed hypercolumn nets: make_sds.py writes the same files; they are the branch's nets, and they build."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from caffe_compat.commands import make_sds
from caffe_compat.config import load_config
from caffe_compat.description import State, describe_net
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, read_net, read_solver

SDS = ROOT / "prototxt" / "sds"
FOLDERS = sorted(path.name for path in SDS.iterdir())
TRAINED = sorted(path.parent.name for path in SDS.glob("*/train.prototxt"))
FUSED = {
    "alexnet_rgb_alexnet_hha": ("alexnet_rgb", "alexnet_hha"),
    "alexnet_rgb_caffenet_hha": ("alexnet_rgb", "caffenet_hha"),
    "vgg16_rgb_alexnet_hha": ("vgg16_rgb", "alexnet_hha"),
}
MAPS = {"vgg16": (("pool3", 0.0027, 3), ("pool4", 0.063, 1)), "": (("pool2", 0.0074, 3), ("conv4", 0.0909, 1))}
BOXES = 7
SHAPES = {"normalizedboxes": (BOXES, 6, 1, 1), "sppboxes": (BOXES, 5, 1, 1), "categids": (BOXES, 1, 1, 1)}
SHAPES |= {"labels": (BOXES, 1, 50, 50), "instance_wts": (BOXES, 1, 1, 1)}
PICTURE = (1, 3, 688, 907)


def maps_of(folder: str) -> tuple[tuple[str, float, int], ...]:
    return () if folder.endswith("_fc7") else MAPS["vgg16" if folder.startswith("vgg16") else ""]


def built(message: Any, phase: str) -> Net:
    """The net on the meta device, for a whole image and several boxes; a data layer becomes inputs."""
    layers = []
    for layer in message.layer:
        if layer.type not in ("Input", "Python"):
            layers.append(layer)
            continue
        for top in layer.top:
            layers.append(caffe_pb2.LayerParameter(name=top, type="Input", top=[top]))
            layers[-1].input_param.shape.add(dim=SHAPES.get(top, PICTURE))
    whole = caffe_pb2.NetParameter(name=message.name, layer=layers)
    with torch.device("meta"):
        return Net(describe_net(whole, State(phase)))


def test_the_nets_of_the_paper_are_there_with_and_without_maps() -> None:
    with_maps = {*FUSED, "alexnet_rgb", "alexnet_hha", "caffenet_hha", "vgg16_rgb"}
    assert set(FOLDERS) == with_maps | {f"{name}_fc7" for name in with_maps}
    assert {name.removesuffix("_fc7") for name in set(FOLDERS) - set(TRAINED)} == set(FUSED)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_tool_writes_the_committed_files(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = {path.name: path.read_text() for path in (SDS / folder).iterdir()}
    words = shlex.split(committed["config.yml"].splitlines()[1].lstrip("# "))
    monkeypatch.chdir(tmp_path)
    assert make_sds.main(words[1:]) == 0
    assert {path.name: path.read_text() for path in Path("prototxt", "sds", folder).iterdir()} == committed


@pytest.mark.parametrize("folder", FOLDERS)
def test_test_nets_give_a_mask_for_each_box(folder: str) -> None:
    net = built(read_net(SDS / folder / "test.prototxt"), "TEST")
    pictures = ("image", "da_image") if folder.removesuffix("_fc7") in FUSED else ("image",)
    assert net.input_names == [*pictures, "normalizedboxes", "sppboxes", "categids"]
    assert net.output_names == ["fusion_loss" if len(pictures) > 1 else "loss"]
    assert net.blob_shapes[net.output_names[0]] == (BOXES, 1, 50, 50)
    heads = [node for node in net.nodes if node.name.removeprefix("da_").startswith(("conv_", "fcfc7"))]
    assert {node.layer.blob_shapes[0][0] for node in heads} == {475}
    assert len(heads) == len(pictures) * (1 if folder.endswith("_fc7") else 3)


@pytest.mark.parametrize("folder", TRAINED)
def test_training_nets_are_the_branch_s(folder: str) -> None:
    message = read_net(SDS / folder / "train.prototxt")
    kind = "hha" if "hha" in folder else "images"
    prefix = "da_" if kind == "hha" else ""
    data = message.layer[0]
    assert list(data.top) == ["image", "normalizedboxes", "sppboxes", "categids", "labels", "instance_wts"]
    assert (data.python_param.module, data.python_param.layer) == (
        "lib.sds.hypercolumn_data_layer",
        "HypercolumnDataLayer",
    )
    assert data.python_param.param_str == f"--imdb_name nyud2_{kind}_2015_trainval --max_size 688"
    net = built(message, "TRAIN")
    assert net.output_names == [f"{prefix}loss"] and list(net.plan.losses.values()) == [1]
    test = built(read_net(SDS / folder / "test.prototxt"), "TEST")
    ours, theirs = (
        {node.name: node.layer.blob_shapes for node in one.nodes if node.layer.blobs} for one in (net, test)
    )
    assert ours == theirs
    known = {layer.name.removeprefix(prefix): layer for layer in message.layer}
    grid = known["grid"].local_layer_param
    assert (grid.grid_size, grid.pos_loss_wt, grid.neg_loss_wt) == (5, 1, 1)
    assert not known["roi_pool5"].roi_pooling_param.HasField("spatial_scale"), "regions are in cells"
    assert known["drop6"].dropout_param.dropout_ratio == known["drop7"].dropout_param.dropout_ratio == 0.5
    for blob, scale, kernel in maps_of(folder):
        assert round(known[f"scale_{blob}"].scale_param.scale, 6) == scale
        assert list(known[f"scale_{blob}"].bottom) == [prefix + blob]
        conv = known[f"conv_{blob}"].convolution_param
        assert (list(conv.kernel_size), list(conv.pad) or [0]) == ([kernel], [kernel // 2])
        assert list(known[f"ups_{blob}"].bottom) == [f"{prefix}conv_{blob}", "normalizedboxes"]
        crop = known[f"ups_{blob}"].box_upsample_param
        assert (crop.width, crop.height, crop.channels) == (50, 50, 25)
    summed = [f"{prefix}ups_{blob}" for blob, _, _ in maps_of(folder)] + [f"{prefix}ups_fc7"]
    assert list(known["sum"].bottom if maps_of(folder) else known["grid"].bottom[:1]) == summed


@pytest.mark.parametrize("folder", TRAINED)
def test_only_classifiers_are_trained(folder: str) -> None:
    rates = {}
    for layer in read_net(SDS / folder / "train.prototxt").layer:
        if layer.type in ("Convolution", "InnerProduct"):
            rates[layer.name.removeprefix("da_")] = [(spec.lr_mult, spec.decay_mult) for spec in layer.param]
            param = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
            filled = rates[layer.name.removeprefix("da_")][0][0] > 0
            assert param.HasField("weight_filler") == filled
            if filled:
                assert (param.weight_filler.type, round(param.weight_filler.std, 6)) == ("gaussian", 0.01)
    heads = {f"conv_{blob}": [(1, 1), (2, 0)] for blob, _, _ in maps_of(folder)}
    tenth = rates.pop("fcfc7")
    assert [tuple(round(value, 6) for value in pair) for pair in tenth] == [(0.1, 0.1), (0.2, 0)]
    assert {name: pairs for name, pairs in rates.items() if name in heads} == heads
    assert {pair for name, pairs in rates.items() if name not in heads for pair in pairs} == {(0, 0)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_pads_are_those_that_the_detector_was_trained_with(folder: str) -> None:
    """The branch's HHA nets have other pads than the detectors that they start from; caffenet_hha is these."""
    detection = ROOT / "prototxt" / "detection"
    for layer in read_net(SDS / folder / "test.prototxt").layer:
        name = layer.name
        hha = "caffenet_hha" if "caffenet_hha" in folder else "alexnet_hha"
        other = hha if name.startswith("da_") else "vgg16_rgb" if folder.startswith("vgg16") else "alexnet_rgb"
        theirs = {one.name: one for one in read_net(detection / other / "test.prototxt").layer}
        if name in theirs and layer.type in ("Convolution", "Pooling", "InnerProduct"):
            for field in ("convolution_param", "pooling_param", "inner_product_param"):
                assert getattr(layer, field) == getattr(theirs[name], field), name


@pytest.mark.parametrize("folder", TRAINED)
def test_solvers_and_configurations(folder: str) -> None:
    solver, config = read_solver(SDS / folder / "solver.prototxt"), load_config(SDS / folder / "config.yml")
    kind = "hha" if "hha" in folder else "images"
    assert solver.train_net == f"prototxt/sds/{folder}/train.prototxt"
    assert (solver.iter_size, solver.max_iter, solver.snapshot, solver.display) == (20, 10_000, 2_500, 20)
    assert (solver.lr_policy, solver.stepsize) == ("step", 20_000)
    values = (solver.base_lr, solver.gamma, solver.momentum, solver.weight_decay)
    assert [round(value, 6) for value in values] == [0.001, 0.1, 0.9, 0.001]
    assert solver.snapshot_prefix == f"output/sds/{folder}/nyud2_{kind}_2015_trainval/inst_segm"
    assert config.exp_dir == f"sds/{folder}"
    assert (config.sds.target_size, config.sds.max_size, config.sds.feat_scale, config.sds.mask_size) == (
        688, 1000, 16, 50,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--net", "caffenet"], "how many classes"),
        (["--net", "caffenet", "--classes", "3", "--maps", "pool9=1"], "no map 'pool9'"),
        (["--net", "caffenet", "--classes", "3", "--maps", "pool2"], "'pool2', expected a map and a number"),
        (["--net", "caffenet", "--classes", "3", "--maps", "pool2=-1"], "expected a number above 0"),
        (["--net", "caffenet", "--classes", "3", "--maps", "none", "none"], "--maps of 2 nets, expected 1"),
        (["--net", "caffenet_franken", "--classes", "3"], "a franken net has no masks"),
        (["--net", "caffenet", "--second", "vgg16", "--classes", "3"], "prefix da_"),
        (["--net", "caffenet", "--second", "small_hha", "--classes", "3"], r"nets with cells of \[8, 16\] pixels"),
        (["--net", "caffenet", "--classes", "3", "--mask-size", "0"], "--mask-size 0, expected 1 or more"),
    ],
)
def test_what_make_sds_refuses(words: list[str], part: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=part):
        make_sds.main([*words, "--folder", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()
