"""A student's feature as large as its teacher's: the function stays, the norms become equal."""

from __future__ import annotations

import pytest
import torch

from caffe_compat.description import describe_net
from caffe_compat.errors import DataError, UsageError
from caffe_compat.net import BlobNet, Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse
from caffe_compat.transfer.match import match_norms

FILLER = 'weight_filler { type: "msra" } bias_filler { type: "constant" value: 0.3 }'


def conv(name: str, bottom: str, outputs: int, kernel: int = 3) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ '
        f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} {FILLER} }} }}\n"
    )


def relu(blob: str) -> str:
    return f'layer {{ name: "relu_{blob}" type: "ReLU" bottom: "{blob}" top: "{blob}" }}\n'


HEAD = (
    'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } '
    'data_filler { type: "gaussian" std: 40 } } }\n'
)
POOL = (
    'layer { name: "da_pool" type: "Pooling" bottom: "da_b" top: "da_pool" '
    "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n"
)
TEACHER = (
    conv("feature", "data", 4)
    + relu("feature")
    + (
        'layer { name: "pool" type: "Pooling" bottom: "feature" top: "pool" '
        "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n"
    )
)


def net(text: str) -> Net:
    torch.manual_seed(1)
    return Net(describe_net(parse(text, caffe_pb2.NetParameter)))


def test_the_norms_become_equal_and_nothing_else_changes() -> None:
    text = HEAD + TEACHER + conv("da_a", "data", 6) + relu("da_a") + conv("da_b", "da_a", 5) + relu("da_b") + POOL
    text += conv("adapt_pool", "da_pool", 4, 1) + conv("above", "da_pool", 7) + conv("last", "above", 2)
    made = net(text)
    engine = BlobNet(made)
    engine.forward()
    before = {name: engine.blob(name).tensor.detach().clone() for name in ("adapt_pool", "above", "last", "da_a")}
    small = engine.blob("da_pool").tensor.detach().norm(dim=1).mean()
    wanted = engine.blob("pool").tensor.detach().norm(dim=1).mean()
    (found,) = match_norms(made, 1)
    assert (found.teacher, found.student, found.remark) == ("pool", "da_pool", "")
    assert found.wanted / found.found == pytest.approx(float(wanted / small), rel=0.2)  # other random pictures
    for node in engine.net.nodes[1:]:
        engine.forward_layer(engine.net.nodes.index(node))
    for name, values in before.items():
        torch.testing.assert_close(engine.blob(name).tensor.detach(), values, rtol=1e-4, atol=1e-4)
    after = engine.blob("da_pool").tensor.detach().norm(dim=1).mean()
    assert float(after / small) == pytest.approx(found.wanted / found.found, rel=1e-4)


def test_two_features_one_above_the_other() -> None:
    text = HEAD + TEACHER + conv("da_a", "data", 6) + relu("da_a") + conv("da_b", "da_a", 5) + relu("da_b") + POOL
    text += conv("adapt_feature", "da_a", 4, 1) + conv("adapt_pool", "da_pool", 4, 1)
    made = net(text)
    matches = match_norms(made, 1)
    assert [match.remark for match in matches] == ["", ""]
    again = match_norms(made, 20)
    assert all(match.found == pytest.approx(match.wanted, rel=0.1) for match in again)


def test_what_is_not_homogeneous_is_left() -> None:
    norm = 'layer { name: "norm" type: "LRN" bottom: "da_a" top: "norm" }\n'
    made = net(
        HEAD + TEACHER + conv("da_a", "data", 6) + norm + conv("b", "norm", 2) + conv("adapt_feature", "da_a", 4, 1)
    )
    kept = [blob.detach().clone() for blob in made.layer("da_a").blobs]
    (found,) = match_norms(made, 1)
    assert "'norm' (LRN) reads it" in str(found) and "left as it is" in str(found)
    assert all(torch.equal(one, other) for one, other in zip(made.layer("da_a").blobs, kept, strict=True))
    made = net(HEAD + TEACHER + conv("da_a", "data", 6) + norm + conv("adapt_feature", "norm", 4, 1))
    assert "'norm' (LRN) makes it" in match_norms(made, 1)[0].remark


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="this is no net of a transfer"):
        match_norms(net(HEAD + TEACHER), 1)
    made = net(HEAD + TEACHER + conv("da_a", "data", 6) + relu("da_a") + conv("adapt_feature", "da_a", 4, 1))
    with pytest.raises(UsageError, match="0 batches"):
        match_norms(made, 0)
    with torch.no_grad():
        made.layer("da_a").blobs[1].fill_(-1e9)
    with pytest.raises(DataError, match="'da_a' has the mean norm 0"):
        match_norms(made, 1)
