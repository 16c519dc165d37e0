"""A net with the face of an exported model: arrays in, arrays out, so that what feeds pictures feeds both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from caffe_compat.deploy.values import Value
from caffe_compat.errors import UsageError
from caffe_compat.media import Preparation
from caffe_compat.net.net import Net

__all__ = ["NetRunner"]


class NetRunner:
    """Runs a net as :class:`~caffe_compat.deploy.Session` runs a model.

    Args:
        net: in the phase TEST, with inputs that the caller gives; moved to the device.
        preparation: what it wants of pictures.
        device: where it runs.

    Attributes:
        inputs: with an open number of pictures, whatever the prototxt says.
        outputs: every blob, any of which may be asked for; of one that a later layer overwrites in place, what is in it
            at the end.
        output_names: blobs that no layer consumes.

    Raises:
        UsageError: the net takes no input: it reads its own data.
    """

    def __init__(self, net: Net, preparation: Preparation | None = None, device: torch.device | str = "cpu") -> None:
        if not net.input_names:
            first = next((node.description for node in net.nodes if not node.bottom_ids), None)
            reads = f" (layer '{first.name}' of type {first.type} reads its data)" if first else ""
            raise UsageError(
                f"net '{net.description.name}' has no input to be given a picture{reads}: expected the deploy prototxt"
            )
        self.net, self.device, self.preparation = net.to(device), torch.device(device), preparation
        values = {name: Value(name, ("batch", *shape[1:]), "float32") for name, shape in net.blob_shapes.items()}
        self.inputs: dict[str, Value] = {name: values[name] for name in net.input_names}
        self.outputs: dict[str, Value] = values
        self.output_names = list(net.output_names)
        self.metadata: dict[str, str] = {}

    def __call__(self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """Compute blobs.

        Args:
            inputs: all of the net's by name, float32 arrays.
            outputs: names of blobs; None: the net's outputs.

        Returns:
            Arrays by name.

        Raises:
            CaffeCompatError: an input that is missing or that a layer cannot take, or no such blob.
        """
        wanted = self.output_names if outputs is None else list(outputs)
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(value)).to(self.device) for name, value in inputs.items()
        }
        with torch.inference_mode():
            found = self.net(blobs=wanted, **tensors)
        return {name: found[name].float().cpu().numpy() for name in wanted}
