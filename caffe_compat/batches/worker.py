"""What a worker process does: batch after batch, until its parent closes the connection or is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import cv2

from caffe_compat.batches.reader import Reader
from caffe_compat.batches.slots import Link, Placed, Slots
from caffe_compat.errors import CaffeCompatError

__all__ = ["Answer", "Request", "main"]

LOOK = 5.0
"""Seconds after which a worker without work looks whether its parent is there: another process, forked by the parent,
may hold the connection open."""


class Request(NamedTuple):
    """What a parent asks.

    Attributes:
        number: of the reader.
        reader: the reader, the first time.
        job: what it is to read.
        folder: the working directory, which paths are relative to.
        released: slots that the parent is done with.
        forgotten: readers that it needs no more.
    """

    number: int
    reader: Reader[Any] | None
    job: Any
    folder: str
    released: list[int]
    forgotten: list[int]


class Answer(NamedTuple):
    """What a worker has read.

    Attributes:
        slot: where its arrays lie.
        placed: each of them.
        size: of the slot's memory where it is new or has grown, else 0; then an open file follows.
    """

    slot: int
    placed: list[Placed]
    size: int


def main(connection: int, parent: int) -> None:
    """Serve a parent.

    Args:
        connection: number of the open socket.
        parent: its process.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # the parent decides when it is over: it closes
    cv2.setNumThreads(1)  # each worker has a core
    link = Link(socket.socket(fileno=connection))
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(link, parent)


def _serve(link: Link, parent: int) -> None:
    readers: dict[int, Reader[Any]] = {}
    slots = Slots()
    while True:
        while not link.wait(LOOK):
            if os.getppid() != parent:
                return
        try:
            request = link.receive()
        except (AttributeError, ImportError) as error:  # what it is made of is known to the parent alone
            link.send(error)
            continue
        slots.release(request.released)
        for number in request.forgotten:
            readers.pop(number, None)
        if request.reader is not None:
            readers[request.number] = request.reader
        _answer(link, slots, readers[request.number], request)


def _answer(link: Link, slots: Slots, reader: Reader[Any], request: Request) -> None:
    try:
        if request.folder and request.folder != os.getcwd():
            os.chdir(request.folder)
        with slots.batch() as slot:
            placed = [slots.place(array) for array in reader.read(request.job, slots.new)]
    except Exception as error:  # the parent raises it
        _send_error(link, error)
        return
    file, size = slots.file()
    link.send(Answer(slot, placed, size if slots.grown else 0))
    if slots.grown:
        link.send_file(file)


def _send_error(link: Link, error: Exception) -> None:
    if not isinstance(error, CaffeCompatError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # what another library raises may not be made to travel
        error = RuntimeError(f"{type(error).__name__}: {error}")
    link.send(error)
