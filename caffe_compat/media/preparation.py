"""``preprocessing.json``: what a net wants of each of its inputs, and which files of weights that holds for.

It stands beside the weights, as ``preprocessing.json`` for all of a folder, or as ``NAME.preprocessing.json`` for
``NAME.caffemodel`` alone, which comes first.  Training, surgery and compression write it; whatever runs a net reads it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from caffe_compat.errors import DataError, UsageError, WriteError
from caffe_compat.files import open_existing, write_file
from caffe_compat.locks import hold
from caffe_compat.media.preparation_text import inputs_of, parse, written
from caffe_compat.media.preprocessing import Preprocessing

__all__ = [
    "PREPROCESSING",
    "Preparation",
    "describe_weights",
    "model_preparation",
    "parse_preparation",
    "preparation_path",
    "read_preparation",
    "read_preprocessing",
    "stored_preparation",
    "weights_digest",
    "write_preparation",
    "write_preprocessing",
]

PREPROCESSING = "preprocessing.json"
"""What the file of a folder is called, and what the ending of a single file's own is."""
PathLike = str | os.PathLike[str]
_PATIENCE = 5.0
"""Seconds to wait for another run that writes the same file."""


@dataclass(frozen=True)
class Preparation:
    """What a net wants of its inputs.

    Attributes:
        inputs: by name of the input blob, in the net's order; all with the same classes.
        weights: SHA-256 by name of the files that it holds for; empty: it does not say.

    Raises:
        UsageError: no input, or inputs with different classes.
    """

    inputs: Mapping[str, Preprocessing]
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("a preparation without inputs, expected at least one")
        if len({wanted.classes for wanted in self.inputs.values()}) > 1:
            raise UsageError("inputs with different classes, expected the same: they are those of the net's output")

    @property
    def first(self) -> Preprocessing:
        """That of the first input."""
        return next(iter(self.inputs.values()))

    @property
    def classes(self) -> tuple[str, ...]:
        """What the net tells apart, in the order of its output; empty where that is not known."""
        return self.first.classes

    def of(self, names: Sequence[str]) -> dict[str, Preprocessing]:
        """What a net wants of its inputs of these names (of pictures: no boxes).

        A single entry holds for a single input whatever its name.

        Raises:
            DataError: nothing is known of one of them.
        """
        if len(names) == 1 and len(self.inputs) == 1:
            return {names[0]: self.first}
        missing = [name for name in names if name not in self.inputs]
        if missing:
            raise DataError(f"says nothing of the input '{missing[0]}', only of {inputs_of(self.inputs)}")
        return {name: self.inputs[name] for name in names}

    def text(self) -> str:
        """All of it as one JSON text, means of files included, for keeping inside a model.

        Raises:
            MissingFileError, ModelFileError: a mean file cannot be read.
        """
        return written(self.inputs, self.weights, None)


# -- files ------------------------------------------------------------------------------------------------------------


def write_preparation(path: PathLike, wanted: Preparation) -> None:
    """Write ``preprocessing.json``; mean files are named relative to it.

    Raises:
        WriteError: it cannot be written.
    """
    write_file(path, written(wanted.inputs, wanted.weights, Path(path).parent))


def read_preparation(path: PathLike) -> Preparation:
    """Read ``preprocessing.json``, of any version.

    Raises:
        MissingFileError: no such file.
        DataError: it is not such a file; names file and field.
    """
    with open_existing(path, "preprocessing") as stream:
        text = stream.read()
    return parse_preparation(text, os.fspath(path), Path(path).parent)


def parse_preparation(text: str | bytes, where: str, folder: PathLike = ".") -> Preparation:
    """The same of a text, such as :meth:`Preparation.text`; ``where`` begins messages.

    Raises:
        DataError: it is no such text.
    """
    return Preparation(*parse(text, where, Path(folder)))


def write_preprocessing(path: PathLike, wanted: Preprocessing, name: str = "data") -> None:
    """Write what a net wants of its only input, ``name``.

    Raises:
        WriteError: it cannot be written.
    """
    write_preparation(path, Preparation({name: wanted}))


def read_preprocessing(path: PathLike) -> Preprocessing:
    """What a file says of the first input.

    Raises:
        MissingFileError, DataError: as :func:`read_preparation`.
    """
    return read_preparation(path).first


# -- beside weights ---------------------------------------------------------------------------------------------------


def weights_digest(path: PathLike) -> str:
    """SHA-256 of a file of weights.

    Raises:
        MissingFileError: no such file.
    """
    found = hashlib.sha256()
    with open_existing(path, "weights") as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def preparation_path(weights: PathLike) -> Path | None:
    """The file that speaks of weights: ``NAME.preprocessing.json`` or ``preprocessing.json`` beside them, else None."""
    own, shared = _own(weights), Path(weights).parent / PREPROCESSING
    return own if own.exists() else shared if shared.exists() else None


def stored_preparation(weights: PathLike, strict: bool = True) -> Preparation | None:
    """What stands beside weights; None: nothing does.

    Args:
        strict: refuse a file that speaks of other weights only, instead of taking it for none.

    Raises:
        DataError: it is no such file, or it was written for weights of this name that were others.
    """
    path = preparation_path(weights)
    if path is None:
        return None
    found = read_preparation(path)
    if not strict and found.weights and Path(weights).name not in found.weights:
        return found if weights_digest(weights) in found.weights.values() else None
    _check_weights(found, path, weights)
    return found


def model_preparation(model: PathLike, weights: PathLike | None = None, strict: bool = True) -> Preparation | None:
    """What stands beside weights, else beside the prototxt of the net (where make_transfer writes it); None: nothing.

    Raises:
        DataError: as :func:`stored_preparation`.
    """
    found = stored_preparation(weights, strict) if weights is not None else None
    path = Path(model).parent / PREPROCESSING
    return read_preparation(path) if found is None and path.exists() else found


def describe_weights(weights: PathLike, wanted: Preparation, keep: bool = False) -> Path:
    """Write beside weights what their net wants: into the folder's ``preprocessing.json``, with their SHA-256.

    Where that file says something else of other weights, ``NAME.preprocessing.json`` is written instead.

    Args:
        keep: what stands there without saying for which weights holds for these.

    Returns:
        The file.

    Raises:
        WriteError: it cannot be written, or another run holds it.
        DataError: what stands there is damaged.
    """
    own, shared = _own(weights), Path(weights).parent / PREPROCESSING
    digest = {Path(weights).name: weights_digest(weights)}
    with ExitStack() as stack:
        _wait(stack, shared)
        path, known = shared, dict[str, str]()
        if own.exists():
            path = own
        elif shared.exists():
            there = read_preparation(shared)
            if keep and not there.weights:
                wanted = there
            known = _others(there, shared.parent, Path(weights).name, keep)
            if known and dict(there.inputs) != dict(wanted.inputs):
                path, known = own, {}
        write_preparation(path, Preparation(wanted.inputs, known | digest))
    return path


def _others(there: Preparation, folder: Path, name: str, keep: bool) -> dict[str, str]:
    """The other weights that a folder's file speaks of, and that are there.

    One without SHA-256, as versions before 2 wrote it, spoke of all snapshots beside it.
    """
    if there.weights:
        return {other: value for other, value in there.weights.items() if other != name and (folder / other).exists()}
    found = () if keep else (*folder.glob("*_iter_*.caffemodel"), *folder.glob("*_iter_*.caffemodel.h5"))
    return {path.name: weights_digest(path) for path in sorted(found) if path.name != name}


def _own(weights: PathLike) -> Path:
    """``NAME.preprocessing.json`` of ``NAME.caffemodel`` or ``NAME.caffemodel.h5``."""
    return Path(os.fspath(weights).removesuffix(".h5")).with_suffix(f".{PREPROCESSING}")


def _check_weights(found: Preparation, path: Path, weights: PathLike) -> None:
    if not found.weights:
        return
    digest, name = weights_digest(weights), Path(weights).name
    if digest in found.weights.values():  # also under another name
        return
    expected = found.weights.get(name)
    why = f"expected {expected[:12]}..." if expected else f"it speaks of {', '.join(sorted(found.weights)[:4])}"
    raise DataError(
        f"{path}: was written for other weights: {os.fspath(weights)} has the SHA-256 {digest[:12]}..., {why}; remove "
        "it, or give the file that belongs to these weights"
    )


def _wait(stack: ExitStack, path: Path) -> None:
    """Keep other runs out; waits for them a little."""
    last = time.monotonic() + _PATIENCE
    lock = path.with_name(f"{path.name}.lock")
    while True:
        try:
            stack.enter_context(hold(lock, f"writing {path}", "try again", lambda told: WriteError(path, told)))
            return
        except WriteError:
            if time.monotonic() > last:
                raise
            time.sleep(0.05)
