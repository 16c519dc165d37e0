"""Images to class scores, with the usual ten crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_compat.pycaffe import io
from caffe_compat.pycaffe.net import TEST, Net

__all__ = ["Classifier", "make_transformer"]


def make_transformer(
    net: Net,
    mean: np.ndarray | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = None,
    channel_swap: Sequence[int] | None = None,
) -> io.Transformer:
    """A transformer for the first input of a net, for images (height, width, channels)."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


class Classifier(Net):
    """A net that scores images.

    Args:
        model_file, pretrained_file: the deploy net and its weights.
        image_dims: (height, width) that images are resized to before they are cropped; the net's input size if None.
        mean, input_scale, raw_scale, channel_swap: see :class:`caffe_compat.pycaffe.io.Transformer`.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Score images.

        Args:
            inputs: images (height, width, channels) as ``io.load_image`` reads them.
            oversample: average over ten crops, instead of taking the central one.

        Returns:
            (N, classes) scores: the first output of the net.
        """
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = io.oversample(list(images), self.crop_dims)
        else:
            y, x = ((self.image_dims - self.crop_dims) / 2).astype(int)
            crops = images[:, y : y + self.crop_dims[0], x : x + self.crop_dims[1]]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        arrays: dict[str, Any] = {name: batch}
        scores = self.forward_all(**arrays)[self.outputs[0]]
        return scores.reshape(len(scores) // 10, 10, -1).mean(axis=1) if oversample else scores
