import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hha_reference import CAMERA, EYE_HEIGHT, WALL, encode, room
from scipy.ndimage import uniform_filter

from caffe_compat.depth import CAMERAS, hha
from caffe_compat.depth.io import read_raw
from caffe_compat.errors import DataError
from caffe_compat.frames import read_encoded

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "rgbd"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real frames here")


def levels(image: np.ndarray, golden: np.ndarray) -> np.ndarray:
    return np.abs(image.astype(int) - golden.astype(int))


def load(name: str, units: float) -> tuple[np.ndarray, np.ndarray]:
    stem = REAL / name
    raw = stem.with_name(stem.name.replace("depth", "rawdepth"))
    return read_raw(stem) / units, read_raw(raw) == 0


@needs_real
def test_equals_matlab_bit_for_bit_where_nothing_is_missing():
    depth, _ = load("nyud2_labelled/0_depth.png", 10000)
    result = hha(depth, "nyud2_color", parts=True)
    assert np.array_equal(result.image, read_encoded(REAL / "nyud2_labelled/0_hha_9ff088f.png"))
    assert result.gravity == pytest.approx([-0.03880, 0.99921, -0.00913], abs=1e-5)
    assert result.ground == pytest.approx(-1.25475, abs=1e-5)


@needs_real
def test_equals_matlab_within_a_level_where_pixels_are_missing():
    """The golden image was made with the uncropped camera on the cropped frame; so are these."""
    depth, missing = load("nyud2_labelled/5001_depth.png", 1000)
    result = hha(depth, CAMERAS["nyud2_color"].with_size(560, 425), missing, parts=True)
    apart = levels(result.image, read_encoded(REAL / "nyud2_labelled/5001_hha.png"))
    enough = uniform_filter((~missing).astype(float), 7, mode="constant") * 49 > 7.5
    assert apart[..., 0].max() == 0
    assert apart[..., 1].max() <= 1
    assert apart[..., 2][enough].max() <= 1
    assert (apart[..., 2] > 1).mean() < 0.005
    assert result.gravity == pytest.approx([-0.03585, 0.99932, 0.00918], abs=1e-4)
    assert result.ground == pytest.approx(-1.0346, abs=1e-3)


@needs_real
@pytest.mark.parametrize(
    ("name", "units", "camera", "mean", "std", "gravity", "ground", "no_normal"),
    [
        (
            "nyud2_labelled/0_depth.png",
            10000,
            "nyud2_color",
            (110.310, 137.256, 147.397),
            (18.376, 73.308, 46.971),
            (-0.04063, 0.99915, -0.00632),
            -1.26285,
            63403,
        ),
        (
            "nyud2_labelled/5001_depth.png",
            1000,
            "nyud2_color_cropped",
            (105.565, 126.390, 129.993),
            (15.350, 67.901, 34.700),
            (-0.03744, 0.99929, -0.00349),
            -1.25127,
            3770,
        ),
        (
            "nyud2_rcnn_depth_demo/depth.png",
            1000,
            "nyud2_color_cropped",
            (91.655, 60.543, 100.830),
            (33.944, 61.833, 53.964),
            (-0.00621, 0.96457, 0.26376),
            -1.36836,
            16059,
        ),
    ],
)
def test_statistics_of_real_frames(name, units, camera, mean, std, gravity, ground, no_normal):
    depth, missing = load(name, units)
    result = hha(depth, camera, missing, parts=True)
    assert result.image.mean((0, 1)) == pytest.approx(mean, abs=0.02)
    assert result.image.std((0, 1)) == pytest.approx(std, abs=0.04)
    assert result.gravity == pytest.approx(gravity, abs=2e-4)
    assert result.ground == pytest.approx(ground, abs=5e-4)
    assert np.isnan(result.normals).any(-1).sum() == pytest.approx(no_normal, abs=40)


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_room_has_its_known_heights_and_angles(tilt):
    depth, floor = room(tilt)
    result = hha(depth, CAMERA, parts=True)
    assert np.degrees(np.arccos(result.gravity[1])) == pytest.approx(tilt, abs=1.0)
    inside = uniform_filter(floor.astype(float), 7, mode="nearest") > 0.999
    outside = uniform_filter(floor.astype(float), 7, mode="nearest") < 0.001
    assert inside.any() and outside.any()
    assert np.abs(result.height[inside]).max() < 0.06
    assert np.abs(result.angle[inside]).max() < 1.0
    assert np.abs(result.angle[outside] - 90).max() < 1.0
    assert result.ground == pytest.approx(-EYE_HEIGHT, abs=0.06)
    upright = result.points @ result.rotation
    assert upright[outside][:, 2] == pytest.approx(WALL, abs=0.06)
    assert result.rotation @ [0, 1, 0] == pytest.approx(result.gravity, abs=1e-12)


def test_equals_the_obvious_per_pixel_reference():
    rng = np.random.default_rng(3)
    depth = room(8.0)[0] * (1 + 0.01 * rng.standard_normal((48, 60)))
    missing = np.zeros(depth.shape, bool)
    missing[4:16, 10:22] = True  # larger than a window: some normals are unknown
    image, down = encode(depth, missing)
    result = hha(depth, CAMERA, missing, parts=True)
    assert result.gravity == pytest.approx(down, abs=1e-6)
    enough = uniform_filter((~missing).astype(float), 7, mode="constant") * 49 > 7.5
    assert levels(result.image, image)[enough].max() <= 1
    assert (levels(result.image, image)[enough] > 0).mean() < 0.002
    assert (result.image[9:12, 15:17, 2] == 218).all()


def test_a_ground_less_than_90_cm_below_is_taken_at_130_cm():
    depth = room()[0] * (0.8 / EYE_HEIGHT)
    assert hha(depth, CAMERA, parts=True).ground == pytest.approx(-1.3)


def test_batch_torch_and_numpy_agree():
    depths = np.stack([room(0.0)[0], room(10.0)[0]])
    masks = depths > 3.9
    both = hha(depths, CAMERA, masks)
    assert both.shape == (2, 48, 60, 3) and both.dtype == np.uint8
    for index in range(2):
        single = hha(torch.from_numpy(depths[index]), CAMERA, torch.from_numpy(masks[index]))
        assert isinstance(single, torch.Tensor)
        assert np.array_equal(single.numpy(), both[index])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_agrees_with_cpu():
    depths = torch.from_numpy(np.stack([room(0.0)[0], room(10.0)[0]]))
    on_gpu = hha(depths.cuda(), CAMERA, parts=True)
    on_cpu = hha(depths, CAMERA, parts=True)
    assert on_gpu.image.is_cuda
    assert levels(on_gpu.image.cpu().numpy(), on_cpu.image.numpy()).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d * 1000, "cannot be metres"),
        (lambda d: d / 1000, "cannot be metres"),
        (lambda d: (d * 1000).astype(np.uint16), "raw units"),
        (lambda d: np.where(d > 3.9, np.nan, d), "NaN"),
        (lambda d: np.where(d > 3.9, np.inf, d), "infinite"),
        (lambda d: np.where(d > 3.9, 0, d), "have no depth"),
        (lambda d: d * 0, "all 2880 pixels are missing"),
        (lambda d: -d, "negative"),
        (lambda d: d[:, :30], "48 x 30 but the camera makes 48 x 60"),
        (lambda d: d[0], "expected H x W"),
        (lambda d: d.tolist(), "list"),
    ],
)
def test_bad_depth_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        hha(change(room()[0]), CAMERA)


def test_bad_camera_and_mask_are_refused():
    depth = room()[0]
    with pytest.raises(DataError, match="intrinsics are needed"):
        hha(depth, None)
    with pytest.raises(DataError, match="did you mean 'nyud2_color'"):
        hha(depth, "nyud2_colour")
    with pytest.raises(DataError, match="expected bool"):
        hha(depth, CAMERA, (depth > 2).astype(np.uint8))
    with pytest.raises(DataError, match="all 2880 pixels are missing"):
        hha(depth, CAMERA, np.ones(depth.shape, bool))


def test_holes_are_taken_when_declared_as_matlab_does():
    depth = room()[0]
    depth[5:9, 5:9] = 0
    result = hha(depth, CAMERA, depth == 0, parts=True)
    assert (result.image[5:9, 5:9, 0] == 255).all()
    assert result.height[6, 6] == pytest.approx(-result.ground)


def test_a_strong_tilt_warns_and_says_the_gravity():
    with pytest.warns(UserWarning, match=r"gravity was found at \(.*\), \d+ degrees"):
        hha(two_walls(), CAMERA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hha(room(12.0)[0], CAMERA)


def two_walls() -> np.ndarray:
    """A frontal wall and one leaning sideways: what is at right angles to both is far from down."""
    y = ((np.arange(48) + 1 - CAMERA.cy) / CAMERA.fy)[:, None]
    x = ((np.arange(60) + 1 - CAMERA.cx) / CAMERA.fx)[None, :]
    return np.where(x < 0, 2.0 + 0 * y, 1.5 / (0.3 * x + 0.6 * y + 0.74))


def test_importing_depth_leaves_matplotlib_alone():
    code = "import sys, caffe_compat.depth; sys.exit('matplotlib' in sys.modules or 'skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_depth_that_is_mostly_too_far_is_doubted():
    depth, _ = room()
    with pytest.warns(UserWarning, match="m on average: is the unit right"):
        hha(depth * 8, CAMERA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hha(depth, CAMERA)


def test_a_measured_gravity_is_taken_as_it_is():
    """The search of a camera that looks steeply down takes a wall for the floor; an accelerometer does not."""
    depth, _ = room(60)
    down = np.array([0.0, np.cos(np.radians(60)), np.sin(np.radians(60))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = hha(depth, CAMERA, gravity=3.7 * down, parts=True, near=1.0)
    assert result.gravity == pytest.approx(down)
    assert result.ground == pytest.approx(-EYE_HEIGHT, abs=0.05)
    both = hha(np.stack([depth, depth]), CAMERA, gravity=np.stack([down, [0, 1, 0]]), near=1.0)
    assert np.array_equal(both[0], result.image) and not np.array_equal(both[0], both[1])
    found = hha(room(5)[0], CAMERA, parts=True)
    again = hha(torch.from_numpy(room(5)[0]), CAMERA, gravity=found.gravity)
    assert np.array_equal(again.numpy(), found.image)
    for bad in ((0, 0, 0), (1, 2), (np.nan, 0, 1), np.ones((3, 3))):
        with pytest.raises(DataError, match="gravity"):
            hha(depth, CAMERA, gravity=bad)
