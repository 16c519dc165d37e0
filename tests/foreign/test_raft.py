"""RAFT with weights from a file: what is fed, what comes out, and what is refused.  No trained weights are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flow.clips import moved
from gpu import DEVICE, needs_gpu
from torchvision.models import optical_flow
from torchvision.transforms._presets import OpticalFlow

from caffe_compat.errors import MissingFileError, UsageError, WeightsError
from caffe_compat.foreign.raft import raft_method


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(optical_flow.raft_small(weights=None).state_dict(), path)
    return path


def reference(weights: Path, first: np.ndarray, second: np.ndarray, updates: int) -> np.ndarray:
    """torchvision's own preparation and net, on frames whose sides fit."""
    net = optical_flow.raft_small(weights=None).eval()
    net.load_state_dict(torch.load(weights, weights_only=True))
    images = [torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None] for frame in (first, second)]
    with torch.no_grad():
        return net(*OpticalFlow()(*images), num_flow_updates=updates)[-1][0].permute(1, 2, 0).numpy()


def test_frames_that_fit(weights: Path) -> None:
    first, second = moved([(3, -2)], 128, 136)
    method = raft_method(str(weights), 2)
    flow = method.flow(first, second)
    assert flow.dtype == np.float32 and flow.shape == (128, 136, 2) and np.abs(flow).max() > 0.1
    np.testing.assert_allclose(flow, reference(weights, first, second, 2), atol=1e-4)
    assert not np.allclose(flow, raft_method(str(weights), 1).flow(first, second))
    settings = method.settings()
    assert settings["net"] == "raft_small" and settings["updates"] == 2 and len(settings["weights_sha1"]) == 40


def test_other_frames_are_padded_and_cut(weights: Path) -> None:
    first, second = moved([(3, -2)], 50, 133)
    flow = raft_method(str(weights), 1).flow(first, second)
    around = ((39, 39), (1, 2), (0, 0))
    padded = reference(weights, np.pad(first, around, mode="edge"), np.pad(second, around, mode="edge"), 1)
    np.testing.assert_allclose(flow, padded[39:89, 1:134], atol=1e-4)


def test_weights_that_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        raft_method(str(tmp_path / "none.pth"))
    state = torch.load(weights, weights_only=True)
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no weights of torchvision's raft_large or raft_small"):
        raft_method(str(tmp_path / "other.pth"))
    del state["context_encoder.conv.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"torchvision's raft_small: no 'context_encoder\.conv\.weight'"):
        raft_method(str(tmp_path / "part.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError):
        raft_method(str(tmp_path / "text.pth"))
    with pytest.raises(UsageError, match="updates is 0"):
        raft_method(str(weights), 0)


@needs_gpu
def test_on_a_gpu(weights: Path) -> None:
    first, second = moved([(3, -2)], 100, 136)
    mine = raft_method(str(weights), 2, str(DEVICE)).flow(first, second)
    np.testing.assert_allclose(mine, raft_method(str(weights), 2).flow(first, second), atol=1e-2)
