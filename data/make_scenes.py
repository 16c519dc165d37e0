#!/usr/bin/env python
"""Draw the sample data set: rooms with one object each, in RGB and Kinect-like depth, laid out as NYUD2.

Frames that are there already are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import torch
from tqdm import tqdm

from caffe_compat.cli import run
from caffe_compat.errors import UsageError
from caffe_compat.scenes import CLASSES, FrameSpec, Settings, frame_specs, open_root, write_frames, write_lists

CHUNK = 32


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--train", type=int, default=Settings.train, help="labelled RGB frames for the teacher")
    parser.add_argument("--pairs", type=int, default=Settings.pairs, help="unlabelled pairs of RGB and HHA")
    parser.add_argument("--val", type=int, default=Settings.val, help="validation frames")
    parser.add_argument("--test", type=int, default=Settings.test, help="test frames")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of everything random")
    parser.add_argument("--width", type=int, default=Settings.width, help="of the pictures in pixels")
    parser.add_argument("--height", type=int, default=Settings.height, help="of the pictures in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes; the frames do not depend on it")
    parser.add_argument("--overwrite", action="store_true", help="throw away a data set of other settings in --out")
    return parser.parse_args(arguments)


def one_thread() -> None:
    """Frames are small: threads inside one cost more than they bring."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def write_chunk(root: Path, settings: Settings, specs: list[FrameSpec]) -> int:
    return sum(1 for _ in write_frames(root, settings, specs))


def write_all(root: Path, settings: Settings, workers: int) -> Iterator[int]:
    """Write every frame; yields how many were finished each time."""
    specs = frame_specs(settings)
    chunks = [specs[i : i + CHUNK] for i in range(0, len(specs), CHUNK)]
    if workers == 1:
        one_thread()
        yield from (write_chunk(root, settings, chunk) for chunk in chunks)
        return
    pool = ProcessPoolExecutor(min(workers, len(chunks)), get_context("spawn"), one_thread)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the parent alone
    try:
        futures = [pool.submit(write_chunk, root, settings, chunk) for chunk in chunks]
        signal.signal(signal.SIGINT, handler)
        for done in as_completed(futures):
            yield done.result()
    finally:
        signal.signal(signal.SIGINT, handler)
        pool.shutdown(cancel_futures=True)  # waits for the running chunks, so that no frame is half-written


def main(arguments: list[str] | None) -> int:
    args = parse_args(arguments)
    if args.workers < 1:
        raise UsageError(f"--workers is {args.workers}, expected at least 1")
    settings = Settings(args.train, args.pairs, args.val, args.test, args.seed, args.width, args.height)
    open_root(args.out, settings, args.overwrite)
    start = time.perf_counter()
    with tqdm(total=len(frame_specs(settings)), unit="frame") as bar:
        for count in write_all(args.out, settings, args.workers):
            bar.update(count)
    write_lists(args.out, settings)
    total = len(frame_specs(settings))
    print(f"{args.out}: {total} frames of {settings.width} x {settings.height} in {time.perf_counter() - start:.1f} s")
    print(f"  train {settings.train} (labelled), pairs {settings.pairs}, val {settings.val}, test {settings.test}")
    print(f"  {len(CLASSES)} classes: {', '.join(CLASSES)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
