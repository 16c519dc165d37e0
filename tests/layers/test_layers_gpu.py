"""Every layer of the registry on a GPU: the tops and the gradients that it has on the CPU."""

from __future__ import annotations

import pytest
import torch
from gpu import DEVICE, cases, needs_gpu, same
from test_registry import CASES, Case, _bottoms, _layer, _net, _tuple
from torch import Tensor

ELSEWHERE = {
    "HDF5Output": "writes a file and has no tops; golden case data/hdf5output does it on a GPU",
    "MemoryData": "needs arrays; golden cases data/memorydata_* give them",
    "Input": "computes nothing",
}
"""Types without a forward pass of their own here, and what runs them."""


def _random(case: Case, phase: str) -> bool:
    """Whether a pass draws numbers, which every device does in its own way."""
    return (
        (case[0] == "Dropout" and phase == "TRAIN")
        or ("STOCHASTIC" in case[1] and phase == "TRAIN")
        or (case[0] == "DummyData" and any(kind in case[1] for kind in ("uniform", "gaussian", "xavier")))
    )


def _run(case: Case, phase: str, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Tops, and the gradients of all bottoms and parameters that have one."""
    layer = _layer(_net(case, phase).to(device))
    with torch.no_grad():
        for index, parameter in enumerate(blob for blob in layer.blobs if blob.requires_grad):
            values = torch.empty(parameter.shape).uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(index))
            parameter.copy_(values)
    bottoms = [bottom.to(device) for bottom in _bottoms(case)]
    fixed = {*case[3].get("labels", {}), *case[3].get("values", {}), *(layer.no_gradient or ())}
    for index, bottom in enumerate(bottoms):
        bottom.requires_grad_(index not in fixed)
    tops = _tuple(layer(*bottoms))
    assert all(top.device == device for top in tops)
    reached = [top for top in tops if top.requires_grad]
    wanted = [value for value in (*bottoms, *layer.blobs) if value.requires_grad]
    if not reached or not wanted:
        return list(tops), []
    generator = torch.Generator().manual_seed(9)
    seeds = [torch.randn(top.shape, generator=generator).to(device) for top in reached]
    found = torch.autograd.grad(reached, wanted, seeds, allow_unused=True)
    assert all(gradient is None or gradient.device == device for gradient in found)
    return list(tops), [torch.zeros(()) if gradient is None else gradient for gradient in found]


@needs_gpu
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
@pytest.mark.parametrize("case", cases([case for case in CASES if case.values[0][0] not in ELSEWHERE]))
def test_layer_on_gpu(case: Case, phase: str) -> None:
    if case[3].get("forward") is False:
        pytest.skip("needs more than a prototxt for its forward pass")
    tops, gradients = _run(case, phase, DEVICE)
    on_cpu = _run(case, phase, torch.device("cpu"))
    for index, (got, wanted) in enumerate(zip(tops, on_cpu[0], strict=True)):
        if _random(case, phase):
            assert got.shape == wanted.shape
        else:
            same(f"top {index}", got, wanted)
    for index, (got, wanted) in enumerate(zip(gradients, on_cpu[1], strict=True)):
        if not _random(case, phase):
            same(f"gradient {index}", got, wanted)
