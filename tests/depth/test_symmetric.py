from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_compat.depth.symmetric import smallest_eigenvectors

GENERATOR = torch.Generator().manual_seed(5)


def rotations(count: int) -> torch.Tensor:
    made = torch.randn(count, 3, 3, dtype=torch.float64, generator=GENERATOR)
    return torch.linalg.qr(made).Q


def with_eigenvalues(*values: float, count: int = 400) -> torch.Tensor:
    turned = rotations(count)
    made = turned @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turned.mT
    return (made + made.mT) / 2


def stretched(matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """By how much vectors miss being eigenvectors of the smallest eigenvalue, in parts of the largest."""
    smallest = torch.linalg.eigvalsh(matrices)[:, :1]
    apart = (matrices @ vectors[..., None])[..., 0] - smallest * vectors
    largest = torch.linalg.eigvalsh(matrices).abs().amax(1).clamp_min(1e-300)
    return torch.linalg.vector_norm(apart, dim=1) / largest


@pytest.mark.parametrize("values", [
    (1, 2, 3), (-3, -2, -1), (-1, 0, 1), (0, 0, 1), (0, 1, 1), (-1, -1, 5), (-5, 1, 1), (2, 2, 2), (0, 0, 0),
    (1, 1 + 1e-9, 2), (1, 2, 2 + 1e-9), (1, 1 + 1e-15, 1e8), (1, 1 + 1e-14, 1 + 2e-14), (1e-9, 1, 1e9), (-1e9, 0, 1e-9),
    (1e150, 2e150, 3e150), (1e-170, 2e-170, 3e-170),
])  # fmt: skip
def test_is_an_eigenvector_of_the_smallest_eigenvalue(values):
    matrices = with_eigenvalues(*values)
    found = smallest_eigenvectors(matrices)
    assert torch.linalg.vector_norm(found, dim=1) == pytest.approx(torch.ones(len(found)), abs=1e-12)
    assert stretched(matrices, found).max() < 3e-15


def test_equals_lapack_where_the_direction_is_defined():
    matrices = torch.randn(20000, 3, 3, dtype=torch.float64, generator=GENERATOR)
    matrices = matrices + matrices.mT
    values, vectors = torch.linalg.eigh(matrices)
    cosine = (smallest_eigenvectors(matrices) * vectors[:, :, 0]).sum(1).abs()
    gap = (values[:, 1] - values[:, 0]) / values.abs().amax(1)
    away = torch.linalg.vector_norm(torch.linalg.cross(smallest_eigenvectors(matrices), vectors[:, :, 0], dim=1), dim=1)
    assert (away * gap).max() < 2e-15 and (1 - cosine)[gap > 1e-3].max() < 1e-13


@pytest.mark.parametrize("matrix", [
    np.diag([1.0, 2, 3]), np.diag([3.0, 2, 1]), np.diag([2.0, 1, 3]), np.diag([1.0, 1, 0]), np.diag([0.0, 1, 1]),
    np.diag([1.0, 0, 1]), np.diag([0.0, 0, 1]), np.diag([-1.0, 0, 0]), np.ones((3, 3)), -np.ones((3, 3)),
    np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]]), np.array([[0.0, 0, 1], [0, 0, 0], [1, 0, 0]]),
])  # fmt: skip
def test_matrices_with_zeros(matrix):
    matrices = torch.from_numpy(matrix)[None]
    assert stretched(matrices, smallest_eigenvectors(matrices)).max() < 1e-15


def test_a_multiple_of_the_identity_gives_the_first_axis_as_lapack_does():
    for factor in (0.0, 2.0, -3.0):
        matrices = factor * torch.eye(3, dtype=torch.float64)[None]
        expected = torch.linalg.eigh(matrices).eigenvectors[:, :, 0]
        assert torch.equal(smallest_eigenvectors(matrices), expected)


def test_float32_and_no_matrix_at_all():
    matrices = with_eigenvalues(1, 2, 3).float()
    found = smallest_eigenvectors(matrices)
    assert found.dtype == torch.float32 and stretched(matrices.double(), found.double()).max() < 1e-6
    assert smallest_eigenvectors(matrices[:0]).shape == (0, 3)


def test_one_matrix_does_not_depend_on_its_neighbours():
    matrices = torch.cat([with_eigenvalues(1, 2, 3, count=3), torch.zeros(1, 3, 3), with_eigenvalues(0, 0, 1, count=3)])
    alone = torch.cat([smallest_eigenvectors(matrix[None]) for matrix in matrices])
    assert torch.allclose(smallest_eigenvectors(matrices), alone, atol=1e-15)
