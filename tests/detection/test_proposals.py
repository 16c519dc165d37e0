"""Where the proposals of a database come from."""

import dataclasses
import os
from typing import Any

import cv2
import numpy as np
import pytest

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.sources import FileSource, Reading
from caffe_compat.detection import proposals
from caffe_compat.detection.proposals import Computed, proposal_source
from caffe_compat.detection.proposer import propose
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.evaluation.recall import measure_recall

SIZE = (48, 64)
GT = np.array([[10, 8, 40, 30]], np.float32)


@dataclasses.dataclass(frozen=True)
class Ramp:
    """Depth from nowhere."""

    near: float

    name = "ramp"

    def fingerprint(self) -> dict[str, Any]:
        return {"ramp": self.near}

    def read(self) -> Reading:
        depth = np.full(SIZE, 2.0)
        depth[8:31, 10:41] = self.near
        return Reading(depth)


def database(folder, count=3, **changes):
    """Frames of one box each, in colour, HHA and depth."""
    records = []
    for number in range(count):
        picture = np.full((*SIZE, 3), 40 * number, np.uint8)
        picture[8:31, 10:41] = (200, 100, 20 + number)
        for kind in ("images", "hha"):
            (folder / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{number}.png"), picture if kind == "images" else 255 - picture)
        paths = {kind: str(folder / kind / f"{number}.png") for kind in ("images", "hha")}
        records.append(FrameRecord(f"f/{number}", paths, Ramp(1.0), SIZE, boxes=GT, classes=("box",)))
    records = [dataclasses.replace(record, **changes) for record in records]
    return ImageDatabase("mine", ("box",), ("images",), records)


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_its_own(tmp_path):
    own = dataclasses.replace(database(tmp_path), proposals=lambda record: GT)
    assert proposal_source(own, None, tmp_path)(own.records[0]) is GT
    with pytest.raises(UsageError, match="mine: has no proposals of its own: give --proposals FILE, .*builtin"):
        proposal_source(database(tmp_path), None, tmp_path)


def test_a_file(tmp_path):
    imdb = database(tmp_path)
    names = [record.name for record in imdb.records]
    write_proposal_file(tmp_path / "p.npz", ProposalFile(names, [GT, GT + 1, GT + 2]))
    source = proposal_source(imdb, str(tmp_path / "p.npz"), tmp_path)
    assert np.array_equal(source(imdb.records[1]), GT + 1)
    write_proposal_file(tmp_path / "p.npz", ProposalFile(names[:2], [GT, GT]))
    with pytest.raises(DataError, match=r"p\.npz: f/2: not among its 2 images"):
        proposal_source(imdb, str(tmp_path / "p.npz"), tmp_path)


def test_built_in(tmp_path):
    imdb, cache = database(tmp_path), tmp_path / "cache"
    source = proposal_source(imdb, "builtin", cache, workers=0)
    for record in imdb.records:
        wanted, _ = propose({"images": cv2.imread(record.paths["images"])})
        assert np.array_equal(source(record), wanted)
    assert measure_recall(imdb.records, source).at(0.8) == 1
    with pytest.raises(DataError, match="image x: its proposals were not asked for"):
        source(FrameRecord("x"))


def test_what_is_there_is_not_computed_again(tmp_path, monkeypatch):
    imdb, cache = database(tmp_path), tmp_path / "cache"
    made = []
    monkeypatch.setattr(proposals, "propose", lambda pictures, count: made.append(1) or propose(pictures, count))
    proposal_source(imdb, "builtin", cache, workers=0)
    before = files(cache)
    assert len(made) == len(before) == 3
    renamed = [dataclasses.replace(record, name=f"other{k}") for k, record in enumerate(imdb.records)]
    proposal_source(dataclasses.replace(imdb, name="other", records=renamed), "builtin", cache, workers=0)
    assert len(made) == 3 and files(cache) == before  # the same pictures under other names

    cv2.imwrite(imdb.records[1].paths["images"], np.zeros((*SIZE, 3), np.uint8))
    source = proposal_source(imdb, "builtin", cache, workers=0)
    assert len(made) == 4 and len(files(cache)) == 4 and len(source(imdb.records[1])) == 1

    monkeypatch.setattr(proposals, "VERSION", proposals.VERSION + 1)
    proposal_source(imdb, "builtin", cache, workers=0)
    assert len(made) == 7


def test_goes_on_where_it_stopped(tmp_path, monkeypatch):
    imdb, cache = database(tmp_path), tmp_path / "cache"
    made = []

    def stopping(pictures, count):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return propose(pictures, count)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(proposals, "propose", stopping)
        proposal_source(imdb, "builtin", cache, workers=0)
    before = files(cache)
    assert len(before) == 2
    proposal_source(imdb, "builtin", cache, workers=0)
    after = files(cache)
    assert len(after) == 3 and before.items() <= after.items()


def test_workers_make_the_same(tmp_path):
    imdb = database(tmp_path)
    for workers in (0, 2):
        Computed(imdb, ["images", "hha", "depth"], tmp_path / f"cache{workers}").make(workers)
    one, two = (files(tmp_path / f"cache{workers}") for workers in (0, 2))
    assert [path.name for path in one] == [path.name for path in two] and list(one.values()) == list(two.values())


def test_depth_of_a_file_or_of_a_source(tmp_path):
    imdb = database(tmp_path)
    record = imdb.records[0]
    path = tmp_path / "depth.png"
    cv2.imwrite(str(path), np.rint(Ramp(1.0).read().depth * 1000).astype(np.uint16))
    with_file = dataclasses.replace(record, paths={"depth": str(path)}, depth=FileSource("nowhere.png"))
    found = []
    for one in (record, with_file):
        imdb = dataclasses.replace(imdb, records=[one])
        source = Computed(imdb, ["depth"], tmp_path / "cache")
        source.make(0)
        found.append(source(one))
        assert measure_recall([one], source).at(0.7) == 1
    assert np.array_equal(*found)


def test_settings_tell_pictures_and_count(tmp_path):
    imdb = database(tmp_path)
    first = Computed(imdb, ["images"], tmp_path / "c").settings
    assert first == Computed(imdb, ["images"], tmp_path / "d").settings and first["images"] == 3
    others = [
        Computed(imdb, ["images"], tmp_path / "c", 100),
        Computed(imdb, ["hha", "images"], tmp_path / "c"),
        Computed(dataclasses.replace(imdb, records=imdb.records[:2]), ["images"], tmp_path / "c"),
        Computed(dataclasses.replace(imdb, records=imdb.records[::-1]), ["images"], tmp_path / "c"),
    ]
    assert len({str(first), *(str(other.settings) for other in others)}) == 5


def test_wrong_pictures(tmp_path):
    imdb = database(tmp_path)
    with pytest.raises(
        DataError, match=r"mine: image f/0 has no hah \(did you mean 'hha'\?\); it has images, hha, dep"
    ):
        Computed(imdb, ["hah"], tmp_path)
    with pytest.raises(UsageError, match="2000 proposals on 0 modalities"):
        Computed(imdb, [], tmp_path)
    with pytest.raises(UsageError, match="0 proposals on 1"):
        Computed(imdb, ["images"], tmp_path, 0)
    with pytest.raises(DataError, match=r"images/0\.png: is 64 x 48 pixels, expected 64 x 40 of image f/0"):
        proposal_source(database(tmp_path, size=(40, 64)), "builtin", tmp_path / "cache", workers=0)
    cv2.imwrite(imdb.records[2].paths["hha"], np.zeros((40, 64, 3), np.uint8))
    loose = dataclasses.replace(imdb, records=[dataclasses.replace(record, size=None) for record in imdb.records])
    with pytest.raises(DataError, match="image f/2: images is 64 x 48 pixels, but hha is 64 x 40"):
        Computed(loose, ["hha", "images"], tmp_path / "cache").make(0)
    with pytest.raises(DataError, match="image f/0: depth: .*all 3072 pixels are missing"):
        Computed(database(tmp_path, depth=Nothing()), ["depth"], tmp_path / "c").make(0)
    database(tmp_path)
    os.remove(imdb.records[1].paths["images"])
    with pytest.raises(MissingFileError, match=r"images/1\.png"):
        Computed(imdb, ["images"], tmp_path)


@dataclasses.dataclass(frozen=True)
class Nothing:
    name = "nothing"

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def read(self) -> Reading:
        return Reading(np.zeros(SIZE))


def test_a_file_of_the_cache_that_was_damaged(tmp_path):
    imdb, cache = database(tmp_path, 1), tmp_path / "cache"
    source = proposal_source(imdb, "builtin", cache, workers=0)
    (path,) = files(cache)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{path.name}: is no .npz file"):
        source(imdb.records[0])
    write_proposal_file(path, ProposalFile([], []))
    with pytest.raises(DataError, match="holds proposals of 0 images, expected 1"):
        source(imdb.records[0])
