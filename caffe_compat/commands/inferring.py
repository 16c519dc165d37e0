"""What ``infer_onnx`` does."""

from __future__ import annotations

import argparse
import os
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnxruntime
from tqdm import tqdm

from caffe_compat.commands.infer_boxes import BoxesInGraph
from caffe_compat.commands.infer_inputs import depth_encoder, find_samples
from caffe_compat.commands.infer_results import Results
from caffe_compat.commands.infer_tasks import Answer, Labels, Loaded, Objects, Task, check_output_name
from caffe_compat.config import load_config
from caffe_compat.datasets import read_any
from caffe_compat.deploy import Session
from caffe_compat.deploy.feed import Feed, Sample, picture_inputs
from caffe_compat.detection.deployed import DeployedDetector, detector_options
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.devices import choose, cores
from caffe_compat.errors import CaffeCompatError, DataError, UsageError, in_file, printable
from caffe_compat.files import open_existing
from caffe_compat.frames.report import Report, reason_of
from caffe_compat.locks import hold
from caffe_compat.media import can_encode, read_preparation
from caffe_compat.stamps import file_digest

__all__ = ["infer"]

_MOST_WORKERS = 8


def infer(args: argparse.Namespace) -> int:
    """Run as the arguments say, and print what comes of it; 1 if a picture could not be used.

    Raises:
        CaffeCompatError: naming the file, input, output or option that is wrong.
    """
    _check(args)
    device = args.device or str(choose(args.gpu))
    session = Session(args.model, device, threads=args.threads)
    with in_file(args.model):
        task = _task(args, session)
        samples = find_samples(args.inputs, len(picture_inputs(session)), "the model")
        if isinstance(task, Objects) and args.proposals != "builtin":
            task.proposals = read_any(args.proposals, [sample.name for sample in samples])
    results = Results(args, _settings(args, session, task))
    with ExitStack() as stack:
        if results.journal_path:
            lock = Path(f"{results.journal_path}.lock")
            stack.enter_context(hold(lock, f"writing {results.target}", "give this run other results", UsageError))
        if results.finished(samples):
            there = f"{results.target}: is there already, of these {len(samples)} pictures; --overwrite redoes it"
            print(printable(there))
            return 1 if results.failed_before else 0
        with warnings.catch_warnings(record=True) as caught:  # in all threads: those that read encode depth
            warnings.simplefilter("always")
            report = _run(args, task, samples, results)
        written = results.finish(samples, report)
    told = Counter(str(warning.message) for warning in caught)
    warned = [f"warning: {text}{f' ({count} times)' if count > 1 else ''}" for text, count in told.items()]
    for line in (*warned, *_unusable(report), *(f"wrote {file}" for file in written)):
        print(printable(line))
    return 1 if report.failed else 0


def _run(args: argparse.Namespace, task: Task, samples: Sequence[Sample], results: Results) -> Report:
    report = Report()
    left = []
    for sample in samples:
        if results.known(sample):
            report.skipped.append(sample.shown)
        else:
            left.append(sample)
    workers = args.workers or min(cores(), _MOST_WORKERS)
    with (
        ThreadPoolExecutor(workers, "reading") as pool,
        tqdm(total=len(samples), initial=len(report.skipped), unit="picture", disable=args.quiet or None) as bar,
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


# -- what is asked for ------------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> None:
    for name, least in (("batch", 1), ("workers", 1), ("top", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} is {value}, expected {least} or more")
    if args.blobs and not args.npz:
        raise UsageError("--blobs goes with --npz")
    if args.gpu is not None and args.device is not None:
        raise UsageError("give --gpu or --device, not both")
    for name in filter(None, (args.json, args.npz)):
        for file in (args.model, *args.inputs):
            if Path(name).exists() and Path(file).exists() and Path(name).samefile(file):
                raise UsageError(f"{name} is an input, it would be overwritten")
    if args.draw and not can_encode("png"):
        raise UsageError("--draw: this OpenCV writes no png")


def _task(args: argparse.Namespace, session: Session) -> Task:
    preparation = read_preparation(args.preprocessing) if args.preprocessing else None
    feed = Feed(session, preparation)
    encode = depth_encoder(feed.wanted, args, _torch_device(args))
    feed = Feed(session, preparation, encode)
    classes = _classes(args.classes) if args.classes else feed.classes
    if not {"rois", "proposals"} & set(session.inputs):
        kept = (args.blobs or session.output_names) if args.npz else ()
        for name in kept:
            check_output_name(session, name)
        return Labels(session, feed, args.batch, args.scores, classes, args.top, kept)
    if not classes:
        raise UsageError("which classes? the model names none: give --classes FILE, one a line")
    if args.blobs:
        raise UsageError("--blobs: of a detector, --npz holds scores and boxes")
    named = tuple(name for name in classes if name != BACKGROUND)
    stored = [] if args.cfg else detector_options(list(feed.wanted.values()))
    config = load_config(args.cfg, [*stored, *args.pairs])
    if "proposals" in session.inputs:
        return BoxesInGraph(session, feed, config, named, args.conf, bool(args.npz))
    detector = DeployedDetector(session, len(named) + 1, config, (args.scores, None))
    return Objects(detector, feed, config, named, args.conf, None, bool(args.npz))


def _torch_device(args: argparse.Namespace) -> str:
    """Where depth is encoded: beside the model."""
    wanted = args.device if args.device is not None else args.gpu
    return str(choose(str(wanted).replace("tensorrt", "cuda") if wanted is not None else None))


def _classes(path: str) -> tuple[str, ...]:
    with open_existing(path, "class names") as stream:
        try:
            lines = stream.read().decode().splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not text in UTF-8, expected a class name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: holds no class name, expected one a line")
    return names


def _settings(args: argparse.Namespace, session: Session, task: Task) -> dict[str, Any]:
    """All on which results depend, but for the pictures."""
    found: dict[str, Any] = {
        "model": file_digest(args.model),
        "runs on": [*session.providers, onnxruntime.__version__],
        "depth": [args.units_per_metre, args.camera, args.origin],
        "preparation": file_digest(args.preprocessing) if args.preprocessing else "the model's",
    }
    data = f"{args.model}.data"
    if os.path.exists(data):
        found["weights"] = file_digest(data)
    if isinstance(task, Labels):
        return found | {"classes": list(task.classes), "scores": task.scores, "top": task.top, "blobs": list(task.kept)}
    if not isinstance(task, Objects):
        return found
    options = {key: repr(value) for key, value in task.config.items().items() if not key.startswith("TRAIN.")}
    found |= {"classes": list(task.classes), "conf": task.conf, "options": options, "arrays": task.keep}
    return found | {"proposals": args.proposals if args.proposals == "builtin" else file_digest(args.proposals)}
