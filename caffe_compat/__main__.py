"""``python -m caffe_compat NAME ARGUMENTS``: the commands without a checkout's ``tools/``."""

from __future__ import annotations

import sys

from caffe_compat.cli import run
from caffe_compat.commands import COMMANDS, main_of


def main(argv: list[str] | None = None) -> int | None:
    """Run the command that the first argument names."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m caffe_compat NAME ARGUMENTS\n\nNAME is one of\n  " + "\n  ".join(COMMANDS))
        return 0 if words else 2
    command = main_of(words[0])
    sys.argv[:] = [f"caffe_compat {words[0]}", *words[1:]]
    return command(None)


if __name__ == "__main__":
    sys.exit(run(main))
