"""Hypercolumn nets with ``--gpu 0``: training and test."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gpu import DEVICE, needs_gpu, same, weights_in
from program import call
from segmentation.small_masks import OUT, TRAINING, near_objects, write_run, write_scenes

from caffe_compat.config import load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.media import read_picture
from caffe_compat.segmentation.asking import ask_masks
from caffe_compat.segmentation.inference import Masks, load_mask_net

pytestmark = needs_gpu


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_scenes(folder)
    return folder


def _train(made: Path, folder: Path, gpu: int) -> list[np.ndarray]:
    folder.mkdir()
    write_run(folder, made, "--no-dropout")
    done = call("train_net", *TRAINING[:-3], gpu, *TRAINING[-2:], folder=folder)
    assert done.status == 0, done.stderr
    return weights_in(folder / OUT / "inst_segm_iter_6.caffemodel")


def test_training_goes_as_on_the_cpu(made: Path, tmp_path: Path) -> None:
    on_gpu, on_cpu = _train(made, tmp_path / "gpu", 0), _train(made, tmp_path / "cpu", -1)
    for index, (got, wanted) in enumerate(zip(on_gpu, on_cpu, strict=True)):
        same(f"blob {index}", got, wanted, 1e-3)


def test_masks_are_those_of_the_cpu(made: Path, tmp_path: Path) -> None:
    _train(made, tmp_path / "run", -1)
    folder = tmp_path / "run"
    config = load_config(folder / "masks" / "config.yml")
    imdb, found = find_imdb(f"tree:{folder}/scenes,split=test"), near_objects(folder)
    for number, record in enumerate(imdb.records):
        question = ask_masks([read_picture(record.paths["images"])], found.of_image(number), config)
        said = []
        for device in (DEVICE, "cpu"):
            net, _ = load_mask_net(
                folder / "masks" / "test.prototxt", [folder / OUT / "inst_segm_iter_6.caffemodel"], config
            )
            said.append(Masks(net, 1, config, device)(question))
        same(record.name, said[0], said[1])
    shutil.rmtree(folder)
