"""make_proposals: a file of the built-in proposer's boxes."""

import json

import cv2
import numpy as np
from program import call

from caffe_compat.datasets import find_imdb
from caffe_compat.datasets.proposal_file import ProposalFile, read_proposal_file, write_proposal_file
from tests.datasets.action_files import make_clips, make_jhmdb, save_flow


def pictures(folder):
    """A COCO-style json of three frames with a box in each."""
    images, annotations = [], []
    for number in range(3):
        picture = np.full((48, 64, 3), 40 * number, np.uint8)
        picture[8:31, 10:41] = (200, 100, 20)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        box = {"bbox": [10, 8, 31, 23], "area": 713, "iscrowd": 0, "category_id": 1}
        annotations.append({"id": number + 1, "image_id": number, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (folder / "mine.json").write_text(json.dumps(content))
    return f"coco:{folder / 'mine.json'}"


def test_makes_a_file_once(tmp_path):
    words = ("--imdb", pictures(tmp_path), "--output", tmp_path / "p.npz", "--quiet", "--workers", 0)
    done = call("make_proposals", *words, "--recall")
    assert done.status == 0, done.stderr
    assert "p.npz: " in done.stdout and "proposals of 3 images" in done.stdout
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert table["all"][:3] == ["3", "100.00", "100.00"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png", "mine.json", "p.npz"]
    before = (tmp_path / "p.npz").read_bytes()
    found = read_proposal_file(tmp_path / "p.npz")
    assert found.scores is not None and found.settings["count"] == 2000 and len(found.images) == 3

    again = call("make_proposals", *words)
    assert again.status == 0 and "is there already" in again.stdout and (tmp_path / "p.npz").read_bytes() == before

    other = call("make_proposals", *words, "--count", 5)
    assert other.status == 2 and "count = 2000, now 5; --overwrite replaces it" in other.stderr
    assert (tmp_path / "p.npz").read_bytes() == before
    assert call("make_proposals", *words, "--count", 5, "--overwrite").status == 0
    assert all(len(boxes) == 5 for boxes in read_proposal_file(tmp_path / "p.npz").boxes)

    shown = call("imdb", pictures(tmp_path), "--recall", "--proposals", tmp_path / "p.npz", "--quiet")
    assert shown.status == 0 and "proposals of an image: 5.0 (5 to 5)" in shown.stdout


def test_changed_pictures_are_noticed(tmp_path):
    words = ("--imdb", pictures(tmp_path), "--output", tmp_path / "p.npz", "--quiet", "--workers", 0)
    assert call("make_proposals", *words).status == 0
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    done = call("make_proposals", *words)
    assert done.status == 2 and "was made with pictures = " in done.stderr


def test_a_bad_picture_leaves_the_others_done(tmp_path):
    words = ("--imdb", pictures(tmp_path), "--output", tmp_path / "p.npz", "--quiet", "--workers", 0)
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[:60])
    done = call("make_proposals", *words)
    assert done.status == 2 and "2.png" in done.stderr and not (tmp_path / "p.npz").exists()
    assert len(list((tmp_path / "p.npz.parts").rglob("*.npz"))) == 2
    (tmp_path / "2.png").write_bytes(whole)
    assert call("make_proposals", *words).status == 0 and not (tmp_path / "p.npz.parts").exists()


def test_wrong_words(tmp_path):
    imdb = pictures(tmp_path)
    for words, message in (
        (("--output", tmp_path / "p.mat"), "expected a name that ends in .npz"),
        (("--output", tmp_path / "p.npz", "--workers", -1), "--workers is -1"),
        (("--output", tmp_path / "p.npz", "--count", 0), "0 proposals"),
        (("--output", tmp_path / "p.npz", "--modalities", "images+hha"), "image 0 has no hha; it has images"),
    ):
        done = call("make_proposals", "--imdb", imdb, *words)
        assert done.status == 2 and message in done.stderr, done
    (tmp_path / "p.npz").write_bytes(b"something else")
    done = call("make_proposals", "--imdb", imdb, "--output", tmp_path / "p.npz")
    assert done.status == 2 and "p.npz: is no .npz file" in done.stderr


def test_imdb_measures_the_built_in_proposer(tmp_path):
    done = call("imdb", pictures(tmp_path), "--root", tmp_path, "--recall", "--proposals", "builtin", "--quiet")
    assert done.status == 0, done.stderr
    assert "100.00" in done.stdout and len(list((tmp_path / "data" / "cache" / "proposals").rglob("*.npz"))) == 3


def test_of_the_first_pictures_of_pairs(tmp_path):
    pictures(tmp_path)
    (tmp_path / "train.txt").write_text("0.png 1.png\n1.png 0.png\n")
    (tmp_path / "val.txt").write_text("2.png 1.png\n1.png 2.png\n")
    words = ("--pairs", tmp_path / "train.txt", tmp_path / "val.txt", "--quiet", "--workers", 0)
    done = call("make_proposals", *words, "--output", tmp_path / "p.npz")
    assert done.status == 0 and "proposals of 3 images" in done.stdout, done.stderr
    found = read_proposal_file(tmp_path / "p.npz")
    assert found.images == tuple(f"{tmp_path}/{number}" for number in range(3)) and min(map(len, found.boxes)) > 0
    words = (*words, "--output", tmp_path / "q.npz", "--recall")
    refused = call("make_proposals", *words)
    assert refused.status == 2 and "--recall: the objects of --pairs are not known" in refused.stderr
    assert call("make_proposals", "--output", tmp_path / "q.npz").status == 2


def test_motion_salient_boxes(tmp_path):
    """Of a file, by the flow of the database or of a folder; and of the built-in proposer."""
    make_jhmdb(tmp_path / "data" / "jhmdb", make_clips(each=1))
    for path in (tmp_path / "data/jhmdb/flow").rglob("*.png"):
        save_flow(path, moving=(16, 0, 31, 23))
    imdb = find_imdb("jhmdb_images_split2_train", tmp_path)
    boxes = np.array([[0, 0, 15, 23], [16, 0, 31, 23]], np.float32)
    names = [record.name for record in imdb.records]
    write_proposal_file(tmp_path / "p.npz", ProposalFile(names, [boxes] * len(names)))
    words = ("--root", tmp_path, "--motion", "--quiet")
    of_file = (*words, "--boxes", tmp_path / "p.npz")
    done = call("make_proposals", "--imdb", "jhmdb_flow_split2_train", *of_file, "--output", tmp_path / "a.npz")
    assert done.status == 0 and "motion: 63 of 126 boxes stay" in done.stdout, done
    assert all(np.array_equal(found, boxes[1:]) for found in read_proposal_file(tmp_path / "a.npz").boxes)
    flow = ("--flow", tmp_path / "data/jhmdb/flow", "--recall")
    done = call("make_proposals", "--imdb", imdb.name, *of_file, *flow, "--output", tmp_path / "b.npz")
    assert done.status == 0 and "motion: 84 of 168 boxes stay" in done.stdout, done
    done = call("make_proposals", "--imdb", imdb.name, *of_file, *flow, "--output", tmp_path / "b.npz")
    assert done.status == 0 and "is there already" in done.stdout
    built_in = (*words, "--workers", 0, "--count", 40)
    done = call("make_proposals", "--imdb", "jhmdb_flow_split2_train", *built_in, "--output", tmp_path / "c.npz")
    assert done.status == 0 and "boxes stay" in done.stdout and not (tmp_path / "c.npz.parts").exists()
    for more, told in (
        (("--boxes", tmp_path / "p.npz"), "--boxes goes with --motion"),
        (("--flow", tmp_path), "--flow goes with --motion"),
        (("--motion", "--boxes", tmp_path / "p.npz", "--modalities", "images"), "--modalities: nothing is computed"),
        (("--motion", "--boxes", tmp_path / "p.npz", "--count", 0), "0 proposals"),
        (("--motion",), "flow (neither a modality of jhmdb_images_split2_train (images) nor a folder"),
    ):
        done = call("make_proposals", "--imdb", imdb.name, "--root", tmp_path, *more, "--output", tmp_path / "d.npz")
        assert done.status == 2 and told in done.stderr, done
