"""What ``infer_onnx`` does."""

from __future__ import annotations

import argparse
import os
from typing import Any

import onnxruntime

from caffe_compat.commands.class_names import detector_classes, read_class_names
from caffe_compat.commands.infer_boxes import BoxesInGraph
from caffe_compat.commands.infer_inputs import depth_encoder, find_samples
from caffe_compat.commands.infer_masks import object_masks
from caffe_compat.commands.infer_rows import own_objects, rows_output
from caffe_compat.commands.infer_run import check_run, reading_threads, run_over, task_settings
from caffe_compat.commands.infer_tasks import Labels, Objects, Task, check_output_name
from caffe_compat.config import load_config
from caffe_compat.datasets import read_any
from caffe_compat.deploy import Session
from caffe_compat.deploy.feed import Feed, picture_inputs
from caffe_compat.detection.deployed import DeployedDetector, detector_options
from caffe_compat.detection.description import BACKGROUND
from caffe_compat.devices import choose
from caffe_compat.errors import UsageError, in_file
from caffe_compat.media import read_preparation
from caffe_compat.media.video import Videos
from caffe_compat.segmentation.deployed import is_mask_net
from caffe_compat.stamps import file_digest

__all__ = ["infer"]


def infer(args: argparse.Namespace) -> int:
    """Run as the arguments say, and print what comes of it; 1 if a picture could not be used.

    Raises:
        CaffeCompatError: naming the file, input, output or option that is wrong.
    """
    check_run(args, [args.model, *args.inputs])
    if args.gpu is not None and args.device is not None:
        raise UsageError("give --gpu or --device, not both")
    device = args.device or str(choose(args.gpu))
    session = Session(args.model, device, threads=args.threads)
    with in_file(args.model):
        task = _task(args, session, device)
        samples = find_samples(args.inputs, len(picture_inputs(session)), "the model", args.every)
        if isinstance(task, Objects) and args.proposals != "builtin":
            task.proposals = read_any(args.proposals, [sample.name for sample in samples])
    return run_over(args, task, samples, _settings(args, session, task), {"model": args.model})


def _task(args: argparse.Namespace, session: Session, device: str) -> Task:
    preparation = read_preparation(args.preprocessing) if args.preprocessing else None
    feed = Feed(session, preparation)
    encode = depth_encoder(feed.wanted, args, _torch_device(args))
    feed = Feed(session, preparation, encode, Videos(args.every, reading_threads(args)).read)
    if is_mask_net(session.inputs):
        raise UsageError("the model segments boxes, it finds none: give a detector, and this model as --masks")
    own = own_objects(args, session, feed, args.cfg, not args.cfg)
    if own is not None:
        if args.masks:
            raise UsageError("--masks goes with a detector that is given proposals")
        return own
    if not {"rois", "proposals"} & set(session.inputs):
        if args.masks:
            raise UsageError("--masks goes with a detector, this model finds no objects")
        kept = (args.blobs or session.output_names) if args.npz or args.h5 else ()
        for name in kept:
            check_output_name(session, name)
        classes = read_class_names(args.classes) if args.classes else feed.classes
        top = 0 if args.blobs and rows_output(session, None) else args.top
        return Labels(session, feed, args.batch, args.scores, classes, top, kept)
    classes = detector_classes(args.classes) if args.classes else feed.classes
    if not classes:
        raise UsageError("which classes? the model names none: give --classes FILE, one a line")
    if args.blobs:
        raise UsageError("--blobs: of a detector, --npz holds scores and boxes")
    keep = bool(args.npz or args.h5)
    named = tuple(name for name in classes if name != BACKGROUND)
    stored = [] if args.cfg else detector_options(list(feed.wanted.values()))
    config = load_config(args.cfg, [*stored, *args.pairs])
    if "proposals" in session.inputs:
        task: Objects = BoxesInGraph(session, feed, config, named, args.conf, keep)
    else:
        detector = DeployedDetector(session, len(named) + 1, config, (args.scores, None))
        task = Objects(detector, feed, config, named, args.conf, None, keep)
    if args.masks:
        task.masks = object_masks(args, device, len(feed.names), named, config.parity)
    return task


def _torch_device(args: argparse.Namespace) -> str:
    """Where depth is encoded: beside the model."""
    wanted = args.device if args.device is not None else args.gpu
    return str(choose(str(wanted).replace("tensorrt", "cuda") if wanted is not None else None))


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
    return found | task_settings(args, task)
