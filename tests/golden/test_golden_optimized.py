"""Golden nets of phase TEST, optimized, against BVLC Caffe's numbers (which hold for the net as it is) to 1e-5."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.runner import DATA, Case, build, write_inputs

import caffe_compat.pycaffe as caffe
from caffe_compat import Net
from caffe_compat.net.fast import optimize

NETS = sorted(path for path in DATA.glob("nets/*.npz") if not path.stem.startswith("full_"))
WHOLE = sorted(path for path in DATA.glob("nets/full_*.npz") if "train" not in path.stem)
SMALL = [path for path in WHOLE if path.stem in ("full_cifar10_quick", "full_lenet_test", "full_resnet_mini_test")]
FEW = ("batchnorm", "convolution_r", "eltwise_sum", "innerproduct_a", "innerproduct_t", "lrn", "pooling_r", "scale_b")
LAYERS = sorted(DATA.glob("layers/*.npz"))
QUICK = [path for path in LAYERS if path.stem.startswith(FEW)]
MORE = [path for path in LAYERS + WHOLE if path not in QUICK + SMALL]
NEAR = 1e-5
"""Of the largest number of a blob."""


def twin(case: Case) -> tuple[Net, dict[str, torch.Tensor]]:
    """The net of a case as a module, and what it is given."""
    caffe.set_random_seed(7)
    net = build(case)
    inputs = case.under("in")
    for name, formula in (case.spec.get("passes") or [{}])[0].get("formula_inputs", {}).items():
        random = np.random.RandomState(formula["seed"])
        inputs[name] = random.uniform(formula["low"], formula["high"], formula["shape"]).astype(np.float32)
    write_inputs(net, {name: value for name, value in inputs.items() if name in net.blobs})
    if "memory_data" in case.spec:
        net.set_input_arrays(case.arrays["memory/data"], case.arrays["memory/labels"])
    module: Net = net.module
    given = {name: torch.from_numpy(np.array(net.blobs[name].data, np.float32)) for name in module.input_names}
    return module, given


def check(path: Path, folder: Path) -> None:
    """All blobs of both, but those of random layers."""
    case = Case.load(path)
    if case.spec.get("kind", "net") != "net" or case.phase != caffe.TEST:
        pytest.skip("not a net of phase TEST")
    for name in case.spec.get("files", ()):
        source = path.parent / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, folder / name)
    (plain, given), (fast, _) = twin(case), twin(case)
    optimize(fast)
    names: list[str] = [name for name in dict.fromkeys(plain.plan.names) if name != "(automatic)"]
    for blobs in (names, [], names[1::3]):  # what is asked for decides what can be joined
        results = []
        for net, asked in ((plain, names), (fast, blobs)):
            caffe.set_random_seed(7)
            with torch.no_grad():
                results.append(net(blobs=asked, **given))
        for name, value in results[1].items():
            compare(f"{path.stem}: {name}", value, results[0][name])


def compare(name: str, value: torch.Tensor, wanted: torch.Tensor) -> None:
    """Shape, format and numbers; NaN and infinities where they were."""
    assert value.shape == wanted.shape, name
    assert value.is_contiguous() or not wanted.is_contiguous(), name
    finite = wanted.isfinite()
    largest = float(wanted[finite].abs().max()) if finite.any() else 0.0
    torch.testing.assert_close(value[~finite], wanted[~finite], equal_nan=True, msg=name)
    torch.testing.assert_close(value[finite], wanted[finite], rtol=NEAR, atol=NEAR * largest, msg=name)


@pytest.mark.parametrize("path", [*NETS, *SMALL, *QUICK], ids=lambda path: path.stem)
def test_optimized(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MODULE", "caffe_compat.pycaffe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    check(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in LAYERS + WHOLE if path not in QUICK + SMALL], ids=lambda path: path.stem
)
def test_more_optimized(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_optimized(path, tmp_path, monkeypatch)
