"""What ``predict`` does."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from caffe_compat.commands.class_names import detector_classes, read_class_names
from caffe_compat.commands.infer_inputs import depth_encoder, find_samples
from caffe_compat.commands.infer_rows import own_objects, rows_output
from caffe_compat.commands.infer_run import check_run, reading_threads, run_over, task_settings
from caffe_compat.commands.infer_tasks import Labels, Objects, Task, check_output_name
from caffe_compat.commands.predict_preparation import described, find_preparation
from caffe_compat.config import load_config
from caffe_compat.datasets import read_any
from caffe_compat.deploy.feed import Feed, picture_inputs
from caffe_compat.description import NetDescription, State, describe_net
from caffe_compat.detection.deployed import detector_options
from caffe_compat.detection.description import BACKGROUND, stored_config
from caffe_compat.detection.inference import Detector, load_detector_net
from caffe_compat.detection.proposing import proposes
from caffe_compat.devices import own_device
from caffe_compat.errors import UsageError, in_file, printable
from caffe_compat.media import Preparation, model_preparation
from caffe_compat.media.video import Videos
from caffe_compat.net.deploy import deploy_form, reads_own_data
from caffe_compat.net.runner import NetRunner
from caffe_compat.proto import read_net_text
from caffe_compat.ranks import here
from caffe_compat.stamps import file_digest

__all__ = ["predict"]


def predict(args: argparse.Namespace) -> int:
    """Run as the arguments say, and print what comes of it; 1 if a picture could not be used.

    Raises:
        CaffeCompatError: naming the file, input, blob or option that is wrong.
    """
    weights = [file.strip() for file in args.weights.split(",") if file.strip()]
    check_run(args, [args.model, *weights, *args.inputs])
    device = own_device(args.gpu, here())
    net = load_detector_net(_described(args), weights)
    with in_file(args.model):
        runner = NetRunner(net, None, device)
        shapes = {name: net.blob_shapes[name] for name in picture_inputs(runner)}
        detector = "rois" in runner.inputs or proposes(runner)
        runner.preparation, stored = find_preparation(args, shapes, detector) if shapes else (None, False)
        task = _own(args, runner, weights[0], stored)
        if task is None:
            task = _detection(args, runner, weights, stored) if detector else _labels(args, runner)
        said = stored and not (args.preprocessing or "").endswith(".prototxt")
        if runner.preparation is not None and not (said or detector) and here().is_first:
            for line in described(runner.preparation):
                print(printable(line))
        samples = find_samples(args.inputs, len(shapes), "the net", args.every)
        if isinstance(task, Objects) and args.proposals != "builtin":
            task.proposals = read_any(args.proposals, [sample.name for sample in samples])
    about = {"model": args.model, "weights": weights}
    return run_over(args, task, samples, _settings(args, runner, task, weights), about)


def _described(args: argparse.Namespace) -> NetDescription:
    """The net as it is given pictures: of a training net its deploy form, which says how they are prepared too."""
    message, lines = read_net_text(args.model)
    if not reads_own_data(message):
        return describe_net(message, State("TEST"), source=args.model, lines=lines, dialect=args.dialect)
    form = deploy_form(message, args.model, lines=lines)
    if here().is_first:
        print(printable(f"{args.model} is a training net: here it {form.told()}"))
    files = [file for file in args.weights.split(",") if file]
    stored = any(model_preparation(args.model, file, strict=False) for file in files)
    if not (args.preprocessing or stored) and any(layer.HasField("transform_param") for layer in message.layer):
        args.preprocessing = args.model
    return describe_net(form.message, State("TEST"), source=args.model, dialect=args.dialect)


def _feed(args: argparse.Namespace, runner: NetRunner) -> Feed:
    seen = Feed(runner)
    encode = depth_encoder(seen.wanted, args, str(runner.device))
    return Feed(runner, None, encode, Videos(args.every, reading_threads(args)).read)


def _own(args: argparse.Namespace, runner: NetRunner, weights: str, stored: bool) -> Task | None:
    """What is done with a net that finds objects itself."""
    rows = rows_output(runner, args.scores)
    if not proposes(runner) and rows is None:
        return None
    file = args.cfg or stored_config(weights)
    centres = any(node.layer.rows_of_centres and rows in node.layer.params.tops for node in runner.net.nodes)
    return own_objects(args, runner, _feed(args, runner), file, stored and file is None, centres)


def _labels(args: argparse.Namespace, runner: NetRunner) -> Task:
    feed = _feed(args, runner)
    classes = read_class_names(args.classes) if args.classes else feed.classes
    kept = (args.blobs or runner.output_names) if args.npz or args.h5 else ()
    for name in kept:
        check_output_name(runner, name)
    top = args.top
    if args.blobs and not (args.scores or args.classes or args.json or args.sheet):  # features, no labels
        top = 0 if "prob" not in runner.output_names and len(runner.output_names) > 1 else top
        top = 0 if rows_output(runner, None) else top
    return Labels(runner, feed, args.batch, args.scores, classes, top, kept)


def _detection(args: argparse.Namespace, runner: NetRunner, weights: Sequence[str], stored: bool) -> Task:
    if args.blobs:
        raise UsageError("--blobs: of a detector, --npz and --h5 hold scores and boxes")
    feed = _feed(args, runner)
    file = args.cfg or stored_config(weights[0])
    carried = detector_options(list(feed.wanted.values())) if stored and file is None else []
    config = load_config(file, [*carried, *args.pairs])
    known = detector_classes(args.classes) if args.classes else feed.classes
    names = tuple(name for name in known if name != BACKGROUND)
    blob = args.scores or ("cls_score" if config.test.svm else "cls_prob")
    if not names and blob in runner.outputs:
        count = runner.outputs[blob].shape[1]
        names = tuple(str(label) for label in range(1, count if isinstance(count, int) else 1))
    detector = Detector(runner.net, len(names) + 1, len(feed.names), config, runner.device, (args.scores, None))
    task = Objects(detector, feed, config, names, args.conf, None, bool(args.npz or args.h5))
    task.named = bool(known)
    return task


def _settings(args: argparse.Namespace, runner: NetRunner, task: Task, weights: Sequence[str]) -> dict[str, Any]:
    """All on which results depend, but for the pictures."""
    wanted: Preparation | None = runner.preparation
    text = wanted.text() if wanted is not None else ""
    found = {
        "model": file_digest(args.model),
        "weights": [file_digest(file) for file in weights],
        "runs on": [runner.device.type, torch.__version__],
        "depth": [args.units_per_metre, args.camera, args.origin],
        "preparation": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    }
    return found | task_settings(args, task)
