"""List the prototxts that come with the project, with what fits them; or copy some, to change them.

    caffe-compat zoo                                  the nets with their size and weights, then all folders
    caffe-compat zoo caffenet                         the files below a name, and where they are
    caffe-compat zoo detection/alexnet_hha --copy my  into the folder my

Wherever a command takes a prototxt, zoo:NAME names one of these: --model zoo:caffenet/deploy, in short zoo:caffenet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import copy_file
from caffe_compat.resources import ZOO, prototxt, zoo_files

ENDING = ".prototxt"


def make_parser() -> argparse.ArgumentParser:
    """Which of them, and whereto."""
    p = Parser(__doc__)
    p.add_argument("name", nargs="?", default="", metavar="NAME", help="a folder or a file (default: list all)")
    p.add_argument(
        "--copy", type=NEW_FOLDER, metavar="FOLDER", help="copy what NAME stands for there; files that are there stay"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Print the list, or copy."""
    args = make_parser().parse_args(argv)
    if not args.name:
        if args.copy:
            raise UsageError("--copy: of which? caffe-compat zoo lists them")
        print("\n".join([*_nets(), "", *_folders()]))
        return 0
    name, ours = args.name.removeprefix(ZOO), prototxt().resolve()
    path = Path(name).resolve()
    files = _below(path.relative_to(ours).as_posix() if path.is_relative_to(ours) and path != ours else name)
    if args.copy is None:
        print("\n".join(str(prototxt(name)) for name in files))
    else:
        _copy(files, Path(args.copy))
    return 0


def _nets() -> Iterator[str]:
    """A line for each net of ``zoo.yml``."""
    with prototxt("zoo.yml").open(encoding="utf-8") as stream:
        nets = yaml.safe_load(stream)
    yield f"{'net':34s}{'parameters':>12s}{'weights':>9s}  which weights fit"
    for name, net in nets.items():
        size = net["parameters"]
        yield f"{ZOO + name:34s}{size:12,d}{size * 4 / 1e6:6.1f} MB  {net['weights']}"


def _folders() -> Iterator[str]:
    """A line for each folder: its files, prototxts without their ending."""
    folders: dict[str, list[str]] = {}
    for name in zoo_files():
        path = PurePosixPath(name)
        if len(path.parts) > 1:
            folders.setdefault(str(path.parent), []).append(path.name.removesuffix(ENDING))
    yield f"{'folder':62s}files (of prototxts the stem)"
    for folder, files in folders.items():
        yield f"{ZOO + folder + '/':62s}{' '.join(files)}"


def _below(name: str) -> list[str]:
    """The files that a name stands for: one, or those of a folder.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known, name = zoo_files(), name.rstrip("/")
    found = [file for file in known if file in (name, name + ENDING) or file.startswith(f"{name}/")]
    if not found:
        names = {part for file in known for part in (file.removesuffix(ENDING), str(PurePosixPath(file).parent))}
        raise UsageError(f"nothing in the zoo is called '{name}'{nearest(name, names)}; caffe-compat zoo lists them")
    return found


def _copy(files: list[str], target: Path) -> None:
    """Copy files into a folder, under their names below what they share.

    Raises:
        UsageError: a file of that name is there; nothing is copied then.
        WriteError: the folder cannot be written.
    """
    base = PurePosixPath(files[0]).parent
    while not all(PurePosixPath(file).is_relative_to(base) for file in files):
        base = base.parent
    targets = {file: target / PurePosixPath(file).relative_to(base) for file in files}
    for path in targets.values():
        if path.exists():
            raise UsageError(f"{path} is there already; choose another folder for --copy")
    for file, path in targets.items():
        copy_file(prototxt(file), path)
        print(path)
