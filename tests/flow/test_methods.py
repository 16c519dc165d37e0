"""Ways of computing flow, on clips whose motion is known."""

from __future__ import annotations

import os
import types

import cv2
import numpy as np
import pytest
from conftest import needs
from flow.clips import moved

from caffe_compat.errors import DataError, UsageError
from caffe_compat.flow import flow_error, opencv_method, read_flo
from caffe_compat.media import read_picture

STEPS = [(3, -2), (-1, 4), (0, 0)]


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_translations(method: str) -> None:
    """Inside the frame, where nothing comes in or goes out: the rounded flow is the true one."""
    frames = moved(STEPS, 96, 128)
    for (u, v), first, second in zip(STEPS, frames, frames[1:], strict=False):
        flow = opencv_method(method).flow(first, second)
        assert flow.dtype == np.float32 and flow.shape == (96, 128, 2)
        inner = flow[16:-16, 16:-16]
        assert (np.rint(inner) == (u, v)).mean() > 0.99, (u, v)
        assert np.abs(inner - (u, v)).mean() < 0.15, (u, v)


def test_a_static_clip_has_no_flow() -> None:
    first, second = moved([(0, 0)])
    assert np.abs(opencv_method().flow(first, second)).max() < 1e-3
    flat = np.full((48, 64, 3), 90, np.uint8)
    assert np.abs(opencv_method().flow(flat, flat)).max() < 1e-3


def test_the_number_of_threads_changes_nothing() -> None:
    first, second = moved([(3, -2)], 240, 320)
    found, before = [], cv2.getNumThreads()
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            found.append(opencv_method().flow(first, second))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_settings_are_every_option_and_its_value() -> None:
    dis = opencv_method("dis", "fast", {"patch_stride": "2", "use_mean_normalization": "false"})
    found = dis.settings()
    assert found["method"] == "dis" and found["preset"] == "fast" and found["finest_scale"] == 2
    assert found["patch_stride"] == 2 and found["use_mean_normalization"] is False
    assert set(found) >= {"gradient_descent_iterations", "variational_refinement_alpha"}
    first, second = moved([(3, -2)])
    plain, other = opencv_method("dis", "fast").flow(first, second), dis.flow(first, second)
    assert not np.array_equal(plain, other)
    assert "preset" not in opencv_method("farneback").settings()
    assert opencv_method("farneback", options={"poly_sigma": "1.5"}).settings()["poly_sigma"] == 1.5


@pytest.mark.parametrize(
    ("name", "preset", "options", "told"),
    [
        ("dsi", "medium", {}, "did you mean 'dis'"),
        ("dis", "slow", {}, "expected one of ultrafast, fast, medium"),
        ("dis", "medium", {"finest": "1"}, "did you mean 'finest_scale'.*it has finest_scale, patch_size"),
        ("deepflow", "medium", {}, "contrib"),
        ("tvl1", "medium", {}, "pip install opencv-contrib-python"),
        ("dis", "medium", {"finest_scale": "x"}, "finest_scale is 'x', expected an integer"),
        ("dis", "medium", {"finest_scale": "-1"}, "expected a number from 0"),
        ("dis", "medium", {"patch_stride": "0"}, "expected a positive number"),
        ("dis", "medium", {"patch_stride": "9"}, "leaves no gaps"),
        ("dis", "medium", {"patch_size": "3"}, "expected 4 or more"),
        ("dis", "medium", {"use_spatial_propagation": "maybe"}, "expected true or false"),
        ("dis", "medium", {"variational_refinement_alpha": "nan"}, "expected a positive number"),
    ],
)
def test_methods_that_are_refused(name: str, preset: str, options: dict[str, str], told: str) -> None:
    if name in ("deepflow", "tvl1") and hasattr(cv2, "optflow"):
        pytest.skip("OpenCV has its contrib modules")
    with pytest.raises(UsageError, match=told):
        opencv_method(name, preset, options)


def test_frames_that_are_refused() -> None:
    dis, frame = opencv_method(), np.zeros((48, 64, 3), np.uint8)
    for first, second, told in (
        (frame, frame[:40], "frames of 64x48 and of 64x40"),
        (frame[..., 0], frame[..., 0], "expected uint8"),
        (frame.astype(float), frame, "expected uint8"),
        (frame[:15], frame[:15], "dis needs 16 pixels"),  # such thin frames would crash OpenCV
    ):
        with pytest.raises(DataError, match=told):
            dis.flow(first, second)
    for name in ("dis", "farneback"):
        assert opencv_method(name).flow(frame[:16], frame[:16]).shape == (16, 64, 2)


class Duality:
    """What OpenCV's TV-L1 looks like from outside, where its contrib modules are not installed."""

    def __init__(self) -> None:
        self.values = {"Tau": 0.25, "Lambda": 0.15, "Theta": 0.3, "Gamma": 0.0, "ScalesNumber": 5, "WarpingsNumber": 5,
                       "Epsilon": 0.01, "InnerIterations": 30, "OuterIterations": 10, "ScaleStep": 0.8,
                       "MedianFiltering": 5}  # fmt: skip

    def __getattr__(self, name: str) -> object:
        if name[:3] == "get":
            return lambda: self.values[name[3:]]
        return lambda value: self.values.update({name[3:]: value})

    def calc(self, first: np.ndarray, second: np.ndarray, _: None) -> np.ndarray:
        assert first.ndim == 2
        return np.full((*first.shape, 2), self.values["Tau"], np.float32)


def test_contrib_methods_are_called_as_opencv_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "optflow", types.SimpleNamespace(DualTVL1OpticalFlow_create=Duality), raising=False)
    method = opencv_method("tvl1", options={"tau": "0.5"})
    assert method.settings()["tau"] == 0.5 and method.settings()["lambda"] == 0.15
    assert (method.flow(*moved([(1, 1)])) == 0.5).all()
    with pytest.raises(UsageError, match="deepflow"):
        opencv_method("deepflow")


@pytest.mark.skipif(not hasattr(cv2, "optflow"), reason="OpenCV without its contrib modules")
@pytest.mark.parametrize("method", ["tvl1", "deepflow"])
def test_contrib_methods(method: str) -> None:
    first, second = moved([(3, -2)], 96, 128)
    inner = opencv_method(method).flow(first, second)[16:-16, 16:-16]
    assert np.abs(inner - (3, -2)).mean() < 0.05


def test_rubberwhale() -> None:
    folder = needs("real", "flow")
    first, second = (read_picture(os.path.join(folder, f"rubberwhale{number}.png")) for number in (1, 2))
    true = read_flo(folder / "rubberwhale_gt.flo")
    errors = [
        flow_error(opencv_method("dis", name).flow(first, second), true) for name in ("medium", "fast", "ultrafast")
    ]
    assert errors[0].end_point < 0.25 and errors[0].angle < 8
    assert errors[0].end_point < errors[1].end_point < errors[2].end_point < 0.6
    assert flow_error(opencv_method("farneback").flow(first, second), true).end_point < 0.4
