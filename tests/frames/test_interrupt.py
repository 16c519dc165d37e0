"""Ctrl-C is put off while a process starts, never lost."""

from __future__ import annotations

import signal

import pytest

from caffe_compat.frames import work


def test_ctrl_c_comes_after_the_moment() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), work._no_interrupt():
        signal.raise_signal(signal.SIGINT)
        done.append("went on")
    assert done == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_nothing_comes_where_nothing_came() -> None:
    with work._no_interrupt():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
