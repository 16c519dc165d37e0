"""Convolution by unfolding, as Caffe's, against torch's own."""

from __future__ import annotations

import threading

import pytest
import torch
from one_layer import one_layer, one_net
from torch import Tensor

from caffe_compat.layers import unfolding
from caffe_compat.layers.unfolding import convolve_as_caffe
from caffe_compat.net import BlobNet

NETS = [
    ("Convolution", "num_output: 6 kernel_size: 3 pad: 1 stride: 2", (3, 4, 9, 7)),
    ("Convolution", "num_output: 6 kernel_size: 1", (2, 4, 5, 5)),
    ("Convolution", "num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 dilation: 2 bias_term: false", (2, 4, 9, 9)),
    ("Convolution", "num_output: 4 kernel_size: 3 pad: 2", (2, 4, 9)),
    ("Convolution", "num_output: 4 kernel_size: 5 stride: 4", (2, 4, 4, 4)),
    ("Convolution", "num_output: 2 kernel_size: 2", (2, 4, 4, 4, 4)),
    ("Convolution", "num_output: 3 kernel_size: 2", (0, 4, 4, 4)),
    ("Deconvolution", "num_output: 6 kernel_size: 4 stride: 2 pad: 1", (2, 4, 5, 3)),
    ("Deconvolution", "num_output: 6 kernel_size: 3 group: 2 dilation: 2 bias_term: false", (2, 4, 5, 5)),
    ("Deconvolution", "num_output: 2 kernel_size: 3 stride: 2", (2, 4, 6)),
]
FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


@pytest.mark.parametrize(("kind", "text", "shape"), NETS)
def test_values_and_gradients_are_those_of_torch(kind: str, text: str, shape: tuple[int, ...]) -> None:
    layer, found = one_layer(kind, f"convolution_param {{ {text} {FILLERS} }}", shape), []
    for wanted in (False, True):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        with convolve_as_caffe(wanted):
            top = layer(x)
        weight = torch.linspace(-1, 1, top.numel()).view(top.shape)
        found.append([top, *torch.autograd.grad((top * weight).sum(), [x, *layer.blobs])])
    for own, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


def test_it_is_a_matter_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "loss_weight: 1 convolution_param { num_output: 1 kernel_size: 2 }"
    net = one_net("Convolution", body, [(1, 1, 3, 3)], phase="TRAIN")
    calls: list[str] = []
    original = unfolding._multiply

    def multiply(*args: object) -> Tensor:
        calls.append(threading.current_thread().name)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(unfolding, "_multiply", multiply)
    engine = BlobNet(net, reference_arithmetic=True)
    other = threading.Thread(target=lambda: net(x0=torch.ones(1, 1, 3, 3)))
    with convolve_as_caffe():
        other.start()
        other.join()
    net(x0=torch.ones(1, 1, 3, 3))
    assert not calls
    engine.forward()
    assert len(calls) == 1
    assert not unfolding.unfolds(torch.ones(1, 1, 3, 3))
