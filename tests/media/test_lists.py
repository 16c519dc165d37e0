"""Lists of images and of pairs, read and written."""

from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from caffe_compat.media import read_first_paths, read_image_list, read_pair_list, write_image_list, write_pairs


def test_a_written_list_is_what_the_layer_reads(tmp_path):
    (tmp_path / "lists").mkdir()
    pairs = [(str(tmp_path / "c" / "a b.png"), str(tmp_path / "h" / "a b.png")), (str(tmp_path / "c1"), "h1")]
    write_pairs(tmp_path / "lists" / "p.txt", pairs)
    assert (tmp_path / "lists" / "p.txt").read_text().splitlines()[0] == '"../c/a b.png" "../h/a b.png"'
    found = read_pair_list(str(tmp_path / "lists" / "p.txt"))
    assert [tuple(str(Path(name).resolve()) for name in (pair.first, pair.second)) for pair in found] == [
        tuple(str(Path(name).resolve()) for name in pair) for pair in pairs
    ]
    with pytest.raises(DataError, match="double quote"):
        write_pairs(tmp_path / "q.txt", [('a"b', "c")])
    assert not (tmp_path / "q.txt").exists()


def test_image_lists_round_trip(tmp_path):
    entries = [("a b.png", 3), ("c.png", -1)]
    write_image_list(tmp_path / "l.txt", entries)
    assert [(entry.path, entry.label) for entry in read_image_list(tmp_path / "l.txt")] == entries
    for name in ("a\nb", " "):
        with pytest.raises(DataError, match="a list cannot hold"):
            write_image_list(tmp_path / "m.txt", [(name, 0)])


def test_labels_fit_32_bits(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("a.png 2147483647\nb.png -2147483648\nc.png 000000000000000001\nd.png -\n")
    assert [entry.label for entry in read_image_list(path)] == [2147483647, -2147483648, 1, 0]
    for label in ("2147483648", "-2147483649", "9" * 5000):
        path.write_text(f"a.png 1\nb.png {label}\n")
        with pytest.raises(DataError, match="line 2: the label .* does not fit 32 bits") as caught:
            read_image_list(path)
        assert len(str(caught.value)) < 200


def test_first_paths_of_any_list(tmp_path):
    (tmp_path / "l.txt").write_text('a.png 3\n\n"b c.png" d.png\ne f.png\tg.png\n   \n')
    names = [Path(name).name for name in read_first_paths(tmp_path / "l.txt")]
    assert names == ["a.png", "b c.png", "e f.png"]
    assert read_first_paths(tmp_path / "l.txt", "root")[0] == "root/a.png"
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        read_first_paths(tmp_path / "l.txt")
