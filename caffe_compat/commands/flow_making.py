"""``make_flow``: the work that its command line asks for."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Sequence

from caffe_compat.commands.flow_inputs import OneFrame, find_work
from caffe_compat.commands.shares import joined_report
from caffe_compat.devices import own_device
from caffe_compat.errors import DataError, MissingFileError, UsageError, nearest
from caffe_compat.flow.accuracy import FlowError, mean_error
from caffe_compat.flow.clips import FlowClip, Outputs, VideoClip, stem_of
from caffe_compat.flow.methods import METHODS, Method, opencv_method
from caffe_compat.flow.run import Work, by_clip, expected_frames, measure_error, run_clips, told_once
from caffe_compat.frames import Frame, Report
from caffe_compat.gathering import Gathering
from caffe_compat.ranks import here

__all__ = ["make_flow"]

SHOWN = 10
"""Frames whose error is said one by one."""


def make_flow(args: argparse.Namespace) -> tuple[list[str], bool]:
    """Make flow pictures, or of several processes (:mod:`caffe_compat.ranks`) this one's share of them.

    Returns:
        What is to be said, and whether something could not be used; of several processes rank 0 says so for all.

    Raises:
        UsageError: arguments that contradict each other.
        DataError, MissingFileError: an input without which there is nothing to do, or the only clip cannot be used.
    """
    _check(args)
    method = _method(args)
    work = find_work(args, method)
    truths, ranks = _truths(work, args), here()
    names = [f"{clip.name} -> {outputs.flow}" for clip, outputs in work]
    shares = None if by_clip(work, ranks) else (expected_frames(work, args.per_clip) or 0, "frames")
    with Gathering(args.output, ranks, names, "clips", shares) as others:
        progress = ranks.is_first and not args.quiet
        report = run_clips(
            work, count=args.per_clip, overwrite=args.overwrite, workers=args.workers, progress=progress, ranks=ranks
        )
        joined = joined_report(others, report)
        errors = _errors(others, truths, args.workers, progress)
    if joined is None:
        return [], False
    return _told(args, work, told_once(joined), errors)


def _errors(
    others: Gathering, truths: Sequence[tuple[Frame, str]], workers: int, progress: bool
) -> list[tuple[str, FlowError | str]]:
    """The errors of the flow of all frames whose true flow is known, in order; of several processes on rank 0."""
    if not truths:
        return []
    own = measure_error(others.ranks.share(truths), workers=workers, progress=progress)
    parts = others.gather([[name, e if isinstance(e, str) else dataclasses.asdict(e)] for name, e in own])
    found: dict[int, tuple[str, FlowError | str]] = {}
    for rank, part in enumerate(parts or ()):
        for place, (name, error) in zip(range(rank, len(truths), others.ranks.world), part, strict=True):
            found[place] = name, error if isinstance(error, str) else FlowError(**error)
    return [found[place] for place in sorted(found)]


def _told(
    args: argparse.Namespace, work: Sequence[Work], report: Report, errors: Sequence[tuple[str, FlowError | str]]
) -> tuple[list[str], bool]:
    done = len(report.written) + len(report.skipped)
    if len(work) == 1 and not done and len(report.failed) == 1:
        raise DataError(report.failed[0][1])
    report.failed += [(name, error) for name, error in errors if isinstance(error, str)]
    return [*_error_lines(errors), *report.lines()], bool(report.failed)


def _check(args: argparse.Namespace) -> None:
    """Refuse arguments that would change nothing, or that make no sense."""
    for name, least in (("workers", 0), ("per_clip", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected {least} or more")
    for name in ("most", "longest"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} is {value:g}, expected a positive number of pixels")
    alone = (
        (args.most is not None and args.stored != "two-stream", "--most goes with --stored two-stream"),
        (args.longest is not None and not args.wheel, "--longest goes with --wheel"),
        (bool(args.color) and bool(args.stored), "--color goes with frames, --stored has none"),
        (bool(args.stored) and any((args.method, args.preset, args.option, args.weights, args.gpu is not None)),
         "--method, --preset, --option, --weights and --gpu go with frames, of which --stored has none"),
    )  # fmt: skip
    for wrong, told in alone:
        if wrong:
            raise UsageError(told)


def _method(args: argparse.Namespace) -> Method:
    options = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--option is '{text}', expected NAME=VALUE")
        options[name] = value
    method = args.method or "dis"
    if method not in METHODS:
        raise UsageError(f"--method '{method}'{nearest(method, METHODS)}: expected one of {', '.join(METHODS)}")
    if args.preset is not None and method != "dis":
        raise UsageError(f"--preset goes with --method dis, not with {method}")
    if method == "raft":
        return _raft(args, options)
    if args.weights is not None or args.gpu not in (None, -1):
        raise UsageError(f"--weights and --gpu go with --method raft, not with {method}")
    return opencv_method(method, args.preset or "medium", options)


def _raft(args: argparse.Namespace, options: dict[str, str]) -> Method:
    if args.weights is None:
        raise UsageError(
            "--method raft needs --weights: torchvision's raft_large_*.pth or raft_small_*.pth; nothing is downloaded"
        )
    unknown = [name for name in options if name != "updates"]
    if unknown:
        raise UsageError(f"method 'raft' has no option '{unknown[0]}'; it has updates")
    text = options.get("updates", "12")
    if not text.isascii() or not text.isdecimal() or len(text) > 4:
        raise UsageError(f"updates is '{text}', expected an integer")
    from caffe_compat.foreign.raft import raft_method

    return raft_method(args.weights, int(text), str(own_device(args.gpu, here())))


def _truths(work: Sequence[Work], args: argparse.Namespace) -> list[tuple[Frame, str]]:
    """Frames whose true flow is known, and the files of it."""
    if not args.truth:
        return []
    found: list[tuple[Frame, str]] = []
    for clip, outputs in work:
        if isinstance(clip, VideoClip):
            raise UsageError(f"--truth: of {clip.name} there are no files of frames, which it goes with")
        if isinstance(clip, OneFrame):
            found.append((clip.frame, args.truth))
            continue
        folder = os.path.join(args.truth, os.path.relpath(outputs.flow, args.output))
        for frame in _usable(clip, outputs, args.per_clip):
            path = os.path.join(folder, f"{stem_of(frame.output)}.flo")
            if os.path.exists(path):
                found.append((frame, path))
    if not found:
        raise UsageError(f"--truth {args.truth}: has no .flo file of any of the frames, expected such as 00001.flo")
    return found


def _usable(clip: FlowClip, outputs: Outputs, count: int | None) -> list[Frame]:
    """The frames of a clip, as far as it can be used; what is wrong with it is said when its flow is made."""
    found: list[Frame] = []
    with warnings.catch_warnings(), contextlib.suppress(DataError, MissingFileError):
        warnings.simplefilter("ignore")
        found.extend(clip.frames(outputs, count))
    return found


def _error_lines(errors: Sequence[tuple[str, FlowError | str]]) -> list[str]:
    known = [(name, error) for name, error in errors if isinstance(error, FlowError)]
    if not known:
        return []
    lines = [f"{name}: {error}" for name, error in known[:SHOWN]]
    if len(known) > SHOWN:
        lines.append(f"... and {len(known) - SHOWN} more")
    if len(known) > 1:
        lines.append(f"mean of {len(known)} frames: {mean_error([error for _, error in known])}")
    return lines
