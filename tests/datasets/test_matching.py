"""Which depth file belongs to which colour file."""

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.datasets.matching import frame_time, match_files, time_unit
from caffe_compat.errors import DataError, UsageError


def paths(names: str) -> list[Path]:
    return [Path("folder", name) for name in names.split()]


def matched(color: str, depth: str, *rule, **options) -> tuple[str, list[tuple[str, str]]]:
    found = match_files(paths(color), paths(depth), *rule, **options)
    return found.rule, [(first.name, second.name) for first, second in found.pairs]


@pytest.mark.parametrize(
    ("color", "depth"),
    [
        ("a.jpg b.jpg", "a.png b.png"),
        ("0001_rgb_raw.jpg 0002_rgb_raw.jpg", "0001_depth_raw.png 0002_depth_raw.png"),
        ("color_1.jpg color_2.jpg", "depth_1.png depth_2.png"),
        ("frame-000001.color.jpg frame-000002.color.jpg", "frame-000001.depth.png frame-000002.depth.png"),
        ("1305031229.528784_color.jpg 1305031230.098274_color.jpg", "1305031229.528784.png 1305031230.098274.png"),
        ("roomColor5.jpg roomColor6.jpg", "roomDepth5.png roomDepth6.png"),
        ("scene1_7.jpg scene2_7.jpg", "scene1_7_depth.png scene2_7_depth.png"),
    ],
)
def test_by_name(color, depth):
    assert matched(color, depth) == ("stem", list(zip(color.split(), depth.split(), strict=True)))


def test_by_number():
    rule, pairs = matched("left0001.jpg left0002.jpg left0010.jpg", "d-2.png d-1.png d-10.png")
    assert rule == "number"
    assert pairs == [("left0001.jpg", "d-1.png"), ("left0002.jpg", "d-2.png"), ("left0010.jpg", "d-10.png")]
    found = match_files(paths("c1.jpg c2.jpg c3.jpg"), paths("x2.png x3.png x4.png"), "number")
    assert [path.name for path in (*found.color_left, *found.depth_left)] == ["c1.jpg", "x4.png"]


@pytest.mark.parametrize(
    ("unit", "scale"), [("s", "{:.6f}"), ("ms", "{:.3f}"), ("us", "{:.0f}"), ("ns", "{:.0f}"), ("s", "{}_{}")]
)
def test_by_time_in_every_unit(unit, scale):
    def name(seconds, ending):
        whole = round(seconds * 1e9)
        if scale == "{}_{}":
            return f"{1305031102 + whole // 10**9}_{whole % 10**9:09d}.{ending}"
        factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        return scale.format((1305031102 * 10**9 + whole) / 10**9 * factor if unit == "s" else (
            (1305031102 * 10**9 + whole) / 10**9 * factor)) + f".{ending}"  # fmt: skip

    color, depth = [0.0, 0.033, 0.067, 0.5], [0.011, 0.04, 0.08, 0.3]
    found = match_files(
        [Path(name(t, "jpg")) for t in color], [Path(name(t, "png")) for t in depth], "time", max_gap=0.015
    )
    assert (found.rule, found.unit, len(found.pairs)) == ("time", unit, 3)
    assert found.gaps == pytest.approx((0.011, 0.007, 0.013), abs=2e-6)
    assert len(found.color_left) == len(found.depth_left) == 1


def associate(first, second, longest):
    """TUM's associate.py, as it is: all candidate pairs by their difference, each stamp once."""
    found, left, right = [], set(range(len(first))), set(range(len(second)))
    for _, i, j in sorted((abs(a - b), i, j) for i, a in enumerate(first) for j, b in enumerate(second)
                          if abs(a - b) <= longest):  # fmt: skip
        if i in left and j in right:
            left.remove(i)
            right.remove(j)
            found.append((i, j))
    return sorted(found)


@pytest.mark.parametrize("seed", range(5))
def test_time_is_as_the_benchmark_associates(seed):
    rng = np.random.default_rng(seed)
    color, depth = (
        np.sort(1_305_031_102_000_000 + rng.choice(3_000_000, 90, replace=False)) + shift for shift in (0, 9000)
    )
    found = match_files(
        [Path(f"{t}.jpg") for t in color], [Path(f"{t}.png") for t in depth], "time", unit="us", max_gap=0.02
    )
    expected = associate(color.tolist(), depth.tolist(), 20_000)
    assert [(int(a.stem), int(b.stem)) for a, b in found.pairs] == [(color[i], depth[j]) for i, j in expected]
    assert len(expected) > 40


def test_the_first_rule_that_serves_all():
    color, depth = "1305031102.1753.png 1305031102.2112.png", "1305031102.1603.png 1305031102.2260.png"
    assert matched(color, depth)[0] == "time"
    # one name of ten is the same by chance: time pairs more
    color = " ".join(f"13050311{k:02d}.100000.png" for k in range(10))
    depth = "1305031100.100000.png " + " ".join(f"13050311{k:02d}.110000.png" for k in range(1, 10))
    rule, pairs = matched(color, depth)
    assert rule == "time" and len(pairs) == 10
    assert matched("5.jpg 9.jpg", "05.png 09.png")[0] == "number"


def test_what_does_not_pair():
    with pytest.raises(
        DataError, match=r"2 colour and 2 depth files, such as a\.jpg and c\.png, do not pair: by stem: "
    ):
        matched("a.jpg b.jpg", "c.png d.png")
    with pytest.raises(DataError, match="does not count from 1970, so that its unit cannot be told; say --time-unit"):
        matched("533.4.jpg 566.7.jpg", "533.5.png 566.8.png", "time")
    assert matched("533.4.jpg 566.7.jpg", "533.5.png 566.8.png", "time", unit="ms")[1][0] == ("533.4.jpg", "533.5.png")
    with pytest.raises(DataError, match=r"c1\.jpg and d_01\.jpg would be one frame"):
        matched("c1.jpg d_01.jpg", "1.png", "number")
    with pytest.raises(DataError, match=r"no colour and depth file lie within 0\.001 s"):
        matched("1305031102.1.jpg", "1305031102.2.png", "time", max_gap=0.001)
    with pytest.raises(DataError, match=r"a\.jpg has no time stamp|a has no time stamp"):
        matched("a.jpg", "1.png", "time")
    with pytest.raises(DataError, match=r"a\.jpg has no number"):
        matched("a.jpg", "1.png", "number")
    with pytest.raises(UsageError, match="longest gap is 0 s"):
        matched("a.jpg", "a.png", max_gap=0)
    with pytest.raises(DataError, match="beyond the year 2262"):
        matched("99999999999999.jpg", "99999999999999.png", "time", unit="s")
    with pytest.raises(DataError, match="time stamps in ms and s; say --time-unit"):
        time_unit(["1305031102", "1305031102000"])


def test_the_time_of_a_frame():
    assert frame_time(Path("out_Depth_1305031102175.25.png"), "ms") == pytest.approx(1305031102.17525, abs=1e-6)
    assert frame_time(Path("x.png"), "ms") is None
