"""Batches that worker processes read: the same as without, in order, and no process outlives its use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from data_files import annotated, datum, write_boxes, write_images, write_lmdb, write_windows
from gpu import cases, needs_gpu
from one_layer import one_layer
from processes import gone, wait_until
from torch import Tensor

from caffe_compat.batches.crew import WORKERS, Crew, crew_of
from caffe_compat.batches.reader import new_array
from caffe_compat.batches.slots import can_share
from caffe_compat.errors import CaffeCompatError, DataError, LayerError, UsageError
from caffe_compat.layers.data import DataLayer
from caffe_compat.layers.data.sending import developed
from caffe_compat.ranks import Turns

pytestmark = pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")

Batch = tuple[Tensor, ...]
SSD = (
    "resize_param { height: 12 width: 9 } noise_param { prob: 0.5 jpeg: 50 } "
    "expand_param { prob: 0.5 max_expand_ratio: 2 } distort_param { brightness_prob: 0.5 brightness_delta: 30 }"
)


@pytest.fixture(scope="module")
def crews() -> Iterator[list[Crew]]:
    """Workers that stay for all tests of this file: layers with as many share them."""
    held = [crew_of(1), crew_of(3)]
    yield held
    for crew in held:
        crew.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    write_images(path, 5, 9, 12)
    write_lmdb(path / "lmdb", [datum(number) for number in range(5)])
    write_boxes(path, 5, 20, (9, 12))
    write_windows(path)
    boxes = [(1, 0.1, 0.2, 0.6, 0.9), (3, 0.5, 0.5, 1.0, 0.8)]
    write_lmdb(path / "boxes", [annotated(number, boxes[: number % 3]) for number in range(5)])
    (path / "maps.txt").write_text("".join(f"{n}.png {(n + 1) % 5}.png\n" for n in range(5)))
    return path


def layer(kind: str, folder: Path, text: str = "", crop: str = "crop_size: 4") -> DataLayer:
    """A layer that shuffles, mirrors and crops, its seed given."""
    list_, pairs = f'source: "{folder}/list.txt" batch_size: 3', f'source: "{folder}/pairs.txt" batch_size: 3'
    windows = f'source: "{folder}/windows.txt"'
    maps = f'source: "{folder}/maps.txt" root_folder: "{folder}/" batch_size: 3'
    transform = f"transform_param {{ mirror: true {crop} mean_value: 3.5 scale: 0.3 }}"
    bodies = {
        "ImageData": f"image_data_param {{ {list_} shuffle: true {text} }} {transform}",
        "Data": f'data_param {{ source: "{folder}/lmdb" backend: LMDB batch_size: 3 shuffle: true }} {transform}',
        "PairedImageData": f"paired_image_data_param {{ {pairs} shuffle: true mirror: true crop_height: 4 "
        f"crop_width: 5 mean_value: 3 scale: 0.5 negate_x_channel: 2 seed: 4 {text} }}",
        "AnnotatedData": f'data_param {{ source: "{folder}/boxes" backend: LMDB batch_size: 3 shuffle: true }} '
        f"transform_param {{ mirror: true mean_value: 3 {SSD} }} annotated_data_param {{ batch_sampler {{ "
        "max_sample: 1 max_trials: 5 sampler { min_scale: 0.3 } } }",
        "DenseImageData": f"dense_image_data_param {{ {maps} mirror: true crop_height: 5 crop_width: 4 }}",
        "ImageLabelmapData": f"image_data_param {{ {maps} shuffle: true }} {transform}",
        "ImageSegData": f"image_data_param {{ {maps} shuffle: true label_type: PIXEL }} "
        f"{transform.replace('}', 'scale_factors: 0.7 scale_factors: 1.5 }')}",
        "WindowData": f"window_data_param {{ {windows} batch_size: 3 fg_fraction: 0.5 }} {transform}",
    }
    torch.manual_seed(7)
    made = one_layer(kind, bodies[kind], tops=("a", "b", "rois")[: 3 if "proposals" in text else 2], phase="TRAIN")
    assert isinstance(made, DataLayer)
    return made


def batches(data: DataLayer, count: int) -> list[Batch]:
    return [tuple(top.clone() for top in data()) for _ in range(count)]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("kind", ["ImageData", "Data", "PairedImageData"])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_one_process(crews: list[Crew], folder: Path, kind: str, workers: int) -> None:
    expected = batches(layer(kind, folder), 9)
    assert not same(expected[:4], expected[4:8])
    data = layer(kind, folder)
    data.workers = workers
    assert same(batches(data, 9), expected)
    assert data.position == 9 and data.waited > 0 and len(crew_of(workers).pids) > 0
    data.seek(4)
    assert same(batches(data, 3), expected[4:7])
    data.close()
    assert same(batches(data, 2), expected[7:])
    data.take_turns(Turns(1, 3))  # one of three that train together
    data.seek(0)
    assert same(batches(data, 3), expected[1::3])


OTHERS = ("AnnotatedData", "DenseImageData", "ImageLabelmapData", "ImageSegData", "WindowData")


@pytest.mark.parametrize("kind", OTHERS)
def test_other_layers_that_decode(crews: list[Crew], folder: Path, kind: str) -> None:
    expected, data = batches(layer(kind, folder), 4), layer(kind, folder)
    data.workers = 1
    assert data.can_use_workers and same(batches(data, 4), expected)
    assert not same(expected[:2], expected[2:])


@pytest.mark.parametrize("kind", ["ImageData", "Data", "PairedImageData"])
def test_bytes_for_a_gpu_become_the_same_numbers(folder: Path, kind: str) -> None:
    """Where pictures go to a GPU as uint8, mean and scale are taken there."""
    for text in ("", "negate_about: 127.5") if kind == "PairedImageData" else ("",):
        data = layer(kind, folder, text)
        assert data.reader is not None
        made = data.reader.as_bytes()
        assert made is not None
        for number in range(4):
            found = tuple(map(torch.from_numpy, made.reader.read(data.job(number), new_array)))
            expected = tuple(map(torch.from_numpy, data.read(number)))
            pictures = 2 if kind == "PairedImageData" else 1
            assert [top.dtype for top in found[:pictures]] == [torch.uint8] * pictures
            assert same([developed(found, made.levels)], [expected])
    odd = layer("PairedImageData", folder, "negate_about: 127.3")
    assert odd.reader is not None and odd.reader.as_bytes() is None, "what a mirror makes are no bytes"


@needs_gpu
@pytest.mark.parametrize("workers", cases([0, 3]))
def test_batches_on_a_gpu(crews: list[Crew], folder: Path, workers: int) -> None:
    for kind in ("ImageData", "Data", "PairedImageData"):
        expected, data = batches(layer(kind, folder), 4), layer(kind, folder).cuda()
        data.workers = workers
        found = batches(data, 4)
        assert all(top.is_cuda and top.dtype == torch.float32 for batch in found for top in batch)
        assert same([tuple(top.cpu() for top in batch) for batch in found], expected)


def test_rois_follow_their_pictures(crews: list[Crew], folder: Path) -> None:
    text = f'proposals: "{folder}/boxes.npz" rois_per_image: 2'
    expected, data = (layer("PairedImageData", folder, text) for _ in range(2))
    data.workers = 3
    wanted = batches(expected, 5)
    assert len(wanted[0]) == 3 and wanted[0][2].shape[1] == 5
    assert same(batches(data, 5), wanted)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_error_is_the_same(crews: list[Crew], tmp_path: Path, workers: int) -> None:
    write_images(tmp_path, 3)
    data = layer("ImageData", tmp_path, "", crop="")
    data.workers = workers
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        data()
    line = next(n for n in range(3) if f"line {n + 1}:" in str(caught.value)) + 1
    reason = f"{tmp_path}/{line - 1}.png: is no image that OpenCV can decode (10 bytes)"
    assert str(caught.value) == f"layer 'under_test' (ImageData): {tmp_path}/list.txt, line {line}: {reason}"
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    data.seek(50)
    with pytest.raises(CaffeCompatError, match=r"layer 'under_test' .*list.txt, line \d: Could not open file .*png"):
        data()
    write_images(tmp_path, 3)
    data.seek(0)
    assert same([tuple(top.clone() for top in data())], batches(layer("ImageData", tmp_path, "", crop=""), 1))


def test_a_worker_that_dies_is_an_error_and_is_replaced(crews: list[Crew], folder: Path) -> None:
    expected, data = batches(layer("ImageData", folder), 1), layer("ImageData", folder)
    data.workers = 1
    data()
    data.close()  # now nothing is being read ahead
    (pid,) = crew_of(1).pids
    os.kill(pid, signal.SIGKILL)
    data.seek(1000)
    with pytest.raises(DataError) as caught:
        data()
    message = str(caught.value)
    assert message.startswith("layer 'under_test' (ImageData): a worker process ended (signal SIGKILL")
    assert "while it read batch 1000" in message and f"{folder}/list.txt: {folder}/" in message
    assert gone(pid)
    data.seek(0)
    assert same(batches(data, 1), expected) and crew_of(1).pids not in ([], [pid])


def test_workers_end_with_the_last_layer_and_batches_outlive_them(folder: Path) -> None:
    data, other = layer("ImageData", folder), layer("Data", folder)
    data.workers = other.workers = 2
    first, second = data(), other()
    copies = [top.clone() for top in (*first, *second)]
    pids = crew_of(2).pids
    assert pids
    del data
    gc.collect()
    other()
    del other
    gc.collect()
    wait_until(lambda: all(map(gone, pids)))
    assert all(torch.equal(top, copy) for top, copy in zip((*first, *second), copies, strict=True))
    first[0].add_(1)
    assert torch.equal(first[0], copies[0] + 1)


def test_the_environment_decides_and_what_is_wrong_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, "2")
    data = layer("ImageData", folder)
    assert data.workers == 2 and layer("PairedImageData", folder, "prefetch: 0").workers == 0
    with pytest.raises(LayerError, match="workers is -1, expected 0 or more"):
        data.workers = -1
    for text in ("two", "-1", "1.5", "99999"):
        monkeypatch.setenv(WORKERS, text)
        with pytest.raises(UsageError, match=f"{WORKERS} is '{text}', expected 0"):
            layer("ImageData", folder)
    monkeypatch.setenv(WORKERS, "auto")
    assert layer("ImageData", folder).workers >= 1
