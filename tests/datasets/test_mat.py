import struct

import h5py
import numpy as np
import pytest
from nyud2_files import Opaque, cell, lengths, truncated, write_v73
from scipy.io import savemat
from scipy.sparse import csc_array

from caffe_compat.datasets.mat import open_v73, read_mat, read_v73, write_mat
from caffe_compat.errors import DataError, MissingFileError

VOLUME = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
VALUES = {
    "matrix": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]),
    "volume": VOLUME,
    "single": np.array([[0.1]], np.float32),
    "flags": np.array([[True], [False]]),
    "text": "night stand",
    "nothing": "",
    "hollow": np.zeros((0, 4), np.float32),
    "cells": cell(["a", np.array([[7.0]]), ""]),
    "struct": {"name": "bed", "inner": {"box": np.array([[1.0, 2.0, 3.0, 4.0]])}},
    "none": cell([]),
}
STRUCTS = [{"k": "aa", "v": np.array([[1.0]])}, {"k": "b", "v": np.array([[2.0]])}]


def write(path, form, values=VALUES, structs=STRUCTS):
    values = dict(values)
    if form == "v7.3":
        if structs is not None:
            values["structs"] = structs
        return write_v73(path, values)
    if structs is not None:
        records = np.empty((1, len(structs)), [(field, object) for field in ("k", "v")])
        records[0] = [tuple(item.values()) for item in structs]
        values["structs"] = records
    savemat(path, values, do_compression=form == "v5 compressed")
    return path


FORMS = pytest.mark.parametrize("form", ["v5", "v5 compressed", "v7.3"])


@FORMS
def test_both_versions_read_the_same(tmp_path, form):
    found = read_mat(write(tmp_path / "a.mat", form))
    assert set(found) == {*VALUES, "structs"}
    for name in ("matrix", "volume", "single", "flags", "hollow"):
        assert found[name].dtype == VALUES[name].dtype
        np.testing.assert_array_equal(found[name], VALUES[name])
    assert found["volume"][1, 2, 3] == 23
    assert found["text"] == "night stand"
    assert found["nothing"] == ""
    assert found["cells"].shape == (3, 1)
    assert found["cells"][0, 0] == "a"
    assert found["cells"][1, 0] == 7
    assert found["cells"][2, 0] == ""
    assert found["struct"]["name"] == "bed"
    np.testing.assert_array_equal(found["struct"]["inner"]["box"], [[1, 2, 3, 4]])
    assert found["structs"].shape == (1, 2)
    assert [item["k"] for item in found["structs"][0]] == ["aa", "b"]
    assert [item["v"].item() for item in found["structs"][0]] == [1, 2]
    assert found["none"].size == 0
    assert found["none"].dtype == object


@FORMS
def test_a_struct_array_of_one_is_a_dict(tmp_path, form):
    path = write(tmp_path / "a.mat", form, {}, STRUCTS[:1])
    assert read_mat(path, ["structs"])["structs"]["k"] == "aa"


@FORMS
def test_a_struct_array_of_none(tmp_path, form):
    assert read_mat(write(tmp_path / "a.mat", form, {}, []))["structs"].size == 0


@FORMS
def test_only_what_is_asked_for(tmp_path, form):
    assert list(read_mat(write(tmp_path / "a.mat", form), ["text"])) == ["text"]


@FORMS
def test_missing_variable_is_named_with_the_nearest(tmp_path, form):
    path = write(tmp_path / "a.mat", form)
    with pytest.raises(DataError, match=r"a\.mat: no variable 'matrics' \(did you mean 'matrix'\?\); it has: .*volume"):
        read_mat(path, ["text", "matrics"])


def test_opaque_variable_is_an_error_only_if_asked_for(tmp_path):
    path = write_v73(tmp_path / "a.mat", {"namesToIds": Opaque(), "x": np.ones((2, 2))})
    assert list(read_mat(path)) == ["x"]
    with pytest.raises(DataError, match=r"a\.mat: variable 'namesToIds' is of class 'containers.Map'"):
        read_mat(path, ["namesToIds"])


def test_sparse_of_version_5_is_an_error_only_if_asked_for(tmp_path):
    savemat(tmp_path / "a.mat", {"s": csc_array(np.eye(3)), "x": np.ones((2, 2))})
    assert list(read_mat(tmp_path / "a.mat")) == ["x"]
    with pytest.raises(DataError, match=r"a\.mat: variable 's' holds a csc"):
        read_mat(tmp_path / "a.mat", ["s"])


def test_char_matrix_gives_a_text_per_row(tmp_path):
    savemat(tmp_path / "a.mat", {"x": np.array(["ab ", "cde"])})
    assert read_mat(tmp_path / "a.mat")["x"].tolist() == ["ab ", "cde"]


def test_umlauts(tmp_path):
    assert read_mat(write_v73(tmp_path / "a.mat", {"x": "Möbel"}))["x"] == "Möbel"


def test_absent_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.mat"):
        read_mat(tmp_path / "none.mat")


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"MATLAB 4" * 30, b"\x89PNG\r\n\x1a\n" + bytes(300)])
def test_not_a_mat_file(tmp_path, content):
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat: not a Matlab file"):
        read_mat(path)


@FORMS
def test_truncated_anywhere(tmp_path, form):
    """Whole variables may be left of a short file of version 5; then the variable asked for is missing."""
    path = write(tmp_path / "a.mat", form)
    for length in lengths(path, 60):
        short = truncated(path, length)
        with pytest.raises(DataError, match=f"a_{length}.mat: "):
            read_mat(short, ["structs"])


def test_truncated_version_73_says_so(tmp_path):
    path = write(tmp_path / "a.mat", "v7.3")
    with pytest.raises(DataError, match="truncated Matlab file of version 7.3"):
        read_mat(truncated(path, 500))
    with pytest.raises(DataError, match="damaged Matlab file of version 7.3: .*truncated"):
        read_mat(truncated(path, 2000))


def test_cells_that_hold_themselves(tmp_path):
    path = write_v73(tmp_path / "a.mat", {"cells": cell(["a"])})
    with h5py.File(path, "r+") as file:
        file["cells"][0, 0] = file["cells"].ref
    with pytest.raises(DataError, match=r"a\.mat: variable 'cells' is damaged: '/cells' holds itself"):
        read_mat(path)


def test_open_v73_streams(tmp_path):
    with open_v73(write(tmp_path / "a.mat", "v7.3")) as file:
        assert file["volume"].shape == (4, 3, 2)
        assert read_v73(file, "text") == "night stand"
        with pytest.raises(DataError, match="no variable 'texts'"):
            read_v73(file, "texts")
    with pytest.raises(DataError, match=r"version 5 with the variables matrix, .*; expected version 7\.3 \(HDF5\)"):
        open_v73(write(tmp_path / "b.mat", "v5"))


def test_write_mat_replaces_whole_files_only(tmp_path):
    path = tmp_path / "sub" / "a.mat"
    write_mat(path, {"x": np.ones((1, 2))})
    with pytest.raises(TypeError):
        write_mat(path, {"y": object()})
    assert list(read_mat(path)) == ["x"]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.mat"]


def test_damaged_in_the_middle(tmp_path):
    path = write(tmp_path / "a.mat", "v5 compressed", {"x": np.arange(1000.0)}, None)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat: damaged Matlab file of version 5"):
        read_mat(path)


@pytest.mark.parametrize("link", [h5py.SoftLink("/a"), h5py.SoftLink("/b/../a"), h5py.ExternalLink("other.mat", "/a")])
def test_links_are_refused(tmp_path, link):
    """Matlab writes none; soft links go round in circles, others read files that nobody named."""
    path = write_v73(tmp_path / "a.mat", {"s": {"x": np.ones((1, 1))}})
    with h5py.File(path, "r+") as file:
        file["a"] = link
        file["s"]["y"] = link
    for names in (["a"], ["s"], None):
        with pytest.raises(DataError, match=r"a\.mat: variable '[as]' is damaged: '[ay]' is a link to somewhere else"):
            read_mat(path, names)


def test_what_cells_share_is_read_once(tmp_path):
    """2 ** 25 paths lead to the innermost cell, which the file holds once."""
    path = write_v73(tmp_path / "a.mat", {"c0": cell(["end"])})
    with h5py.File(path, "r+") as file:
        for level in range(1, 26):
            node = file.create_dataset(f"c{level}", (1, 2), h5py.ref_dtype)
            node.attrs["MATLAB_class"] = np.bytes_("cell")
            node[0, 0] = node[0, 1] = file[f"c{level - 1}"].ref
    found = read_mat(path, ["c25"])["c25"]
    for _ in range(25):
        assert found.shape == (2, 1)
        found = found[1, 0]
    assert found.item() == "end"


def test_a_named_type_is_no_variable(tmp_path):
    path = write_v73(tmp_path / "a.mat", {"s": {"x": np.ones((1, 1))}})
    with h5py.File(path, "r+") as file:
        file["t"] = np.dtype("f8")
    assert set(read_mat(path)) == {"s"}
    with pytest.raises(DataError, match=r"a\.mat: variable 't' is a Datatype of HDF5, expected numbers"):
        read_mat(path, ["t"])


def test_numbers_that_are_not_there_are_refused(tmp_path):
    path = write_v73(tmp_path / "a.mat", {"x": np.ones((2, 2))})
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_dataset("x", (1 << 20, 1 << 16), "f8", chunks=(1, 1 << 16)).attrs["MATLAB_class"] = np.bytes_(
            "double"
        )
    with pytest.raises(DataError, match=r"claims the shape \(1048576, 65536\), but its numbers are not stored"):
        read_mat(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((4, 0), "text of type 0, which is none"),  # ends SciPy's process, see crash_v5.mat
        ((4, 99), "text of type 99, which is none"),
        ((-4, 77), "a matrix of class 77, which does not exist"),
    ],
)
def test_types_that_do_not_exist_are_refused_before_scipy(tmp_path, change, message):
    path = write(tmp_path / "a.mat", "v5", {"text": "night stand"}, None)
    content = bytearray(path.read_bytes())
    offset, value = change
    at = content.index(b"text") + offset if offset > 0 else content.index(b"text") - 28
    content[at] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.mat: damaged Matlab file of version 5: variable 'text': .*{message}"):
        read_mat(path)


def test_text_without_dimensions_is_refused_before_scipy(tmp_path):
    """It ends SciPy's process."""
    path = write(tmp_path / "a.mat", "v5", {"text": "night stand"}, None)
    content = bytearray(path.read_bytes())
    at = content.index(b"text")
    assert content[at - 20 : at - 4] == struct.pack("<4i", 5, 8, 1, 11)
    content[at - 20 : at - 4] = struct.pack("<2i", 5, 0)
    content[at - 40] -= 8
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat: damaged .* a matrix of shape \(\)"):
        read_mat(path)


def test_a_file_that_crashed_scipy(root):
    with pytest.raises(DataError, match=r"crash_v5\.mat: damaged .*: variable 'imnames': text of type 0"):
        read_mat(root / "tests/data/faults/crash_v5.mat")


@pytest.mark.parametrize("depth", [33, 5000])
def test_deep_nesting_is_refused_before_scipy(tmp_path, depth):
    """SciPy follows it on the machine's stack."""
    empty = struct.pack("<14I", 14, 48, 6, 8, 1, 0, 5, 8, 1, 1, 1 | 1 << 16, ord("x"), 14, 0)
    content = empty
    for _ in range(depth):
        head = struct.pack("<10I", 6, 8, 1, 0, 5, 8, 1, 1, 1 | 1 << 16, ord("x"))
        content = struct.pack("<2I", 14, len(head) + len(content)) + head + content
    (tmp_path / "deep.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + content)
    with pytest.raises(DataError, match=r"deep\.mat: damaged .*nested deeper than 32 levels"):
        read_mat(tmp_path / "deep.mat")
