"""tools/imdb.py: what a database holds."""

from __future__ import annotations

from pathlib import Path

from program import call

from caffe_compat.datasets import imdb_names
from tests.datasets.imdb_files import make_tree, save_picture


def test_what_a_database_holds(tmp_path: Path) -> None:
    make_tree(tmp_path)
    done = call("imdb", "nyud2_images+hha_2015_train", "--recall", "--top", 1, "--quiet", folder=tmp_path)
    assert done.status == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.stdout.startswith("nyud2_images+hha_2015_train: 2 images, 19 classes\nmodalities: images, hha;")
    assert ["sizes:", "30", "x", "20", "(2)"] in lines
    assert ["bed", "2", "2", "0", "2"] in lines and ["chair", "2", "0", "0", "2"] in lines
    assert ["all", "4", "2", "0", "2"] in lines and ["all", "2", "100.00", "100.00", "100.00"] in lines
    assert "pictures: all there, of the sizes stated" in done.stdout
    assert "proposals of an image: 1.0 (1 to 1)" in done.stdout


def test_problems_of_pictures_are_listed(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    save_picture(tree.path(5001, "hha"), (20, 31))
    tree.path(5003).write_bytes(b"no picture")
    done = call("imdb", "nyud2_images+hha_2015_train", "--quiet", folder=tmp_path)
    assert done.status == 1 and "pictures: 2 frames with problems" in done.stdout
    assert "hha/img_5001.png: has 31 x 20 pixels, frame img_5001 has 30 x 20" in done.stdout
    assert "images/img_5003.png: is no picture that can be read" in done.stdout
    assert call("imdb", "nyud2_images+hha_2015_train", "--no-pictures", folder=tmp_path).status == 0


def test_unlabelled_images_and_wrong_usage(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    tree.write_splits({"train": [5001], "val": [5002], "test": [5010], "pairs": [5004]})
    tree.ground_truth_path(5004).unlink()
    done = call("imdb", f"tree:{tree.root},split=pairs", folder=tmp_path)
    assert done.status == 0 and "objects: not known for 1 images" in done.stdout
    shown = call("imdb", "--list").stdout.splitlines()
    assert [line[2:] for line in shown if line.startswith("  ")] == imdb_names()
    assert "--list shows the names" in call("imdb").stderr
    done = call("imdb", f"tree:{tree.root},split=test", "--recall", folder=tmp_path)
    assert done.status == 2 and "has no proposals of its own: give --proposals FILE" in done.stderr
    done = call("imdb", f"tree:{tree.root},split=test", "--top", -1)
    assert done.status == 2 and "--top is -1" in done.stderr
    done = call("imdb", "nyud2_hha_2015_tset", folder=tmp_path)
    assert done.status == 2 and "no split 'tset' (did you mean 'test'?)" in done.stderr


def test_proposals_of_a_file(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    file = tmp_path / "data" / "nyud2_mcg_boxes.mat"
    done = call("imdb", f"tree:{tree.root},split=test", "--proposals", file, "--quiet")
    assert done.status == 0 and "proposals of an image: 2.0 (2 to 2)" in done.stdout
