"""Every error that caffe_compat raises on purpose.

::

    CaffeCompatError
    |-- MissingFileError      a file that was named does not exist or cannot be opened
    |-- WriteError            a file that cannot be written: its name, and why (disk full, no permission)
    |-- PrototxtError         prototxt text that does not parse: file, line, column
    |-- ModelFileError        caffemodel, solverstate, HDF5, binaryproto or datum bytes that are malformed
    |-- NetError              a net that cannot be built or run
    |   `-- LayerError        ... because of one layer: its name, its type, the field or blob
    |       `-- ShapeError    ... because of the shape of a blob
    |-- WeightsError          weights that do not fit the net they are copied into
    |-- SolverError           a solver definition or state that Caffe refuses
    |-- DataError             an image, a list, a depth map or a data set that cannot be used
    |-- ExportError           a net that ONNX cannot express
    `-- UsageError            arguments of a tool or function that contradict each other

A message says who (file, layer, blob, field), what is wrong, and what was expected.  Tools print it on one line and
exit with status 2.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = [
    "CaffeCompatError",
    "DataError",
    "ExportError",
    "LayerError",
    "MissingFileError",
    "ModelFileError",
    "NetError",
    "PrototxtError",
    "ShapeError",
    "SolverError",
    "UsageError",
    "WeightsError",
    "WriteError",
    "in_file",
    "nearest",
    "one_line",
    "printable",
]


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control, format and undecodable characters become ``\\xNN`` or ``\\uNNNN``.

    Names in messages come from files that strangers wrote.  Line ends and tabs stay.
    """
    if text.isprintable():
        return text
    steering = {char for char in text if unicodedata.category(char) in _UNPRINTABLE} - set("\n\t")
    return text.translate({ord(char): ascii(char)[1:-1] for char in steering})


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class CaffeCompatError(Exception):
    """Base of all errors of this package.

    Attributes:
        files: the files in which it was found, outermost first, as far as the message itself does not name them; see
            :func:`in_file`.
    """

    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return printable(": ".join((*self.files, self.message)))

    @property
    def message(self) -> str:
        """What is wrong, without the files it was found in."""
        return super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), self.__dict__

    def _names(self, file: str) -> bool:
        own = (getattr(self, "path", None), getattr(self, "file", None))
        return file in self.files or file in own or self.message.startswith(f"{file}:")


def _remade(kind: type[CaffeCompatError], args: tuple[Any, ...]) -> CaffeCompatError:
    """An error from another process: the constructors of some kinds take other arguments than those they keep."""
    return kind.__new__(kind, *args)


@contextlib.contextmanager
def in_file(source: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the block say in which file they were found, unless they name it already.

    The error stays the object that it is, with its type and fields.  Nothing happens if ``source`` is empty.  What
    else a message begins with serves as well: ``layer 'data' (Data)``.
    """
    try:
        yield
    except CaffeCompatError as error:
        file = os.fspath(source)
        if file and not error._names(file):
            error.files = (file, *error.files)
        raise


class MissingFileError(CaffeCompatError, FileNotFoundError, RuntimeError):
    """A file that does not exist or cannot be opened (pycaffe scripts expect RuntimeError here).

    Args:
        path: the file.
        why: what it was wanted for, e.g. ``"weights"``, or the reason it could not be opened.
    """

    def __init__(self, path: object, why: str = "") -> None:
        message = f"Could not open file {path}" + (f" ({why})" if why else "")
        super().__init__(message)
        self.path = str(path)
        self._message = message

    @property
    def message(self) -> str:
        """What is wrong: OSError would show its own arguments."""
        return self._message


class WriteError(CaffeCompatError):
    """A file that cannot be written.

    Args:
        path: the file.
        reason: what the system says, e.g. ``"No space left on device"``.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path, self.reason = str(path), reason


class PrototxtError(CaffeCompatError):
    """Text that is not a valid prototxt.

    Args:
        reason: what is wrong and what was expected.
        file: name of the file, if it came from one.
        line, column: position, counted from 1.
    """

    def __init__(
        self, reason: str, file: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        position = ":".join(str(part) for part in (file or "<text>", line, column) if part is not None)
        super().__init__(f"{position}: {reason}")
        self.reason, self.file, self.line, self.column = reason, file, line, column


class ModelFileError(CaffeCompatError):
    """Bytes of a model, state, mean or datum file that are malformed."""


class NetError(CaffeCompatError):
    """A net that cannot be built or run."""


class LayerError(NetError):
    """A layer that cannot be built or run.

    Args:
        name: the layer's name.
        type: the layer's type.
        reason: what is wrong and what was expected, naming the field or blob.
    """

    def __init__(self, name: str, type: str, reason: str) -> None:  # noqa: A002 - Caffe's own word
        super().__init__(f"layer '{name}' ({type}): {reason}")
        self.layer_name, self.layer_type, self.reason = name, type, reason


class ShapeError(LayerError):
    """A blob whose shape a layer cannot take."""


class WeightsError(CaffeCompatError):
    """Weights that do not fit the net."""


class SolverError(CaffeCompatError):
    """A solver definition, or a solver state, that cannot be used."""


class DataError(CaffeCompatError):
    """An image, list, depth map or data set that cannot be used."""


class ExportError(CaffeCompatError):
    """A net, or a layer of it, that ONNX cannot express."""


class UsageError(CaffeCompatError):
    """Arguments that contradict each other or that cannot be understood."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint ``" (did you mean 'x'?)"`` with the nearest of the known names, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def one_line(error: BaseException, longest: int = 200) -> str:
    """What another library's exception says, on one line and not without end; its type where it says nothing."""
    text = " ".join(str(error).split())
    if not text:
        return type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."
