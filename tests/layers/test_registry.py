"""Every registered layer type has cases; of each case: shapes = module on meta, gradcheck, ONNX Runtime = forward."""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from one_layer import one_net
from torch import Tensor

from caffe_compat.errors import ExportError
from caffe_compat.layers import Layer, registered
from caffe_compat.net import Net
from caffe_compat.net.plan import layer_shapes
from caffe_compat.net.precision import Precision
from caffe_compat.onnx import export_onnx

Case = tuple[str, str, list[tuple[int, ...]], dict[str, Any]]


def _cases() -> list[Any]:
    found = []
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        for type_name, cases in importlib.import_module(path.stem).CASES.items():
            for index, (body, shapes, options) in enumerate(cases):
                found.append(pytest.param((type_name, body, shapes, options), id=f"{type_name}-{index}"))
    return found


CASES = _cases()


def _net(case: Case, phase: str = "TEST") -> Net:
    type_name, body, shapes, options = case
    tops = options.get("top_names") or [f"y{index}" for index in range(options.get("tops", 1))]
    torch.manual_seed(0)
    return one_net(type_name, body, shapes, tops, phase, options.get("dialect", ""))


def _layer(net: Net) -> Layer:
    return net.layer("under_test")


def _bottoms(case: Case, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Values well apart from each other, so that no kink of a layer lies within a finite difference."""
    _, _, shapes, options = case
    generator = torch.Generator().manual_seed(3)
    result = []
    for index, shape in enumerate(shapes):
        size = int(np.prod(shape))
        if index in options.get("values", {}):
            value = torch.tensor(options["values"][index], dtype=dtype).reshape(shape)
        elif index in options.get("labels", {}):
            value = torch.randint(options["labels"][index], shape, generator=generator).to(dtype)
        else:
            spread = torch.randperm(size, generator=generator).to(dtype)
            value = ((spread + 0.5) / max(size, 1) * 3 - 1.5 + 0.013 + 0.0037 * index).reshape(shape)
            if index in options.get("positive", ()):
                value = value.abs() + 0.1
        result.append(value)
    return result


def _tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_every_type_has_cases() -> None:
    types = {case.values[0][0] for case in CASES}
    assert set(registered()) - types == set()


@pytest.mark.parametrize("case", CASES)
def test_shape_rule_is_what_the_layer_makes(case: Case) -> None:
    if case[0] == "Input" or case[3].get("forward") is False:
        pytest.skip("nothing to compute")
    net = _net(case)
    layer, bottoms = _layer(net), _bottoms(case)
    rule = [tuple(shape) for shape in layer.top_shapes([tuple(bottom.shape) for bottom in bottoms])]
    with torch.no_grad():
        tops = _tuple(layer(*bottoms))
    if not layer.sized_by_values:
        assert [tuple(top.shape) for top in tops] == rule


@pytest.mark.parametrize("case", CASES)
def test_shape_rule_on_meta(case: Case) -> None:
    net = _net(case)
    if case[0] == "Input" or not _layer(net).on_meta or case[3].get("forward") is False:
        pytest.skip("reads values, which meta tensors do not have")
    layer, bottoms = _layer(net.to("meta")), [bottom.to("meta") for bottom in _bottoms(case)]
    with torch.no_grad():
        tops = _tuple(layer(*bottoms))
    assert [tuple(t.shape) for t in tops] == [tuple(s) for s in layer.top_shapes([tuple(b.shape) for b in bottoms])]


@pytest.mark.parametrize("case", CASES)
def test_declared_members(case: Case) -> None:
    """What other rooms ask of a layer instead of its type name."""
    layer, shapes = _layer(_net(case)), [tuple(shape) for shape in case[2]]
    kind = type(layer)
    assert any(meaning.layer is kind for meaning in registered()[case[0]])
    assert kind.has_blobs or not layer.blobs
    if kind.filler_section:
        section = layer.params.section(kind.filler_section).message
        assert {"weight_filler", "bias_filler"} <= {field.name for field in section.DESCRIPTOR.fields}
    assert not kind.gathers or not any(parameter.requires_grad for parameter in layer.blobs)
    tops = layer_shapes(layer, shapes)
    done = layer.multiply_adds(shapes, tops)
    assert done >= 0 and isinstance(done, int)
    assert not done or kind.has_blobs, "only what multiplies by learned numbers counts"
    generator = np.random.default_rng(0)
    for bottom, shape in enumerate(shapes):
        assert not shape or 0 <= layer.batch_axis(bottom) < len(shape)
        values = layer.sample(bottom, shapes, generator)
        assert values is None or values.shape == shape
    layer.seek(0)
    layer.forget()
    layer.start_over()


@pytest.mark.parametrize("case", CASES)
def test_samples_can_be_used(case: Case) -> None:
    """A forward pass takes what the layer gives as samples, and labels in range, where the case has any."""
    layer, shapes = _layer(_net(case)), [tuple(shape) for shape in case[2]]
    generator = np.random.default_rng(1)
    samples = [layer.sample(bottom, shapes, generator) for bottom in range(len(shapes))]
    if all(values is None for values in samples) or case[3].get("forward") is False:
        pytest.skip("takes any numbers")
    bottoms = _bottoms(case)
    for index, values in enumerate(samples):
        if values is not None:
            bottoms[index] = torch.from_numpy(np.asarray(values, np.float32))
    with torch.no_grad():
        layer(*bottoms)


@pytest.mark.parametrize("case", CASES)
def test_gradient(case: Case) -> None:
    type_name, _, shapes, options = case
    if not shapes or options.get("gradcheck") is False or options.get("forward") is False:
        pytest.skip("no gradient, or one that is Caffe's and not the derivative")
    net = _net(case).double()
    layer, bottoms = _layer(net), _bottoms(case, torch.float64)
    fixed = {*options.get("labels", {}), *options.get("values", {}), *options.get("constant", ())}
    fixed |= set(layer.no_gradient or ())
    for index, bottom in enumerate(bottoms):
        bottom.requires_grad_(index not in fixed)
    parameters = [parameter for parameter in layer.blobs if parameter.requires_grad]
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(index))

    def function(*_: Tensor) -> tuple[Tensor, ...]:
        return tuple(top for top in _tuple(layer(*bottoms)) if top.requires_grad)

    inputs = [bottom for bottom in bottoms if bottom.requires_grad] + parameters
    if not inputs or not function():
        pytest.skip("nothing to differentiate")
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-5, rtol=1e-4, nondet_tol=1e-12)


def _in(case: Case, amp: str) -> tuple[Layer, list[Tensor], list[Tensor]]:
    """The layer after a pass over bottoms that were rounded to 16 bits, with its tops and the gradients below."""
    _, _, shapes, options = case
    net = _net(case)
    node = next(node for node in net.nodes if node.name == "under_test")
    exact = {*options.get("labels", {}), *options.get("values", {}), *options.get("constant", ())}
    rounded = [b if i in exact else b.to(torch.bfloat16) for i, b in enumerate(_bottoms(case))]
    with torch.no_grad():
        for index, parameter in enumerate(node.layer.blobs):
            parameter.uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(index))
    precision = Precision("bf16")
    taken = precision.taken(node, rounded) if amp else [bottom.float() for bottom in rounded]
    fixed = exact | set(node.layer.no_gradient or ())
    bottoms = [bottom.requires_grad_(i not in fixed) for i, bottom in enumerate(taken)]
    with precision.computes(node, bottoms[0].device) if amp else contextlib.nullcontext():
        tops = _tuple(node.layer(*bottoms))
    sources = [one for one in (*bottoms, *node.layer.blobs) if one.requires_grad]
    wanted = [top for top in tops if top.requires_grad]
    if not wanted or not sources:
        return node.layer, [top.detach() for top in tops], []
    seeds = [torch.linspace(-1, 1, top.numel()).reshape(top.shape).to(top.dtype) for top in wanted]
    found = torch.autograd.grad(wanted, sources, seeds, allow_unused=True)
    return node.layer, [top.detach() for top in tops], [one for one in found if one is not None]


@pytest.mark.parametrize("case", CASES)
def test_16_bits_only_where_the_layer_says_so_and_they_do_no_harm(case: Case) -> None:
    if not case[2] or case[3].get("forward") is False or case[0] == "ForeignNet":
        pytest.skip("nothing to compute, or a net of its own")
    layer, tops, gradients = _in(case, "bf16")
    _, wanted, theirs = _in(case, "")
    for mine, exact in zip([*tops, *gradients], [*wanted, *theirs], strict=True):
        assert mine.shape == exact.shape
        if layer.precision == "single":
            assert mine.dtype == exact.dtype
            torch.testing.assert_close(mine, exact, rtol=0, atol=0, equal_nan=True)
            continue
        finite = exact.isfinite()
        largest = float(exact[finite].abs().max()) if finite.any() else 0.0
        torch.testing.assert_close(mine.float()[finite], exact[finite], rtol=0, atol=0.02 * largest)
    if layer.precision != "single" and not case[3].keys() & {"labels", "values", "constant"}:
        assert all(top.dtype == torch.bfloat16 for top in tops)


@pytest.mark.parametrize("case", CASES)
def test_onnx_runtime_agrees(case: Case) -> None:
    type_name, _, shapes, options = case
    if options.get("onnx") is False or options.get("forward") is False or not shapes or options.get("tops") == 0:
        pytest.skip("nothing that ONNX could compute")
    net = _net(case)
    layer, bottoms = _layer(net), _bottoms(case)
    names = [f"x{index}" for index in range(len(bottoms))]
    try:
        model = export_onnx(net, dynamic=())
    except ExportError as error:
        assert layer.onnx_reason, f"{type_name} neither exports nor says why: {error}"
        pytest.skip(str(error))
    with torch.no_grad():
        expected = net(**dict(zip(names, bottoms, strict=True)))
    buffer = io.BytesIO(model.SerializeToString())
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    feed = {name: bottom.numpy() for name, bottom in zip(names, bottoms, strict=True) if name in wanted}
    for output, value in zip(session.get_outputs(), session.run(None, feed), strict=True):
        np.testing.assert_allclose(value, expected[output.name].numpy(), rtol=1e-4, atol=1e-5, err_msg=output.name)
