"""Layers over length, height and width against loops written down from C3D's and intel/caffe's sources."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_files import volume, write_volumes
from one_layer import one_layer, one_net

from caffe_compat.errors import CaffeCompatError, DataError, ModelFileError
from caffe_compat.layers import Layer
from caffe_compat.layers.data import VideoVolumes
from caffe_compat.layers.volumes import Pooling3D, VolumePooling
from caffe_compat.media.means import read_volume_mean
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.proto.upgrade import upgrade_net

FLT_MAX = float(np.finfo(np.float32).max)
FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
Three = tuple[int, int, int]


def _windows(size: Three, outs: Sequence[int], stride: Three, kernel: Three, pad: Three):  # type: ignore[no-untyped-def]
    """Of each position its start and end along each axis, ends cut to volume and padding."""
    for place in itertools.product(*map(range, outs)):
        starts = [at * s - p for at, s, p in zip(place, stride, pad, strict=True)]
        ends = [min(a + k, n + p) for a, k, n, p in zip(starts, kernel, size, pad, strict=True)]
        yield place, starts, ends


def _slow_pool(
    x: np.ndarray, seed: np.ndarray | None, kernel: Three, stride: Three, pad: Three, method: str, c3d: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Forward and backward of one volume [L, H, W]; without ``seed`` the gradient is 0."""
    size = x.shape
    outs = [math.ceil((n + 2 * p - k) / s) + 1 for n, p, k, s in zip(size, pad, kernel, stride, strict=True)]
    if not c3d and any(pad):
        outs = [o - ((o - 1) * s >= n + p) for o, s, n, p in zip(outs, stride, size, pad, strict=True)]
    top, diff = np.zeros(outs), np.zeros(size)
    for place, starts, ends in _windows(size, outs, stride, kernel, pad):
        area = math.prod(e - s for s, e in zip(starts, ends, strict=True))
        part = tuple(slice(max(s, 0), min(e, n)) for s, e, n in zip(starts, ends, size, strict=True))
        given = 0.0 if seed is None else seed[place]
        if method == "AVE":
            top[place] = x[part].sum() / area
            diff[part] += given / area
            continue
        top[place] = max([-FLT_MAX, *x[part].ravel()])
        equal = x[part] == top[place]
        if not c3d and equal.any():  # the first alone
            equal = (np.arange(equal.size) == equal.argmax()).reshape(equal.shape)
        diff[part] += given * equal
    return top, diff


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "method"),
    [
        ((4, 5, 6), (2, 2, 2), (2, 2, 2), 0, "MAX"),
        ((3, 4, 5), (1, 2, 2), (1, 3, 3), 0, "MAX"),  # a window wholly outside
        ((5, 5, 4), (3, 3, 3), (1, 2, 2), 0, "MAX"),
        ((3, 5, 4), (2, 3, 3), (1, 2, 2), 1, "AVE"),
        ((4, 4, 5), (3, 2, 2), (2, 3, 3), 0, "AVE"),
        ((2, 3, 4), (1, 3, 3), (1, 3, 3), 1, "AVE"),  # windows in the padding alone stay
    ],
)
def test_pooling(size: Three, kernel: Three, stride: Three, pad: int, method: str) -> None:
    x = np.random.default_rng(0).integers(0, 4, (2, 2, *size)).astype(float)  # with ties
    body = f"pooling3d_param {{ pool: {method} kernel_depth: {kernel[0]} kernel_size: {kernel[1]} pad: {pad} "
    body += f"temporal_stride: {stride[0]} stride: {stride[1]} }}"
    layer = one_layer("Pooling3D", body, x.shape)
    assert type(layer) is Pooling3D
    source = torch.from_numpy(x).requires_grad_()
    top = layer(source)
    seed = np.random.default_rng(1).normal(size=top.shape)
    (gradient,) = torch.autograd.grad(top, source, torch.from_numpy(seed))
    for n, c in np.ndindex(2, 2):
        want, diff = _slow_pool(x[n, c], seed[n, c], kernel, stride, (0, pad, pad), method, c3d=True)
        np.testing.assert_allclose(top[n, c].detach().numpy(), want, rtol=1e-12)
        np.testing.assert_allclose(gradient[n, c].numpy(), diff, rtol=1e-12)


def test_nan_is_never_the_maximum() -> None:
    x = torch.full((1, 1, 2, 2, 2), torch.nan)
    layer = one_layer("Pooling3D", "pooling3d_param { kernel_size: 2 kernel_depth: 1 }", x.shape)
    assert layer(x).flatten().tolist() == [-FLT_MAX] * 2
    x[0, 0, 0, 1, 1] = -5
    assert layer(x).flatten().tolist() == [-5, -FLT_MAX]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("kernel_size: 2 kernel_depth: 2 pad: 1", "pool MAX and pad 1, expected MAX without padding or AVE"),
        ("kernel_size: 2 kernel_depth: 2 pool: STOCHASTIC", "expected MAX without padding or AVE"),
        ("kernel_depth: 2", "kernel_size 0, kernel_depth 2"),
        ("kernel_size: 9 kernel_depth: 2", "larger than the padded volume"),
    ],
)
def test_pooling_refused(body: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"'under_test' .Pooling3D.*{message}"):
        one_net("Pooling3D", f"pooling3d_param {{ {body} }}", [(1, 1, 4, 4, 4)])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "method"),
    [
        ((4, 5, 6), (2, 2, 2), (2, 2, 2), (0, 0, 0), "MAX"),
        ((3, 4, 5), (2, 3, 2), (1, 2, 3), (1, 1, 0), "MAX"),
        ((3, 5, 4), (2, 3, 3), (1, 2, 2), (0, 1, 2), "AVE"),
    ],
)
def test_pooling_of_intel(size: Three, kernel: Three, stride: Three, pad: Three, method: str) -> None:
    x = np.random.default_rng(2).integers(0, 4, (1, 2, *size)).astype(float)
    each = " ".join(
        f"{name}_3d: {value}"
        for name, values in (("kernel_size", kernel), ("stride", stride), ("pad", pad))
        for value in values
    )
    tops = ("y", "mask") if method == "MAX" else ("y",)
    layer = one_layer("Pooling", f"pooling_param {{ pool: {method} {each} }}", x.shape, tops=tops)
    assert type(layer) is VolumePooling
    source = torch.from_numpy(x).requires_grad_()
    found = layer(source)
    top = found[0] if method == "MAX" else found
    seed = np.random.default_rng(1).normal(size=top.shape)
    (gradient,) = torch.autograd.grad(top, source, torch.from_numpy(seed))
    for c in range(2):
        want, diff = _slow_pool(x[0, c], seed[0, c], kernel, stride, pad, method, c3d=False)
        np.testing.assert_allclose(top[0, c].detach().numpy(), want, rtol=1e-12)
        np.testing.assert_allclose(gradient[0, c].numpy(), diff, rtol=1e-12)
        if method == "MAX":
            places = found[1][0, c].numpy().astype(int).ravel()
            np.testing.assert_array_equal(x[0, c].ravel()[places], want.ravel())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("kernel_size_3d: 2 kernel_size_3d: 2", "kernel_size_3d has 2 entries, expected 1 or 3"),
        ("kernel_size_3d: 2 pad_3d: 2", r"pad \[2, 2, 2\], expected less than the kernel"),
        ("kernel_size_3d: 2 global_pooling: true", "global_pooling with kernel_size_3d"),
        ("kernel_size_3d: 2 round_mode: FLOOR", "has an axis, a round_mode or avg_include_pad"),
        ("kernel_size_3d: 2 pool: STOCHASTIC", "pool is STOCHASTIC"),
    ],
)
def test_pooling_of_intel_refused(body: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        one_net("Pooling", f"pooling_param {{ {body} }}", [(1, 1, 4, 4, 4)])


def test_kernels_of_one_in_a_net_of_intel(tmp_path: Path) -> None:
    """5 columns with a stride of 3: positions at 0 and 3; BVLC's has a third at 6, where there is no column."""
    text = (
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 5 } } %s }'
        'layer { name: "p" type: "Pooling" bottom: "d" top: "p" pooling_param { kernel_size: 1 stride: 3 } }'
    )
    shapes = []
    for more in ("", "quantization_param { bw_layer_in: 8 }"):
        (tmp_path / "net.prototxt").write_text(text % more)
        shapes.append(tuple(load_net(tmp_path / "net.prototxt")(d=torch.zeros(1, 1, 5, 5))["p"].shape[2:]))
    assert shapes == [(3, 3), (2, 2)]


def _slow_convolution(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: Three, pad: Three) -> np.ndarray:
    """vol2col_cpu and its product, of one item [C, L, H, W]."""
    outs = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:], pad, w.shape[2:], stride, strict=True)]
    top = np.zeros((len(w), *outs))
    for o, place in itertools.product(range(len(w)), itertools.product(*map(range, outs))):
        total = b[o]
        for c, tap in itertools.product(range(len(x)), itertools.product(*map(range, w.shape[2:]))):
            at = [i * s - p + t for i, s, p, t in zip(place, stride, pad, tap, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
                total += w[(o, c, *tap)] * x[(c, *at)]
        top[(o, *place)] = total
    return top


def test_convolution_and_its_adjoint() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 5, 4))
    body = "convolution3d_param { num_output: 3 kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 1 pad: 1 "
    layer = one_layer("Convolution3D", f"{body} temporal_pad: 1 {FILLERS} }}", x.shape).double()
    weight, bias = (blob.detach().numpy() for blob in layer.blobs)
    assert weight.shape == (3, 2, 2, 3, 3) and bias.shape == (3,)
    want = _slow_convolution(x[0], weight, bias, (1, 2, 2), (1, 1, 1))
    top = layer(torch.from_numpy(x))
    np.testing.assert_allclose(top[0].detach().numpy(), want, rtol=1e-9, atol=1e-12)
    back = one_layer(
        "Deconvolution3D",
        body.replace("num_output: 3", "num_output: 2 bias_term: false") + f"temporal_pad: 1 {FILLERS} }}",
        (1, 3, *want.shape[1:]),
        blob0=layer.blobs[0].detach(),
    ).double()
    y = torch.randn(1, 3, *want.shape[1:], dtype=torch.float64)
    spread = back(y)
    assert spread.shape[2:] == (3, 5, 3)  # (2 - 1) 2 - 2 + 3 columns
    inside = torch.from_numpy(x)[..., :3]
    product = (layer(inside) - layer.blobs[1].view(3, 1, 1, 1))[..., : y.shape[-1]]
    torch.testing.assert_close((product * y).sum(), (spread * inside).sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        ("kernel_size: 2", (1, 1, 2, 4, 4), "kernel_size 2, kernel_depth 0"),
        ("kernel_size: 2 kernel_depth: 1", (1, 1, 4, 4), "has 4 axes, expected 5"),
        ("kernel_size: 2 kernel_depth: 1 group: 2", (1, 2, 2, 4, 4), "group is 2, expected 1"),
        ("kernel_size: 2 kernel_depth: 1 filter_group: 2", (1, 2, 2, 4, 4), "filter_group is 2, expected a divisor"),
    ],
)
def test_convolution_refused(body: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        one_net("Convolution3D", f"convolution3d_param {{ num_output: 3 {body} }}", [shape])


# -- what C3D 1.0 has besides -----------------------------------------------------------------------------------------


def test_loss_of_voxels() -> None:
    random = np.random.default_rng(3)
    scores, label = random.normal(size=(2, 3, 2, 2, 1)), random.integers(0, 5, (2, 1, 2, 2, 1)).astype(float)
    assert (label > 2).any()
    source = torch.from_numpy(scores).requires_grad_()
    loss = one_layer("VoxelSoftmaxWithLoss", "", scores.shape, label.shape)(source, torch.from_numpy(label))
    (gradient,) = torch.autograd.grad(loss, source, torch.tensor(2.0, dtype=torch.float64))
    total = 0.0
    for n, t, h, w in np.ndindex(2, 2, 2, 1):
        powers = np.exp(scores[n, :, t, h, w])
        diff = p = powers / powers.sum()
        kind = int(label[n, 0, t, h, w])
        if kind < 3:
            total -= math.log(p[kind])
            diff = p - (np.arange(3) == kind)
        np.testing.assert_allclose(gradient[n, :, t, h, w].numpy(), 2 * diff / 8)
    assert loss.item() == pytest.approx(total / 8)


def test_custom_loss_of_voxels() -> None:
    a, b = torch.tensor([[0.0, 3, 0.5], [1, -4, 0]]), torch.tensor([[0.25, 1, 0.0], [1, 0, 0.5]])
    source = a.clone().requires_grad_()
    loss = one_layer("VoxelCustomLoss", "", a.shape, b.shape)(source, b)
    assert loss.item() == pytest.approx((0.0625 + 1 + 0.25 + 0 + 1 + 0.25) / 6)
    (gradient,) = torch.autograd.grad(loss, source)
    assert gradient.tolist() == [[-0.125, 0.5, 0.25], [0, -0.5, -0.25]]


def test_labels_by_vote() -> None:
    x = torch.tensor([[3.0, 1, 2, 2, 7], [1, 3, 2, 5, 7]]).expand(2, 2, 5)[None, None]
    layer = one_layer("DownSampling", "down_sampling_param { spatial_factor: 2 temporal_factor: 2 }", x.shape)
    assert layer(x).tolist() == [[[[[1.0, 2.0]]]]]  # of 1 and 3 the smaller; the fifth column is left out


# -- the data ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volumes")
    write_volumes(path)
    return path


def _videos(folder: Path, name: str, more: str, transform: str = "", phase: str = "TEST") -> Layer:
    body = f'video_data_param {{ source: "{folder}/{name}.txt" {more} }} transform_param {{ {transform} }}'
    return one_layer("VideoData", body, tops=("data", "label"), phase=phase)


def _frame(folder: Path, clip: int, number: int) -> np.ndarray:
    return cv2.imread(str(folder / f"frames{clip}" / f"{number:06d}.jpg")).transpose(2, 0, 1).astype(np.float32)


def test_frames_of_folders(folder: Path) -> None:
    layer = _videos(folder, "frames", "use_image: true batch_size: 2 new_length: 3 sampling_rate: 2")
    assert isinstance(layer, VideoVolumes) and layer.top_shapes([]) == [(2, 3, 3, 6, 8), (2,)]
    data, label = layer()
    assert label.tolist() == [3, 4]
    for clip, first in enumerate((1, 2)):
        for at in range(3):
            assert np.array_equal(data[clip, :, at].numpy(), _frame(folder, clip, first + 2 * at))


def test_central_crop_less_the_mean_of_each_place(folder: Path) -> None:
    """The mean file is C3D 1.0's: its blob has a length."""
    mean = volume(5, np.float32, 3)[:, :2].repeat(2, 3)[:, :, :5, :8]
    numbers = np.concatenate([mean, mean[:, :, :1]], 2).astype("<f4")  # 3 x 2 x 6 x 8
    head = b"".join(bytes([8 * field, size]) for field, size in ((1, 1), (2, 3), (3, 2), (4, 6), (5, 8)))
    (folder / "mean.binaryproto").write_bytes(head + b"\x32\x80\x09" + numbers.tobytes())
    assert np.array_equal(read_volume_mean(str(folder / "mean.binaryproto")), numbers)
    transform = f'crop_size: 4 scale: 0.5 mean_file: "{folder}/mean.binaryproto"'
    data, _ = _videos(folder, "frames", "use_image: true batch_size: 1 new_length: 2", transform)()
    for at in range(2):
        want = (_frame(folder, 0, 1 + at) - numbers[:, at]) * np.float32(0.5)
        assert np.array_equal(data[0, :, at].numpy(), want[:, 1:5, 2:6])
    with pytest.raises(DataError, match=r"line 1.*the mean file is for \[3, 2, 6, 8\]"):
        _videos(folder, "frames", "use_image: true batch_size: 1 new_length: 3", transform)()
    with pytest.raises(ModelFileError, match="cannot be used"):
        (folder / "flat.binaryproto").write_bytes(
            b"\x08\x01\x10\x01\x18\x01\x20\x01\x2d" + numbers[0, 0, 0, :1].tobytes()
        )
        read_volume_mean(str(folder / "flat.binaryproto"))


def test_training_crops_and_mirrors_a_clip_as_one(folder: Path) -> None:
    layer = _videos(
        folder, "frames", "use_image: true batch_size: 1 new_length: 2", "crop_size: 4 mirror: true", phase="TRAIN"
    )
    seen = set()
    for _ in range(24):
        data = layer()[0][0].numpy()
        clip = [_frame(folder, n, 1 + n + at) for n in range(2) for at in range(2)]
        found = [
            (n, top, left, flip)
            for n, top, left, flip in itertools.product(range(2), range(3), range(5), (1, -1))
            if all(
                np.array_equal(data[:, at], clip[2 * n + at][:, top : top + 4, left : left + 4][..., ::flip])
                for at in range(2)
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert {one[1] for one in seen} == {0, 1, 2} and {one[3] for one in seen} == {1, -1}


def test_jitter_of_folders(folder: Path) -> None:
    """A list of numbers of frames: pictures count from 1 in TRAIN; in TEST the clip begins with number 0."""
    more = "use_image: true use_temporal_jitter: true batch_size: 1 new_length: 3 sampling_rate: 2"
    data = _videos(folder, "counts", more)()[0]
    assert np.array_equal(data[0, :, 1].numpy(), _frame(folder, 0, 2))
    layer = _videos(folder, "counts", more, phase="TRAIN")
    firsts = set()
    for _ in range(12):
        data = layer()[0][0].numpy()
        firsts |= {n for n in range(8) if np.array_equal(data[:, 0], _frame(folder, 0, n))}
    assert firsts == {1, 2}


def test_several_labels(folder: Path) -> None:
    more = "use_image: true batch_size: 2 new_length: 1 use_multiple_label: true"
    assert _videos(folder, "several", f"{more} num_of_labels: 4")()[1].tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]
    with pytest.raises(DataError, match="line 1.* labels 3,0, expected 0 to 2"):
        _videos(folder, "several", f"{more} num_of_labels: 3")()


def test_videos(folder: Path) -> None:
    path = folder / "video.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(9):
        video.write(np.full((24, 32, 3), 20 * number + 10, np.uint8))
    video.release()
    (folder / "videos.txt").write_text(f"{path} 4 1\n")
    more = "use_image: false batch_size: 1 new_length: 2 new_height: 6 new_width: 8"
    data, label = _videos(folder, "videos", f"{more} sampling_rate: 2")()
    assert data.shape == (1, 3, 2, 6, 8) and label.tolist() == [1]
    assert data.mean((0, 1, 3, 4)).tolist() == pytest.approx([90, 130], abs=3)  # frames 4 and 6
    with pytest.raises(DataError, match="has 9 frames, expected 6 from frame 4 on"):
        _videos(folder, "videos", f"{more} sampling_rate: 3")()
    with pytest.raises(DataError, match="expected 'path label'"):
        _videos(folder, "videos", f"{more} use_temporal_jitter: true")
    (folder / "drawn.txt").write_text(f"{path} 1\n")
    layer = _videos(folder, "drawn", f"{more} use_temporal_jitter: true")
    assert len({round(layer()[0].mean().item()) for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("use_image: true batch_size: 1 new_length: 9", "line 1.*000008.jpg"),
        ("use_image: true batch_size: 1", "new_length|expected 'path first label'"),
        ("use_image: true new_length: 2 batch_size: 1 new_height: 3", "new_height and new_width are 3 and 0"),
        ("use_image: true new_length: 2 batch_size: 1 is_color: false", "is_color is false"),
        ("use_image: true new_length: 2 batch_size: 1 modality: RGB", "modality means nothing"),
    ],
)
def test_videos_refused(folder: Path, more: str, message: str) -> None:
    if "new_length" not in more:
        more = more + " new_length: 0"
    with pytest.raises(CaffeCompatError, match=message):
        _videos(folder, "frames", more)()


def _truth(folder: Path, kind: str, name: str, more: str, transform: str = "", phase: str = "TEST") -> Layer:
    body = (
        f'video_data_param {{ source: "{folder}/{name}.txt" batch_size: 2 {more} }} transform_param {{ {transform} }}'
    )
    return one_layer(kind, body, tops=("data", "truth"), phase=phase)


def test_volumes_of_bytes_with_labels(folder: Path) -> None:
    data, truth = _truth(folder, "VideoSegmentationData", "bytes", "", "crop_size: 4 mean_value: 3 scale: 2")()
    assert data.shape == (2, 4, 3, 4, 4) and truth.shape == (2, 1, 3, 4, 4)
    for item in range(2):
        cut = volume(item, np.float32)[:, :, 0:4, 1:5]
        assert np.array_equal(data[item].numpy(), (cut[:4] - 3) * 2)
        assert np.array_equal(truth[item].numpy(), cut[4:])


def test_volumes_with_flow(folder: Path) -> None:
    kind, more = "VideoWithVoxelTruthData", "num_truth_channels: 2 is_flow: true"
    layer = _truth(folder, kind, "floats", f"{more} truth_scale: 0.125", "crop_size: 4 mirror: true", "TRAIN")
    flips, lefts = set(), set()
    for _ in range(12):
        data, truth = layer()
        whole = volume(0, np.float32)
        for left, flip in itertools.product(range(3), (1, -1)):
            cut = whole[:, :, 0:4, left : left + 4][..., ::flip]
            if np.array_equal(data[0].numpy(), cut[:3]):
                flips.add(flip), lefts.add(left)
                want = cut[3:] * np.array([flip, 1], np.float32)[:, None, None, None] * np.float32(0.125)
                assert np.array_equal(truth[0].numpy(), want)
    assert flips == {1, -1} and lefts == {0, 1}  # never the last place
    _, truth = _truth(folder, kind, "floats", f"{more} clip_min: 50 clip_max: 150", "crop_size: 4")()
    want = np.clip((volume(1, np.float32)[3:, :, 0:4, 1:5] - 50) / 100, 0, 1)
    np.testing.assert_allclose(truth[1].numpy(), want, rtol=1e-6)
    _, truth = _truth(folder, kind, "floats", f"{more} truth_scale: 0.125")()  # without a crop it stays
    assert np.array_equal(truth[0].numpy(), volume(0, np.float32)[3:])


@pytest.mark.parametrize(
    ("kind", "more", "transform", "message"),
    [
        ("VideoSegmentationData", "", "mirror: true", "mirror without crop_size"),
        ("VideoSegmentationData", "", "crop_size: 5", "expected at least 6 with crop_size 5"),
        ("VideoWithVoxelTruthData", "num_truth_channels: 5", "", "has 5 channels, expected more than the 5"),
        ("VideoWithVoxelTruthData", "clip_max: 3", "", "clip_min and clip_max are 0 and 3"),
    ],
)
def test_volumes_refused(folder: Path, kind: str, more: str, transform: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        _truth(folder, kind, "floats" if "Truth" in kind else "bytes", more, transform)


def test_damaged_volumes(folder: Path) -> None:
    numbers = np.array([1, 2, 2, 2, 2], "<i4")
    for name, raw, message in (
        ("short", numbers.tobytes() + b"\0" * 9, "has 9 bytes of numbers, expected 16"),
        ("headless", b"\0" * 7, "is a volume of"),
        ("negative", (-numbers).astype("<i4").tobytes(), "is a volume of"),
    ):
        (folder / f"{name}.bin").write_bytes(raw)
        (folder / f"{name}.txt").write_text(f"{folder}/{name}.bin\n")
        with pytest.raises(DataError, match=f"line 1.*{message}"):
            _truth(folder, "VideoSegmentationData", name, "")


# -- nets of version 1.0 -----------------------------------------------------------------------------------------------

NET = """
layers { name: "c" type: CONVOLUTION3D bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 kernel_depth: 2 pad: 1 temporal_pad: 1 stride: 1 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "p" type: POOLING3D bottom: "c" top: "p"
  pooling_param { kernel_size: 2 kernel_depth: 3 stride: 2 temporal_stride: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "p" top: "fc" inner_product_param { num_output: 2 } }
"""


def _field(number: int, payload: bytes) -> bytes:
    size, out = len(payload), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes(out) + bytes([size]) + payload


def _blob(array: np.ndarray) -> bytes:
    """BlobProto of C3D 1.0: num, channels, length, height, width, data."""
    head = b"".join(bytes([8 * field, size]) for field, size in enumerate(array.shape, 1))
    return head + _field(6, array.astype("<f4").tobytes())


def test_a_net_of_the_old_format_and_its_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    blobs = {
        "c": [random.normal(size=(2, 1, 2, 3, 3)), random.normal(size=(1, 1, 1, 1, 2))],
        "fc": [random.normal(size=(1, 1, 1, 2, 16)), random.normal(size=(1, 1, 1, 1, 2))],
    }
    weights = b"".join(
        _field(2, _field(4, name.encode()) + b"".join(_field(6, _blob(blob)) for blob in found))
        for name, found in blobs.items()
    )
    (tmp_path / "c3d.caffemodel").write_bytes(weights)
    shape = "dim: 1 dim: 1 dim: 3 dim: 4 dim: 4"
    (tmp_path / "net.prototxt").write_text(f'input: "data" input_shape {{ {shape} }} {NET}')
    built = load_net(tmp_path / "net.prototxt", weights=tmp_path / "c3d.caffemodel")
    x = random.normal(size=(1, 1, 3, 4, 4)).astype(np.float32)
    top = built(data=torch.from_numpy(x))["fc"].detach().numpy().ravel()
    c = np.maximum(_slow_convolution(x[0], blobs["c"][0], blobs["c"][1].ravel(), (1, 1, 1), (1, 1, 1)), 0)
    p = np.stack([_slow_pool(one, None, (3, 2, 2), (2, 2, 2), (0, 0, 0), "MAX", c3d=True)[0] for one in c])
    assert p.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(top, blobs["fc"][0][0, 0, 0] @ p.ravel() + blobs["fc"][1].ravel(), rtol=1e-4)


def test_data_of_the_old_format() -> None:
    text = """layers { name: "d" type: VIDEO_DATA top: "data" top: "label" image_data_param { source: "l" batch_size: 3
      mean_file: "m" crop_size: 4 mirror: true show_data: 0 new_length: 2 mean_value: 5 use_label: true } }
      layers { type: VOXEL_SOFTMAX bottom: "data" } layers { type: VOXEL_SOFTMAX_LOSS bottom: "data" }"""
    layer, softmax, loss = upgrade_net(parse_text(text, caffe_pb2.NetParameter)).net.layer
    assert (layer.type, softmax.type, loss.type) == ("VideoData", "Softmax", "VoxelSoftmaxWithLoss")
    assert not layer.HasField("image_data_param")
    video, transform = layer.video_data_param, layer.transform_param
    assert (video.source, video.batch_size, video.new_length, video.use_image) == ("l", 3, 2, False)
    assert (transform.mean_file, transform.crop_size, transform.mirror) == ("m", 4, True)
    assert list(transform.mean_value) == [5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("convolution_param { kernel_size: 3 kernel_size: 2 }", "kernel_size has 2 entries, expected one"),
        ("convolution_param { kernel_h: 3 }", "convolution_param.kernel_h means nothing"),
    ],
)
def test_fields_that_the_old_format_does_not_have(text: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"'x' .Convolution3D.*{message}"):
        upgrade_net(parse_text(f'layers {{ name: "x" type: CONVOLUTION3D {text} }}', caffe_pb2.NetParameter))
