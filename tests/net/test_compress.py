"""Truncated SVD of fully connected layers: the best approximation of its rank, exact at full rank; refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.commands import compress_net
from caffe_compat.errors import CaffeCompatError, UsageError, WeightsError
from caffe_compat.net import load_net
from caffe_compat.net.compress import compress, factors

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 5 dim: 12 } } }\n'
FC = 'layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" inner_product_param { num_output: %d %s } }\n'
FILLED = 'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 }'
NO_BIAS = "bias_term: false"
NET = INPUT + FC % ("fc6", "data", "fc6", 8, FILLED) + FC % ("fc7", "fc6", "fc7", 20, FILLED)
NET += FC % ("out", "fc7", "out", 3, FILLED)


def svd_net(fc6: int = 4, fc7: int = 8, lower: str = NO_BIAS) -> str:
    text = INPUT + FC % ("fc6_L", "data", "fc6_L", fc6, lower) + FC % ("fc6_U", "fc6_L", "fc6", 8, "")
    text += FC % ("fc7_L", "fc6", "fc7_L", fc7, NO_BIAS) + FC % ("fc7_U", "fc7_L", "fc7", 20, "")
    return text + FC % ("out", "fc7", "out", 3, "")


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Path("net.prototxt").write_text(NET)
    load_net("net.prototxt").save("x.caffemodel")
    Path("svd.prototxt").write_text(svd_net())


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_factors_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, values, right = np.linalg.svd(weights, full_matrices=False)
    for rank in (1, 3, min(shape)):
        u, l = factors(weights, rank)  # noqa: E741 - the branch's names
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        np.testing.assert_allclose(u @ l, best, atol=2e-5)
        np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(l, axis=1), values[:rank], rtol=1e-4)


def test_weights_of_lower_rank_than_asked_for() -> None:
    for shape in ((6, 10), (10, 6)):
        weights = np.outer(np.arange(shape[0]), np.ones(shape[1])).astype(np.float32)
        u, l = factors(weights, 4)  # noqa: E741
        np.testing.assert_allclose(u @ l, weights, atol=1e-4)


def test_full_rank_is_exact_and_the_rest_is_copied() -> None:
    Path("svd.prototxt").write_text(svd_net(8, 8))
    path, found = compress("net.prototxt", "svd.prototxt", "x.caffemodel")
    assert path.name == "x_svd_fc6_8_fc7_8.caffemodel" and [one.layer for one in found] == ["fc6", "fc7"]
    assert all(one.error < 1e-6 for one in found)
    data = torch.randn(5, 12)
    whole, small = load_net("net.prototxt", "x.caffemodel"), load_net("svd.prototxt", path)
    torch.testing.assert_close(small(data=data)["out"], whole(data=data)["out"], rtol=1e-5, atol=1e-4)
    assert torch.equal(small.layer("fc6_U").blob(1), whole.layer("fc6").blob(1))
    assert torch.equal(small.layer("out").blob(0), whole.layer("out").blob(0))


def test_the_command_says_what_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert compress_net.main(["--def", "net.prototxt", "--def-svd", "svd.prototxt", "--net", "x.caffemodel"]) == 0
    values = np.linalg.svd(load_net("net.prototxt", "x.caffemodel").layer("fc6").blob(0).detach().numpy())[1]
    error = np.sqrt((values[4:] ** 2).sum() / (values**2).sum())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"fc6: 8 x 12 to rank 4, 83.3% of the numbers, relative error {error:.3g}"
    assert lines[1].startswith("fc7: 20 x 8 to rank 8, 140.0% of the numbers")
    assert lines[2] == "wrote x_svd_fc6_4_fc7_8.caffemodel"


BAD = {
    "rank too large": (svd_net(9), WeightsError, ["fc6_L", "rank 9", "at most 8"]),
    "no factors": (NET, UsageError, ["svd.prototxt", "fc6_L"]),
    "half a pair": (svd_net().replace('"fc6_U"', '"fc6_V"'), WeightsError, ["fc6_L", "no 'fc6_U'"]),
    "a bias below": (svd_net(lower=""), WeightsError, ["fc6_L", "bias_term: false"]),
    "outputs": (svd_net().replace("num_output: 20", "num_output: 21"), CaffeCompatError, ["21"]),
    "no such layer": (
        svd_net().replace('"fc6_L"', '"fc9_L"').replace('"fc6_U"', '"fc9_U"'),
        WeightsError,
        ["x.caffemodel", "'fc9'"],
    ),
    "a new layer": (svd_net() + FC % ("more", "out", "more", 2, ""), WeightsError, ["x.caffemodel", "'more'"]),
}


@pytest.mark.parametrize("what", BAD)
def test_refusals(what: str) -> None:
    text, kind, parts = BAD[what]
    Path("svd.prototxt").write_text(text)
    with pytest.raises(kind) as caught:
        compress("net.prototxt", "svd.prototxt", "x.caffemodel")
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["net.prototxt", "svd.prototxt", "x.caffemodel"]
