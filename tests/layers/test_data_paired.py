"""PairedImageData: what is in a batch, what is random, and that resuming changes nothing."""

import time

import cv2
import numpy as np
import pytest
import torch
from data_files import image, write_boxes, write_images
from one_layer import one_layer

from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.errors import DataError, LayerError, MissingFileError
from caffe_compat.ranks import Turns


def layer(folder, text="", phase="TRAIN", source="pairs.txt"):
    body = f'paired_image_data_param {{ source: "{folder}/{source}" {text} }}'
    return one_layer("PairedImageData", body, tops=("a", "b"), phase=phase)


def batches(data, count):
    return [tuple(top.clone() for top in data()) for _ in range(count)]


def same(one, other):
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    return tmp_path


def test_in_order_with_means(folder):
    means = "mean_value: 1 mean_value: 2 mean_value: 3 mean_value_1: 10 scale: 0.5"
    data = layer(folder, f"batch_size: 3 {means}", "TEST")
    first, second = batches(data, 2)
    assert first[0].shape == first[1].shape == (3, 3, 6, 8)
    for top, offset, mean in ((0, 0, [1, 2, 3]), (1, 100, [10] * 3)):
        for item, number in ((second, 3), (first, 2)):
            want = (image(number + offset).astype(np.float32) - mean) * 0.5
            got = item[top][number % 3].permute(1, 2, 0).numpy()
            assert np.allclose(got, want)
    assert torch.equal(second[0][2], first[0][0])  # the list starts again


def test_one_mean_serves_both(folder):
    first, second = layer(folder, "mean_value: 7", "TEST")()
    assert np.array_equal(first[0].permute(1, 2, 0), image(0).astype(np.float32) - 7)
    assert np.array_equal(second[0].permute(1, 2, 0), image(100).astype(np.float32) - 7)


def test_crop_and_mirror_are_common(folder):
    data = layer(folder, "batch_size: 4 crop_height: 3 crop_width: 4 mirror: true shuffle: true seed: 5")
    seen = set()
    for first, second in batches(data, 12):
        for a, b in zip(first, second, strict=True):
            places = [
                (number, top, left, flip)
                for number in range(5)
                for top in range(4)
                for left in range(5)
                for flip in (1, -1)
                if np.array_equal(a.permute(1, 2, 0), image(number)[top : top + 3, left : left + 4][:, ::flip])
            ]
            assert len(places) == 1
            number, top, left, flip = places[0]
            want = image(number + 100)[top : top + 3, left : left + 4][:, ::flip]
            assert np.array_equal(b.permute(1, 2, 0), want)
            seen.add(places[0])
    assert {place[0] for place in seen} == set(range(5))
    assert {place[1] for place in seen} == set(range(4))
    assert {place[2] for place in seen} == set(range(5))
    assert {place[3] for place in seen} == {1, -1}


def test_centre_crop_in_test(folder):
    first, _ = layer(folder, "crop_height: 3 crop_width: 5 mirror: true shuffle: true", "TEST")()
    assert np.array_equal(first[0].permute(1, 2, 0), image(0)[1:4, 1:6])


def test_every_pair_once_an_epoch(folder):
    data = layer(folder, "batch_size: 1 shuffle: true seed: 3")
    orders = []
    for _ in range(3):
        sums = [float(data()[0].sum()) for _ in range(5)]
        assert len(set(sums)) == 5
        orders.append(sums)
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(orders[0]))}
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(("text", "about"), [("", 128), ("negate_about: 127.5", 127.5)])
def test_flow_is_negated_where_mirrored(folder, text, about):
    data = layer(folder, f"batch_size: 5 mirror: true negate_x_channel: 2 mean_value: 0.5 seed: 1 {text}")
    first, second = data()
    flipped = 0
    for number in range(5):
        a, b = first[number].permute(1, 2, 0), second[number].permute(1, 2, 0)
        want = image(number + 100).astype(np.float32)
        if not np.array_equal(a, image(number) - np.float32(0.5)):
            flipped += 1
            want = want[:, ::-1].copy()
            want[..., 2] = 2 * about - want[..., 2]
        assert np.array_equal(b, want - 0.5)
    assert 0 < flipped < 5


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_seek_resumes_bit_for_bit(folder, prefetch):
    text = f"batch_size: 2 crop_height: 4 crop_width: 4 mirror: true shuffle: true seed: 9 prefetch: {prefetch}"
    whole = batches(layer(folder, text), 10)
    data = layer(folder, text)
    data.seek(6)
    assert same(batches(data, 4), whole[6:])
    assert data.position == 10
    data.seek(2)
    assert same(batches(data, 3), whole[2:5])
    with pytest.raises(LayerError, match="negative|0 or more"):
        data.seek(-1)


def test_torchs_seed_decides(folder):
    text = "mirror: true shuffle: true"
    torch.manual_seed(1)
    one = layer(folder, text)
    torch.rand(3)
    again = layer(folder, text)
    torch.manual_seed(2)
    other = layer(folder, text)
    first = batches(one, 6)
    assert same(first, batches(again, 6))
    assert not same(first, batches(other, 6))


def test_short_side_and_multiple(tmp_path):
    write_images(tmp_path, 1, 20, 31)
    first, second = layer(tmp_path, "batch_size: 1 short_side: 40 multiple_of: 32", "TEST")()
    want = cv2.resize(image(0, 20, 31), None, fx=2, fy=2)[:32, :32]
    assert np.array_equal(first[0].permute(1, 2, 0), want)
    assert second.shape == (1, 3, 32, 32)
    first, _ = layer(tmp_path, "batch_size: 1 new_height: 10 new_width: 9", "TEST")()
    assert np.array_equal(first[0].permute(1, 2, 0), cv2.resize(image(0, 20, 31), (9, 10)))


def test_processes_take_turns(folder):
    whole = batches(layer(folder, "batch_size: 1"), 10)
    parts = [layer(folder, "batch_size: 1") for _ in range(2)]
    for rank, part in enumerate(parts):
        part.take_turns(Turns(rank, 2))
        assert same(batches(part, 5), whole[rank::2])


def test_list_forms(folder):
    (folder / "other.txt").write_text(f'0.png\t0 second.png\n\n  "{folder}/1.png"   "1 second.png"\r\n')
    first, second = layer(folder, "batch_size: 2", "TEST", "other.txt")()
    assert np.array_equal(second[1].permute(1, 2, 0), image(101))
    root = folder / "elsewhere"
    root.mkdir()
    (folder / "0.png").rename(root / "0.png")
    (folder / "1.png").rename(root / "1.png")
    (folder / "plain.txt").write_text("0.png 1.png\n")
    first, second = layer(folder, f'batch_size: 1 root_folder: "{root}"', "TEST", "plain.txt")()
    assert np.array_equal(second[0].permute(1, 2, 0), image(1))


def test_damage_behind_the_head_is_raised_in_its_batch(folder):
    whole = (folder / "3 second.png").read_bytes()
    start = whole.index(b"IDAT") + 4
    (folder / "3 second.png").write_bytes(whole[:start] + bytes(20) + whole[start + 20 :])
    data = layer(folder, "batch_size: 2", "TEST")
    data()
    for _ in range(2):
        with pytest.raises(DataError, match=r"pairs\.txt, line 4: .*3 second\.png"):
            data()
    data.seek(0)
    assert np.array_equal(data()[0][0].permute(1, 2, 0), image(0))


def test_all_pairs_that_cannot_be_used_are_named_at_set_up(folder):
    (folder / "1.png").write_bytes(b"no image")
    (folder / "3 second.png").unlink()
    cv2.imwrite(str(folder / "4.png"), image(0, 7, 8))
    with pytest.raises(DataError) as caught:
        layer(folder, "batch_size: 2")
    told = str(caught.value)
    assert "pairs.txt: 3 of 5 pairs cannot be used: " in told
    for part in ("line 2: ", "1.png", "; line 4: ", "3 second.png", "; line 5: the images of the pair have different"):
        assert part in told, part


def test_lists_that_are_refused(folder):
    for content, message in (
        ("", "empty"),
        ("0.png\n", r"bad\.txt, line 1.*expected two"),
        ("0.png 1.png 2.png\n", "line 1: has 3"),
        ("0.png absent.png\n", r"bad\.txt, line 1.*absent\.png"),
    ):
        (folder / "bad.txt").write_text(content)
        with pytest.raises(DataError, match=message):
            layer(folder, "", "TEST", "bad.txt")
    with pytest.raises(MissingFileError, match=r"nothing\.txt"):
        layer(folder, "", "TEST", "nothing.txt")


def test_sizes_that_are_refused(folder):
    cv2.imwrite(str(folder / "big.png"), image(0, 7, 8))
    (folder / "bad.txt").write_text("0.png big.png\n")
    with pytest.raises(DataError, match=r"line 1.*8x6 .*0\.png.*8x7 .*big\.png"):
        layer(folder, "", "TEST", "bad.txt")
    (folder / "bad.txt").write_text("0.png 1.png\nbig.png big.png\n")
    data = layer(folder, "batch_size: 2", "TEST", "bad.txt")
    with pytest.raises(DataError, match=r"lines 1 and 2.*0\.png.*big\.png"):
        data()
    with pytest.raises(DataError, match="5 of 5 pairs .*line 1: .*too small for a crop of 9x6; line 2"):
        layer(folder, "crop_height: 6 crop_width: 9")


@pytest.mark.parametrize(
    "text, message",
    [
        ("batch_size: 0", "batch_size"),
        ("mean_value: 1 mean_value: 2", "mean_value has 2"),
        ("new_height: 4", "expected both or none"),
        ("crop_width: 4", "expected both or none"),
        ("new_height: 4 new_width: 4 short_side: 3", "one of them"),
        ("multiple_of: 0", "multiple_of"),
        ("negate_x_channel: 3", "negate_x_channel"),
        ("negate_about: nan", "negate_about"),
    ],
)
def test_parameters_that_are_refused(folder, text, message):
    with pytest.raises(LayerError, match=message):
        layer(folder, text)


def test_reads_ahead(folder):
    data = layer(folder, "batch_size: 2 prefetch: 3")
    read = []
    inner = data.read

    def slow(number):
        time.sleep(0.05)
        read.append(number)
        return inner(number)

    data.read = slow
    data()
    time.sleep(0.3)
    assert sorted(read) == [0, 1, 2, 3]
    data.close()
    assert torch.equal(data()[0], torch.from_numpy(inner(1)[0]))


def boxed(folder, text="", phase="TRAIN", count=9, path="boxes.npz"):
    source = f'source: "{folder}/pairs.txt" proposals: "{folder}/{path}" rois_per_image: {count}'
    body = f"paired_image_data_param {{ {source} {text} }}"
    return one_layer("PairedImageData", body, tops=("a", "b", "rois"), phase=phase)


def mirrored(boxes, width):
    return np.stack([width - 1 - boxes[:, 2], boxes[:, 1], width - 1 - boxes[:, 0], boxes[:, 3]], 1)


def test_boxes_are_those_of_their_pictures(folder):
    """Whatever was done to a picture was done to its boxes: found in the picture again, pixel by pixel."""
    proposals = write_boxes(folder)
    data = boxed(folder, "batch_size: 3 mirror: true shuffle: true seed: 5")
    seen, drawn = set(), set()
    for first, _, rois in batches(data, 12):
        assert rois.shape == (27, 5) and rois[:, 0].tolist() == [0.0] * 9 + [1.0] * 9 + [2.0] * 9
        for item in range(3):
            number, flip = next(
                (number, flip)
                for number in range(5)
                for flip in (1, -1)
                if np.array_equal(first[item].permute(1, 2, 0), image(number)[:, ::flip])
            )
            found = rois[9 * item : 9 * item + 9, 1:].numpy()
            known = {tuple(box) for box in (mirrored(proposals[number], 8) if flip < 0 else proposals[number])}
            assert {tuple(box) for box in found} <= known and len({tuple(box) for box in found}) == 9
            seen.add((number, flip))
            drawn |= {(number, *box) for box in (mirrored(found, 8) if flip < 0 else found)}
    assert len(seen) == 10 and len(drawn) > 150, "all pictures both ways, and nearly all of their 190 boxes"


def test_the_first_proposals_are_drawn_from_and_all_where_there_are_fewer(folder):
    proposals = write_boxes(folder)
    data = boxed(folder, "batch_size: 1 seed: 1 top_k: 12", count=64)
    for number in range(5):
        rois = data()[2]
        assert np.array_equal(rois[:, 1:], proposals[number][:12]) and not rois[:, 0].any()


def test_boxes_are_cut_to_crops_and_what_is_too_small_is_not_drawn(tmp_path):
    write_images(tmp_path, 1, 60, 80)
    content = ProposalFile(
        ["0"],
        [np.array([[0, 0, 79, 59], [5, 2, 25, 30], [3, 3, 6, 6], [40, 20, 44, 24], [0, 18, 12, 38]], "f4")],
    )
    write_proposal_file(tmp_path / "boxes.npz", content)
    first, _, rois = boxed(
        tmp_path, "batch_size: 1 crop_height: 40 crop_width: 40", "TEST"
    )()  # rows 10 to 49, columns 20 to 59
    assert np.array_equal(first[0].permute(1, 2, 0), image(0, 60, 80)[10:50, 20:60])
    assert rois[:, 1:].tolist() == [[0, 0, 39, 39], [20, 10, 24, 14]]
    # of the second 6 columns are left, of the third and the last nothing
    data = boxed(tmp_path, "batch_size: 1 crop_height: 8 crop_width: 8", "TEST")
    assert data()[2].tolist() == [[0, 0, 0, 7, 7]], "a crop that leaves no box is one box"


def test_boxes_are_resized_as_the_pictures(tmp_path):
    write_images(tmp_path, 1, 60, 80)
    write_proposal_file(tmp_path / "boxes.npz", ProposalFile(["0"], [np.array([[10, 4, 79, 59]], "f4")]))
    for text, want in (
        ("short_side: 120", [20, 8, 158, 118]),
        ("short_side: 30", [5, 2, 39, 29]),
        ("new_height: 30 new_width: 160", [20, 2, 158, 29]),
    ):
        assert boxed(tmp_path, text, "TEST")()[2][0, 1:].tolist() == want


def test_boxes_are_a_function_of_seed_and_batch_and_leave_the_pictures_alone(folder):
    write_boxes(folder)
    text = "batch_size: 2 mirror: true shuffle: true crop_height: 5 crop_width: 6 seed: 3"
    run = batches(boxed(folder, text), 8)
    data = boxed(folder, text)
    data.seek(5)
    assert same(batches(data, 3), run[5:]) and not torch.equal(run[0][2], run[5][2])
    plain = batches(layer(folder, text), 8)
    assert same(plain, [batch[:2] for batch in run])
    test = boxed(folder, "batch_size: 1", "TEST")
    epochs = batches(test, 10)
    assert same(epochs[:5], epochs[5:]), "in TEST a pair has the same boxes every time"


def test_pairs_without_proposals_are_named(folder):
    proposals = write_boxes(folder)
    write_proposal_file(folder / "boxes.npz", ProposalFile(["1", "3"], proposals[:2]))
    with pytest.raises(DataError, match=r"no proposals in it for 3 pictures: \S*/0.png, \S*/2.png, \S*/4.png"):
        boxed(folder)
    flat = [np.array([[1, 1, 1, 5]], "f4"), *proposals[1:]]
    write_proposal_file(folder / "boxes.npz", ProposalFile(list("01234"), flat))
    with pytest.raises(DataError, match=r"there is no box in it for 1 picture: \S*/0.png"):
        boxed(folder)
    write_proposal_file(folder / "boxes.npz", ProposalFile(list("01234"), [proposals[0] + 3, *proposals[1:]]))
    with pytest.raises(DataError, match="boxes of 0 are not within its 8 x 6 pixels"):
        boxed(folder)
    with pytest.raises(MissingFileError, match="none.npz"):
        boxed(folder, path="none.npz")


def test_proposals_and_the_third_top_belong_together(folder):
    write_boxes(folder)
    with pytest.raises(LayerError, match="has 3 tops, the third for rois, but no proposals"):
        one_layer(
            "PairedImageData", f'paired_image_data_param {{ source: "{folder}/pairs.txt" }}', tops=("a", "b", "c")
        )
    with pytest.raises(LayerError, match="has 2 tops, expected 3"):
        layer(folder, f'proposals: "{folder}/boxes.npz"')
    with pytest.raises(LayerError, match="rois_per_image is 0"):
        boxed(folder, count=0)
