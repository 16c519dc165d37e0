"""Many clips to flow pictures: a bad one is noted, the others go on."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from caffe_compat.errors import DataError, MissingFileError, in_file
from caffe_compat.flow.accuracy import FlowError, flow_error
from caffe_compat.flow.clips import FlowClip, Outputs, evenly
from caffe_compat.flow.sources import FlowEncoder, own_names
from caffe_compat.flow.stored import read_flo
from caffe_compat.frames import Frame, Report, map_jobs, read_parameters, run_frames
from caffe_compat.frames.report import reason_of
from caffe_compat.ranks import Ranks
from caffe_compat.stamps import stamp_difference

__all__ = ["Work", "by_clip", "expected_frames", "measure_error", "run_clips", "told_once"]

Work = tuple[FlowClip, Outputs]
_COUNTED = 2000
"""Clips whose frames are counted before the work, for the bar; the heads of more would take minutes."""


def run_clips(
    work: Sequence[Work],
    *,
    count: int | None = None,
    overwrite: bool = False,
    workers: int = 0,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Report:
    """Make the flow pictures of clips.

    Args:
        work: clips, and where the files of each go.
        count: so many frames of each clip, evenly spaced; None: all.
        overwrite: redo what was made with other settings, instead of refusing.
        workers: processes to use; 0 works in this one.
        progress: show a bar (on a terminal).
        ranks: of several processes this one, which does its share of the clips, or where there are fewer than
            processes, of the frames of each.

    Raises:
        DataError: a folder of one of the clips holds flow that was made with other settings; nothing was done.
        KeyboardInterrupt: Ctrl-C; the same call goes on where this one stopped.
    """
    if not overwrite:
        _refuse_mixtures(work)
    found, ranks = Report(), ranks or Ranks()
    clips = ranks.share(work) if by_clip(work, ranks) else work
    turns = Ranks() if by_clip(work, ranks) else ranks
    report = run_frames(
        _frames(clips, count, found, turns),
        overwrite=overwrite,
        workers=workers,
        progress=progress,
        total=_share_of(expected_frames(clips, count), turns),
    )
    report.failed += found.failed
    report.warned += found.warned if turns.is_first else []
    return told_once(report)


def told_once(report: Report) -> Report:
    """The same report in which what failed is sorted and told once: a bad frame spoils the flow to it and from it."""
    report.failed = list({reason: (name, reason) for name, reason in sorted(report.failed)}.values())
    return report


def by_clip(work: Sequence[Work], ranks: Ranks) -> bool:
    """Whether processes share clips (so that each is read once), not the frames of every clip."""
    return len(work) >= ranks.world


def measure_error(
    pairs: Sequence[tuple[Frame, str]], *, workers: int = 0, progress: bool = True
) -> list[tuple[str, FlowError | str]]:
    """The error of the flow of frames against files of true flow.

    Args:
        pairs: frames, and the ``.flo`` file of each.

    Returns:
        The name of each, and its error, or why there is none; in order.
    """
    found: dict[str, FlowError | str] = {}
    with tqdm(total=len(pairs), unit="frame", disable=None if progress else True) as bar:
        for (frame, _), result in map_jobs(_measure, pairs, workers, _lost):
            found[frame.source.name] = result
            bar.update()
    return [(frame.source.name, found[frame.source.name]) for frame, _ in pairs]


def _measure(pair: tuple[Frame, str]) -> FlowError | str:
    frame, truth = pair
    try:
        flow, true = frame.source.read().flow, read_flo(truth)
        with in_file(frame.source.name), in_file(truth):
            return flow_error(flow, true)
    except Exception as error:  # one frame's affair, whatever a library made of its file
        return reason_of(frame.source.name, error)


def _lost(pair: tuple[Frame, str]) -> str:
    return f"{pair[0].source.name}: its worker process died (out of memory?); fewer --workers may help"


def _frames(work: Sequence[Work], count: int | None, found: Report, turns: Ranks) -> Iterator[Frame]:
    """The frames of all clips that are this process's; a clip that cannot be used is noted in ``found``."""
    for clip, outputs in work:
        frames = clip.frames(outputs, count)
        for number in itertools.count():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    frame = next(frames, None)
                except Exception as error:  # one clip's affair, whatever a library made of its file
                    found.failed.append((clip.name, reason_of(clip.name, error)))
                    frame = None
            found.warned += [(clip.name, str(warning.message)) for warning in caught]
            if frame is None:
                break
            if number % turns.world == turns.rank:
                yield frame


def _share_of(count: int | None, turns: Ranks) -> int | None:
    return None if count is None else len(turns.share(count))


def expected_frames(work: Sequence[Work], count: int | None) -> int | None:
    """How many frames of clips have flow, about; None: there are so many clips that nobody looks."""
    if len(work) > _COUNTED:
        return None
    total = 0
    for clip, _ in work:
        with suppress(DataError, MissingFileError):  # noted when its turn comes
            length = max(0, clip.expected())
            total += length if count is None or not length else len(evenly(count, length + 1))
    return total


def _refuse_mixtures(work: Sequence[Work]) -> None:
    """Refuse to put flow into a folder that holds flow of other settings."""
    for clip, outputs in work:
        path = _first_png(outputs.flow)
        try:
            found = None if path is None else read_parameters(path)
        except DataError:
            found = None  # its own frame's affair
        if found is None or found.get("kind") != "flow":
            continue
        different = _difference(own_names(found), clip.settings() | FlowEncoder().parameters())
        if different is not None:
            raise DataError(
                f"{path} was made with {different}: one folder holds flow of one kind; --overwrite redoes it, another "
                "--output keeps it"
            )


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting that differs; method and preset before the options that follow from them."""
    for name in ("method", "preset"):
        if found.get(name) != wanted.get(name):
            return f"{name} = {found.get(name)!r}, now {wanted.get(name)!r}"
    return stamp_difference(found, wanted)


def _first_png(folder: str) -> str | None:
    with suppress(OSError), os.scandir(folder) as entries:
        return next((entry.path for entry in entries if entry.name.endswith(".png") and entry.is_file()), None)
    return None
