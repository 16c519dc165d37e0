"""Out of memory, as allocators report it: the errors are simulated, no memory is used up."""

from __future__ import annotations

import pytest
import torch

from caffe_compat import BlobNet
from caffe_compat.description import State, describe_net
from caffe_compat.errors import LayerError, NetError
from caffe_compat.layers.convolution import Convolution
from caffe_compat.net import Net, blobs, engine
from caffe_compat.net.exhausted import is_out_of_memory, updating
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse
from caffe_compat.solver import SGDSolver

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 20 dim: 30 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "features"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "features" top: "loss" loss_weight: 1 }
"""
CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.2 GiB is free."
)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "2684354560 bytes. Error code 12 (Cannot allocate memory)"
)
ALLOCATORS = [
    (CUDA, " asking for 2.5 GiB"),
    (CPU, " asking for 2.5 GiB"),
    (MemoryError(), ""),
    (RuntimeError("CUDA error: out of memory"), ""),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), ""),
]
FORWARD = (
    "ran out of memory in the forward pass{}: top 'features' of shape [4, 8, 18, 28] needs 63 KiB "
    "(from 'data' [4, 3, 20, 30]); a smaller batch (now 4) or a smaller crop or picture (now 20 x 30) needs less"
)


def describe():
    return describe_net(parse(TEXT, caffe_pb2.NetParameter), State("TRAIN"), source="net.prototxt")


def raising(error: Exception):
    def function(*_args, **_options):
        raise error

    return function


@pytest.mark.parametrize(("error", "asked"), ALLOCATORS)
@pytest.mark.parametrize("kept", [False, True])
def test_the_forward_pass_names_layer_blob_size_and_what_helps(error, asked, kept):
    net = Net(describe())
    net.layer("conv").forward = raising(error)
    with pytest.raises(LayerError) as caught:
        BlobNet(net).forward() if kept else net(data=torch.zeros(4, 3, 20, 30))
    assert caught.value.message == f"layer 'conv' (Convolution): {FORWARD.format(asked)}"
    assert caught.value.__cause__ is error
    assert caught.value.files == (("net.prototxt",) if kept else ())


@pytest.mark.parametrize(("error", "asked"), ALLOCATORS[:2])
def test_what_the_engine_allocates_itself_is_the_layers_too(error, asked, monkeypatch):
    net = BlobNet(Net(describe()))
    monkeypatch.setattr(engine, "_same_memory", raising(error))
    with pytest.raises(LayerError) as caught:
        net.forward()
    assert caught.value.message == f"layer 'conv' (Convolution): {FORWARD.format(asked)}"


@pytest.mark.parametrize(("error", "asked"), ALLOCATORS)
def test_the_backward_pass_names_the_largest_gradient(error, asked, monkeypatch):
    net = BlobNet(Net(describe()))
    net.forward()
    monkeypatch.setattr(engine, "gradients", raising(error))
    with pytest.raises(LayerError) as caught:
        net.backward()
    assert caught.value.message == (
        f"layer 'loss' (Reduction): ran out of memory in the backward pass{asked}: the gradient of bottom 'features' "
        "of shape [4, 8, 18, 28] needs 63 KiB (from 'features' [4, 8, 18, 28]); a smaller batch (now 4) or a smaller "
        "crop or picture (now 18 x 28) needs less"
    )
    assert str(caught.value).startswith("net.prototxt: layer 'loss'")


def test_of_a_layer_that_only_learns_the_gradient_of_its_weights_is_named(monkeypatch):
    net = BlobNet(Net(describe()))
    net.forward()
    net.backward_layer(2)
    monkeypatch.setattr(engine, "gradients", raising(CUDA))
    with pytest.raises(LayerError, match=r"'conv' .*the gradient of blob 0 of shape \[8, 3, 3, 3\] needs 864 bytes"):
        net.backward_layer(1)


def test_building_names_the_layer(monkeypatch):
    monkeypatch.setattr(Convolution, "add_blob", raising(CPU))
    with pytest.raises(LayerError) as caught:
        Net(describe())
    assert str(caught.value) == (
        "net.prototxt: layer 'conv' (Convolution): ran out of memory for its blobs asking for 2.5 GiB (from 'data' "
        "[4, 3, 20, 30]); a smaller batch (now 4) or a smaller crop or picture (now 20 x 30) needs less"
    )


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()])
def test_a_blob_that_cannot_be_had_is_named(error, monkeypatch):
    net = BlobNet(Net(describe()))
    monkeypatch.setattr(blobs.torch, "full", raising(error))
    for what, read in (("data", lambda: net.blob("features").data), ("diff", lambda: net.blob("features").diff)):
        with pytest.raises(NetError, match=f"^{what} of blob 'features': 16128 values need 63 KiB, cpu ran out of mem"):
            read()
    monkeypatch.undo()
    assert net.blob("features").data.shape == (4, 8, 18, 28)  # a failed try leaves the blob usable


def test_a_device_that_is_too_small_for_the_weights_is_told_by_layer():
    net = Net(describe())
    net.layer("conv")._apply = raising(CUDA)
    with pytest.raises(
        LayerError, match=r"'conv' .*for its weights asking for 2\.5 GiB: blob 0 of shape \[8, 3, 3, 3\]"
    ):
        net.to(torch.float64)


def test_moving_reaches_every_layer_and_keeps_shared_parameters_one():
    text = TEXT.replace('top: "features"\n', 'top: "features" param { name: "w" }\n').replace(
        'layer { name: "loss"',
        'layer { name: "again" type: "Convolution" bottom: "data" top: "more" param { name: "w" }'
        " convolution_param { num_output: 8 kernel_size: 3 } }\n"
        'layer { name: "loss"',
    )
    net = Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TRAIN"))).to(torch.float64)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float64}
    assert net.layer("conv").blobs[0] is net.layer("again").blobs[0]


@pytest.mark.parametrize(("error", "asked"), ALLOCATORS)
def test_an_update_names_the_largest_parameter(error, asked):
    net = Net(describe())
    with pytest.raises(NetError) as caught, updating(net.learnables):
        raise error
    assert caught.value.message == (
        f"ran out of memory in the update of 2 parameters (896 bytes){asked}: the largest is layer 'conv' blob 0 of "
        "shape [8, 3, 3, 3] needs 864 bytes; gradients and the solver's history need as much each, so a smaller batch "
        "or crop leaves room for them"
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")]
)
def test_other_errors_stay_what_they_are(error, monkeypatch):
    assert not is_out_of_memory(error) and not is_out_of_memory(NetError("x: out of memory"))
    net = Net(describe())
    net.layer("conv").forward = raising(error)
    with pytest.raises(type(error)) as caught:
        BlobNet(net).forward()
    assert caught.value is error
    whole = BlobNet(Net(describe()))
    whole.forward()
    monkeypatch.setattr(engine, "gradients", raising(error))
    with pytest.raises(type(error)) as caught:
        whole.backward()
    assert caught.value is error
    with pytest.raises(type(error)), updating(net.learnables):
        raise error


def test_a_solver_whose_update_runs_out_says_of_which_parameter():
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", momentum=0.9, random_seed=1)
    param.train_net_param.CopyFrom(parse(TEXT, caffe_pb2.NetParameter))
    solver = SGDSolver(param)
    solver.compute_updates = raising(CUDA)
    with pytest.raises(NetError, match=r"in the update of 2 parameters .*layer 'conv' blob 0 of shape \[8, 3, 3, 3\]"):
        solver.step(1)
