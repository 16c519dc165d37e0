"""Errors say in which file they were found, and stay what they are."""

from __future__ import annotations

import copy

import pytest

from caffe_compat import errors
from caffe_compat.errors import CaffeCompatError, LayerError, MissingFileError, PrototxtError, WriteError, in_file

EVERY = [
    CaffeCompatError("a"),
    MissingFileError("list.txt", "weights"),
    WriteError("out.png", "disk full"),
    PrototxtError("unknown field", "net.prototxt", 3, 4),
    errors.ShapeError("conv1", "Convolution", "too small"),
    errors.SolverError("bad"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_type_and_fields_stay(error: CaffeCompatError) -> None:
    fields, message = dict(vars(error)), str(error)
    with pytest.raises(type(error)) as caught, in_file("solver.prototxt"), in_file("inner.prototxt"):
        raise error
    assert caught.value is error
    assert str(error) == f"solver.prototxt: inner.prototxt: {message}" and error.message == message
    assert {name: value for name, value in vars(error).items() if name != "files"} == fields
    twin = copy.copy(error)  # as pickle makes it for another process
    assert type(twin) is type(error) and str(twin) == str(error) and vars(twin) == vars(error)
    error.files = ()


def test_a_file_is_named_once() -> None:
    for error, file in (
        (MissingFileError("net.prototxt"), "net.prototxt"),
        (WriteError("net.h5", "disk full"), "net.h5"),
        (PrototxtError("unknown field", "net.prototxt", 3, 4), "net.prototxt"),
        (errors.ModelFileError("w.caffemodel: the file is empty"), "w.caffemodel"),
    ):
        message = str(error)
        with pytest.raises(CaffeCompatError), in_file(file), in_file(file):
            raise error
        assert str(error) == message
    with pytest.raises(LayerError, match=r"^n: layer 'net'"), in_file("n"), in_file("n"):
        raise LayerError("net", "ReLU", "is in the name, but is not the file n")


def test_no_file_no_name() -> None:
    with pytest.raises(CaffeCompatError, match="^a$"), in_file(""):
        raise CaffeCompatError("a")
    with pytest.raises(ValueError, match="^b$"), in_file("x"):
        raise ValueError("b")
