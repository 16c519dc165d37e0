"""What ``describe --deploy`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from caffe_compat.errors import UsageError
from caffe_compat.files import write_file
from caffe_compat.net.deploy import deploy_form, reads_own_data
from caffe_compat.proto import read_net_text
from caffe_compat.proto.pretty import net_text
from caffe_compat.resources import program

__all__ = ["write_deploy"]


def write_deploy(model: str, path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Write the deploy form of a training net.

    Args:
        shapes: of its input, by name; empty: as large as the data layer says.

    Returns:
        What was done.

    Raises:
        UsageError: it is no training net, its deploy form cannot be guessed, a shape of another blob, or the file is
            the training net's.
        WriteError: it cannot be written.
    """
    message, lines = read_net_text(model)
    if not reads_own_data(message):
        raise UsageError(f"--deploy: {model} is no training net: it has an input, or nothing that reads data")
    if Path(path).exists() and Path(path).samefile(model):
        raise UsageError(f"--deploy: {path} is the training net, it would be overwritten")
    if len(shapes) > 1:
        raise UsageError(f"--shape: the deploy form has one input, given are {', '.join(shapes)}")
    form = deploy_form(message, model, next(iter(shapes.values()), ()), lines)
    if wrong := set(shapes) - {form.input}:
        raise UsageError(f"--shape {wrong.pop()}: the deploy form has the input '{form.input}'")
    command = f"{program('describe')} {model} --deploy {path}"
    write_file(path, net_text(form.message.name, form.message.layer, {}, [command]))
    return form.told()
