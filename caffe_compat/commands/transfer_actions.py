"""The command line of ``make_transfer``."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from caffe_compat.commands.boxes_arguments import boxes_file, compute_boxes
from caffe_compat.commands.modality_arguments import name_modality
from caffe_compat.commands.scale_actions import load_features_of
from caffe_compat.commands.teacher_arguments import blobs_of, name_teacher, own_mean
from caffe_compat.devices import choose
from caffe_compat.errors import DataError, UsageError
from caffe_compat.foreign.spec import RANDOM, is_foreign, split_feature
from caffe_compat.media import check_pairs, read_first_paths, read_pair_list, short_side_factor
from caffe_compat.media.modalities import FORK_MEAN
from caffe_compat.resources import program
from caffe_compat.transfer.recipe import CLIP, Recipe, Schedule

if TYPE_CHECKING:
    import torch

    from caffe_compat.foreign.spec import ForeignSpec
    from caffe_compat.transfer.features import Transfer
    from caffe_compat.transfer.files import Written
    from caffe_compat.transfer.scale import NormReport
    from caffe_compat.transfer.start import Start

__all__ = ["list_features", "make_transfer"]

RECIPE = (
    "teacher", "student", "output", "source", "val_source", "root_folder", "teacher_weights", "loss",
    "short_side", "multiple_of", "batch_size", "negate_x", "negate_about", "modality",
    "prefix", "name", "filler", "first_std", "boxes_per_image",
)  # fmt: skip
UNTOLD = ("measure", "measure_count", "sweep", "gpu", "list")
"""Options that need not stand in the files: what they lead to does."""
UNKNOWN_BIAS = 1.0
"""First biases of an adaptation where nothing is measured, for none of its units to be dead at the start: from 0, 37 %
of those that learn a VGG16's pool5 die in 20 iterations, from 1 4 %."""
DEFAULTS = {"test_iter": Schedule.test_iter, "image_size": list(Recipe.image_size), "mean": list(FORK_MEAN)}
"""Where an option that is left out means something else to the command line."""
RECIPE_TUPLES = ("mean", "mean_second", "image_size", "crop")
SCHEDULE = (
    "max_iter", "base_lr", "momentum", "weight_decay", "snapshot", "test_interval", "test_iter", "display",
    "random_seed", "clip_gradients",
)  # fmt: skip


def make_transfer(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Written:
    """Do what ``make_transfer.py`` was asked for.

    Raises:
        CaffeCompatError: naming the option, file, blob or layer that is wrong.
    """
    from caffe_compat.transfer.features import Transfer
    from caffe_compat.transfer.files import write_transfer
    from caffe_compat.transfer.measured import forget_measured, write_measured
    from caffe_compat.transfer.student_weights import write_student_weights

    foreign = name_teacher(arguments)
    name_modality(arguments)
    if not arguments.output:
        raise UsageError("--output is missing")
    if arguments.mean is None:
        arguments.mean = list(FORK_MEAN if foreign else own_mean(arguments.teacher_weights))
    _look_at_lists(arguments, wants_measuring(arguments, foreign))
    _usual_start(arguments, wants_measuring(arguments, foreign))
    transfer = Transfer(_recipe(arguments, foreign))  # refuses what does not fit before anything is measured
    compute_boxes(arguments)
    schedule = Schedule(drops=tuple(arguments.drops), **{name: getattr(arguments, name) for name in SCHEDULE})
    if foreign is None and arguments.teacher_weights == RANDOM:
        transfer = _randomised(arguments, transfer)
    if transfer.recipe.student_weights:
        write_student_weights(transfer, arguments.student_weights, transfer.recipe.student_weights)
    if not wants_measuring(arguments, foreign):
        forget_measured(arguments.output)
        return write_transfer(transfer, schedule, command_line(parser, arguments))
    start = _measured(arguments, transfer, schedule, foreign)
    _remember(arguments, start.transfer.recipe, start.schedule)
    written = write_transfer(start.transfer, start.schedule, command_line(parser, arguments))
    return replace(written, files=[*written.files, write_measured(arguments.output, start)])


def _usual_start(arguments: argparse.Namespace, measuring: bool) -> None:
    """Clipping and first biases that nobody gave and nothing will measure."""
    if arguments.clip_gradients is None:
        arguments.clip_gradients = CLIP
    if arguments.adapt_bias is None and not (measuring or arguments.mean_norm or arguments.loss == "sigmoid"):
        arguments.adapt_bias = [UNKNOWN_BIAS]


def _randomised(arguments: argparse.Namespace, transfer: Transfer) -> Transfer:
    """The transfer with random weights of the teacher, in a file beside the nets."""
    from caffe_compat.transfer.features import Transfer
    from caffe_compat.transfer.random_teacher import write_random_weights

    arguments.teacher_weights = os.path.join(arguments.output, "random_teacher.caffemodel")
    write_random_weights(transfer.teacher, arguments.teacher_weights, arguments.teacher_seed)
    return Transfer(_recipe(arguments, None))


def _look_at_lists(arguments: argparse.Namespace, measuring: bool) -> None:
    """The lists that are there already: all images that cannot be used, how large they are, how long a test is.

    Raises:
        DataError: a list that is empty, or images that cannot be used.
        UsageError: no training pairs to measure on, or more pairs per test than there are.
    """
    if measuring and not os.path.exists(arguments.source):
        raise UsageError(f"--source {arguments.source}: there are no pairs to measure on; --no-measure does without")
    if measuring and not os.path.exists(arguments.val_source):
        raise UsageError(
            f"--val-source {arguments.val_source}: there is no such list; transfer.py --pairs makes two of one"
        )

    def resized(height: int, width: int) -> tuple[int, int]:
        factor = short_side_factor(height, width, arguments.short_side) if arguments.short_side else 1
        return round(height * factor), round(width * factor)

    def fits_crop(size: tuple[int, int]) -> None:
        height, width = resized(*size)
        if arguments.crop and (height < arguments.crop[0] or width < arguments.crop[1]):
            sized = f" with --short-side {arguments.short_side}" if arguments.short_side else ""
            wanted = " ".join(map(str, arguments.crop))
            raise DataError(f"is {width}x{height}{sized}, too small for --crop {wanted} (height, width)")

    sizes: list[tuple[int, int]] = []
    wrong: list[str] = []
    for source in (arguments.source, arguments.val_source):
        if os.path.exists(source):
            try:
                sizes += check_pairs(source, read_pair_list(source, arguments.root_folder), fits_crop)
            except DataError as error:
                wrong.append(str(error))
    if wrong:
        raise DataError("; ".join(wrong))
    if arguments.image_size is None:
        found = [resized(*size) for size in sizes]
        smallest = [min(size[axis] for size in found) for axis in (0, 1)] if found else list(Recipe.image_size)
        arguments.image_size = list(Recipe.image_size) if arguments.crop else smallest
    usual = Schedule.test_iter
    if os.path.exists(arguments.val_source):
        there = len(read_pair_list(arguments.val_source, arguments.root_folder))
        usual = min(there, usual)
        if arguments.test_iter is not None and arguments.test_iter > there:
            raise UsageError(
                f"--test-iter is {arguments.test_iter}, but {arguments.val_source} has {there} pairs; leave it out for "
                f"{usual}"
            )
    arguments.test_iter = usual if arguments.test_iter is None else arguments.test_iter


def list_features(arguments: argparse.Namespace) -> list[str]:
    """Lines that say which features of the two nets fit each other.

    Raises:
        CaffeCompatError: naming the file that is wrong.
    """
    from caffe_compat.transfer.pairs import box_features, boxes_table, feature_maps, foreign_maps, table

    height, width = arguments.crop or arguments.image_size or Recipe.image_size
    source = split_feature(arguments.teacher)[0]
    vectors = []
    if is_foreign(source):
        teacher = foreign_maps(source, (height, width))
    else:
        teacher, vectors = feature_maps(source, "TEST", (height, width)), box_features(source, "TEST")
    student = feature_maps(arguments.student, "TRAIN", (height, width))
    boxes = boxes_table(vectors, box_features(arguments.student, "TRAIN"))
    head = f"features of {source} and {arguments.student} that fit, for images of {height} x {width}:"
    return [head, *table(teacher, student), *boxes]


def wants_measuring(arguments: argparse.Namespace, foreign: ForeignSpec | None) -> bool:
    """Whether there is something to measure with; what was measured before stands as --mean-norm.

    Raises:
        UsageError: options that exclude each other.
    """
    known = arguments.teacher_weights or foreign is not None
    if arguments.measure and not known:
        raise UsageError("--measure needs --teacher-weights")
    if arguments.measure and (arguments.mean_norm or arguments.no_measure):
        raise UsageError("give --measure, or --mean-norm or --no-measure, not both")
    return bool(known and not arguments.mean_norm and not arguments.no_measure)


def _recipe(arguments: argparse.Namespace, foreign: ForeignSpec | None) -> Recipe:
    options = {name: getattr(arguments, name) for name in RECIPE}
    for name in RECIPE_TUPLES:
        value = getattr(arguments, name)
        options[name] = None if value is None else tuple(value)
    options["proposals"] = boxes_file(arguments)
    if arguments.student_weights:
        options["student_weights"] = os.path.join(arguments.output, "student_start.caffemodel")
    if foreign is not None:
        options["teacher_weights"] = None  # they stand in the net
    return Recipe(
        foreign=foreign,
        layers=blobs_of(foreign, arguments.layer),
        student_layers=tuple(arguments.student_layer),
        mean_norms=tuple(arguments.mean_norm),
        loss_weight=_loss_weight(arguments.loss_weight),
        alphas=_numbers("--alpha", arguments.alpha, "4/sigma"),
        taus=_numbers("--tau", arguments.tau, "median"),
        scales=tuple(arguments.scale),
        adapt_stds=tuple(arguments.adapt_std),
        adapt_biases=tuple(arguments.adapt_bias or Recipe.adapt_biases),
        **options,
    )


def _numbers(option: str, words: Sequence[str], measured: str) -> tuple[float, ...]:
    """Numbers, or none where they are to be measured."""
    if list(words) == [measured]:
        return ()
    try:
        return tuple(map(float, words))
    except ValueError:
        raise UsageError(f"{option} is {' '.join(words)}, expected numbers, or {measured}") from None


def _remember(arguments: argparse.Namespace, recipe: Recipe, schedule: Schedule) -> None:
    """Put what was measured where the command that stands in the files takes it from."""
    arguments.mean_norm, arguments.scale = list(recipe.mean_norms), list(recipe.scales)
    arguments.adapt_std, arguments.adapt_bias = list(recipe.adapt_stds), list(recipe.adapt_biases)
    arguments.first_std = recipe.first_std
    if recipe.loss == "sigmoid":
        arguments.alpha, arguments.tau = ([f"{v:g}" for v in some] for some in (recipe.alphas, recipe.taus))
    arguments.base_lr, arguments.clip_gradients = schedule.base_lr, schedule.clip_gradients


def command_line(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The shortest command that means the same, with what was measured as numbers."""
    words = shlex.split(program("make_transfer"))
    for name, value in vars(arguments).items():
        if value is None or value == DEFAULTS.get(name, parser.get_default(name)) or name in UNTOLD:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name.replace('_', '-')}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
    return shlex.join(words)


def _loss_weight(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--loss-weight is '{text}', expected auto or a number") from None


def _measured(
    arguments: argparse.Namespace, transfer: Transfer, schedule: Schedule, foreign: ForeignSpec | None
) -> Start:
    """The transfer and the schedule with what was measured on the pairs; prints it."""
    from caffe_compat.transfer.features import Transfer
    from caffe_compat.transfer.start import measure_start

    device = choose(arguments.gpu)
    weights = [arguments.teacher_weights] if foreign is None else []
    if transfer.over_boxes:
        arguments.mean_norm = _box_norms(arguments, transfer, weights, device)
    elif not transfer.teacher.fixed:  # one of a fixed size is measured on the crops that it will see
        arguments.mean_norm = _whole_norms(arguments, foreign, device)
    transfer = Transfer(_recipe(arguments, foreign), transfer)
    return measure_start(transfer, schedule, weights, device, lambda line: print(line, flush=True), arguments.sweep)


def _whole_norms(arguments: argparse.Namespace, foreign: ForeignSpec | None, device: torch.device) -> list[float]:
    """Mean norms of the teacher's features over whole images."""
    from caffe_compat.transfer.scale import measure_norms

    net, mean = load_features_of(foreign, arguments.teacher, arguments.teacher_weights, arguments.layer, arguments.mean)
    net, blobs = net.to(device), blobs_of(foreign, arguments.layer)
    images = read_first_paths(arguments.measure or arguments.source, arguments.root_folder)
    return _told_norms(arguments, measure_norms(net, blobs, images, mean, arguments.measure_count))


def _box_norms(
    arguments: argparse.Namespace, transfer: Transfer, weights: list[str], device: torch.device
) -> list[float]:
    """The same of features of which some are over boxes, on the training pairs."""
    from caffe_compat.transfer.scale import measure_batches
    from caffe_compat.transfer.trial import training_batches

    if arguments.measure:
        raise UsageError("--measure: features over boxes are measured on the training pairs, whose boxes are known")
    if arguments.measure_count < 1:
        raise UsageError(f"--measure-count is {arguments.measure_count}, expected 1 or more")
    there = len(read_pair_list(arguments.source, arguments.root_folder))
    count = math.ceil(min(arguments.measure_count, there) / arguments.batch_size)
    batches = itertools.islice(training_batches(transfer, weights, arguments.random_seed, device), count)
    with tqdm(batches, total=count, unit="batch", disable=None) as bar:
        return _told_norms(arguments, measure_batches(transfer, bar))


def _told_norms(arguments: argparse.Namespace, reports: Mapping[str, NormReport]) -> list[float]:
    """Mean norms, after they were printed."""
    for blob, report in reports.items():
        print(f"{blob}: {report}")
        if report.mean == 0:
            raise UsageError(f"'{blob}' of {arguments.teacher} is zero everywhere; are these its weights?")
        if report.negative and arguments.loss == "l2":
            part = f"{100 * report.negative:.2g} % of the values of '{blob}' are negative"
            print(
                f"{part}, which the adaptation's ReLU cannot give: choose the feature after a ReLU where there is one"
            )
    return [float(f"{report.mean:.6g}") for report in reports.values()]
