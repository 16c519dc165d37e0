"""Where the files that come with the project are: the prototxts, the experiments, and the folder for data sets.

In a checkout ``prototxt/`` and ``experiments/`` stand at the top; in an installed package they are copies inside it, in
``caffe_compat/share/`` (``setup.py`` puts them there).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from caffe_compat.errors import MissingFileError, nearest

__all__ = [
    "ZOO",
    "checkout",
    "data_folder",
    "located",
    "package_path",
    "program",
    "prototxt",
    "root",
    "short_name",
    "zoo_files",
]

ZOO = "zoo:"
"""What a name begins with that stands for a file of ``prototxt/``."""

SHORT: Mapping[str, str] = {
    "train": "train_net",
    "test": "test_net",
    "surgery": "net_surgery",
    "export": "export_onnx",
    "infer": "infer_onnx",
    "hha": "make_hha",
    "disparity": "make_disparity",
    "flow": "make_flow",
    "pairs": "make_pairs",
    "proposals": "make_proposals",
    "scenes": "make_scenes",
    "draw": "draw_net",
}
"""Names of commands as ``caffe-compat`` takes them too, and what they are called in ``tools/``."""

_PACKAGE = Path(__file__).resolve().parent
_SHARE = _PACKAGE / "share"


def checkout() -> Path | None:
    """The top of the checkout that this package is part of; None where it is installed."""
    return None if _SHARE.is_dir() else _PACKAGE.parent


def root() -> Path:
    """The folder that holds ``prototxt/`` and ``experiments/``."""
    return checkout() or _SHARE


def package_path() -> Path:
    """The folder that must be in Python's path for another process to import this package."""
    return _PACKAGE.parent


def prototxt(name: str = "") -> Path:
    """A file or folder of ``prototxt/``, such as ``"caffenet/deploy.prototxt"``.

    Raises:
        MissingFileError: there is no such file; names the nearest.
    """
    path = root() / "prototxt" / name
    if not path.exists():
        hint = nearest(name, zoo_files())
        raise MissingFileError(f"{path}", f"no such file among the project's prototxts{hint}")
    return path


def zoo_files() -> list[str]:
    """The files of ``prototxt/``, sorted; names with slashes."""
    folder = root() / "prototxt"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def located(path: str | os.PathLike[str]) -> str:
    """The path of a file that may be named by its place in ``prototxt/``.

    ``zoo:caffenet/deploy`` is ``prototxt/caffenet/deploy.prototxt``, ``zoo:caffenet`` too; ``@..`` at the end stays.
    A path that begins with ``prototxt/``, as in the project's solvers, and that does not exist here is looked for there
    too.  Anything else is returned as it is.

    Raises:
        MissingFileError: nothing there has this name; names the nearest.
    """
    text = os.fspath(path)
    if not text.startswith(ZOO):
        ours = root() / text
        return _shown(ours) if text.startswith("prototxt/") and not os.path.exists(text) and ours.is_file() else text
    name, at, feature = text.removeprefix(ZOO).partition("@")
    folder = root() / "prototxt"
    for candidate in (f"{name}.prototxt", f"{name}/deploy.prototxt", name):
        if name and (folder / candidate).exists() and ".." not in candidate:
            return _shown(folder / candidate) + at + feature
    names = [known.removesuffix(ending) for known in zoo_files() for ending in (".prototxt", "/deploy.prototxt")]
    raise MissingFileError(text, f"no such net{nearest(name, names)}; {program('zoo')} lists them")


def _shown(path: Path) -> str:
    """A path as it is said and written: from the current folder, where that is above it."""
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


def data_folder() -> Path:
    """Where data sets go by default: ``data/`` of the checkout, or of the current folder where it is installed."""
    top = checkout()
    return top / "data" if top and (top / "data").is_dir() else Path("data")


def short_name(name: str) -> str:
    """What ``caffe-compat`` calls a command of ``tools/``."""
    return next((short for short, long in SHORT.items() if long == name), name)


def program(name: str) -> str:
    """How a command is called here: by its file in the checkout's ``tools/``, else as a part of the package."""
    top = checkout()
    tools = [] if top is None else [path for path in (top / "tools", top / "data") if (path / f"{name}.py").is_file()]
    return f"{tools[0].name}/{name}.py" if tools else f"caffe-compat {short_name(name)}"
