"""Download the published files of the data sets, check and unpack them.

    data/fetch.py --list                              what there is, where, and what is known of the host
    data/fetch.py nyud2_labelled nyud2_splits         into data/
    data/fetch.py nyud2_labelled --url MIRROR_URL     from elsewhere; the checksum is the same
    data/fetch.py nyud2_labelled --check              only check a file that is there already

Several hosts have gone since 2015.  A file got elsewhere goes into data/ under its own name; --check compares it.  An
interrupted download goes on where it stopped.  The sha256 of what came is kept beside it, in FILE.sha256; a file that a
friend sends with it is checked against it.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.resources import data_folder


def make_parser() -> argparse.ArgumentParser:
    """Which files, from where to where."""
    p = Parser(__doc__)
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--list", action="store_true", help="show what there is")
    p.add_argument("--folder", type=NEW_FOLDER.path(), default=data_folder(), help="(default: the folder data)")
    p.add_argument("--url", help="take the one file named from this address")
    p.add_argument("--check", action="store_true", help="compare what is there, download nothing")
    return p


def main(argv: list[str] | None = None) -> int:
    """Fetch what is named."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets.downloads import DOWNLOADS, fetch, table, verify

    if args.list:
        print(table())
        return 0
    if not args.names or (args.url and len(args.names) > 1):
        raise UsageError("--url goes with one name" if args.names else "name what to fetch; --list shows all")
    for name in args.names:
        if args.check and name in DOWNLOADS:
            path = args.folder / DOWNLOADS[name].place / DOWNLOADS[name].file
            print(f"{path}: {verify(path, DOWNLOADS[name])}")
        else:
            path = fetch(name, args.folder, url=args.url)
            note = "" if DOWNLOADS[name].digest else " (no checksum was published; its sha256 is beside it now)"
            print(f"{path}: complete{note}")
    return 0
