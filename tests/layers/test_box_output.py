"""BoxOutput and pad_ratio against loops written down from zhaoweicai/mscnn's sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest
import torch
from cases_box_output import SETTINGS
from one_layer import one_layer, one_net

from caffe_compat.errors import ExportError, LayerError, ShapeError
from caffe_compat.net import Net
from caffe_compat.onnx import export_onnx

FIELDS = ((8, 10, 4), (16, 20, 8))
Row = list[float]


def _overlap(a: Row, b: Row, kind: str) -> float:
    """BoxIOU of x, y, width and height."""
    low = [max(a[k], b[k]) for k in (0, 1)]
    high = [min(a[k] + a[k + 2], b[k] + b[k + 2]) for k in (0, 1)]
    over = 0.0 if low[0] >= high[0] or low[1] >= high[1] else (high[0] - low[0]) * (high[1] - low[1])
    one, two = a[2] * a[3], b[2] * b[3]
    return over / {"IOMU": min(one, two), "IOFU": one}.get(kind, one + two - over)


def _slow(maps: list[np.ndarray], kind: str, before: int, after: int, norm: bool) -> list[Row]:
    """Rows image, x1, y1, x2, y2, score; fg_thr -0.5, iou_thr 0.4, min_size 4, field_whr and field_xyr 2."""
    result = []
    for item in range(len(maps[0])):
        boxes: list[tuple[float, int, Row]] = []
        for level, (field_w, field_h, rate) in zip(maps, FIELDS, strict=True):
            classes = level.shape[1] - 4
            height, width = level.shape[2:]
            for h, w in np.ndindex(height, width):
                values = level[item, :, h, w]
                score = max(values[1:classes]) - values[0]
                if score < -0.5:
                    continue
                x, y, wide, high = values[classes:]
                if norm:
                    x, y, wide, high = x * 0.1 + 0.2, y * 0.2, wide * 0.3, high * 0.4 - 0.1
                x, y = (min(max(v, -0.5), 0.5) for v in (x, y))
                wide, high = (min(max(v, -math.log(2)), math.log(2)) for v in (wide, high))
                x, y = x * field_w + (w + 0.5) * rate, y * field_h + (h + 0.5) * rate
                wide, high = field_w * math.exp(wide), field_h * math.exp(high)
                x, y = max(x - wide / 2, 0), max(y - high / 2, 0)
                wide, high = min(wide, width * rate - x), min(high, height * rate - y)
                if wide >= 4 and high >= 4:
                    boxes.append((score, len(boxes), [x, y, wide, high]))
        boxes.sort(key=lambda row: row[:2], reverse=True)
        kept: list[tuple[float, int, Row]] = []
        for row in boxes[: before or None]:
            if all(_overlap(other[2], row[2], kind) <= 0.4 for other in kept):
                kept.append(row)
        result += [[item, x, y, x + w, y + h, score] for score, _, (x, y, w, h) in kept[: after or None]]
    return result


@pytest.mark.parametrize("kind", ["IOU", "IOMU", "IOFU"])
@pytest.mark.parametrize(("before", "after", "norm"), [(0, 0, False), (12, 0, True), (0, 3, False)])
def test_number_by_number(kind: str, before: int, after: int, norm: bool) -> None:
    random = np.random.default_rng(before + after)
    maps = [np.round(random.normal(size=(3, 7, 5, 6)), 1), np.round(random.normal(size=(3, 7, 3, 3)), 1)]  # with ties
    more = f'fg_thr: -0.5 iou_thr: 0.4 nms_type: "{kind}" max_nms_num: {before} max_post_nms_num: {after}'
    text = f"box_output_param {{ {SETTINGS} {more} }}"
    if norm:
        numbers = zip((0.2, 0, 0, -0.1), (0.1, 0.2, 0.3, 0.4), strict=True)
        text += " bbox_reg_param { " + " ".join(f"bbox_mean: {m} bbox_std: {s}" for m, s in numbers) + " }"
    net = one_net("BoxOutput", text, [one.shape for one in maps], ("rois", "scored"))
    rois, scored = net.layer("under_test")(*(torch.from_numpy(one) for one in maps))
    want = np.array(_slow(maps, kind, before, after, norm))
    assert rois.shape == (len(want), 5, 1, 1) and scored.shape == (len(want), 6, 1, 1) and len(want) > 5
    np.testing.assert_allclose(scored[..., 0, 0].numpy(), want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rois[..., 0, 0].numpy(), want[:, :5], rtol=1e-6, atol=1e-6)
    if kind != "IOU":
        with pytest.raises(ExportError, match=f"under_test.*nms_type is {kind}"):
            export_onnx(net, dynamic=())
        return
    inputs = {f"x{n}": one.astype(np.float32) for n, one in enumerate(maps)}
    rois, scored = net.layer("under_test")(*map(torch.from_numpy, inputs.values()))  # other scores are equal there
    exported = exported_tops(net, inputs)
    np.testing.assert_allclose(exported["scored"], scored, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exported["rois"], rois, rtol=1e-5, atol=1e-5)


def exported_tops(net: Net, inputs: dict[str, np.ndarray], dynamic: Sequence[str] | bool = ()) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes."""
    model = export_onnx(net, dynamic=dynamic)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_without_any_region_there_is_one() -> None:
    shapes = ((1, 6, 4, 6), (1, 6, 2, 3))
    net = one_net("BoxOutput", f"box_output_param {{ {SETTINGS} fg_thr: 9 }}", shapes, ("rois", "scored"))
    inputs = {f"x{n}": np.zeros(shape, np.float32) for n, shape in enumerate(shapes)}
    rois, scored = net.layer("under_test")(*map(torch.from_numpy, inputs.values()))
    exported = exported_tops(net, inputs)
    for found in (rois, scored), (exported["rois"], exported["scored"]):
        assert [one.reshape(-1).tolist() for one in found] == [[0, 1, 1, 10, 10], [0] * 6]
        assert [tuple(one.shape) for one in found] == [(1, 5, 1, 1), (1, 6, 1, 1)]


def test_exported_for_maps_of_any_size() -> None:
    """The same model, batch and sizes left open, on maps of other sizes; all scores are equal."""
    shapes = ((1, 6, 4, 6), (1, 6, 2, 3))
    body = f"box_output_param {{ {SETTINGS} fg_thr: -1 max_nms_num: 30 }}"
    net = one_net("BoxOutput", body, shapes, ("rois", "scored"))
    random = np.random.default_rng(3)
    inputs = {
        "x0": random.random((2, 6, 5, 9)).astype(np.float32),
        "x1": random.random((2, 6, 3, 4)).astype(np.float32),
    }
    for value in inputs.values():
        value[:, :2] = 0.5
    wanted = net.layer("under_test")(*map(torch.from_numpy, inputs.values()))
    exported = exported_tops(net, inputs, dynamic=True)
    assert len(wanted[0]) > 10
    np.testing.assert_allclose(exported["rois"], wanted[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exported["scored"], wanted[1], rtol=1e-5, atol=1e-5)


def test_regions_wider_by_a_part_of_themselves() -> None:
    """A region of 3 to 6 x 2 to 4 with a pad_ratio of 0.5 is 1 to 8 x 0.5 to 5.5: rows 1 (halves up) to 6."""
    feature = torch.arange(100.0).reshape(1, 1, 10, 10)
    rois = torch.tensor([[0.0, 3, 2, 6, 4]])
    padded = one_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 pad_ratio: 0.5 }", (1, 1, 10, 10), (1, 5)
    )
    plain = one_layer("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", (1, 1, 10, 10), (1, 5))
    assert padded(feature, rois).item() == 68 and plain(feature, rois).item() == 46
    assert plain(feature, torch.tensor([[0.0, 1, 0.5, 8, 5.5]])).item() == 68


@pytest.mark.parametrize(
    ("body", "shapes", "kind", "what"),
    [
        ("field_w: 8 field_h: 8 downsample_rate: 4", [(1, 6, 2, 2)] * 2, LayerError, "expected 2 positive numbers"),
        (f'{SETTINGS} nms_type: "IOM"', [(1, 6, 2, 2)] * 2, LayerError, "nms_type is 'IOM'"),
        (f"{SETTINGS} field_whr: 0.5", [(1, 6, 2, 2)] * 2, LayerError, "field_whr 0.5"),
        (SETTINGS, [(1, 5, 2, 2)] * 2, ShapeError, "two classes or more"),
        (SETTINGS, [(1, 6, 2, 2), (1, 7, 2, 2)], ShapeError, "bottom 1 has the shape"),
    ],
)
def test_refusals(body: str, shapes: list[tuple[int, ...]], kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=f"under_test.*{what}"):
        one_layer("BoxOutput", f"box_output_param {{ {body} }}", *shapes)


def test_nan_is_an_error() -> None:
    layer = one_layer("BoxOutput", f"box_output_param {{ {SETTINGS} }}", (1, 6, 2, 2), (1, 6, 1, 1))
    with pytest.raises(LayerError, match="bottom 'x1' holds NaN"):
        layer(torch.zeros(1, 6, 2, 2), torch.full((1, 6, 1, 1), torch.nan))
