"""The page about runs: :func:`write_page`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_compat.files import write_file
from caffe_compat.reports.detectors import detections
from caffe_compat.reports.html import Section, document
from caffe_compat.reports.nets import drawings, filters
from caffe_compat.reports.tested import tested
from caffe_compat.reports.training import commands, configuration, curves, environment, head, runs_table
from caffe_compat.transfer.curves import Group, group_runs
from caffe_compat.transfer.report import PAGE, contents
from caffe_compat.transfer.report_page import title
from caffe_compat.transfer.runs import Run
from caffe_compat.version import __version__

__all__ = ["More", "write_page"]


@dataclass(frozen=True)
class More:
    """What a page shows beside what the runs' own files say.

    Attributes:
        command: that made the runs, where there was one.
        following: commands that come next.
        tests: pictures that are shown to a classifier's test net for its confusion matrix; 0: none.
        classes: names of the labels, from 0.
    """

    command: str = ""
    following: tuple[str, ...] = ()
    tests: int = 0
    classes: tuple[str, ...] = ()


def write_page(runs: Sequence[Run], folder: str | os.PathLike[str], more: More | None = None) -> str:
    """Write ``report.html`` about some runs; returns its path.

    Args:
        runs: at least one; those that differ only by their seed are one curve.
        folder: is made if it is not there.

    Raises:
        WriteError: it cannot be written.
        CaffeCompatError: a file of a run is damaged; names it.
    """
    more = more or More()
    groups = group_runs(runs)
    said = contents(groups, more.command, more.following)
    path = Path(folder) / PAGE
    write_file(path, document(title(said), _sections(groups, said, more), f"Written by caffe_compat {__version__}."))
    return str(path)


def _sections(groups: Sequence[Group], said: Mapping[str, Any], more: More) -> list[Section]:
    runs = [run for group in groups for run in group.runs]
    return [
        ("", head(said)),
        ("Curves", curves(groups, said)),
        ("Runs", runs_table(said)),
        ("Detections", detections(runs)),
        ("Predictions", tested(groups, more.tests, more.classes)),
        ("Filters", filters(groups)),
        ("Net", drawings(groups)),
        ("Configuration", configuration(groups, said)),
        ("Commands", commands(said)),
        ("Environment", environment(said)),
    ]
