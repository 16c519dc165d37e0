"""A disk that fails on demand: what ``caffe_compat.files`` and ``temporary`` see instead of ``os``."""

import contextlib
import errno
import os
import resource
import signal
import stat

from caffe_compat import files, temporary


class FaultyDisk:
    """``os``, but one call that changes the disk fails, or the disk is full after some bytes.

    Args:
        call: number (from 0) of the call that fails; None for none.
        room: bytes that fit; None for no limit.

    Attributes:
        calls: names of the calls that change something, in order.
    """

    def __init__(self, call=None, room=None):
        self.call, self.room = call, room
        self.calls = []
        self.failed = None

    def __getattr__(self, name):
        return getattr(os, name)

    def _step(self, name):
        self.calls.append(name)
        if self.call == len(self.calls) - 1:
            self.failed = name
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path, flags, mode=0o777):
        if flags & os.O_CREAT:
            self._step("open")
        return os.open(path, flags, mode)

    def write(self, descriptor, data):
        self._step("write")
        if self.room is not None:
            if not self.room and len(data):
                self.failed = "write"
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return os.write(descriptor, data)

    def fsync(self, descriptor):
        self._step("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync")
        os.fsync(descriptor)


def _step(name):
    def call(self, *args, **kwargs):
        self._step(name)
        return getattr(os, name)(*args, **kwargs)

    return call


for _name in ("replace", "rename", "mkdir", "ftruncate", "link"):
    setattr(FaultyDisk, _name, _step(_name))


@contextlib.contextmanager
def faulty(monkeypatch, **how):
    """The disk of this block."""
    disk = FaultyDisk(**how)
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", disk)
        patch.setattr(temporary, "os", disk)
        yield disk


@contextlib.contextmanager
def largest_file(size):
    """No file of this process grows beyond a size: what C libraries write fails too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def everything(folder):
    """Contents of all files below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
