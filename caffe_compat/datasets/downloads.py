"""The files of the data sets as their authors publish them: where they are, how large, which checksum.

Each is fetched by https where its host has that, and its sha256 is kept beside it in ``FILE.sha256`` (``sha256sum -c``
reads that): most of these files were published without a checksum, or with md5 only, and whoever gets them again, or
from elsewhere, can tell then whether they are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from tqdm import tqdm

from caffe_compat.errors import CaffeCompatError, DataError, UsageError, nearest, one_line
from caffe_compat.files import ZIP_ERRORS, append_part, atomic_folder, finish_file, open_existing, write_file
from caffe_compat.memory import LIFT, human_size, limits_apply

__all__ = ["DOWNLOADS", "Download", "checksum", "fetch", "table", "verify"]

_BLOCK = 1 << 20
_MOST_UNPACKED = 50  #: times the size of an archive; pictures hardly shrink, MATLAB's and text files to a tenth
_SMALL = 1 << 30  #: bytes that any archive may unpack to
_HEADS = {".mat": b"MATLAB", ".zip": b"PK", ".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b", ".rar": b"Rar!"}
_NYU = "http://horatio.cs.nyu.edu/mit/silberman"
_NYU_DEAD = "host refused connections in reports of 2023-12 to 2025-02; look for a mirror and check it here"
_GUPTA = "ftp://ftp.cs.berkeley.edu/pub/projects/vision/sgupta-distillation"
_GUPTA_DEAD = "anonymous FTP of 2015, doubtful whether it still answers"
_SUN = "https://rgbd.cs.princeton.edu/data"
_JHMDB = "http://files.is.tue.mpg.de/jhmdb"
_UCF101 = "https://www.crcv.ucf.edu/data/UCF101"
_TUBES = "https://raw.githubusercontent.com/gkioxari/ActionTubes/579d85f8652e2199b3f15a5032d19e9b67e8a026"
_UNTRIED = "not tried lately"


@dataclasses.dataclass(frozen=True)
class Download:
    """One published file.

    Args:
        url: where its authors put it.
        folder: where it is unpacked, below the folder given; empty if it is no archive.
        size: bytes; None where nobody recorded it.
        digest: ``md5:...`` or ``sha256:...``; None where nobody recorded it, which is said when the file is fetched.
        status: what is known of the host.
        about: what it is.
        place: folder that it goes into, below the folder given.
    """

    url: str
    about: str
    status: str
    size: int | None = None
    digest: str | None = None
    folder: str = ""
    place: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[1]


def _raw_parts() -> dict[str, Download]:
    parts = {"bathrooms": 4, "bedrooms": 7, "bookstore": 3, "dining_rooms": 2, "kitchens": 3, "living_rooms": 4}
    parts |= {"misc": 2, "offices": 2}
    names = [f"{name}_part{number}" for name, count in parts.items() for number in range(1, count + 1)]
    names += ["basements", "cafe", "furniture_stores", "home_offices", "libraries", "office_kitchens", "playrooms"]
    names += ["reception_rooms", "studies", "study_rooms"]
    return {
        f"nyud2_raw_{name}": Download(
            f"{_NYU}/nyu_depth_v2/{name}.zip", "raw video, one of 37 parts", _NYU_DEAD, folder="nyud2_raw"
        )
        for name in sorted(names)
    }


#: Published files by name.  Checksums of NYUD2, SUN RGB-D, JHMDB and UCF101 are third-party records (jhmdb_annot's of
#: the file in its repository), those of the distillation packages stand in the authors' own scripts.
DOWNLOADS: Mapping[str, Download] = MappingProxyType(
    {
        "nyud2_labelled": Download(
            f"{_NYU}/nyu_depth_v2/nyu_depth_v2_labeled.mat", "NYUD2, 1449 labelled frames", _NYU_DEAD,
            2_972_037_809, "md5:520609c519fba3ba5ac58c8fefcc3530",
        ),
        "nyud2_splits": Download(f"{_NYU}/indoor_seg_sup/splits.mat", "NYUD2, 795 train and 654 test", _NYU_DEAD),
        "nyud2_data": Download(
            f"{_GUPTA}/nyud2_data.tgz", "the ready tree data/nyud2 with images, HHA and boxes", _GUPTA_DEAD,
            None, "md5:ce139c86cf0c2389e477786208d74b4d", ".",
        ),
        "nyud2_mcg_boxes": Download(
            f"{_GUPTA}/nyud2_mcg_boxes.mat", "RGB-D MCG proposals of NYUD2", _GUPTA_DEAD,
            None, "md5:2506a31a003995eb27ea3d0ee0c8debb",
        ),
        "init_models": Download(
            f"{_GUPTA}/init_models.tgz", "CaffeNet, VGG16 and the transferred AlexNet", _GUPTA_DEAD,
            None, "md5:023859bb967f03cc94f7ae4183e53a7c", ".",
        ),
        "nyud2_detectors": Download(
            f"{_GUPTA}/nyud2_detectors.tgz", "the released RGB+D detectors", _GUPTA_DEAD,
            None, "md5:c09961a875e6927b3526387d2dd0fb95", "../output",
        ),
        "nyud2_sp": Download(
            f"{_GUPTA}/nyud2_sp.tgz", "superpixels of NYUD2", _GUPTA_DEAD,
            None, "md5:d07e8b1c5251d3612e8f954297d508d5", ".",
        ),
        "nyud2_sds": Download(
            f"{_GUPTA}/nyud2_sds.tgz", "instance segmentation models", _GUPTA_DEAD,
            None, "md5:0f63b5cb6e2c618255a36be00f5d8243", "../output",
        ),
        "sunrgbd": Download(f"{_SUN}/SUNRGBD.zip", "SUN RGB-D, 10335 frames", _UNTRIED, 6_885_481_608, folder="."),
        "sunrgbd_toolbox": Download(
            f"{_SUN}/SUNRGBDtoolbox.zip", "SUN RGB-D, splits and annotation", _UNTRIED,
            570_324_301, "md5:18d22e1761d36352f37232cba102f91f", ".",
        ),
        "jhmdb_frames": Download(
            f"{_JHMDB}/Rename_Images.tar.gz", "JHMDB, frames of 928 clips", _UNTRIED,
            None, "md5:23726fbac4bc69a726dc3daf2e7ab4c1", "jhmdb", "jhmdb",
        ),
        "jhmdb_splits": Download(
            f"{_JHMDB}/splits.zip", "JHMDB, the three splits", _UNTRIED,
            None, "md5:15b9f2f7a99d63c07f3be0c9ecde43b5", "jhmdb", "jhmdb",
        ),
        "jhmdb_annot": Download(
            f"{_TUBES}/jhmdb_annot.mat", "JHMDB, a box in each of 31838 frames (of ActionTubes)", _UNTRIED, 207_957,
            "sha256:528dcfa52bdb57768df0722fedfecbe7fa8edf0db273711b7e61beba4154e3c6", place="jhmdb",
        ),
        "ucf101": Download(
            f"{_UCF101}/UCF101.rar", "UCF101, 13320 clips; unpack it there: unrar x UCF101.rar", _UNTRIED,
            place="ucf101",
        ),
        "ucf101_splits": Download(
            f"{_UCF101}/UCF101TrainTestSplits-RecognitionTask.zip", "UCF101, the three splits", _UNTRIED, 113_943,
            "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27", "ucf101", "ucf101",
        ),
        **_raw_parts(),
    }
)  # fmt: skip


def table() -> str:
    """What can be fetched, as text."""
    rows = [
        f"{name:28s} {'?' if item.size is None else f'{item.size / 1e6:.0f} MB':>8s}  "
        f"{(item.digest or 'no checksum recorded').split(':')[0]:20s} {item.about}\n{'':39s}{item.url}\n"
        f"{'':39s}{item.status}"
        for name, item in DOWNLOADS.items()
    ]
    return "\n".join(rows)


def checksum(path: str | os.PathLike[str], kind: str = "md5", *, progress: bool = True) -> str:
    """Hexadecimal ``md5``, ``sha256``, ... of a file, with a bar for large ones.

    Raises:
        MissingFileError: no such file.
    """
    return _checksums(path, [kind], progress)[kind]


def _checksums(path: str | os.PathLike[str], kinds: Iterable[str], progress: bool) -> dict[str, str]:
    """Several at once: the file is read one time."""
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    label = f"{', '.join(digests)} {Path(path).name}"
    with open_existing(path) as stream, _bar(os.path.getsize(path), label, progress) as bar:
        while block := stream.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def verify(path: str | os.PathLike[str], item: Download, *, progress: bool = True) -> str:
    """Compare a file with what is known of it: published size and checksum, and the sha256 kept beside it.

    Returns:
        What was compared, for a log.

    Raises:
        MissingFileError: no such file.
        DataError: its size or a checksum differs, or ``FILE.sha256`` is no such file.
    """
    return _verified(path, item, _kept(path), progress)[0]


def _verified(
    path: str | os.PathLike[str], item: Download, kept: str | None, progress: bool
) -> tuple[str, dict[str, str]]:
    """What was compared, and the checksums of the file (sha256 among them).

    Args:
        kept: the sha256 that it had when it was downloaded.
    """
    with open_existing(path, f"{item.about}, from {item.url}") as stream:
        size, head = os.path.getsize(path), stream.read(8)
    if not head.startswith(_HEADS[Path(item.file).suffix]):
        raise DataError(f"{os.fspath(path)}: not a {Path(item.file).suffix} file, it begins with {head!r}")
    if item.size is not None and size != item.size:
        raise DataError(f"{os.fspath(path)}: {size} bytes, expected {item.size}: truncated, or another version")
    wanted = dict([item.digest.split(":")] if item.digest else [])
    if kept is not None:
        wanted.setdefault("sha256", kept)
    found = _checksums(path, {**wanted, "sha256": ""}, progress)
    for kind, digits in wanted.items():
        if found[kind] != digits:
            raise DataError(f"{os.fspath(path)}: {kind} {found[kind]}, expected {digits}: damaged, or another version")
    same = f"{' and '.join(wanted)} as recorded" if wanted else "no checksum recorded"
    return f"{size} bytes, {same}" + ("" if "sha256" in wanted else f", sha256 {found['sha256']}"), found


def _kept(path: str | os.PathLike[str]) -> str | None:
    """The sha256 beside a file; None: there is none."""
    beside = Path(f"{os.fspath(path)}.sha256")
    if not beside.exists():
        return None
    with open_existing(beside) as stream:
        text = stream.read(1 << 12).decode("utf-8", "replace")
    if not (found := re.match(r"[0-9a-fA-F]{64}(?=\s|$)", text)):
        raise DataError(f"{beside}: begins with {text[:20]!r}, expected the 64 digits of a sha256")
    return found[0].lower()


def fetch(name: str, folder: str | os.PathLike[str], *, url: str | None = None, progress: bool = True) -> Path:
    """Download, check and unpack one file; goes on where an interrupted download stopped.

    Its sha256 is written beside it, and compared from then on.

    Args:
        name: one of ``DOWNLOADS``.
        folder: where the file goes.
        url: a mirror to take it from.
        progress: show a bar (on a terminal).

    Returns:
        The file.

    Raises:
        UsageError: no such name.
        CaffeCompatError: the host does not answer, or the archive cannot be unpacked, or would fill the disk.
        DataError: what arrived is not the file; it keeps the name ``FILE.part``.
    """
    if name not in DOWNLOADS:
        raise UsageError(f"no download '{name}'{nearest(name, DOWNLOADS)}; --list shows all")
    item = DOWNLOADS[name]
    target = Path(folder) / item.place / item.file
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaffeCompatError(f"cannot write into {target.parent}: {error.strerror or error}") from error
        part = target.with_name(target.name + ".part")
        _from_any([url] if url else _addresses(item.url), part, item, progress)
        try:
            _, sums = _verified(part, item, None, progress)
        except DataError as error:
            raise DataError(f"{error}; delete it to download it again") from error
        write_file(f"{target}.sha256", f"{sums['sha256']}  {target.name}\n")
        finish_file(part, target)
    else:
        verify(target, item, progress=progress)
    if item.folder:
        _unpack(target, Path(folder) / item.folder)
    return target


def _addresses(url: str) -> list[str]:
    """Where to look: first by https, if a host is named without a port."""
    parts = urllib.parse.urlsplit(url)
    return [parts._replace(scheme="https").geturl(), url] if parts.scheme == "http" and parts.port is None else [url]


def _from_any(urls: list[str], part: Path, item: Download, progress: bool) -> None:
    """Download from the first address that answers."""
    *others, last = urls
    for url in others:
        before = _size(part)
        try:
            _download(url, part, item, progress)
            return
        except CaffeCompatError:
            if _size(part) != before:  # it did answer
                raise
    _download(last, part, item, progress)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _download(url: str, part: Path, item: Download, progress: bool) -> None:
    have = _size(part)
    if item.size is not None and have == item.size:
        return
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            if have and getattr(answer, "status", None) != 206:
                have = 0  # the host sends the whole file again
            length = answer.headers.get("Content-Length")
            total = item.size if length is None else have + int(length)
            with append_part(part, have) as stream, _bar(total, item.file, progress) as bar:
                bar.update(have)
                while block := answer.read(_BLOCK):
                    stream.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # nothing is left to send
        raise CaffeCompatError(f"{url}: {error} ({item.status}); --url takes a mirror") from error
    except (
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:  # URLError, timeouts and broken connections are OSErrors
        reason = getattr(error, "reason", None) or error
        raise CaffeCompatError(f"{url}: {reason} ({item.status}); --url takes a mirror") from error
    if total is not None and part.stat().st_size < total:
        raise CaffeCompatError(f"{url}: connection ended at {part.stat().st_size} of {total} bytes; run again to go on")


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with atomic_folder(folder / archive.name, replace=True) as scratch:
            room = _room(archive, scratch)
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as content:
                    room(sum(one.file_size for one in content.infolist()))  # zipfile writes no more than that
                    content.extractall(scratch)  # zipfile keeps names below the folder by itself
            else:
                with tarfile.open(archive) as content:
                    content.extractall(scratch, filter=_counting(room))
    except (*ZIP_ERRORS, tarfile.TarError) as error:
        raise CaffeCompatError(
            f"{archive}: cannot be unpacked into {folder}: {one_line(error)}; delete it to download it again"
        ) from error


def _room(archive: Path, folder: Path) -> Callable[[int], None]:
    """A function that refuses to unpack more bytes than an archive of its size may hold, or the disk has free."""
    most, free = max(_SMALL, _MOST_UNPACKED * archive.stat().st_size), shutil.disk_usage(folder).free

    def check(size: int) -> None:
        if size > free:
            raise CaffeCompatError(f"{archive}: unpacks to {human_size(size)} or more, {folder.parent} has "
                                   f"{human_size(free)} free")  # fmt: skip
        if size > most and limits_apply():
            raise CaffeCompatError(
                f"{archive}: unpacks to {human_size(size)} or more, at most {human_size(most)} are expected of it; "
                f"{LIFT} unpacks it all the same"
            )

    return check


def _counting(room: Callable[[int], None]) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo]:
    """Python's filter ``data``, which also adds up what the members will be on the disk."""
    total = 0

    def check(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        nonlocal total
        total += member.size
        room(total)
        return tarfile.data_filter(member, folder)

    return check


def _bar(total: int | None, label: str, progress: bool) -> tqdm[None]:
    quiet = True if not progress or (total is not None and total < 50 * _BLOCK) else None
    return tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=quiet)
