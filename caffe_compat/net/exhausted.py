"""Out of memory: which layer asked, for which blob of what size, and what makes it smaller.

torch says how many bytes it could not get.  Whoever trains a net wants to know what they are for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from caffe_compat.errors import CaffeCompatError, LayerError, NetError
from caffe_compat.layers import Shape, count
from caffe_compat.memory import human_size

if TYPE_CHECKING:
    from caffe_compat.description import LayerDescription
    from caffe_compat.net.plan import Learnable, Node

__all__ = ["asked", "in_backward", "in_blob", "in_building", "in_forward", "in_weights", "is_out_of_memory", "updating"]

_WORDS = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
"""What torch says in a plain RuntimeError: its allocator on the CPU; CUDA itself; cuBLAS and cuDNN."""
_ASKED = re.compile(r"[Tt]ried to allocate (\d+(?:\.\d+)?) ?(bytes|[KMGT]iB)")
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB"))}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, CaffeCompatError) or not isinstance(error, RuntimeError):
        return False
    return any(word in str(error) for word in _WORDS)


def in_forward(node: Node, bottoms: Sequence[Shape], tops: Sequence[Shape], error: BaseException) -> LayerError:
    """The error of a layer whose forward pass ran out of memory.

    Args:
        bottoms, tops: shapes of its blobs.
        error: what the allocator said.
    """
    made = list(zip(node.description.tops, tops, strict=False))
    told = _largest([(f"top '{name}'", shape) for name, shape in made]) if made else "no top"
    return node.description.error(
        f"ran out of memory in the forward pass{asked(error)}: {told}{_read(node.description, bottoms)}"
        f"{_advice(bottoms, tops)}"
    )


def in_backward(node: Node, bottoms: Sequence[Shape], error: BaseException) -> LayerError:
    """The error of a layer whose backward pass ran out of memory.

    Args:
        bottoms: shapes of its bottoms.
        error: what the allocator said.
    """
    wanted = [
        (f"the gradient of bottom '{name}'", shape)
        for name, shape, grad in zip(node.description.bottoms, bottoms, node.bottom_grads, strict=False)
        if grad
    ]
    wanted += [
        (f"the gradient of blob {index}", shape)
        for index, (shape, grad) in enumerate(zip(node.layer.blob_shapes, node.param_grads, strict=False))
        if grad
    ]
    told = _largest(wanted) if wanted else "no gradient"
    return node.description.error(
        f"ran out of memory in the backward pass{asked(error)}: {told}{_read(node.description, bottoms)}"
        f"{_advice(bottoms)}"
    )


def in_blob(what: str, size: int, reason: str) -> NetError:
    """The error of a blob for which there is no memory.

    Args:
        what: ``"data of blob 'conv1'"``.
        size: number of its values.
        reason: how much there is.
    """
    return NetError(f"{what}: {size} values need {human_size(4 * size)}, {reason}; a smaller batch or crop needs less")


def in_building(description: LayerDescription, bottoms: Sequence[Shape], error: BaseException) -> LayerError:
    """The error of a layer whose blobs do not fit into memory while the net is built."""
    return description.error(
        f"ran out of memory for its blobs{asked(error)}{_read(description, bottoms)}{_advice(bottoms)}"
    )


def in_weights(node: Node, error: BaseException) -> LayerError:
    """The error of a layer whose weights do not fit on the device that they go to."""
    blobs = [(f"blob {index}", shape) for index, shape in enumerate(node.layer.blob_shapes)]
    told = _largest(blobs) if blobs else "no blob"
    return node.description.error(
        f"ran out of memory for its weights{asked(error)}: {told}; a smaller net or another device is needed"
    )


@contextlib.contextmanager
def updating(learnables: Sequence[Learnable]) -> Iterator[None]:
    """Let a solver's update that runs out of memory say what it works on.

    Raises:
        NetError: it did; names the largest parameter and its size.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        parameters = [(f"layer '{one.layer}' blob {one.index}", tuple(one.parameter.shape)) for one in learnables]
        total = human_size(4 * sum(count(shape) for _, shape in parameters))
        raise NetError(
            f"ran out of memory in the update of {len(parameters)} parameters ({total}){asked(error)}: the largest is "
            f"{_largest(parameters) if parameters else 'none'}; gradients and the solver's history need as much each, "
            "so a smaller batch or crop leaves room for them"
        ) from error


def _largest(blobs: Sequence[tuple[str, Shape]]) -> str:
    what, shape = max(blobs, key=lambda blob: count(blob[1]))
    return _sized(what, shape)


def _sized(what: str, shape: Shape) -> str:
    return f"{what} of shape {list(shape)} needs {human_size(4 * count(shape))}"


def _read(description: LayerDescription, bottoms: Sequence[Shape]) -> str:
    pairs = list(zip(description.bottoms, bottoms, strict=False))
    return f" (from {', '.join(f'{name!r} {list(shape)}' for name, shape in pairs)})" if pairs else ""


def asked(error: BaseException) -> str:
    """`` asking for 2 GiB``: how much could not be had, if the allocator said."""
    found = _ASKED.search(str(error))
    return f" asking for {human_size(int(float(found[1]) * _UNITS[found[2]]))}" if found else ""


def _advice(*shapes: Sequence[Shape]) -> str:
    """What to make smaller: the batch, and of pictures the crop."""
    blobs = [shape for group in shapes for shape in group]
    batch = max((shape[0] for shape in blobs if len(shape) > 1), default=0)
    pictures = [shape for shape in blobs if len(shape) == 4 and shape[2] * shape[3] > 1]
    crop = max(((shape[2], shape[3]) for shape in pictures), default=None)
    ways = [f"a smaller batch (now {batch})"] * (batch > 1)
    ways += [f"a smaller crop or picture (now {crop[0]} x {crop[1]})"] if crop else []
    return f"; {' or '.join(ways)} needs less" if ways else ""
