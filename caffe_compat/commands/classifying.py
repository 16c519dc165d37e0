"""What ``classify`` does.

Source: BVLC Caffe 1.0, ``python/classify.py`` (behaviour only).
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from caffe_compat.devices import choose
from caffe_compat.errors import DataError, UsageError
from caffe_compat.files import open_existing, write_file
from caffe_compat.media import read_mean
from caffe_compat.pycaffe.classifier import Classifier
from caffe_compat.pycaffe.io import load_image
from caffe_compat.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu

__all__ = ["channel_swap", "class_names", "classify", "read_mean_file", "set_mode", "write_scores"]


def classify(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Names of the pictures, and their scores [N, classes].

    Raises:
        CaffeCompatError: naming the option, picture or file that does not serve.
    """
    size, swap = _integers("--images_dim", args.images_dim, 2), channel_swap(args.channel_swap)
    names, pictures = _pictures(args.input_file, args.ext)
    set_mode(args.gpu)
    mean = read_mean_file(args.mean_file) if args.mean_file else None
    try:
        net = Classifier(
            args.model_def, args.pretrained_model, size, mean, args.input_scale, args.raw_scale, channel_swap=swap
        )
    except ValueError as error:  # the names that pycaffe's scripts expect
        raise UsageError(f"{args.model_def}: {error}") from error
    return names, net.predict(pictures, oversample=not args.center_only)


def set_mode(gpu: int | None) -> None:
    """Have pycaffe compute where ``--gpu`` says."""
    device = choose(gpu)
    if device.type == "cuda":
        set_device(device.index or 0)
        set_mode_gpu()
    else:
        set_mode_cpu()


def channel_swap(text: str) -> list[int]:
    """The value of ``--channel_swap``."""
    return _integers("--channel_swap", text, 3)


def write_scores(path: str, scores: np.ndarray) -> None:
    """Write an ``.npy`` file.

    Raises:
        WriteError: it cannot be written.
    """
    stream = io.BytesIO()
    np.save(stream, scores)
    write_file(path, stream.getvalue())


def class_names(path: str) -> list[str]:
    """Names of classes, one a line.

    Raises:
        MissingFileError: there is no such file.
    """
    with open_existing(path, "class names") as stream:
        return stream.read().decode("utf-8", "replace").splitlines()


def _pictures(path: str, ending: str) -> tuple[list[str], list[np.ndarray]]:
    """Names, and pictures float32 [H, W, 3] from 0 to 1, red first."""
    if path.lower().endswith(".npy"):
        array = _array(path)
        if array.ndim != 4 or array.shape[3] not in (1, 3):
            raise DataError(f"{path}: has the shape {list(array.shape)}, expected pictures [N, H, W, 3]")
        return [f"{path}[{index}]" for index in range(len(array))], list(array)
    paths = sorted(Path(path).glob(f"*.{ending.lstrip('.')}")) if Path(path).is_dir() else [Path(path)]
    if not paths:
        raise DataError(f"{path}: no picture there ends in .{ending.lstrip('.')} (--ext)")
    return [str(name) for name in paths], [load_image(str(name)) for name in paths]


def read_mean_file(path: str) -> np.ndarray:
    """A mean picture [C, H, W], or a mean of each channel [C].

    Raises:
        DataError: it holds another array.
    """
    mean = _array(path) if path.lower().endswith(".npy") else read_mean(path)
    if mean.ndim not in (1, 3):
        raise DataError(f"{path}: has the shape {list(mean.shape)}, expected [C, H, W] or [C]")
    return mean


def _array(path: str) -> np.ndarray:
    with open_existing(path) as stream:
        try:
            array: np.ndarray = np.load(stream, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{path}: no plain .npy array: {error}") from error
    return array


def _integers(option: str, text: str, count: int) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or min(found) < 0:
        raise UsageError(f"{option} is '{text}', expected {count} numbers with commas")
    return found
