"""Layers of single groups' forks against loops that follow their sources number by number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_files import image
from one_layer import one_layer, one_net

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers import Layer
from caffe_compat.net import load_net

RNG = np.random.default_rng(5)


def _gradients(layer: Layer, seed: np.ndarray | None, *bottoms: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The top, and what the bottoms get for the top's diff ``seed``."""
    tensors = [torch.tensor(bottom, requires_grad=True) for bottom in bottoms]
    layer.double()
    top = layer(*tensors)
    top.backward(torch.ones_like(top) if seed is None else torch.tensor(seed))
    return top.detach().numpy(), [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]


def _unpooled(x: np.ndarray, seed: np.ndarray, method: str, k: tuple, s: tuple, mask: np.ndarray | None) -> tuple:
    """unpooling_layer.cpp, forward and backward of one plane after the other."""
    top, diff = np.zeros(seed.shape), np.zeros(x.shape)
    high, wide = seed.shape[2:]
    for n, c, ph, pw in np.ndindex(x.shape):
        if method == "MAX":
            place = min(ph * s[0], high - 1), min(pw * s[1], wide - 1)
            if mask is not None:
                place = divmod(int(mask[n, c, ph, pw]), wide)
            top[n, c][place] = x[n, c, ph, pw]
            diff[n, c, ph, pw] = seed[n, c][place]
            continue
        h0, w0 = ph * s[0], pw * s[1]
        h1, w1 = min(h0 + k[0], high), min(w0 + k[1], wide)
        pool = (h1 - h0) * (w1 - w0)
        for h in range(h0, h1):
            for w in range(w0, w1):
                top[n, c, h, w] += x[n, c, ph, pw] / (pool if method == "AVE" else 1)
                diff[n, c, ph, pw] += seed[n, c, h, w] / pool
    return top, diff


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE", "MASK"])
@pytest.mark.parametrize(
    ("k", "s", "size"),
    [((2, 2), (2, 2), (6, 8)), ((3, 2), (2, 1), (7, 5)), ((2, 3), (3, 2), (5, 9)), ((2, 2), (4, 4), (4, 4))],
)
def test_unpooling(method: str, k: tuple, s: tuple, size: tuple) -> None:
    x = RNG.normal(size=(2, 2, 3, 4))
    mask = RNG.integers(0, size[0] * size[1], x.shape).astype(float) if method == "MASK" else None
    seed = RNG.normal(size=(2, 2, *size))
    kind = "MAX" if method == "MASK" else method
    fields = (
        f"kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} unpool_h: {size[0]} unpool_w: {size[1]}"
    )
    shapes = [x.shape] * (1 if mask is None else 2)
    layer = one_layer("Unpooling", f"unpooling_param {{ unpool: {kind} {fields} }}", *shapes)
    top, diffs = _gradients(layer, seed, x, *([] if mask is None else [mask]))
    want, diff = _unpooled(x, seed, kind, k, s, mask)
    np.testing.assert_allclose(top, want, atol=1e-12)
    np.testing.assert_allclose(diffs[0], diff, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 2", "unpool_size, or unpool_h and unpool_w"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2 unpool_size: 4", "kernel_size, or kernel_h and kernel_w"),
        ("kernel_size: 2 unpool_size: 4 unpool_h: 4", "unpool_size, or unpool_h"),
        ("kernel_size: 2 unpool_size: 4 pad: 1", "pad is .1, 1., expected 0"),
        ("kernel_size: 0 unpool_size: 4", "kernel_size is"),
    ],
)
def test_unpooling_refuses(fields: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"under_test.*{message}"):
        one_layer("Unpooling", f"unpooling_param {{ {fields} }}", (1, 1, 2, 2))


@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("top_k", [1, 2])
def test_eltwise_accuracy(top_k: int, ignored: int | None) -> None:
    scores = RNG.integers(0, 3, (2, 4, 6, 5)).astype(np.float32)  # ties
    labels = RNG.integers(-1, 5, (2, 1, 6, 5)).astype(np.float32)
    right = seen = 0
    for n, h, w in np.ndindex(2, 6, 5):
        label = int(labels[n, 0, h, w])
        if label == ignored:
            continue
        seen += 1
        ranked = sorted(((scores[n, c, h, w], c) for c in range(4)), reverse=True)
        right += label in [c for _, c in ranked[:top_k]]
    assert 0 < right < seen
    more = "" if ignored is None else f"ignore_label: {ignored}"
    body = f"eltwise_accuracy_param {{ top_k: {top_k} {more} }}"
    layer = one_layer("EltwiseAccuracy", body, scores.shape, labels.shape)
    top = layer(torch.from_numpy(scores), torch.from_numpy(labels))
    assert top.shape == (1, 1, 1, 1) and top.item() == pytest.approx(right / seen)
    if ignored is not None:
        assert layer(torch.from_numpy(scores), torch.full((2, 1, 6, 5), 2.0)).item() == 0


@pytest.mark.parametrize(("begin", "end"), [(1, 2), (-1, -2), (0, -1), (0, 0)])
def test_padding(begin: int, end: int) -> None:
    x = RNG.normal(size=(1, 2, 5, 6))
    want = np.zeros((1, 2, 5 + begin + end, 6 + begin + end))
    for n, c, h, w in np.ndindex(want.shape):
        if 0 <= h - begin < 5 and 0 <= w - begin < 6:
            want[n, c, h, w] = x[n, c, h - begin, w - begin]
    layer = one_layer("Padding", f"padding_param {{ pad_beg: {begin} pad_end: {end} }}", x.shape)
    np.testing.assert_array_equal(_gradients(layer, None, x)[0], want)
    with pytest.raises(CaffeCompatError, match="pad_beg is 1 and pad_end -1"):
        one_layer("Padding", "padding_param { pad_beg: 1 pad_end: -1 }", x.shape)
    with pytest.raises(CaffeCompatError, match="of which pads leave"):
        one_layer("Padding", "padding_param { pad_beg: -3 pad_end: -2 }", x.shape)


def test_mat_write_says_that_it_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layer = one_net(
        "MatWrite", f'mat_write_param {{ prefix: "{tmp_path}/a" source: "none" period: 2 }}', [(1, 2)], ()
    ).layer("under_test")
    assert layer(torch.zeros(1, 2)) == () and not list(tmp_path.iterdir())
    assert caplog.text.count("layer 'under_test' (MatWrite): writes no files here") == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_loss_with_weights(tmp_path: Path, weighted: bool) -> None:
    scores, labels = RNG.normal(size=(2, 3, 2, 2)), RNG.integers(0, 4, (2, 1, 2, 2)).astype(float)
    labels[0, 0, 0] = [0, 255]
    weights = [0.5, 2.0, 0.25] if weighted else [1.0] * 3
    (tmp_path / "w.txt").write_text("0.5 2\n0.25\n")
    loss, total, diff = 0.0, 0.0, np.zeros(scores.shape)
    for n, h, w in np.ndindex(2, 2, 2):
        label = int(labels[n, 0, h, w])
        if label in (255, 3):
            continue
        chance = np.exp(scores[n, :, h, w]) / np.exp(scores[n, :, h, w]).sum()
        total += weights[label]
        loss -= weights[label] * np.log(chance[label])
        diff[n, :, h, w] = weights[label] * (chance - np.eye(3)[label])
    more = f'weight_source: "{tmp_path}/w.txt"' if weighted else ""
    body = f"softmaxloss_param {{ ignore_label: 255 ignore_label: 3 {more} }}"
    layer = one_layer("SoftmaxWithLoss", body, scores.shape, labels.shape)
    top, diffs = _gradients(layer, None, scores, labels)
    np.testing.assert_allclose(top, loss / total, rtol=1e-6)
    np.testing.assert_allclose(diffs[0], diff / total, atol=1e-7)
    nothing = layer(torch.from_numpy(scores), torch.full((2, 1, 2, 2), 255.0))
    assert nothing.item() == 0
    with pytest.raises(CaffeCompatError, match="label"):
        layer(torch.from_numpy(scores), torch.full((2, 1, 2, 2), 4.0))
    (tmp_path / "w.txt").write_text("1 -2 3")
    with pytest.raises(CaffeCompatError, match=r"under_test.*w.txt: expected a finite weight"):
        one_layer("SoftmaxWithLoss", f'softmaxloss_param {{ weight_source: "{tmp_path}/w.txt" }}', (1, 3), (1,))


def test_windows_of_labelled_pictures(tmp_path: Path) -> None:
    marks = np.arange(48, dtype=np.uint8).reshape(6, 8)
    cv2.imwrite(str(tmp_path / "a.png"), image(0))
    cv2.imwrite(str(tmp_path / "b.png"), marks)
    boxes = [(1, 1, 4, 3), (-2, 2, 3, 7), (5, -1, 9, 2), (20, 20, 22, 22)]
    (tmp_path / "list.txt").write_text("".join(f"/a.png /b.png {' '.join(map(str, box))}\n" for box in boxes))
    fields = f'source: "{tmp_path}/list.txt" root_folder: "{tmp_path}" label_type: PIXEL ignore_label: 99'
    layer = one_layer("WindowSegData", f"image_data_param {{ {fields} new_height: 5 new_width: 4 }}", tops=("x", "y"))
    for x1, y1, x2, y2 in boxes:
        picture = cv2.copyMakeBorder(image(0), 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        labels = cv2.copyMakeBorder(marks, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=99)
        window = slice(y1 + 30, y2 + 31), slice(x1 + 30, x2 + 31)
        data, label = layer()
        want = cv2.resize(picture[window], (4, 5), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(data[0].numpy(), want.transpose(2, 0, 1))
        near = cv2.resize(labels[window], (4, 5), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(label[0, 0].numpy(), near)
    for line, message in (("/a.png /b.png 1 1 4", "expected 'picture labels"), ("/a.png /b.png 4 1 1 3", "x1 <= x2")):
        (tmp_path / "list.txt").write_text(line + "\n")
        with pytest.raises(CaffeCompatError, match=f"list.txt, line 1: .*{message}"):
            one_layer("WindowSegData", f"image_data_param {{ {fields} }}", tops=("x", "y"))


def _guided(x: np.ndarray, kept: np.ndarray, scale: np.ndarray) -> np.ndarray:
    top = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        n, c = place[:2]
        value = x[place] * kept[n, c]
        top[place] = value * x.shape[1] / scale[n] if scale[n] > 0 else value
    return top


def test_guided_dropout() -> None:
    x, guidance = RNG.normal(size=(3, 4, 2, 2)), RNG.normal(size=(3, 4))
    guidance[1] = -5
    layer = one_layer("GuidedDropout", "guided_dropout_param { guidance_threshold: 0.2 }", x.shape, guidance.shape)
    top, diffs = _gradients(layer, None, x, guidance)
    kept = guidance > 0.2
    np.testing.assert_allclose(top, _guided(x, kept, kept.sum(1)), atol=1e-12)
    np.testing.assert_allclose(diffs[0], _guided(np.ones(x.shape), kept, kept.sum(1)), atol=1e-12)
    assert not diffs[1].any() and not top[1].any() and top[0].any()
    body = 'guided_dropout_param { type: "stochastic" sigmoid_scaler: 2 }'
    test = one_layer("GuidedDropout", body, x.shape, guidance.shape)
    assert torch.equal(test(torch.from_numpy(x), torch.from_numpy(guidance)), torch.from_numpy(x))
    train = one_layer("GuidedDropout", body, x.shape, guidance.shape, phase="TRAIN")
    chance, drawn = 1 / (1 + np.exp(-2 * guidance)), np.zeros(guidance.shape)
    for _ in range(400):
        made = train(torch.from_numpy(x), torch.from_numpy(guidance)).numpy()
        kept = (made != 0).any((2, 3))
        drawn += kept
        np.testing.assert_allclose(made, _guided(x, kept, chance.sum(1)), rtol=1e-6)
    np.testing.assert_allclose(drawn / 400, chance, atol=0.1)
    with pytest.raises(CaffeCompatError, match="type is 'x'"):
        one_layer("GuidedDropout", 'guided_dropout_param { type: "x" }', x.shape, guidance.shape)
    with pytest.raises(CaffeCompatError, match=r"bottom 1 has the shape \[3, 5\]"):
        one_layer("GuidedDropout", "", x.shape, (3, 5))


@pytest.mark.parametrize(("kind", "sign"), [("K1", -1), ("K2", 1)])
def test_losses_of_binary_codes(kind: str, sign: int) -> None:
    x, y = RNG.random((3, 4, 1, 1)), RNG.random((3, 4, 1, 1))
    loss = 0.0
    for value in x.flatten():
        loss += sign * (value - 0.5) ** 2
    layer = one_layer(f"{kind}_EuclideanLoss", "", x.shape, y.shape)
    top, diffs = _gradients(layer, None, x, y)
    assert top == pytest.approx(loss / (2 * x.size))
    for diff in diffs:  # both get that of the first
        np.testing.assert_allclose(diff, sign * (x - 0.5) / x.size, atol=1e-12)


def _reduced(x: np.ndarray, levels: list[int], mean: bool) -> np.ndarray:
    """batch_reduction_layer.cpp along axis 1 of [N, T, S]."""
    ticks = [x.shape[1]] if levels == [1] else [level * level for level in levels]
    top = np.zeros((x.shape[0], len(ticks), x.shape[2]))
    for n in range(len(x)):
        at = 0
        for place, tick in enumerate(ticks):
            for _ in range(tick):
                top[n, place] += x[n, at] * (1 / tick if mean else 1)
                at += 1
    return top[:, 0] if levels == [1] else top


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(("size", "levels"), [(6, [1]), (5, [1, 2]), (4, [2]), (14, [1, 2, 3])])
def test_batch_reduction(size: int, levels: list[int], mean: bool) -> None:
    x = RNG.normal(size=(2, size, 3))
    text = " ".join(f"level: {level}" for level in levels)
    operation = "MEAN" if mean else "SUM"
    body = f"batch_reduction_param {{ {text} reduction_param {{ axis: 1 operation: {operation} }} }}"
    layer = one_layer("BatchReduction", body, x.shape)
    np.testing.assert_allclose(_gradients(layer, None, x)[0], _reduced(x, levels, mean), atol=1e-12)


def test_batch_reduction_of_diagonals_and_largest() -> None:
    x = RNG.normal(size=(2, 3, 3, 4))
    layer = one_layer("BatchReduction", "batch_reduction_param { pos: true reduction_param { axis: -3 } }", x.shape)
    top, diffs = _gradients(layer, None, x)
    np.testing.assert_allclose(top, sum(x[:, t, t] for t in range(3)), atol=1e-12)
    np.testing.assert_array_equal(diffs[0], np.broadcast_to(np.eye(3)[:, :, None], x.shape))
    body = "batch_reduction_param { reduction_param { axis: 1 operation: TOPK k: 2 } }"
    top, diffs = _gradients(one_layer("BatchReduction", body, x.shape), None, x)
    np.testing.assert_allclose(top, np.sort(x, 1)[:, -2:].mean(1), atol=1e-12)
    np.testing.assert_array_equal(diffs[0], (x >= np.sort(x, 1)[:, 1:2]) / 2)
    for text, message in (
        ("level: 2 reduction_param { axis: 1 }", "has 3 numbers, levels .2. take 4"),
        ("reduction_param { operation: ASUM }", "operation is ASUM"),
        ("level: 1 level: 2 pos: true reduction_param { axis: 1 }", "2 levels, expected one"),
        ("reduction_param { axis: 1 operation: TOPK k: 4 }", "k is 4, expected 1 to 3"),
        ("pos: true reduction_param { axis: 2 }", "expected with pos axes 2 and 3 of one size"),
    ):
        with pytest.raises(CaffeCompatError, match=message):
            one_layer("BatchReduction", f"batch_reduction_param {{ {text} }}", x.shape)
    with pytest.raises(CaffeCompatError, match="TOPK, which is for BatchReduction only"):
        one_layer("Reduction", "reduction_param { operation: TOPK }", x.shape)


def test_labels_of_deconvnet_are_resized_to_the_nearest(tmp_path: Path) -> None:
    """PSPNet's layer of the name interpolates them; the rest of the net tells which is meant."""
    marks = (np.arange(48, dtype=np.uint8).reshape(6, 8) * 5).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image(0))
    cv2.imwrite(str(tmp_path / "b.png"), marks)
    (tmp_path / "list.txt").write_text("/a.png /b.png\n")
    fields = f'source: "{tmp_path}/list.txt" root_folder: "{tmp_path}" label_type: PIXEL new_height: 9 new_width: 5'
    head = f'layer {{ name: "d" type: "ImageSegData" top: "x" top: "y" image_data_param {{ {fields} }} }}'
    tail = "".join(
        f'layer {{ name: "u{n}" type: "Unpooling" bottom: "x" top: "z{n}" '
        "unpooling_param { kernel_size: 2 unpool_size: 18 } }"
        for n in range(2)
    )
    for text, how in ((head + tail, cv2.INTER_NEAREST), (head, cv2.INTER_LINEAR)):
        (tmp_path / "net.prototxt").write_text(text)
        labels = load_net(tmp_path / "net.prototxt", phase="TEST").layer("d")()[1]
        np.testing.assert_array_equal(labels[0, 0].numpy(), cv2.resize(marks, (5, 9), interpolation=how))
