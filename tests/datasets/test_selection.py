import collections
import dataclasses
import json

import numpy as np
import pytest
from video_files import pairs_of, write_scene

from caffe_compat.datasets.selection import _quotas, read_selection, select, write_selection
from caffe_compat.datasets.video import missing_fraction, synchronise
from caffe_compat.errors import DataError, MissingFileError, UsageError

SIZES = {"kitchen_0001": 700, "attic_0002": 211, "bath_0003": 3, "cafe_0004": 90}


def scenes(sizes=SIZES):
    return {name: pairs_of(name, size) for name, size in sizes.items()}


def indices(pairs, scene):
    return [int(pair.depth.split("d-")[1].split(".")[0]) for pair in pairs if pair.scene == scene]


def test_quotas_are_in_proportion():
    assert _quotas({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert _quotas({"a": 6, "b": 5, "c": 4}, 4) == {"a": 2, "b": 1, "c": 1}  # shares 1.6, 1.33, 1.07
    assert _quotas({"a": 98, "b": 1, "c": 1}, 10) == {"a": 8, "b": 1, "c": 1}
    assert _quotas({"a": 98, "b": 0, "c": 1}, 99) == {"a": 98, "c": 1}
    assert _quotas({"a": 5, "b": 4, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}


def test_quotas_of_any_sizes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = {str(index): int(size) for index, size in enumerate(rng.integers(0, 60, rng.integers(1, 12)))}
        total = sum(sizes.values())
        for count in {1, total // 3, total // 2, total} - {0}:
            if total < count:
                continue
            quotas = _quotas(sizes, count)
            assert sum(quotas.values()) == count
            present = [name for name, size in sizes.items() if size]
            assert all(0 <= quotas[name] <= sizes[name] for name in present)
            if count >= len(present):
                assert min(quotas[name] for name in present) >= 1


def test_selection_is_spread_evenly():
    chosen = select(scenes(), 100, seed=5)
    assert len({pair.depth for pair in chosen}) == 100
    assert collections.Counter(pair.scene for pair in chosen) == _quotas(dict(sorted(SIZES.items())), 100)
    assert chosen == sorted(chosen, key=lambda pair: (pair.scene, pair.time))
    for scene, size in SIZES.items():
        found = indices(chosen, scene)
        step = size / len(found)
        assert found[0] < step and found[-1] >= size - step - 1
        assert all(step - 1 < gap < step + 1 for gap in np.diff(found))


def test_all_of_a_scene_can_be_chosen():
    assert indices(select({"a_1": pairs_of("a_1", 40)}, 40, seed=1), "a_1") == list(range(40))


def test_selection_depends_on_the_seed_only():
    first = select(scenes(), 60, seed=0)
    shuffled = {name: pairs_of(name, size)[::-1] for name, size in reversed(SIZES.items())}
    assert select(shuffled, 60, seed=0) == first
    phases = {indices(select(scenes(), 60, seed=seed), "kitchen_0001")[0] for seed in range(20)}
    assert len(phases) > 5


def test_another_scene_leaves_the_phase_of_the_rest():
    few = {"a_1": 100, "b_2": 100}
    before = select(scenes(few), 20, seed=9)
    after = select(scenes({**few, "aa_3": 100}), 30, seed=9)
    assert [pair for pair in after if pair.scene != "aa_3"] == before
    assert indices(before, "a_1") != indices(before, "b_2")


def test_pairs_too_far_apart_are_no_candidates():
    pairs = [dataclasses.replace(pair, gap=[0.001, 1 / 30, 0.05][i % 3]) for i, pair in enumerate(pairs_of("a_1", 30))]
    assert indices(select({"a_1": pairs}, 10, seed=0), "a_1") == list(range(0, 30, 3))
    with pytest.raises(DataError, match=r"11 frames wanted, but the 1 scenes have 10 pairs .* less than 0\.03333 s"):
        select({"a_1": pairs}, 11, seed=0)
    assert len(select({"a_1": pairs}, 20, seed=0, max_gap=0.04)) == 20
    for count, gap in ((0, 0.1), (3, 0.0), (3, float("nan"))):
        with pytest.raises(UsageError, match="positive"):
            select({"a_1": pairs}, count, seed=0, max_gap=gap)


def test_unusable_frames_are_replaced_by_their_neighbours():
    plain = select(scenes({"a_1": 100}), 10, seed=2)
    bad = {plain[3].depth, plain[7].depth}
    chosen = select(scenes({"a_1": 100}), 10, seed=2, usable=lambda pair: pair.depth not in bad)
    old, new = indices(plain, "a_1"), indices(chosen, "a_1")
    assert [abs(a - b) for a, b in zip(new, old, strict=True)] == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_neighbours_are_searched_on_both_sides():
    (plain,) = select(scenes({"a_1": 21}), 1, seed=4)
    (at,) = indices([plain], "a_1")
    asked = []

    def usable(pair):
        asked.append(indices([pair], "a_1")[0])
        return len(asked) == 4

    assert 2 <= at <= 18
    select(scenes({"a_1": 21}), 1, seed=4, usable=usable)
    assert asked[0] == at and set(asked) == {at, at - 1, at + 1, asked[3]} and abs(asked[3] - at) == 2


def test_other_scenes_fill_up():
    asked = collections.Counter()

    def usable(pair):
        asked[pair.depth] += 1
        return pair.scene != "a_1" or indices([pair], "a_1")[0] < 3

    sizes = {"a_1": 40, "b_2": 40, "c_3": 20}
    chosen = select(scenes(sizes), 50, seed=0, usable=usable)
    counts = collections.Counter(pair.scene for pair in chosen)
    assert counts == {"a_1": 3, "b_2": 20 + 11, "c_3": 10 + 6}
    assert len({pair.depth for pair in chosen}) == 50
    assert max(asked.values()) == 1
    assert chosen == select(scenes(sizes), 50, seed=0, usable=usable)
    with pytest.raises(DataError, match="64 frames wanted, but at most 63 of the 100 candidates are usable"):
        select(scenes(sizes), 64, seed=0, usable=usable)


def test_frames_with_holes_are_replaced(tmp_path):
    stamps = [f"{time}.0-1" for time in range(1, 9)]
    write_scene(tmp_path / "a_1", stamps, stamps)
    write_scene(tmp_path / "a_1", stamps[:6], [], code=2047)
    chosen = select(
        {"a_1": synchronise(tmp_path / "a_1")}, 2, seed=0, usable=lambda pair: missing_fraction(pair.depth) <= 0.5
    )
    assert [pair.time for pair in chosen] == [7.0, 8.0]


def write_some(tmp_path):
    write_scene(tmp_path / "raw" / "part" / "a_0001b", ["1.5-1", "2.5-2"], ["1.51-1", "2.5-2"])
    pairs = synchronise(tmp_path / "raw" / "part" / "a_0001b")
    write_selection(tmp_path / "chosen.json", pairs, tmp_path / "raw", seed=7)
    return pairs


def test_selection_file(tmp_path):
    pairs = write_some(tmp_path)
    content = json.loads((tmp_path / "chosen.json").read_text())
    assert (content["seed"], content["count"], content["max_gap"]) == (7, 2, 1 / 30)
    assert content["frames"][0]["depth"] == "part/a_0001b/d-1.5-1.pgm"
    assert read_selection(tmp_path / "chosen.json", tmp_path / "raw") == pairs
    (tmp_path / "raw").rename(tmp_path / "moved")
    (first, _) = read_selection(tmp_path / "chosen.json", tmp_path / "moved")
    assert first.color == str(tmp_path / "moved" / "part" / "a_0001b" / "r-1.51-1.ppm")
    with pytest.raises(MissingFileError, match=r"d-1.5-1.pgm .*is .*raw the raw video"):
        read_selection(tmp_path / "chosen.json", tmp_path / "raw")
    with pytest.raises(DataError, match="is not below"):
        write_selection(tmp_path / "other.json", pairs, tmp_path / "moved" / "part" / "x", seed=7)
    with pytest.raises(DataError, match="without a frame"):
        write_selection(tmp_path / "other.json", [], tmp_path, seed=7)
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scene", "..", "frame 1: scene is '..'"),
        ("scene", "a/b", "frame 1: scene is 'a/b'"),
        ("scene", "", "frame 1: scene is ''"),
        ("depth", "/etc/passwd", "frame 1: depth is"),
        ("depth", "part/../../x.pgm", "frame 1: depth is"),
        ("color", 3, "frame 1: color is 3"),
        ("time", "1", "frame 1: time is '1', expected seconds"),
        ("gap", -0.1, "frame 1: gap is -0.1"),
        ("gap", float("nan"), "not JSON: NaN is no number"),
        ("time", None, "frame 1: time is None"),
        ("depth", "part/a_0001b/d-1.5-1.pgm", "listed twice"),
    ],
)
def test_bad_selection_files(tmp_path, field, value, message):
    write_some(tmp_path)
    content = json.loads((tmp_path / "chosen.json").read_text())
    content["frames"][1][field] = value
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        read_selection(tmp_path / "bad.json", tmp_path / "raw")
    assert "bad.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a selection"),
        ('{"format": "caffe_compat.nyud2_selection", "version": 2}', "version 1"),
        ('{"format": "caffe_compat.nyud2_selection", "version": 1, "count": 2, "frames": [1]}', "a list of 2 frames"),
        ('{"format": "caffe_compat.nyud2_selection", "version": 1, "count": 1, "frames": [1]}', "frame 0: 1: expected"),
    ],
)
def test_other_files_are_no_selection(tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_selection(tmp_path / "bad.json", tmp_path)
