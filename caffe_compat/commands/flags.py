"""Command lines in the manner of gflags: ``-flag value``, ``--flag=value``, ``--shuffle``, ``--noshuffle``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from caffe_compat.commands.inputs import FileKind
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.proto.forks import DIALECTS

__all__ = [
    "WORKERS_HELP",
    "FlagParser",
    "add_amp",
    "add_dialect",
    "add_gpu",
    "add_tensorboard",
    "add_workers",
    "names_flag",
    "shape_flag",
    "stages_flag",
]

WORKERS_HELP = "processes that read the data: a number, auto for one less than there are cores, or 0 for threads"
_TRUE, _FALSE = ("true", "t", "1", "yes", "y"), ("false", "f", "0", "no", "n")


def add_tensorboard(parser: argparse.ArgumentParser) -> None:
    """Declare ``--no-tensorboard``, of what trains; ``tensorboard`` in the namespace."""
    parser.add_argument(
        "--no-tensorboard", dest="tensorboard", action="store_false", help="write no events for TensorBoard, where it "
        "is installed (default: into PREFIX_tensorboard)",
    )  # fmt: skip


def add_amp(parser: argparse.ArgumentParser) -> None:
    """Declare ``--amp``, of what trains."""
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), default="", help="mixed precision: products of matrices in 16 bits, "
        "weights, losses and statistics in 32; fp16 with a loss scale (default: all in 32 bits)",
    )  # fmt: skip


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declare ``--workers``, of what reads batches; text, or None, in the namespace."""
    parser.add_argument("--workers", metavar="N", help=f"{WORKERS_HELP} (default: $CAFFE_COMPAT_WORKERS, or 0)")


class FlagParser(Parser):
    """Flags before, after and among the positional arguments, with one dash or two, never abbreviated.

    Args:
        description: for the help.
        usage_status: exit status after wrong usage (Caffe's upgrade tools: 1).

    ``--logtostderr`` and ``--alsologtostderr`` are accepted: that is where the log goes.
    """

    def __init__(self, description: str | None, usage_status: int = 2) -> None:
        super().__init__(description, allow_abbrev=False)
        self.usage_status = usage_status
        self._booleans: set[str] = set()
        for name in ("logtostderr", "alsologtostderr"):
            self.flag(name, True, argparse.SUPPRESS)

    def flag(self, name: str, default: bool | int | str, text: str, kind: FileKind | None = None) -> None:
        """Define a flag; the type of its default is its type, unless it names a file."""
        if isinstance(default, bool):
            self._booleans.add(name)
            self.add_argument(f"--{name}", f"-{name}", action="store_true", default=default, help=text)
            hidden = argparse.SUPPRESS
            self.add_argument(
                f"--no{name}", f"-no{name}", action="store_false", dest=name, default=default, help=hidden
            )
            return
        shown = text if text == argparse.SUPPRESS else f"{text} (default: {default!r})"
        self.add_argument(f"-{name}", f"--{name}", type=kind or type(default), default=default, help=shown)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse; a wrong command line ends the program with ``usage_status``."""
        words = sys.argv[1:] if argv is None else list(argv)
        args = self.parse_intermixed_args([self._boolean(word) for word in words])
        for name in ("logtostderr", "alsologtostderr"):
            delattr(args, name)
        if argv is None:
            self.look_at_files(args)
        return args

    def _boolean(self, word: str) -> str:
        """``--shuffle=false`` as ``--noshuffle``."""
        name, equals, value = word.lstrip("-").partition("=")
        if not (word.startswith("-") and equals and name in self._booleans):
            return word
        if value.lower() not in _TRUE + _FALSE:
            self.error(f"--{name}={value}: expected true or false")
        return f"--{name}" if value.lower() in _TRUE else f"--no{name}"

    def error(self, message: str) -> NoReturn:
        """Refuse the command line: an error of ours, or where Caffe's tool has another status, exit with that.

        Raises:
            UsageError: the status is that of all errors.
        """
        if self.usage_status == 2:
            super().error(message)
        self.exit(self.usage_status, f"error: {self.refusal(message)}\n")


def add_gpu(parser: argparse._ActionsContainer, what: str = "run the net", several: bool = False) -> None:
    """Declare ``--gpu N``, which every tool that runs nets has; :func:`caffe_compat.devices.choose` reads it.

    Args:
        several: for a tool of which several processes can run; :func:`caffe_compat.devices.own_device` reads it.
    """
    more = "; of several processes (torchrun) 'all' or as many with commas" if several else ""
    parser.add_argument(
        "--gpu",
        type=_gpu if several else int,
        metavar="N",
        help=f"{what} on this CUDA device, counted from 0, in float32 "
        f"(in TF32 if CAFFE_COMPAT_TF32 is 1){more}; -1, the default: on the CPU",
    )


def _gpu(text: str) -> int | str:
    return text if text == "all" or "," in text else int(text)


def add_dialect(parser: argparse._ActionsContainer) -> None:
    """Declare ``--dialect NAME``, for :func:`caffe_compat.net.load_net`."""
    parser.add_argument(
        "--dialect",
        choices=DIALECTS,
        default="",
        help="which forks are meant where a layer type has several meanings (default: the fields of the layer tell, "
        "then those of the net)",
    )


def shape_flag(text: str) -> tuple[str, tuple[int, ...]]:
    """A blob and its shape, ``data=1,3,224,224``.

    Raises:
        UsageError: not of that form.
    """
    name, _, sizes = text.partition("=")
    try:
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError as error:
        raise UsageError(f"--shape is '{text}', expected NAME=N,C,H,W") from error


def stages_flag(text: str) -> tuple[str, ...]:
    """Names of ``--stage a,b``."""
    return tuple(part for part in text.split(",") if part)


def names_flag(text: str, flag: str) -> list[str]:
    """A list of file names separated by commas.

    Raises:
        UsageError: it is empty.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"{flag} is needed")
    return names
