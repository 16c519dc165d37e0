"""Kinds of files that commands take: what is asked of each before the work begins, and what is said if it is not so.

A kind is the ``type`` of an argument: ``p.add_argument("--model", type=NET)``.  The parser of the commands checks the
words of a command line against it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.resources import located

__all__ = [
    "ARRAYS",
    "CALIBRATION",
    "DATABASE",
    "DEPTH",
    "DEPTHS",
    "DETECTIONS",
    "EVALUATION",
    "FLOW",
    "FLOW_INPUT",
    "FOLDER",
    "IDX",
    "JSON",
    "LIST",
    "LOG",
    "MATLAB_FILE",
    "MEAN",
    "MODEL",
    "NET",
    "NEW_FILE",
    "NEW_FOLDER",
    "ONNX",
    "OPTIONS",
    "PICTURE",
    "PICTURES_OF",
    "PICTURES_OR_ARRAY",
    "PREPROCESSING",
    "PROPOSALS",
    "RUN",
    "SOLVER",
    "STATE",
    "STATE_DICT",
    "TEACHER",
    "TEACHER_WEIGHTS",
    "WEIGHTS",
    "FileKind",
    "contents",
]

TEXT, JSON_TEXT, EMPTY, BINARY, FOLDERS = "a text file", "a JSON file", "an empty file", "a binary file", "a folder"
PICTURES = ("a PNG picture", "a JPEG picture", "a GIF picture", "a BMP picture", "a TIFF picture", "a WebP picture")
HDF5, MATLAB, ZIP, ARRAY = "an HDF5 file", "a Matlab file", "a zip archive", "a NumPy array"
_MAGIC = (
    (b"\x89PNG\r\n", PICTURES[0]),
    (b"\xff\xd8\xff", PICTURES[1]),
    (b"GIF8", PICTURES[2]),
    (b"II*\0", PICTURES[4]),
    (b"MM\0*", PICTURES[4]),
    (b"\x89HDF\r\n", HDF5),
    (b"MATLAB ", MATLAB),
    (b"PK\x03\x04", ZIP),
    (b"\x93NUMPY", ARRAY),
)
_HEAD = 1024  #: bytes that are looked at
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def contents(path: str | os.PathLike[str]) -> str:
    """What a file holds, by its first bytes: ``"a PNG picture"``, ``"a text file"``, ``"a folder"``.

    Raises:
        OSError: it cannot be read.
    """
    if os.path.isdir(path):
        return FOLDERS
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return PICTURES[5]
    if not head:
        return EMPTY
    if _CONTROL.search(head):
        return PICTURES[3] if head[:2] == b"BM" else BINARY
    return JSON_TEXT if head.lstrip()[:1] in (b"{", b"[") else TEXT


@dataclass(frozen=True)
class FileKind:
    """What an argument names.

    Args:
        what: for the reader: ``"a net definition (prototxt)"``.
        holds: what :func:`contents` may say of it.
        words: a pattern of what else the argument may be, which names no file.
        several: names may be joined by commas.
        there: it must exist.
        new: it is written.
        as_path: its value is a ``Path``.
        feature: ``@BLOB`` may stand at its end.
    """

    what: str
    holds: tuple[str, ...]
    words: str = ""
    several: bool = False
    there: bool = True
    new: bool = False
    as_path: bool = False
    feature: bool = False

    def __call__(self, text: str) -> str | Path:
        """The value of the argument: a ``zoo:`` name becomes a path."""
        return Path(located(text)) if self.as_path else located(text)

    def or_word(self, pattern: str) -> FileKind:
        """The same for an argument that may also be something else, such as ``builtin``."""
        return replace(self, words=pattern)

    def later(self) -> FileKind:
        """The same for a file that may come to be only later."""
        return replace(self, there=False)

    def path(self) -> FileKind:
        """The same with a ``Path`` as value."""
        return replace(self, as_path=True)

    def check(self, value: str | Path) -> None:
        """Refuse what is not there, or something else.

        Raises:
            MissingFileError: there is no such file; says where it was looked for, and what was expected.
            DataError: a folder in the place of a file, or the reverse, or a file that holds something else.
        """
        text = os.fspath(value)
        for name in self._names(text):
            if not os.path.exists(name):
                self._missing(name)
            elif os.path.isdir(name) or stat.S_ISREG(os.stat(name).st_mode):
                self._look(name)

    def _names(self, text: str) -> Iterator[str]:
        if not text or (self.words and re.fullmatch(self.words, text)):
            return
        if self.feature and not os.path.exists(text):
            text = text.partition("@")[0]
        yield from (part.strip() for part in text.split(",") if part.strip()) if self.several else [text]

    def _missing(self, name: str) -> None:
        if self.new or not self.there:
            return
        path = Path(name).absolute()
        above = next(folder for folder in path.parents if folder.exists())
        what = "none" if above == path.parent else f"no {path.relative_to(above).parts[0]}"
        raise MissingFileError(name, f"there is {what} in {above}; expected {self.what}")

    def _look(self, name: str) -> None:
        if self.new:
            if os.path.isdir(name) != (FOLDERS in self.holds):
                found = "a folder" if os.path.isdir(name) else "a file"
                raise DataError(f"{name} is {found}, expected {self.what}")
            return
        try:
            found = contents(name)
        except OSError as error:
            raise MissingFileError(name, error.strerror or str(error)) from error
        if found not in self.holds:
            raise DataError(f"{name} is {found}, expected {self.what}")


NET = FileKind("a net definition (prototxt)", (TEXT, EMPTY))
SOLVER = FileKind("a solver definition (prototxt)", (TEXT, EMPTY))
WEIGHTS = FileKind("weights (caffemodel or caffemodel.h5)", (BINARY, HDF5, EMPTY), several=True)
MODEL = replace(WEIGHTS, several=False)
STATE = FileKind("a solver state (solverstate or solverstate.h5)", (BINARY, HDF5, EMPTY))
STATE_DICT = FileKind("a state dict (.pth or .safetensors)", (ZIP, BINARY, EMPTY))
PICTURE = FileKind("a picture", (*PICTURES, BINARY, EMPTY, TEXT))  # PPM may be text
DEPTH = FileKind("depth (png, pgm, tiff, npy or mat)", (*PICTURES, BINARY, ARRAY, MATLAB, HDF5, EMPTY, TEXT))
LIST = FileKind("a list, a text file", (TEXT, EMPTY))
JSON = FileKind("a JSON file", (JSON_TEXT, TEXT, EMPTY))
CALIBRATION = FileKind("a calibration (json, yaml or text)", (JSON_TEXT, TEXT, EMPTY))
PREPROCESSING = FileKind("preprocessing.json, or a model that carries one", (JSON_TEXT, TEXT, BINARY, EMPTY))
OPTIONS = FileKind("a YAML file with options", (TEXT, JSON_TEXT, EMPTY))
ONNX = FileKind("an ONNX model", (BINARY, EMPTY))
ARRAYS = FileKind("arrays by name (npz)", (ZIP, EMPTY))
FOLDER = FileKind("a folder", (FOLDERS,))
FLOW = FileKind("flow (.flo), or a folder of it", (BINARY, EMPTY, FOLDERS))
FLOW_INPUT = FileKind("a video, a folder or a picture", (*PICTURES, BINARY, EMPTY, TEXT, FOLDERS))
RUN = FileKind("a folder of snapshots, or a ..metrics.jsonl", (FOLDERS, JSON_TEXT, TEXT, EMPTY))
EVALUATION = FileKind("an evaluation (eval.json), or the folder that it is in", (FOLDERS, JSON_TEXT, TEXT, EMPTY))
DATABASE = FileKind("a database, which is a folder", (FOLDERS,))
MATLAB_FILE = FileKind("a Matlab file", (MATLAB, HDF5, EMPTY))
DEPTHS = replace(DEPTH, what=f"{DEPTH.what}, or a folder of it", holds=(*DEPTH.holds, FOLDERS, JSON_TEXT))
PICTURES_OF = replace(PICTURE, what="a picture, or a folder of them", holds=(*PICTURE.holds, FOLDERS))
PROPOSALS = FileKind(
    "proposals (npz, mat, or a folder of mat files)", (ZIP, MATLAB, HDF5, BINARY, FOLDERS, EMPTY), words="builtin"
)
DETECTIONS = FileKind("detections (npz, mat or pkl)", (ZIP, MATLAB, HDF5, BINARY, TEXT, EMPTY))
TEACHER = replace(
    NET,
    what="a net definition (prototxt), torchvision:NAME, timm:NAME, package.module:function or FILE.onnx",
    words=r"(torchvision|timm):.*|[A-Za-z_][\w.]*:[A-Za-z_]\w*(@.*)?",
    holds=(*NET.holds, BINARY),
    feature=True,
)
TEACHER_WEIGHTS = FileKind(
    "weights (caffemodel, .pth or .safetensors)", (BINARY, HDF5, ZIP, EMPTY), words="random", several=True
)
LOG = FileKind("the log of a training", (TEXT, EMPTY))
IDX = FileKind("a file of MNIST (idx, or idx.gz)", (BINARY, EMPTY))
MEAN = FileKind("a mean (npy or binaryproto)", (ARRAY, BINARY, EMPTY))
PICTURES_OR_ARRAY = replace(PICTURES_OF, what="a picture, a folder of them, or npy", holds=(*PICTURES_OF.holds, ARRAY))
NEW_FILE = FileKind("the name of a file to write", (), new=True)
NEW_FOLDER = FileKind("the name of a folder to write into", (FOLDERS,), new=True)
