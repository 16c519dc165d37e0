import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from faulty_disk import everything, faulty

from caffe_compat import files
from caffe_compat.errors import CaffeCompatError, MissingFileError, WriteError


def test_a_full_disk_is_a_clear_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with (
        pytest.raises(CaffeCompatError, match=r"cannot write .*a\.txt: No space left"),
        files.atomic_write(path, "w") as file,
    ):
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert everything(tmp_path) == {"a.txt": b"old"}


def test_other_errors_of_the_block_pass_and_leave_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    for error in (ValueError("mine"), MissingFileError("b"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, files.atomic_write(path) as stream:
            stream.write(b"x" * 1_000_000)
            raise error
        assert raised.value is error
    assert everything(tmp_path) == {"a.txt": b"old"}


def test_a_file_in_the_place_of_a_folder_is_a_clear_error(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "folder", "", f"{tmp_path}/folder/", "nul\0"):
        with pytest.raises(WriteError, match="cannot write"):
            files.write_file(path, b"")
    with pytest.raises(WriteError, match="cannot write"), files.atomic_folder(tmp_path / "a" / "b"):
        pass
    assert everything(tmp_path) == {"a": b"", "folder": None}


def test_text_bytes_and_a_stream_that_is_read_back(tmp_path):
    files.write_file(tmp_path / "new" / "a", "ä", b"b", memoryview(b"c"))
    with files.atomic_write(tmp_path / "b", "w") as stream:
        stream.write("ä\n")
    with files.atomic_write(tmp_path / "c", "w+b") as stream:
        stream.write(b"0123456789")
        stream.seek(3)
        stream.write(b"x")
        stream.seek(2)
        assert stream.read(3) == b"2x4"
        stream.truncate(6)
    files.copy_file(tmp_path / "c", tmp_path / "d")
    assert everything(tmp_path) == {
        "new": None,
        "new/a": "äbc".encode(),
        "b": "ä\n".encode(),
        "c": b"012x45",
        "d": b"012x45",
    }


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    files.write_file(tmp_path / "ours", b"")
    with files.atomic_folder(tmp_path / "folder"):
        pass
    (tmp_path / "plain folder").mkdir()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain folder").stat().st_mode


def test_a_link_is_followed_and_a_device_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("real/file")
    files.write_file(tmp_path / "link", b"1")
    files.write_file(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").read_bytes() == b"2"
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    files.write_file(tmp_path / "pipe", b"through")
    reader.join(60)
    assert got == [b"through"] and (tmp_path / "pipe").is_fifo()
    files.write_file(os.devnull, b"x")
    assert not os.path.isfile(os.devnull)


def test_a_device_that_is_full(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(WriteError, match="/dev/full: No space left"):
        files.write_file("/dev/full", b"x")


def test_every_step_of_every_kind_of_write(tmp_path, monkeypatch):
    """The steps of a write are those listed here; an error in each one is told, and nothing is left."""

    def a_file(folder):
        files.write_file(folder / "a", b"new")

    def a_folder(folder):
        with files.atomic_folder(folder / "f") as made:
            files.write_file(made / "a", b"new")

    def two_files(folder):
        with files.atomic_folder(folder / "a", replace=True) as made:
            files.write_file(made / "a", b"new")
            files.write_file(made / "b", b"new")
            files.write_file(made / "c", b"new")

    def a_download(folder):
        files.finish_file(folder / "part", folder / "a")

    one = ["open", "write", "fsync", "replace", "sync folder"]
    for write, steps in (
        (a_file, one),
        (a_folder, ["mkdir", *one, "fsync", "sync folder", "rename", "sync folder"]),
        (
            two_files,
            ["mkdir", *3 * one, *3 * ["fsync"], "sync folder", "link", "replace", "link", "replace"]
            + ["replace", "sync folder"],
        ),
        (a_download, ["fsync", "replace", "sync folder"]),
    ):
        for call in [*range(len(steps)), None]:
            folder = tmp_path / f"{write.__name__} {call}"
            folder.mkdir()
            old = {"a": b"old", "b": b"old", "part": b"new"}
            for name, content in old.items():
                (folder / name).write_bytes(content)
            with faulty(monkeypatch, call=call) as disk:
                try:
                    write(folder)
                except WriteError as error:
                    assert str(folder) in str(error) and "No space left" in str(error)
                    assert call is not None and steps[call] != "sync folder"
                    assert everything(folder) == old
                else:
                    assert call is None or steps[call] == "sync folder"
                    assert disk.calls == steps
                    assert b"new" in everything(folder).values() and not list(folder.glob(".*"))


_KILLED = """
import os, signal, sys
from caffe_compat import files
with files.atomic_write(sys.argv[1] + "/a") as stream, files.atomic_folder(sys.argv[1] + "/f") as folder:
    stream.write(b"half")
    print("ready", flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    def run(what):
        command = [sys.executable, "-c", _KILLED, str(tmp_path), what]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    killed = run("kill")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    left = set(everything(tmp_path))
    assert len(left) == 2
    living = run("live")
    try:
        temporary = set(everything(tmp_path)) - left
        assert len(temporary) == 2 and len(everything(tmp_path)) == 2  # the second run removed what the first left
        others = {".notes.tmp", ".notes.123.tmp", "notes.1-1.tmp"}
        for name in others:
            (tmp_path / name).write_text("not ours")
        files.write_file(tmp_path / "b", b"")
        assert files.remove_leftovers(tmp_path) == []
        assert set(everything(tmp_path)) == {*temporary, *others, "b"}
    finally:
        living.communicate("")
    assert living.returncode == 0
    assert set(everything(tmp_path)) == {"a", "f", *others, "b"}


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    with files.atomic_write(tmp_path / "a") as first, files.atomic_write(tmp_path / "a") as second:
        first.write(b"1")
        second.write(b"2")
    assert everything(tmp_path) == {"a": b"1"}


def test_a_folder_may_be_named_with_a_slash_at_its_end(tmp_path):
    with files.atomic_folder(f"{tmp_path}/db/") as folder:
        (folder / "data").write_bytes(b"x")
    assert everything(tmp_path) == {"db": None, "db/data": b"x"}


def test_long_names(tmp_path):
    files.write_file(tmp_path / ("ä" * 125), b"")
    assert len(everything(tmp_path)) == 1


def test_nothing_at_all_can_be_written(tmp_path):
    with files.atomic_write(tmp_path / "a", "w+b") as stream:
        assert stream.write(b"") == 0 and stream.write(memoryview(bytearray())) == 0
    assert everything(tmp_path) == {"a": b""}
