"""The files of the data sets as their authors publish them: where they are, how large, which checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tqdm import tqdm

from caffe_compat.errors import CaffeCompatError, DataError, UsageError, nearest, one_line
from caffe_compat.files import ZIP_ERRORS, append_part, atomic_folder, finish_file, open_existing

__all__ = ["DOWNLOADS", "Download", "checksum", "fetch", "table", "verify"]

_BLOCK = 1 << 20
_HEADS = {".mat": b"MATLAB", ".zip": b"PK", ".tgz": b"\x1f\x8b"}
_NYU = "http://horatio.cs.nyu.edu/mit/silberman"
_NYU_DEAD = "host refused connections in reports of 2023-12 to 2025-02; look for a mirror and check it here"
_GUPTA = "ftp://ftp.cs.berkeley.edu/pub/projects/vision/sgupta-distillation"
_GUPTA_DEAD = "anonymous FTP of 2015, doubtful whether it still answers"
_SUN = "https://rgbd.cs.princeton.edu/data"
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
    """

    url: str
    about: str
    status: str
    size: int | None = None
    digest: str | None = None
    folder: str = ""

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


#: Published files by name.  Checksums of NYUD2 and SUN RGB-D are third-party records, those of the distillation
#: packages stand in the authors' own scripts.
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
    digest = hashlib.new(kind, usedforsecurity=False)
    with open_existing(path) as stream, _bar(os.path.getsize(path), f"{kind} {Path(path).name}", progress) as bar:
        while block := stream.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def verify(path: str | os.PathLike[str], item: Download, *, progress: bool = True) -> str:
    """Compare a file with what is known of it.

    Returns:
        What was compared, for a log.

    Raises:
        MissingFileError: no such file.
        DataError: its size or checksum differs.
    """
    with open_existing(path, f"{item.about}, from {item.url}") as stream:
        size, head = os.path.getsize(path), stream.read(8)
    if not head.startswith(_HEADS[Path(item.file).suffix]):
        raise DataError(f"{os.fspath(path)}: not a {Path(item.file).suffix} file, it begins with {head!r}")
    if item.size is not None and size != item.size:
        raise DataError(f"{os.fspath(path)}: {size} bytes, expected {item.size}: truncated, or another version")
    if item.digest is None:
        return f"{size} bytes, no checksum recorded"
    kind, wanted = item.digest.split(":")
    found = checksum(path, kind, progress=progress)
    if found != wanted:
        raise DataError(f"{os.fspath(path)}: {kind} {found}, expected {wanted}: damaged, or another version")
    return f"{size} bytes, {kind} as recorded"


def fetch(name: str, folder: str | os.PathLike[str], *, url: str | None = None, progress: bool = True) -> Path:
    """Download, check and unpack one file; goes on where an interrupted download stopped.

    Args:
        name: one of ``DOWNLOADS``.
        folder: where the file goes.
        url: a mirror to take it from.
        progress: show a bar (on a terminal).

    Returns:
        The file.

    Raises:
        UsageError: no such name.
        CaffeCompatError: the host does not answer, or the archive cannot be unpacked.
        DataError: what arrived is not the file; it keeps the name ``FILE.part``.
    """
    if name not in DOWNLOADS:
        raise UsageError(f"no download '{name}'{nearest(name, DOWNLOADS)}; --list shows all")
    item = DOWNLOADS[name]
    target = Path(folder) / item.file
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaffeCompatError(f"cannot write into {target.parent}: {error.strerror or error}") from error
        part = target.with_name(target.name + ".part")
        _download(url or item.url, part, item, progress)
        try:
            verify(part, item, progress=progress)
        except DataError as error:
            raise DataError(f"{error}; delete it to download it again") from error
        finish_file(part, target)
    else:
        verify(target, item, progress=progress)
    if item.folder:
        _unpack(target, Path(folder) / item.folder)
    return target


def _download(url: str, part: Path, item: Download, progress: bool) -> None:
    have = part.stat().st_size if part.exists() else 0
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
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as content:
                    content.extractall(scratch)  # zipfile keeps names below the folder by itself
            else:
                with tarfile.open(archive) as content:
                    content.extractall(scratch, filter="data")
    except (*ZIP_ERRORS, tarfile.TarError) as error:
        raise CaffeCompatError(
            f"{archive}: cannot be unpacked into {folder}: {one_line(error)}; delete it to download it again"
        ) from error


def _bar(total: int | None, label: str, progress: bool) -> tqdm[None]:
    quiet = True if not progress or (total is not None and total < 50 * _BLOCK) else None
    return tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=quiet)
