"""HHA as a GPU computes it: nothing waits for numbers on the way, and the pictures are the CPU's.

Without a GPU its formulas run on the CPU, and its device is played: tensors without values that know where they are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from gpu import needs_gpu
from hha_reference import CAMERA, room
from test_hha import REAL, levels, load, needs_real
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from caffe_compat.depth import CAMERAS, hha, hha_image
from caffe_compat.depth.gravity import find_gravity
from caffe_compat.frames import read_encoded


@pytest.fixture
def formulas(monkeypatch):
    """The formulas of a GPU, on the CPU."""
    monkeypatch.setattr(hha_image, "find_gravity", functools.partial(find_gravity, waits=False))


class Reads(TorchDispatchMode):
    """Which operations make the host wait for numbers, or touch another device."""

    WAITING = ("_local_scalar_dense", "equal", "nonzero", "item", "is_nonzero", "masked_select", "_linalg_eigh")

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.devices: set[str] = set()
        self.calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function).split(".")[1]
        self.calls += name not in ("device",)
        if any(name.startswith(word) for word in self.WAITING):
            self.waits.append(name)
        for value in torch.utils._pytree.tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                self.devices.add(value.device.type)
        return result


def frames() -> tuple[torch.Tensor, torch.Tensor]:
    depth = torch.from_numpy(np.stack([room(0.0)[0], room(10.0)[0], room(25.0)[0]]))
    hidden = torch.zeros(depth.shape, dtype=torch.bool)
    hidden[:, 4:16, 10:22] = True
    return depth, hidden


@pytest.mark.parametrize("masked", [True, False])
def test_nothing_is_read_between_the_checks_and_the_picture(masked, formulas):
    depth, hidden = frames()
    with Reads() as reads:
        hha_image._encode(depth, CAMERA, hidden if masked else None, None, parts=True, scale=31000.0)
    assert reads.calls > 100 and reads.waits == []


def test_the_watch_sees_what_a_cpu_reads():
    depth, hidden = frames()
    with Reads() as reads:
        hha_image._encode(depth, CAMERA, hidden, None, parts=True, scale=31000.0)
    assert {"_linalg_eigh", "equal"} <= set(reads.waits)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("gravity", [True, False])
def test_on_a_gpu_every_operation_stays_there(masked, gravity):
    """A played GPU: an operation that needs a number on the host has none to read, and raises."""
    with FakeTensorMode(), Reads() as reads:
        depth = torch.empty(3, 48, 60, dtype=torch.float64, device="cuda")
        hidden = torch.empty(3, 48, 60, dtype=torch.bool, device="cuda") if masked else None
        down = torch.empty(3, 3, dtype=torch.float64, device="cuda") if gravity else None
        found = hha_image._encode(depth, CAMERA, hidden, down, parts=True, scale=31000.0)
    assert reads.devices == {"cuda"} and reads.waits == []
    assert found["image"].shape == (3, 48, 60, 3) and found["image"].is_cuda


@pytest.mark.parametrize("count", [1, 5])
def test_how_often_the_host_looks_does_not_grow_with_the_frames(count, formulas, monkeypatch):
    """Twice at the start (zeros are declared holes here), once at the end, each time at all frames."""
    depth, hidden = (each[:1].repeat(count, 1, 1) for each in frames())
    depth[:, 5:8, 12:15] = 0
    looked = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda value: looked.append(value.shape) or original(value))
    with Reads() as reads:
        hha(depth, CAMERA, hidden)
    assert looked == [(count, 5), (count, 2), (count, 6)]
    assert len(reads.waits) == 1, "whether anything clips; a GPU computes it instead"


def test_formulas_give_the_pictures_of_the_cpu(formulas, monkeypatch):
    depth, hidden = frames()
    mine = hha(depth, CAMERA, hidden, parts=True)
    monkeypatch.undo()
    theirs = hha(depth, CAMERA, hidden, parts=True)
    assert (mine.gravity - theirs.gravity).abs().max() < 1e-13
    assert torch.equal(mine.image, theirs.image)


def test_no_normal_at_all_gives_what_lapack_gives():
    normals = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    assert torch.equal(find_gravity(normals, waits=False), find_gravity(normals, waits=True))


@needs_real
@pytest.mark.parametrize(
    ("name", "units", "camera"),
    [
        ("nyud2_labelled/0_depth.png", 10000, "nyud2_color"),
        ("nyud2_labelled/5001_depth.png", 1000, "nyud2_color_cropped"),
        ("nyud2_rcnn_depth_demo/depth.png", 1000, "nyud2_color_cropped"),
    ],
)
def test_formulas_give_the_pictures_of_the_cpu_on_real_frames(name, units, camera, formulas, monkeypatch):
    depth, missing = load(name, units)
    mine = hha(depth, camera, missing, parts=True)
    monkeypatch.undo()
    theirs = hha(depth, camera, missing, parts=True)
    assert np.abs(mine.gravity - theirs.gravity).max() < 1e-12
    assert (levels(mine.image, theirs.image) > 0).sum() <= 2 and levels(mine.image, theirs.image).max() <= 1


@needs_real
def test_formulas_equal_matlab_bit_for_bit_where_nothing_is_missing(formulas):
    depth, _ = load("nyud2_labelled/0_depth.png", 10000)
    image = hha(depth, CAMERAS["nyud2_color"])
    assert np.array_equal(image, read_encoded(REAL / "nyud2_labelled/0_hha_9ff088f.png"))


@needs_gpu
def test_a_gpu_gives_the_pictures_of_the_cpu_and_is_waited_for_thrice():
    depth, hidden = frames()
    depth, hidden = depth.repeat(12, 1, 1), hidden.repeat(12, 1, 1)
    on_cpu = hha(depth, CAMERA, hidden, parts=True)
    held = depth.cuda(), hidden.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        hha_image._encode(held[0][:16], CAMERA, held[1][:16], None, parts=True, scale=31000.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_gpu = hha(*held[:1], CAMERA, held[1], parts=True)
    assert (on_gpu.gravity.cpu() - on_cpu.gravity).abs().max() < 1e-12
    assert levels(on_gpu.image.cpu().numpy(), on_cpu.image.numpy()).max() <= 1


@needs_gpu
@needs_real
def test_a_gpu_equals_matlab_within_the_tolerance_of_the_cpu():
    depth, _ = load("nyud2_labelled/0_depth.png", 10000)
    image = hha(torch.from_numpy(depth).cuda(), CAMERAS["nyud2_color"]).cpu().numpy()
    apart = levels(image, read_encoded(REAL / "nyud2_labelled/0_hha_9ff088f.png"))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-4
