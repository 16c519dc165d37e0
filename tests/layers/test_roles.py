"""What layers are to optimized and compiled nets: every case of every type, and what goes into a convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_layer import one_net
from test_registry import CASES, Case, _bottoms, _net

from caffe_compat.description import State, describe_net
from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.roles import Affine, looks_at_numbers, role
from caffe_compat.net import Net
from caffe_compat.net.fast import optimize
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

FIRST = list({case.values[0][0]: case for case in CASES if case.values[0][3].get("forward", True)}.values())


def near(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        largest = float(value.detach().abs().nan_to_num(0, 0).max()) if value.numel() else 0.0
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-5 * largest, equal_nan=True)


def drawn(net: Net, seed: int = 2) -> Net:
    """The net with numbers in its blobs that are no fillers', all positive."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for node in net.nodes:
            for blob in node.layer.blobs:
                blob.copy_(torch.rand(blob.shape, generator=random) + 0.1)
    return net


@pytest.mark.parametrize("case", CASES)
def test_optimized(case: Case) -> None:
    if case[0] == "Input" or case[3].get("forward") is False:
        pytest.skip("needs more than bottoms")
    nets = [_net(case), optimize(_net(case))]
    inputs = {f"x{index}": bottom for index, bottom in enumerate(_bottoms(case))}
    results: list[Any] = []
    for net in nets:
        torch.manual_seed(0)
        with torch.no_grad():
            try:
                results.append(net(**inputs))
            except CaffeCompatError as error:
                results.append(str(error))
    if isinstance(results[0], str):
        assert results[0] == results[1]
    else:
        near(results[1], results[0])


def folded(type_name: str, body: str, shape: tuple[int, ...]) -> Net:
    """A convolution, the layer, and a rectifier."""
    dims = " ".join(f"dim: {dim}" for dim in shape)
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
    layer {{ name: "conv" type: "Convolution" bottom: "x" top: "conv"
      convolution_param {{ num_output: {shape[1]} kernel_size: 1 }} }}
    layer {{ name: "under_test" type: "{type_name}" bottom: "conv" top: "y" {body} }}
    layer {{ name: "relu" type: "ReLU" bottom: "y" top: "y" }}"""
    return drawn(Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TEST"))))


def affine_cases() -> list[Any]:
    found = []
    for case in CASES:
        type_name, body, shapes, options = case.values[0]
        if len(shapes) == 1 and len(shapes[0]) == 4 and options.get("tops", 1) == 1 and type_name != "Input":
            layer = one_net(type_name, body, shapes).layer("under_test")
            if isinstance(role(layer, shapes), Affine):
                found.append(case)
    return found


AFFINE = affine_cases()


def test_there_are_factors_of_all_families() -> None:
    assert {case.values[0][0] for case in AFFINE} >= {"BN", "BatchNorm", "Bias", "Scale"}
    assert len(AFFINE) > 8


@pytest.mark.parametrize("case", AFFINE)
def test_factors_go_into_a_convolution(case: Case) -> None:
    type_name, body, (shape,), _ = case
    plain, fast = folded(type_name, body, shape), optimize(folded(type_name, body, shape))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        near(fast(x=x), plain(x=x))
    (program,) = fast._runner._programs.values()  # type: ignore[union-attr]
    assert [step.node.name for step in program.steps] == ["conv"]


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRST)
def test_what_looks_at_numbers(case: Case) -> None:
    """A layer that torch.compile cannot hold in one graph says so."""
    layer = _net(case).layer("under_test")
    if case[0] == "Input" or looks_at_numbers(layer):
        pytest.skip("never in a graph")
    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(lambda *bottoms: layer(*bottoms), backend="eager", fullgraph=True)(*_bottoms(case))
