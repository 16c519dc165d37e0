"""LMDB files: what the library writes is read back; damaged ones end in one of our errors; open ones are read."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import lmdb
import pytest

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.media.lmdb_file import LmdbFile
from caffe_compat.media.records import _opened_here, open_database, read_place

FAULTS = Path(__file__).parents[1] / "data" / "faults"


def write(path: Path, records: dict[bytes, bytes], **options: int) -> lmdb.Environment:
    environment = lmdb.open(str(path), map_size=1 << 26, **options)
    with environment.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)
    return environment


def some_records(count: int, longest: int, seed: int = 0) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    return {b"%09d" % rng.randrange(10**9): rng.randbytes(rng.randrange(longest)) for _ in range(count)}


@pytest.mark.parametrize("count, longest", [(1, 10), (40, 20000), (3000, 100), (5000, 2100)])
def test_everything_that_was_written(tmp_path, count, longest):
    records = some_records(count, longest)
    environment = write(tmp_path / "db", records)
    with environment.begin(write=True) as transaction:
        for key in list(records)[1::5]:
            transaction.delete(key)
            del records[key]
    file = LmdbFile(str(tmp_path / "db"))  # while the library has it open
    assert file.keys == sorted(records)
    assert [file.value(index) for index in range(len(file.keys))] == [records[key] for key in file.keys]
    environment.close()
    assert LmdbFile(str(tmp_path / "db" / "data.mdb")).keys == file.keys


def test_what_is_written_later(tmp_path):
    records = some_records(500, 300)
    environment = write(tmp_path / "db", records)
    file = LmdbFile(str(tmp_path / "db"))
    changed = file.keys[::3]
    for turn in range(5):  # pages of the snapshot are used again
        with environment.begin(write=True) as transaction:
            for key in changed:
                transaction.put(key, b"turn %d" % turn * 60)
    for index, key in enumerate(file.keys):
        assert file.value(index) == (b"turn 4" * 60 if key in changed else records[key])
    for key in (file.keys[1], b"new"):
        with environment.begin(write=True) as transaction:
            transaction.put(b"new", b"") if key == b"new" else transaction.delete(key)
    with pytest.raises(DataError, match=r"record '\d+' was removed"):
        file.value(1)


def test_another_process_is_told_where_a_value_is(tmp_path):
    """It opens the file without looking through it, and finds what was written since by its key."""
    records = some_records(300, 400) | {b"long": bytes(20000), b"new": b"0"}
    environment = write(tmp_path / "db", records)
    database = open_database(str(tmp_path / "db"), "lmdb")
    places = [database.place(number) for number in range(len(records))]
    assert not any(isinstance(place, bytes) for place in places)
    assert [read_place(place) for place in places] == [records[key] for key in sorted(records)]
    for text in (b"1", b"2", b"3"):
        with environment.begin(write=True) as transaction:
            transaction.put(b"new", text)
        assert read_place(places[sorted(records).index(b"new")]) == text
    assert read_place(places[5]) == records[sorted(records)[5]]
    environment.close()
    (tmp_path / "db" / "data.mdb").rename(tmp_path / "db" / "old")
    write(tmp_path / "other", records).close()
    (tmp_path / "other" / "data.mdb").rename(tmp_path / "db" / "data.mdb")
    _opened_here.cache_clear()  # as in a process that starts now
    with pytest.raises(DataError, match="db: another file has taken its place"):
        read_place(places[5])
    assert read_place(b"bytes") == b"bytes"


@pytest.mark.parametrize("name", ["crash_sigbus_lmdb", "none_lmdb"])
def test_damaged_files(name):
    with pytest.raises(DataError, match=f"{name}: is a damaged LMDB database: page"):
        LmdbFile(str(FAULTS / name))


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingFileError):
        LmdbFile(str(tmp_path / "absent"))
    (tmp_path / "short").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match="is no LMDB database: it has 50 bytes"):
        LmdbFile(str(tmp_path / "short"))
    (tmp_path / "zero").write_bytes(bytes(20000))
    with pytest.raises(DataError, match="is no LMDB database: there is no meta page"):
        LmdbFile(str(tmp_path / "zero"))
    write(tmp_path / "db", some_records(1000, 100)).close()
    content = (tmp_path / "db" / "data.mdb").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"is a truncated LMDB database, \d+ bytes of \d+"):
        LmdbFile(str(tmp_path / "cut"))


def test_other_things_than_records(tmp_path):
    environment = lmdb.open(str(tmp_path / "named"), max_dbs=2)
    environment.open_db(b"inner")
    environment.close()
    with pytest.raises(DataError, match="holds a database named 'inner'"):
        LmdbFile(str(tmp_path / "named"))


def test_no_damage_ends_otherwise(tmp_path):
    """Bytes of every page are overwritten: a value, or one of our errors."""
    write(tmp_path / "db", some_records(300, 400) | {b"long": bytes(20000)}).close()
    content = (tmp_path / "db" / "data.mdb").read_bytes()
    rng, refused = random.Random(1), 0
    target = tmp_path / "bad"
    for _ in range(400):
        bad = bytearray(content)
        page = rng.randrange(len(bad) // 4096) * 4096
        at = page + rng.choice([rng.randrange(16), rng.randrange(200), rng.randrange(4088)])
        bad[at : at + 8] = rng.choice([rng.randbytes(8), b"\xff" * 8, bytes(8), struct.pack("<Q", rng.randrange(40))])
        target.write_bytes(bad)
        try:
            file = LmdbFile(str(target))
            for index in range(len(file.keys)):
                file.value(index)
        except DataError as error:
            assert str(target) in str(error)
            refused += 1
    assert refused > 100


def test_a_file_that_shrinks(tmp_path):
    write(tmp_path / "db", {b"a": bytes(9000)}).close()
    file = LmdbFile(str(tmp_path / "db"))
    os.truncate(tmp_path / "db" / "data.mdb", 8192 + 100)
    with pytest.raises(DataError, match="truncated"):
        file.value(0)
