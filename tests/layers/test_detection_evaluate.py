"""DetectionEvaluate against loops that follow weiliu89/caffe's source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError
from caffe_compat.net import BlobNet

f32 = np.float32


def _jaccard(a: Any, b: Any, pixels: bool) -> np.float32:
    if b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]:
        common = [f32(0)] * 4
    else:
        common = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    more = f32(1) if pixels else f32(0)
    w, h = common[2] - common[0] + more, common[3] - common[1] + more
    if not (w > 0 and h > 0):
        return f32(0)
    sizes = [f32(0) if c[2] < c[0] or c[3] < c[1] else (c[2] - c[0] + more) * (c[3] - c[1] + more) for c in (a, b)]
    return w * h / (sizes[0] + sizes[1] - w * h)


def judged(found: np.ndarray, truth: np.ndarray, classes: int, **given: Any) -> np.ndarray:
    """Forward_cpu."""
    background, difficult = given.get("background", 0), given.get("difficult", True)
    sizes = given.get("sizes", [])
    gts: dict[int, dict[int, list[Any]]] = {}
    for row in truth:
        if int(row[0]) == -1:
            break
        gts.setdefault(int(row[0]), {}).setdefault(int(row[1]), []).append((list(row[3:7]), bool(row[7])))
    rows: list[list[float]] = []
    for c in range(classes):
        if c != background:
            number = sum(difficult or not d for image in gts.values() for _, d in image.get(c, []))
            rows.append([-1, c, number, -1, -1])
    images: dict[int, dict[int, list[Any]]] = {}
    for row in found:
        if int(row[0]) != -1:
            images.setdefault(int(row[0]), {}).setdefault(int(row[1]), []).append(row)
    line = 0
    for image in sorted(images):
        for label in sorted(images[image]):
            if label == -1:
                continue
            boxes, own = images[image][label], gts.get(image, {}).get(label, [])
            if not own:
                rows += [[image, label, row[2], 0, 1] for row in boxes]
                continue

            def scaled(box: Any, at: int = line) -> Any:
                if not sizes:
                    return list(box)
                ends = [sizes[at][1], sizes[at][0]] * 2
                return [min(max(side, f32(0)), f32(1)) * f32(end) for side, end in zip(box, ends, strict=True)]

            visited = [False] * len(own)
            for row in sorted(boxes, key=lambda row: -row[2]):
                best, at = f32(-1), -1
                for j, (box, _) in enumerate(own):
                    overlap = _jaccard(scaled(row[3:7]), scaled(box), bool(sizes))
                    if overlap > best:
                        best, at = overlap, j
                true = false = 0
                if best >= f32(given.get("overlap", 0.5)):
                    if difficult or not own[at][1]:
                        true, false = int(not visited[at]), int(visited[at])
                        visited[at] = True
                else:
                    false = 1
                rows.append([image, label, row[2], true, false])
        if sizes:
            line = (line + 1) % len(sizes)
    return np.array(rows, np.float32)[None, None]


def _values(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)

    def boxes(rows: int) -> np.ndarray:
        return np.sort(random.random((rows, 2, 2)), 1).reshape(rows, 4)

    truth = np.concatenate(
        [random.integers(0, 3, (12, 1)), random.integers(1, 4, (12, 1)), np.zeros((12, 1)), boxes(12)], 1
    )
    truth = np.concatenate([truth, random.integers(0, 2, (12, 1))], 1).astype(np.float32)
    near = truth[random.integers(0, 12, 20), 3:7] + random.normal(0, 0.03, (20, 4))
    head = [random.integers(0, 4, (20, 1)), random.integers(1, 4, (20, 1)), np.round(random.random((20, 1)), 2)]
    found = np.concatenate([*head, near], 1).astype(np.float32)
    found[:6, :2] = truth[:6, :2]
    found[:6, 3:7] = truth[:6, 3:7]
    found[6:9] = found[:3]  # found twice
    found[6:9, 2] -= 0.01
    return found, truth


def _text(**given: Any) -> str:
    return (
        f"detection_evaluate_param {{ num_classes: 4 overlap_threshold: {given.get('overlap', 0.5)} "
        f"evaluate_difficult_gt: {str(given.get('difficult', True)).lower()} {given.get('more', '')} }}"
    )


@pytest.mark.parametrize("given", [{}, {"difficult": False}, {"overlap": 0.8}])
def test_against_the_loops(given: dict[str, Any]) -> None:
    kinds = set()
    for seed in range(5):
        found, truth = _values(seed)
        layer = one_layer("DetectionEvaluate", _text(**given), (1, 1, *found.shape), (1, 1, *truth.shape))
        got = layer(torch.from_numpy(found)[None, None], torch.from_numpy(truth)[None, None]).numpy()
        assert np.array_equal(got, judged(found, truth, 4, **given))
        kinds |= {tuple(row) for row in got[0, 0, 3:, 3:]}
    assert kinds == {(1, 0), (0, 1)} | ({(0, 0)} if "difficult" in given else set())


def test_in_pixels_line_after_line(tmp_path: Path) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text("a 100 200\nb 33 21\n")
    found, truth = _values(1)
    layer = one_layer(
        "DetectionEvaluate", _text(more=f'name_size_file: "{path}"'), (1, 1, *found.shape), (1, 1, *truth.shape)
    )
    bottoms = [torch.from_numpy(array)[None, None] for array in (found, truth)]
    want = judged(found, truth, 4, sizes=[(100, 200), (33, 21)])
    layer.start_over()
    assert np.array_equal(layer(*bottoms).numpy(), want)
    layer.start_over()
    assert np.array_equal(layer(*bottoms).numpy(), want)


def test_absent_sizes_are_told_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, truth = _values(1)
    layer = one_layer(
        "DetectionEvaluate", _text(more='name_size_file: "none.txt"'), (1, 1, *found.shape), (1, 1, *truth.shape)
    )
    (warning,) = caplog.messages
    for word in ("layer 'under_test'", "detection_evaluate_param.name_size_file", "none.txt", "no results are written"):
        assert word in warning
    made = layer(*(torch.from_numpy(array)[None, None] for array in (found, truth))).numpy()
    assert np.array_equal(made, judged(found, truth, 4))
    assert len(caplog.messages) == 1 and not list(tmp_path.iterdir())


def test_what_detection_output_says_of_nothing() -> None:
    """Rows of label -1 are no detections; a ground truth of image -1 ends the list."""
    found = torch.tensor([[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]).float()[None, None]
    truth = torch.full((1, 1, 2, 8), -1.0)
    net = BlobNet(one_net("DetectionEvaluate", _text(), [(1, 1, 2, 7), (1, 1, 2, 8)]))
    for name, value in (("x0", found), ("x1", truth)):
        net.blob(name).tensor.copy_(value)
    net.forward()
    assert net.blob("y").tensor.tolist() == [[[[-1, label, 0, -1, -1] for label in (1, 2, 3)]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "num_classes is 0"),
        ("num_classes: 3 overlap_threshold: 0", "overlap_threshold is 0"),
        ("num_classes: 3 resize_param { }", "resize_param has no height"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        one_net("DetectionEvaluate", f"detection_evaluate_param {{ {text} }}", [(1, 1, 2, 7), (1, 1, 2, 8)])


def test_labels_and_files_that_are_refused(tmp_path: Path) -> None:
    layer = one_layer("DetectionEvaluate", _text(), (1, 1, 1, 7), (1, 1, 1, 8))
    with pytest.raises(LayerError, match="'x0' has the background's label 0"):
        layer(
            torch.tensor([0, 0, 0.5, 0, 0, 1, 1]).reshape(1, 1, 1, 7),
            torch.tensor([0.0, 1, 0, 0, 0, 1, 1, 0])[None, None, None],
        )
    (tmp_path / "bad.txt").write_text("a 100\n")
    with pytest.raises(LayerError, match="bad.txt: entry 1 is no name, height and width"):
        one_net("DetectionEvaluate", _text(more=f'name_size_file: "{tmp_path}/bad.txt"'), [(1, 1, 1, 7), (1, 1, 1, 8)])
