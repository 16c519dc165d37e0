"""Running over pictures: threads that read ahead, groups of equal shapes, one bad picture ends nothing, a report at the
end.  ``infer_onnx`` and ``predict`` do it alike.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from caffe_compat.commands.infer_results import Results
from caffe_compat.commands.infer_tasks import Answer, Labels, Loaded, Objects, Task
from caffe_compat.commands.shares import joined_report
from caffe_compat.deploy.feed import Sample
from caffe_compat.devices import cores
from caffe_compat.errors import CaffeCompatError, DataError, UsageError, printable
from caffe_compat.frames.report import Report, reason_of
from caffe_compat.gathering import Gathering
from caffe_compat.locks import hold
from caffe_compat.media import can_encode
from caffe_compat.media.video import EndOfVideo
from caffe_compat.ranks import Ranks, here
from caffe_compat.stamps import file_digest

__all__ = ["check_run", "reading_threads", "run_over", "task_settings"]

_MOST_WORKERS = 8
UNNAMED = "no class names are known: classes are told by their numbers (--classes FILE names them)"


def check_run(args: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Refuse arguments that make no sense.

    Args:
        inputs: files that are read.

    Raises:
        UsageError: names the argument.
    """
    for name, least in (("batch", 1), ("workers", 1), ("top", 0), ("every", 1), ("sheet_pictures", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected {least} or more")
    if args.blobs and not (args.npz or args.h5):
        raise UsageError("--blobs goes with --npz or --h5")
    for name in filter(None, (args.json, args.npz, args.h5, args.sheet)):
        for file in inputs:
            if Path(name).exists() and Path(file).exists() and Path(name).samefile(file):
                raise UsageError(f"{name} is an input, it would be overwritten")
    if args.draw and not can_encode("png"):
        raise UsageError("--draw: this OpenCV writes no png")
    if args.sheet and not can_encode(Path(args.sheet).suffix[1:].lower() or "?"):
        raise UsageError(f"--sheet {args.sheet}: expected a name that ends in .png or .jpg")


def reading_threads(args: argparse.Namespace) -> int:
    """Threads that read pictures ahead."""
    return int(args.workers or min(cores(), _MOST_WORKERS))


def run_over(
    args: argparse.Namespace,
    task: Task,
    samples: Sequence[Sample],
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
) -> int:
    """Run over scenes, write the results, and print what came of it; 1 if a picture could not be used.

    Several processes (:mod:`caffe_compat.ranks`) take turns at the batches; rank 0 writes what all have found.

    Args:
        settings: on which results depend, but for the pictures.
        about: what begins the JSON file.

    Raises:
        CaffeCompatError: results that are there and were made otherwise, or that cannot be written.
    """
    ranks = here()
    results = Results(args, settings, about, task, ranks)
    blocks = (-(-len(samples) // task.batch), f"batches of {task.batch} pictures" if task.batch > 1 else "pictures")
    place = results.target or args.draw or "pictures"
    others = Gathering(place, ranks, [sample.name for sample in samples], "pictures", blocks)
    with ExitStack() as stack:
        stack.enter_context(others)
        if results.journal_path and ranks.is_first:  # the others hold what shows that they are there
            lock = Path(f"{results.journal_path}.lock")
            stack.enter_context(hold(lock, f"writing {results.target}", "give this run other results", UsageError))
        if results.finished(samples):
            there = f"{results.target}: is there already, of these {len(samples)} pictures; --overwrite redoes it"
            others.gather(None)
            if ranks.is_first:
                print(printable(there))
            return 1 if results.failed_before and ranks.is_first else 0
        with warnings.catch_warnings(record=True) as caught:  # in all threads: those that read encode depth
            warnings.simplefilter("always")
            report = _run(args, task, _share(samples, task.batch, ranks), results)
        report.warned += [("", str(warning.message)) for warning in caught]
        joined = joined_report(others, report, [sample.shown for sample in samples], _unusable)
        if joined is None:
            return 0
        report = joined
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            written = results.finish(samples, report)
    told = Counter([text for _, text in report.warned] + [str(warning.message) for warning in caught])
    warned = [f"warning: {text}{f' ({count} times)' if count > 1 else ''}" for text, count in told.items()]
    unnamed = [] if task.named else [UNNAMED]
    for line in (*warned, *unnamed, *_unusable(report), *(f"wrote {file}" for file in written)):
        print(printable(line))
    return 1 if report.failed else 0


def _share(samples: Sequence[Sample], batch: int, ranks: Ranks) -> list[Sample]:
    """This process's scenes: whole batches, so that each picture is computed with the same others as in one process."""
    return [sample for number, sample in enumerate(samples) if number // batch % ranks.world == ranks.rank]


def task_settings(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """What the results of a task depend on, but for the model and the pictures."""
    if isinstance(task, Labels):
        return {"classes": list(task.classes), "scores": task.scores, "top": task.top, "blobs": list(task.kept)}
    if not isinstance(task, Objects):
        return {}
    options = {key: repr(value) for key, value in task.config.items().items() if not key.startswith(("TRAIN.", "SDS."))}
    found = {"classes": list(task.classes), "conf": task.conf, "options": options, "arrays": task.keep}
    found |= {"masks": task.masks.settings()} if task.masks is not None else {}
    return found | {"proposals": args.proposals if args.proposals == "builtin" else file_digest(args.proposals)}


def _run(args: argparse.Namespace, task: Task, samples: Sequence[Sample], results: Results) -> Report:
    report = Report()
    left = []
    for sample in samples:
        if results.known(sample):
            report.skipped.append(sample.shown)
        else:
            left.append(sample)
    workers = reading_threads(args)
    with (
        ThreadPoolExecutor(workers, "reading") as pool,
        tqdm(total=len(samples), initial=len(report.skipped), unit="picture", disable=_silent(args)) as bar,
    ):
        group: list[Loaded] = []
        for sample, future in _ahead(pool, task, left, 2 * task.batch + workers):
            loaded = _loaded(sample, future, report, bar)
            if loaded is None:
                continue
            if group and _shapes(group[0]) != _shapes(loaded):
                _answer(task, group, results, report, bar)
                group = []
            group.append(loaded)
            if len(group) == task.batch:
                _answer(task, group, results, report, bar)
                group = []
        _answer(task, group, results, report, bar)
    return report


def _silent(args: argparse.Namespace) -> bool | None:
    """Whether there is no bar; None: that depends on whether there is a terminal."""
    return True if args.quiet or not here().is_first else None


def _ahead(
    pool: ThreadPoolExecutor, task: Task, samples: Sequence[Sample], most: int
) -> Iterator[tuple[Sample, Future[Loaded]]]:
    """Scenes in their order, read by threads that are at most so many ahead."""
    waiting: deque[tuple[Sample, Future[Loaded]]] = deque()
    try:
        for sample in samples:
            waiting.append((sample, pool.submit(task.load, sample)))
            if len(waiting) >= most:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()


def _loaded(sample: Sample, future: Future[Loaded], report: Report, bar: Any) -> Loaded | None:
    try:
        return future.result()
    except EndOfVideo as error:  # its head promised more
        warnings.warn(str(error), stacklevel=2)
        bar.update()
        return None
    except Exception as error:  # one picture's affair, whatever a library made of its file
        report.failed.append((sample.shown, _named(sample, error)))
        bar.update()
        return None


def _answer(task: Task, group: Sequence[Loaded], results: Results, report: Report, bar: Any) -> None:
    """Answer for a group; if that cannot be, for each of it alone, so that it is known for which it cannot."""
    if not group:
        return
    try:
        answers: Sequence[Answer] = task.run(group)
    except CaffeCompatError as error:
        if len(group) > 1:
            for one in group:
                _answer(task, [one], results, report, bar)
            return
        report.failed.append((group[0].sample.shown, _named(group[0].sample, error)))
        bar.update()
        return
    for one, answer in zip(group, answers, strict=True):
        try:
            results.take(one.sample, answer)
        except DataError as error:  # a drawing that is there already
            report.failed.append((one.sample.shown, str(error)))
        else:
            report.written.append(one.sample.shown)
        bar.update()


def _named(sample: Sample, error: Exception) -> str:
    reason, files = reason_of(sample.shown, error), filter(None, (sample.color, *sample.pictures))
    return reason if any(file in reason for file in files) else f"{sample.shown}: {reason}"


def _shapes(loaded: Loaded) -> list[tuple[int, ...]]:
    return [blob.shape for blob in loaded.blobs.values()]


def _unusable(report: Report) -> list[str]:
    done = len(report.written) + len(report.skipped)
    failed = [line for line in report.lines() if line.startswith("failed: ")]
    again = f" ({len(report.skipped)} of an earlier run)" if report.skipped else ""
    return [*failed, f"{done} picture{'s' * (done != 1)} done{again}, {len(report.failed)} failed"]
