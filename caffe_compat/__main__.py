"""``caffe-compat NAME ARGUMENTS`` and ``python -m caffe_compat NAME ARGUMENTS``: every command, from anywhere."""

from __future__ import annotations

import sys

from caffe_compat.cli import run
from caffe_compat.commands import main_of, overview


def main(argv: list[str] | None = None) -> int | None:
    """Run the command that the first argument names; without arguments, say which there are."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    command = main_of(words[0])
    sys.argv[:] = [f"caffe-compat {words[0]}", *words[1:]]
    return command(None)


def program() -> int:
    """The console command."""
    return run(main)


if __name__ == "__main__":
    sys.exit(program())
