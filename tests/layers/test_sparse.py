"""SparseData and SparseInnerProduct, of jolibrain/caffe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_files import sparse, write_lmdb
from one_layer import one_layer

from caffe_compat.errors import CaffeCompatError, LayerError
from caffe_compat.layers import Layer


def _layer(folder: Path, *records: bytes) -> Layer:
    write_lmdb(folder / "db", list(records))
    body = f'data_param {{ source: "{folder}/db" backend: LMDB batch_size: {len(records)} }}'
    return one_layer("SparseData", body, tops=("data", "label"))


def test_rows(tmp_path: Path) -> None:
    data, label = _layer(tmp_path, sparse(4, 2, (3, 1.5), (0, -1)), sparse(4, 0), sparse(4, 1, (2, 1), (2, 0.5)))()
    assert data.tolist() == [[-1, 0, 0, 1.5], [0, 0, 0, 0], [0, 0, 1.5, 0]] and label.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (sparse(4, 0, (4, 1.0)), "has indices 4 to 4 in 4"),
        (sparse(4, 0, (-1, 1.0)), "has indices -1 to -1"),
        (sparse(5, 0), "has a size of 5, the first of the batch 4"),
        (sparse(0, 0), "has size 0 and nnz 0"),
        (b"\xff", "is no SparseDatum"),
    ],
)
def test_bad_records(tmp_path: Path, record: bytes, message: str) -> None:
    layer = _layer(tmp_path, sparse(4, 0), record)
    with pytest.raises(CaffeCompatError, match=message):
        layer()


def test_the_product_is_that_of_inner_product() -> None:
    body, weight = "inner_product_param { num_output: 2 }", torch.arange(6.0)
    x = torch.tensor([[0.0, 2, 0], [1, 0, 0]])
    layers = [one_layer(kind, body, (2, 3), blob0=weight) for kind in ("SparseInnerProduct", "InnerProduct")]
    assert torch.equal(layers[0](x), layers[1](x))
    assert layers[0].replaces_gradient(0, [(2, 3)]) and not layers[1].replaces_gradient(0, [(2, 3)])
    with pytest.raises(LayerError, match="transpose is true, expected false"):
        one_layer("SparseInnerProduct", "inner_product_param { num_output: 2 transpose: true }", (2, 3))
