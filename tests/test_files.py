import errno

import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.files import atomic_path, atomic_write


def test_a_full_disk_is_a_clear_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with (
        pytest.raises(CaffeCompatError, match=r"cannot write .*a\.txt: No space left"),
        atomic_write(path, "w") as file,
    ):
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old" and [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_in_the_place_of_a_folder_is_a_clear_error(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(CaffeCompatError, match="cannot write"), atomic_path(tmp_path / "a" / "b"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(CaffeCompatError, match="cannot write"), atomic_path(tmp_path / "folder") as path:
        path.write_text("")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "folder"]
