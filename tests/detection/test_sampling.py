"""Minibatches against a slow retelling of the branch's, and what differs by default."""

import dataclasses
import threading

import cv2
import numpy as np
import pytest
from one_layer import one_net

from caffe_compat.batches.slots import can_share
from caffe_compat.config import Config, load_config
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.roidb import Roidb, RoiImage
from caffe_compat.detection.sampling import Minibatches, Sampler
from caffe_compat.detection.targets import target_statistics
from caffe_compat.errors import CaffeCompatError, DataError, UsageError


def options(*pairs: str, parity: bool = False) -> Config:
    small = ["TRAIN.BATCH_SIZE", "16", "TRAIN.SCALES", "(40, 50, 60)", "TRAIN.MAX_SIZE", "70", "RNG_SEED", "7"]
    return load_config(None, [*small, *pairs], parity)


def an_image(name: str, overlaps: list[float], paths: dict[str, str] | None = None) -> RoiImage:
    """Regions with these overlaps with an object of class 2, which is the first of them where that is 1."""
    count = len(overlaps)
    random = np.random.RandomState(count)
    corners = random.randint(0, (30, 20), (count, 2))
    boxes = np.concatenate([corners, corners + random.randint(2, 15, (count, 2))], 1).astype(np.float32)
    found = np.array(overlaps, np.float32)
    gt = np.where((found == 1) & (np.arange(count) == 0), 2, 0).astype(np.int32)
    record = FrameRecord(name, paths or {}, size=(40, 50))
    return RoiImage(record, boxes, gt, found, np.where(found > 0, 2, 0).astype(np.int32))


BOTH = [1.0, 0.7, 0.5, *[0.3] * 9, 0.1, *[0.05] * 4, 0.0]
IMAGES = {
    "both": BOTH,
    "more": [1.0, *[0.6] * 12, *[0.2] * 3],
    "objects": [1.0, 0.9, 0.6],
    "background": [0.3, 0.2, 0.1],
    "neither": [0.05, 0.0],
    "edge": [0.5, 0.1],
    "again": BOTH,
}


def some_roidb(flips: bool = True) -> Roidb:
    return Roidb([an_image(name, overlaps) for name, overlaps in IMAGES.items()], flips)


def slow_batches(roidb: Roidb, config: Config, count: int):
    """The branch's layer retold, one draw after the other: [(image, scale, rows, labels)] for each batch."""
    train, stream, parity = config.train, np.random.RandomState(config.rng_seed), config.parity

    def is_valid(image):
        if parity:  # strictly within, and both
            fg = [v > train.fg_thresh for v in image.max_overlaps]
            bg = [train.bg_thresh_lo < v < train.bg_thresh_hi for v in image.max_overlaps.astype(float).round(6)]
            return any(fg) and any(bg)
        return any(is_fg(v) or is_bg(v) for v in image.max_overlaps)

    def is_fg(value):
        return value >= np.float32(train.fg_thresh)

    def is_bg(value):
        return np.float32(train.bg_thresh_lo) <= value < np.float32(train.bg_thresh_hi)

    def shuffled():
        return [k for k in stream.permutation(len(roidb)) if is_valid(roidb[k])]

    order, place, batches = shuffled(), 0, []
    for _ in range(count):
        end = place + train.ims_per_batch
        if (end >= len(order)) if parity else (end > len(order)):
            order, place = shuffled(), 0
        images = order[place : place + train.ims_per_batch]
        place += train.ims_per_batch
        scales = stream.randint(0, high=len(train.scales), size=len(images))
        batch = []
        for k, scale in zip(images, scales, strict=True):
            per_image = train.batch_size // len(images)
            fg = [row for row, v in enumerate(roidb[k].max_overlaps) if is_fg(v)]
            wanted = min(int(np.round(train.fg_fraction * per_image)), len(fg))
            fg = list(stream.choice(fg, size=wanted, replace=False)) if fg else []
            bg = [row for row, v in enumerate(roidb[k].max_overlaps) if is_bg(v)]
            bg = list(stream.choice(bg, size=min(per_image - len(fg), len(bg)), replace=False)) if bg else []
            batch.append((int(k), train.scales[scale], [int(row) for row in fg + bg], len(fg)))
        batches.append(batch)
    return batches


def drawn(sampler: Sampler, number: int):
    return [(pick.image, pick.scale, pick.rows.tolist(), pick.foreground) for pick in sampler.batch(number)]


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("pairs", [(), ("TRAIN.IMS_PER_BATCH", "1"), ("TRAIN.BG_THRESH_LO", "0.0")])
def test_draws_are_those_of_the_slow_retelling(parity, pairs):
    config, roidb = options(*pairs, parity=parity), some_roidb()
    sampler = Sampler(roidb, config)
    assert [drawn(sampler, number) for number in range(40)] == slow_batches(roidb, config, 40)


def test_which_images_take_part():
    names = list(IMAGES)
    valid = {
        parity: {names[k] for k in np.flatnonzero(Sampler(some_roidb(False), options(parity=parity)).valid)}
        for parity in (False, True)
    }
    assert valid[True] == {"both", "more", "again"}
    assert valid[False] == set(IMAGES) - {"neither"}


@pytest.mark.parametrize(("parity", "seen"), [(False, 6), (True, 4)])
def test_an_epoch_ends_with_its_last_image_but_in_parity(parity, seen):
    roidb = Roidb([an_image(f"{k}", BOTH) for k in range(6)], flips=False)
    sampler = Sampler(roidb, options(parity=parity))
    epoch = [image for number in range(seen // 2) for image, *_ in drawn(sampler, number)]
    assert len(set(epoch)) == seen
    following = [image for number in range(seen // 2, seen) for image, *_ in drawn(sampler, number)]
    assert len(set(following[:seen])) == seen


def test_one_image_alone():
    roidb = Roidb([an_image("a", BOTH)], flips=False)
    for parity in (False, True):
        sampler = Sampler(roidb, options(parity=parity))
        assert [len(sampler.batch(number)) for number in range(3)] == [1, 1, 1]
        assert len(sampler.batch(0)[0].rows) == 3 + 10  # all of its 16 regions are wanted


def test_a_batch_is_a_function_of_its_number():
    roidb, config = some_roidb(), options()
    forward = [drawn(Sampler(roidb, config), number) for number in range(5)]
    sampler = Sampler(roidb, config)
    assert [drawn(sampler, number) for number in (4, 2, 0, 3, 1)] == [forward[k] for k in (4, 2, 0, 3, 1)]
    late = drawn(sampler, 300)
    assert drawn(sampler, 1) == forward[1] and drawn(sampler, 300) == late  # the first is no longer kept by then
    other = Sampler(roidb, dataclasses.replace(config, rng_seed=8))
    assert [drawn(other, number) for number in range(5)] != forward


def test_several_threads_draw_the_same():
    roidb, config = some_roidb(), options()
    alone, shared = Sampler(roidb, config), Sampler(roidb, config)
    found: dict[int, object] = {}

    def work(first: int) -> None:
        for number in range(first, 60, 3):
            found[number] = drawn(shared, number)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: drawn(alone, number) for number in range(60)}


@pytest.mark.parametrize(("parity", "words"), [(False, "or of 0.1 to 0.5"), (True, "and of 0.1 to 0.5")])
def test_nothing_to_train_on(parity, words):
    with pytest.raises(DataError, match=f"none of 1 images has regions to train on: .* 0.5 or more, {words}"):
        Sampler(Roidb([an_image("a", [0.05, 0.0])], flips=True), options(parity=parity))


# -- blobs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    for name in IMAGES:
        for kind, seed in (("images", 1), ("hha", 2)):
            picture = np.random.RandomState(seed + len(name)).randint(0, 256, (40, 50, 3), np.uint8)
            cv2.imwrite(str(tmp_path / f"{name}_{kind}.png"), picture)
    return tmp_path


def minibatches(folder, config: Config, kinds: tuple[str, ...] = ("images", "hha")) -> Minibatches:
    images = [
        an_image(name, overlaps, {kind: str(folder / f"{name}_{kind}.png") for kind in kinds})
        for name, overlaps in IMAGES.items()
    ]
    roidb = Roidb(images, flips=True)
    return Minibatches(roidb, kinds, config, target_statistics(roidb, 4, config))


def test_blobs(pictures):
    config = options()
    made = minibatches(pictures, config)
    for number in range(6):
        data, second, rois, labels, targets, weights = made.read(number)
        picks = made.sampler.batch(number)
        assert data.shape == second.shape and data.shape[:2] == (2, 3) and (data != second).any()
        rows = np.concatenate([pick.rows for pick in picks])
        assert len(rows) == len(rois) == len(labels) == len(targets)
        start = 0
        for place, pick in enumerate(picks):
            image = made.roidb[pick.image]
            factor = min(pick.scale / 40, 70 / 50) if round(pick.scale / 40 * 50) > 70 else pick.scale / 40
            size = (round(40 * factor), round(50 * factor))
            assert not data[place, :, size[0] :].any() and not data[place, :, :, size[1] :].any()
            plain = cv2.imread(image.record.paths["hha"]).astype(np.float32) - np.array(config.pixel_means)
            resized = cv2.resize(plain[:, ::-1] if image.flipped else plain, None, None, fx=factor, fy=factor)
            np.testing.assert_allclose(second[place, :, : size[0], : size[1]], resized.transpose(2, 0, 1), atol=1e-3)
            for offset, row in enumerate(pick.rows):
                at = start + offset
                np.testing.assert_allclose(rois[at], [place, *(image.boxes[row] * factor)], rtol=1e-6)
                label = image.max_classes[row] if offset < pick.foreground else 0
                assert labels[at] == label
                taught = 2 if image.max_overlaps[row] >= 0.5 and image.gt_classes.any() else 0
                mark = np.zeros((4, 4))
                mark[taught] = bool(taught)
                assert (weights[at].reshape(4, 4) == mark).all()
                assert not targets[at].reshape(4, 4)[mark == 0].any()
            start += len(pick.rows)
    for blob in (data, rois, labels, targets, weights):
        assert blob.dtype == np.float32


def test_every_modality_is_fed_less_its_own_means(pictures):
    plain, own = (
        minibatches(pictures, options(*words)).read(0)
        for words in ((), ("MODALITY_MEANS", "((102.9801, 115.9465, 122.7717), (128, 128, 128))"))
    )
    np.testing.assert_array_equal(plain[0], own[0])
    shifted = plain[1] - own[1]
    inside = np.abs(shifted) > 0  # not the zeros at the bottom and on the right
    for channel, mean in enumerate((102.9801, 115.9465, 122.7717)):
        np.testing.assert_allclose(shifted[:, channel][inside[:, channel]], 128 - mean, atol=1e-3)
    with pytest.raises(UsageError, match="MODALITY_MEANS are of 2 modalities, expected 1"):
        minibatches(pictures, options("MODALITY_MEANS", "((1, 2, 3), (4, 5, 6))"), ("hha",))


def test_without_regression_there_are_no_targets(pictures):
    made = minibatches(pictures, options("TRAIN.BBOX_REG", "False"), ("hha",))
    assert not made.regression and len(made.read(0)) == 3 and (made.num_classes, made.num_data) == (4, 1)


@pytest.mark.parametrize("what", ["missing", "broken", "size"])
def test_an_unusable_picture_is_named(pictures, what):
    for name in IMAGES:
        path = pictures / f"{name}_hha.png"
        path.unlink()
        if what == "broken":
            path.write_bytes(b"no picture")
        elif what == "size":
            cv2.imwrite(str(path), np.zeros((40, 51, 3), np.uint8))
    with pytest.raises(CaffeCompatError, match=r"image \w+: .*_hha.png"):
        minibatches(pictures, options()).read(0)


@pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")
def test_worker_processes_make_the_same_minibatches(pictures):
    """They decode and scale; the regions come from the parent."""
    source = minibatches(pictures, options("TRAIN.IMS_PER_BATCH", "2"))
    names = ("data", "data_1", "rois", "labels", "bbox_targets", "bbox_loss_weights")
    text = "param_str: '--num_classes 4 --num_data 2'"
    body = f"python_param {{ module: 'roi_data_layer.layer_pi' layer: 'RoIDataLayerPi' {text} }}"
    layer = one_net("Python", body, [], names, "TRAIN").layer("under_test")
    layer.feed(source, ahead=2)
    layer.workers = 2
    for number in (0, 1, 2, 3, 7):
        layer.seek(number)
        for top, expected in zip(layer(), source.read(number), strict=True):
            assert np.array_equal(top.numpy(), expected)
    (pictures / "both_hha.png").write_bytes(b"")
    with pytest.raises(CaffeCompatError) as here:
        for number in range(20):
            source.read(number)
    with pytest.raises(CaffeCompatError) as there:
        for _ in range(20):
            layer()
    assert str(there.value) == str(here.value) and "image both: " in str(here.value)
