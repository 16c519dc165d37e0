"""Layers as users write them, for the tests of the Python layer."""

from collections import OrderedDict

import torch

from caffe_compat.layers.python import PythonLayer as Layer


class Square(Layer):
    """factor * x^2."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = 2 * self.factor * bottom[0].data * top[0].diff


class Weighted(Layer):
    """One weight per channel, which starts at 2; remembers what it was told."""

    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].channels)
        self.blobs[0].data[...] = 2
        self.asked = []

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data[None, :]

    def backward(self, top, propagate_down, bottom):
        self.asked.append(list(propagate_down))
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        bottom[0].diff[...] = top[0].diff * self.blobs[0].data[None, :]


class AddOne(Layer):
    """In place."""

    def setup(self, bottom, top):
        assert top[0] is bottom[0]

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] += 1

    def backward(self, top, propagate_down, bottom):
        pass


class Broken(Layer):
    """Fails where param_str says; without backward."""

    def setup(self, bottom, top):
        if self.param_str_ == "setup":
            raise ZeroDivisionError("in setup")

    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].num, 1)

    def forward(self, bottom, top):
        if self.param_str == "forward":
            raise KeyError("in forward")
        self.blobs.add_blob(3)


class NotALayer:
    """Not derived from Layer."""


class Counter(Layer):
    """The number of the batch, and how often a new test began; it reads data, so that a solver must be able to seek."""

    running_metric = True

    def setup(self, bottom, top):
        self.batch = self.tests = self.forgotten = 0

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = self.batch
        self.batch += 1

    def seek(self, batches):
        self.batch = batches

    def start_over(self):
        self.tests += 1

    def forget(self):
        self.forgotten += 1


def tiny_module() -> torch.nn.Module:
    """A torch net as an entry point names it."""
    parts = {
        "conv": torch.nn.Conv2d(3, 4, 3, stride=2, padding=1),
        "act": torch.nn.ReLU(inplace=True),
        "drop": torch.nn.Dropout(0.5),
        "pool": torch.nn.MaxPool2d(2),
    }
    return torch.nn.Sequential(OrderedDict(parts))
