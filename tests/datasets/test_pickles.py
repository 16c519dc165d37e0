"""Pickles of plain data and arrays are read as Python reads them; nothing in any other is executed."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat.datasets.pickles import is_pickle, read_pickle
from caffe_compat.errors import DataError, MissingFileError

RNG = np.random.default_rng(1)
SHARED = RNG.normal(size=(3, 5)).astype(np.float32)
CONTENT: dict[str, Any] = {
    "all_boxes": [[[], SHARED, np.zeros((0, 5), np.float32)], [SHARED, SHARED[:1], []]],
    "nms_sds": [[RNG.random((2, 70)) > 0.5, np.zeros((0, 3), bool)]],
    "kinds": [RNG.integers(0, 9, 4), np.asfortranarray(RNG.normal(size=(2, 3))), np.arange(3, dtype=">f4")],
    "rest": (None, True, -1, 10**20, 0.5, "näme", b"\x00\xff", {"a": [1, (2,), (1, 2, 3, 4)]}, np.float64(2.5)),
    "named": np.array([np.array([1.0, 2.0]), [3]], object),
    "names": np.array(["bed", "chair"]),
}


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            same(ours[key], value)
    elif isinstance(theirs, list | tuple) or (isinstance(theirs, np.ndarray) and theirs.dtype == object):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_what_python_wrote_is_read_as_python_reads_it(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    same(read_pickle(path), CONTENT)
    assert is_pickle(path.read_bytes()[:4])


def test_texts_of_python_2(tmp_path: Path) -> None:
    """An array as cPickle of Python 2 writes it: the numbers are a text of 8 bits."""
    numbers = np.array([[1.5, -2.0]], "<f4")
    raw = numbers.tobytes()
    data = b"\x80\x02}U\tall_boxes](]cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    data += (
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    )
    data += b"K\x00tb\x89U" + struct.pack("B", len(raw)) + raw + b"tbes."
    (tmp_path / "a.pkl").write_bytes(data)
    same(read_pickle(tmp_path / "a.pkl"), {"all_boxes": [[], numbers]})


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "content",
    [Evil(), [1, {"a": Evil()}], pickle.Pickler, Path("a"), np.random.default_rng(1), np.dtype("f4"), {1, 2}],
)
def test_nothing_else_is_read_or_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(DataError, match=r"a\.pkl: (holds|is no whole pickle)"):
        read_pickle(path)
    assert not Path("made").exists()


def test_damaged_files(tmp_path: Path) -> None:
    """Every cut, and many changed bytes: an error that names the file, or another content; never anything else."""
    path, whole = tmp_path / "a.pkl", pickle.dumps(CONTENT, 2)
    changed = [whole[:length] for length in range(0, len(whole), 7)]
    for place in RNG.integers(0, len(whole), 400):
        changed.append(whole[:place] + bytes([RNG.integers(0, 256)]) + whole[place + 1 :])
    changed += [
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02K\x01b.",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02.",
    ]
    for data in changed:
        path.write_bytes(data)
        try:
            read_pickle(path)
        except DataError as error:
            assert str(error).startswith(str(path))
    with pytest.raises(MissingFileError, match="detections"):
        read_pickle(tmp_path / "none.pkl", "detections")
