"""Where nets run: the one place that makes a torch device of what a user says, and that counts processor cores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caffe_compat.errors import UsageError

if TYPE_CHECKING:
    import torch

    from caffe_compat.ranks import Ranks

__all__ = ["TF32", "choose", "cores", "full_precision", "own_device", "several"]

TF32 = "CAFFE_COMPAT_TF32"
"""Environment variable: 1 lets GPUs round the factors of products to TF32, which is faster and about 1e-3 off."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(wanted: int | str | None, who: str = "--gpu") -> torch.device:
    """The device that a user asks for; a GPU computes in float32 from then on (:func:`full_precision`).

    Args:
        wanted: a number counts CUDA devices from 0; None, -1 and empty text mean the CPU; text may be a number too, or
            torch's own ``cpu``, ``cuda`` and ``cuda:1``.
        who: what the user wrote it with, for the message.

    Raises:
        UsageError: there is no such device, or the text names none.
    """
    import torch  # in here, so that command lines are read without it

    name = "" if wanted is None else str(wanted)
    if name in ("", "-1", "cpu"):
        return torch.device("cpu")
    digits = "0" if name == "cuda" else name.removeprefix("cuda:")
    if not digits.isascii() or not digits.removeprefix("-").isdecimal() or len(digits) > 9:
        raise UsageError(f"{who} is '{name}', expected the number of a CUDA device, or -1 for the CPU")
    number = int(digits)
    _check(number, torch.cuda.device_count(), who)
    full_precision()
    return torch.device("cuda", number)


def full_precision() -> None:
    """Let GPUs of this process multiply in float32, as Caffe does; with ``CAFFE_COMPAT_TF32=1`` in TF32.

    torch lets cuDNN round the factors of convolutions to 10 bits (TF32), unless it is told not to: results are then
    about 1e-3 off instead of 1e-6.  :func:`choose` and :func:`several` call this when they find a GPU, so the tools and
    ``caffe.set_mode_gpu`` need nothing; a program of your own that says ``net.to("cuda")`` calls it once.
    """
    import torch

    allowed = os.environ.get(TF32, "") not in ("", "0")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def several(text: str, who: str = "--gpu") -> list[torch.device]:
    """The devices of Caffe's ``-gpu 0,1`` or ``-gpu all``; none where the text is empty.

    Raises:
        UsageError: there is no such device, or it is not such a list.
    """
    import torch

    count = torch.cuda.device_count() if text else 0
    if text == "all":
        _check(0, count, who)
        full_precision()
        return [torch.device("cuda", number) for number in range(count)]
    try:
        numbers = [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"{who} is '{text}', expected numbers separated by commas, or 'all'") from error
    for number in numbers:
        _check(number, count, who)
        full_precision()
    return [torch.device("cuda", number) for number in numbers]


def own_device(wanted: int | str | None, ranks: Ranks) -> torch.device:
    """What ``--gpu`` means for a process: of several that run on one machine each has its own.

    Args:
        wanted: as :func:`choose`, or where there are several processes ``all`` or numbers separated by commas.

    Raises:
        UsageError: there is no such device, or ``--gpu`` names fewer than there are processes on this machine.
    """
    gpu = "" if wanted is None else str(wanted)
    if gpu in ("", "-1", "cpu") or not (ranks.several or gpu == "all" or "," in gpu):
        return choose(gpu)
    if gpu == "all":
        return choose(ranks.local, "--gpu all")
    devices = several(gpu)
    if ranks.local >= len(devices):
        raise UsageError(
            f"--gpu {gpu} names {len(devices)} devices, but this is process {ranks.local + 1} of its machine: name one "
            "for each, or say --gpu all"
        )
    return devices[ranks.local]


def _check(number: int, count: int, who: str) -> None:
    if not count:
        raise UsageError(f"{who}: cannot use a GPU, torch sees no CUDA device on this machine")
    if not 0 <= number < count:
        raise UsageError(f"{who}: there is no CUDA device {number}, this machine has {count}, counted from 0")
