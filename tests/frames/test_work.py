"""Jobs over processes: every job once, a process that dies costs its own job."""

import importlib
import itertools
import os
import signal

import pytest

from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.frames import map_jobs


def double(job: int) -> int:
    if job == -1:
        raise DataError("minus one")
    if job in (13, 17):
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * job


def die(job: int) -> int:
    os._exit(3)


def threads(job: int) -> int:
    return importlib.import_module("torch").get_num_threads()


def lost(job: int) -> int:
    return -job


def test_in_this_process_in_order_and_only_as_asked_for():
    taken = []
    jobs = (taken.append(n) or n for n in itertools.count())
    results = map_jobs(double, jobs)
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 2), (2, 4)]
    assert taken == [0, 1, 2]


def test_workers_do_every_job_once_and_a_dead_one_costs_its_own_job():
    found = list(map_jobs(double, range(30), 2, lost))
    assert sorted(found) == [(n, -n if n in (13, 17) else 2 * n) for n in range(30)]


def test_a_worker_that_imports_torch_gives_it_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert list(map_jobs(threads, [0], 1)) == [(0, 1)]


def test_without_a_result_for_the_lost_a_dead_worker_ends_all():
    with pytest.raises(CaffeCompatError, match="a worker process died"):
        list(map_jobs(die, range(3), 1))


def test_what_a_job_raises_is_raised():
    with pytest.raises(DataError, match="minus one"):
        list(map_jobs(double, [1, -1], 1, lost))
    with pytest.raises(DataError, match="minus one"):
        list(map_jobs(double, [1, -1]))


def test_no_jobs():
    assert list(map_jobs(double, [], 1)) == list(map_jobs(double, [])) == []
