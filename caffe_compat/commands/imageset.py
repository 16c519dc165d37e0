"""``convert_imageset``: images named by a list, into a database.

Source: BVLC Caffe 1.0, ``tools/convert_imageset.cpp`` and ``ReadImageToDatum`` (behaviour only).
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

from caffe_compat import log
from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import (
    LabelledImage,
    can_encode,
    create_database,
    decode,
    encode,
    encoded_datum,
    picture_datum,
    read_image_list,
    resize_caffe,
)

__all__ = ["ImagesetOptions", "convert_imageset", "image_datum"]

_SAME = {"jpeg": "jpg"}
SOURCE = "convert_imageset.cpp"


@dataclass(frozen=True)
class ImagesetOptions:
    """The command line of ``convert_imageset``; sizes of 0 mean as they are, ``seed`` None a different order each
    time."""

    root: str
    list: str
    database: str
    gray: bool = False
    shuffle: bool = False
    backend: str = "lmdb"
    resize_width: int = 0
    resize_height: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    seed: int | None = None


def convert_imageset(options: ImagesetOptions) -> int:
    """Write the database; returns the number of records.

    Images that cannot be read are left out with a warning, as in Caffe.

    Raises:
        UsageError: contradicting options, or the database exists.
        DataError: no image could be read, or with ``check_size`` sizes differ.
    """
    _check(options)
    entries = read_image_list(options.list)
    order = list(range(len(entries)))
    if options.shuffle:
        log.info("Shuffling data", f"{SOURCE}:83")
        random.Random(options.seed).shuffle(order)
    log.info(f"A total of {len(entries)} images.", f"{SOURCE}:86")
    size: int | None = None
    failure = ""
    with create_database(options.database, options.backend) as writer:
        for index, place in enumerate(order):
            entry = entries[place]
            try:
                datum = image_datum(options, entry)
            except DataError as error:
                failure = str(error)
                log.warning(f"Could not open or find file {options.root}{entry.path}: {failure}", "io.cpp:80")
                continue
            if options.check_size:
                size = _check_size(options, entry, datum, size)
            writer.put(b"%08d_" % index + os.fsencode(entry.path), datum.SerializeToString())
            if writer.count % 1000 == 0:
                log.info(f"Processed {writer.count} files.", f"{SOURCE}:144")
        if not writer.count:
            raise DataError(f"{options.list}: none of its {len(entries)} images could be read: {failure}")
    log.info(f"Processed {writer.count} files.", f"{SOURCE}:150")
    return writer.count


def _check(options: ImagesetOptions) -> None:
    width, height = options.resize_width, options.resize_height
    if min(width, height) < 0 or bool(width) != bool(height):
        raise UsageError(f"--resize_width {width} and --resize_height {height}: expected two positive numbers, or none")
    kind = options.encode_type
    if kind and not can_encode(kind):
        raise UsageError(f"--encode_type is '{kind}', expected a type that OpenCV writes, such as jpg or png")


def _check_size(options: ImagesetOptions, entry: LabelledImage, datum: Any, size: int | None) -> int:
    mine = datum.channels * datum.height * datum.width if not datum.encoded else len(datum.data)
    if size is not None and mine != size:
        raise DataError(f"{options.list}, line {entry.line}: {entry.path} has {mine} values, those before have {size}")
    return mine


def image_datum(options: ImagesetOptions, entry: LabelledImage) -> Any:
    """The ``Datum`` of one image: pixels (channels, height, width; BGR), or a compressed image.

    The bytes of the file are kept where nothing is to change: no other size, the wanted number of channels, and the
    wanted encoding by its ending.

    Raises:
        DataError: the image cannot be read.
    """
    path = options.root + entry.path
    try:
        with open(path, "rb") as stream:
            raw = stream.read()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    image = decode(raw, path, "gray" if options.gray else "color")
    if options.resize_width:
        image = resize_caffe(image, options.resize_height, options.resize_width)
    ending = os.path.splitext(entry.path)[1][1:].lower()
    encoding = options.encode_type or (ending if options.encoded else "")
    if not encoding:
        if options.encoded:
            log.warning(f"Failed to guess the encoding of '{entry.path}'", f"{SOURCE}:117")
        return picture_datum(image, entry.label)
    if not options.resize_width and _SAME.get(ending, ending) == _SAME.get(encoding, encoding):
        return encoded_datum(raw, entry.label)
    return encoded_datum(encode(image, encoding, path), entry.label)
