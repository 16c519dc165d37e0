"""Windows of images to class scores: the R-CNN way."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from caffe_compat.errors import UsageError
from caffe_compat.pycaffe import io
from caffe_compat.pycaffe.classifier import make_transformer
from caffe_compat.pycaffe.net import TEST, Net

__all__ = ["Detector"]


class Detector(Net):
    """A net that scores windows of images, each warped to the net's input.

    Args:
        model_file, pretrained_file: the deploy net and its weights.
        mean, input_scale, raw_scale, channel_swap: see :class:`caffe_compat.pycaffe.io.Transformer`.
        context_pad: pixels of context around each window, in the warped frame (R-CNN: 16).
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Iterable[Sequence[float]]]]) -> list[dict[str, Any]]:
        """Score windows.

        Args:
            images_windows: pairs of an image file and its windows (ymin, xmin, ymax, xmax), in pixels.

        Returns:
            For each window a dict of ``window``, ``prediction`` (the first output of the net) and ``filename``.
        """
        found = [(file, np.asarray(window)) for file, windows in images_windows for window in windows]
        name = self.inputs[0]
        loaded: dict[str, np.ndarray] = {}
        crops = []
        for file, window in found:
            if file not in loaded:
                loaded = {file: io.load_image(file)}
            crops.append(self.transformer.preprocess(name, self.crop(loaded[file], window)))
        if not crops:
            return []
        arrays: dict[str, Any] = {name: np.stack(crops)}
        scores = self.forward_all(**arrays)[self.outputs[0]]
        scores = scores.reshape(len(scores), -1)
        return [
            {"window": window, "prediction": score, "filename": file}
            for (file, window), score in zip(found, scores, strict=True)
        ]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict[str, Any]]:
        """The same with windows from selective search, which a module of its own must provide.

        Raises:
            UsageError: ``selective_search_ijcv_with_python`` is not installed.
        """
        return self.detect_windows(zip(image_fnames, self.selective_search(image_fnames), strict=True))

    @staticmethod
    def selective_search(image_fnames: Sequence[str]) -> list[np.ndarray]:
        """Windows [N, 4] of each image file (ymin, xmin, ymax, xmax) from selective search.

        Raises:
            UsageError: ``selective_search_ijcv_with_python`` is not installed.
        """
        try:
            search = import_module("selective_search_ijcv_with_python")
        except ImportError as error:
            raise UsageError(
                "selective search needs the module selective_search_ijcv_with_python, which is not installed: give "
                "windows (detect_windows), or have detect_windows.py take --crop_mode builtin"
            ) from error
        files = [os.path.abspath(file) for file in image_fnames]
        return [np.asarray(windows) for windows in search.get_windows(files, cmd="selective_search_rcnn")]

    def configure_crop(self, context_pad: int | None) -> None:
        """Prepare for windows with that much context; what lies outside the image becomes the mean.

        Raises:
            UsageError: the context leaves no room for the window.
        """
        name = self.inputs[0]
        transformer = self.transformer
        channels, height, width = self.blobs[name].shape[1:]
        if not 0 <= 2 * (context_pad or 0) < min(height, width):
            raise UsageError(
                f"context_pad is {context_pad}, expected 0 to {(min(height, width) - 1) // 2} pixels around a window "
                f"in an input of {height} x {width}"
            )
        self.crop_dims = np.array([height, width, channels])
        self.context_pad = context_pad or 0
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        if self.context_pad and name in transformer.mean:
            mean = np.broadcast_to(transformer.mean[name], (channels, height, width)).transpose(1, 2, 0)
            if name in transformer.channel_swap:
                mean = mean[:, :, np.argsort(transformer.channel_swap[name])]
            self.crop_mean = (mean / transformer.raw_scale.get(name, 1.0)).astype(np.float32)

    def crop(self, im: np.ndarray, window: Sequence[float] | np.ndarray) -> np.ndarray:
        """Cut a window (ymin, xmin, ymax, xmax) out of an image; with context it is warped to the net's input.

        Raises:
            UsageError: no part of the window lies in the image.
        """
        ymin, xmin, ymax, xmax = (int(edge) for edge in window)
        if not self.context_pad:
            return im[ymin:ymax, xmin:xmax]
        size = self.blobs[self.inputs[0]].width
        grow = size / (size - 2 * self.context_pad)
        half = np.array([ymax - ymin + 1, xmax - xmin + 1]) / 2
        centre = np.array([ymin, xmin]) + half
        low, high = np.round(centre - grow * half), np.round(centre + grow * half)
        scale = size / (high - low + 1)
        pad = np.round(np.maximum(0, -low) * scale).astype(int)
        limits = np.array(im.shape[:2])
        low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
        if (high <= low).any():
            edges = [float(edge) for edge in window]
            raise UsageError(f"window {edges} lies outside the image of {im.shape[0]} x {im.shape[1]} pixels")
        extent = np.minimum(np.round((high - low + 1) * scale), size - pad).astype(int)
        (y0, x0), (y1, x1) = low.astype(int), high.astype(int)
        result = np.array(self.crop_mean)
        result[pad[0] : pad[0] + extent[0], pad[1] : pad[1] + extent[1]] = io.resize_image(im[y0:y1, x0:x1], extent)
        return result
