"""Where the files that come with the project are: the prototxts, and the folder for data sets."""

from __future__ import annotations

from pathlib import Path

from caffe_compat.errors import MissingFileError

__all__ = ["data_folder", "program", "prototxt", "root"]

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds ``prototxt/`` and ``data/``: the checkout."""
    return _PACKAGE.parent


def prototxt(name: str = "") -> Path:
    """A file or folder of ``prototxt/``, such as ``"caffenet/deploy.prototxt"``.

    Raises:
        MissingFileError: there is no such file.
    """
    path = root() / "prototxt" / name
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; the prototxts of the project are part of its checkout")
    return path


def data_folder() -> Path:
    """Where data sets go by default: ``data/`` of the checkout, or of the current folder where there is none."""
    folder = root() / "data"
    return folder if folder.is_dir() else Path("data")


def program(name: str) -> str:
    """How a command is called here: by its file in the checkout's ``tools/``, else as a part of the package."""
    tool = Path("tools", f"{name}.py")
    return tool.as_posix() if (root() / tool).is_file() else f"python -m caffe_compat {name}"
