"""A hypercolumn net run by PyTorch: what it says of the boxes of an image."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from caffe_compat.config import Config
from caffe_compat.detection.inference import load_detector_net
from caffe_compat.errors import NetError, UsageError
from caffe_compat.net import Net
from caffe_compat.net.pads import other_pads
from caffe_compat.proto.windows import window_of
from caffe_compat.segmentation.questions import MaskQuestion

__all__ = ["BOX_BLOBS", "Masks", "check_cells", "load_mask_net"]

BOX_BLOBS = ("normalizedboxes", "sppboxes", "categids")
"""Inputs that say which boxes are to be segmented."""
_AT_ONCE = 512
"""Boxes of a forward pass: each costs a megabyte or two."""


def load_mask_net(
    prototxt: str | os.PathLike[str], weights: Sequence[str | os.PathLike[str]], config: Config
) -> tuple[Net, list[str]]:
    """A test net with its weights, copied from the files in their order.

    Args:
        config: PARITY is read.

    Returns:
        The net, and, with PARITY, its layers whose pads are not those that its weights were trained with: the released
        HHA net has such, see :mod:`caffe_compat.net.pads`.

    Raises:
        WeightsError: as :func:`~caffe_compat.detection.inference.load_detector_net`.
        UsageError: such layers, without PARITY.
        CaffeCompatError: a file that cannot be read.
    """
    net = load_detector_net(prototxt, weights)
    wrong = other_pads(net.nodes, weights)
    if wrong and not config.parity:
        raise UsageError(f"{os.fspath(prototxt)}: {'; '.join(wrong[:3])}: its maps lie elsewhere (--parity allows it)")
    return net, wrong


def check_cells(net: Net, config: Config) -> None:
    """Refuse options with other cells than the net's maps have.

    Raises:
        UsageError: SDS.FEAT_SCALE is another.
    """
    maker = dict[int, int]()
    for number, node in enumerate(net.nodes):
        for blob in node.top_ids:
            maker.setdefault(blob, number)
    for node in net.nodes:
        if not node.layer.per_box or net.plan.shapes[node.bottom_ids[1]][1:2] != (5,):
            continue
        blob, stride = node.bottom_ids[0], 1
        while blob in maker and net.nodes[maker[blob]].bottom_ids:
            below = net.nodes[maker[blob]]
            window = window_of(below.description.message)
            stride *= 1 if window is None else window.stride[0]
            blob = below.bottom_ids[0]
        if stride != config.sds.feat_scale:
            raise UsageError(
                f"SDS.FEAT_SCALE is {config.sds.feat_scale}, but net '{net.description.name}' pools regions from maps "
                f"with cells of {stride} pixels; make_sds writes a config.yml that says so"
            )


class Masks:
    """Answers to questions about boxes.

    Args:
        net: with inputs of pictures and :data:`BOX_BLOBS`; moved to the device.
        modalities: pictures of an image.
        config: SDS is read.
        device: where it runs.
        pictures: names of the inputs of pictures, in the order of the modalities; None: ``image`` and ``da_image``.
        output: blob of probabilities; None: the net's only output.

    Raises:
        NetError: inputs or outputs are missing, or have other sizes.
        UsageError: SDS.MASK_SIZE or SDS.FEAT_SCALE is another than the net's.
    """

    def __init__(
        self,
        net: Net,
        modalities: int,
        config: Config,
        device: torch.device | str = "cpu",
        pictures: Sequence[str] | None = None,
        output: str | None = None,
    ) -> None:
        self.net, self.device = net.to(device), torch.device(device)
        self.pictures = tuple(pictures or ("image", "da_image")[:modalities])
        self._check_inputs(modalities)
        self.output = self._named_output(output)
        check_cells(net, config)
        shape = net.blob_shapes[self.output]
        if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
            raise NetError(
                f"net '{net.description.name}': blob '{self.output}' has the shape {list(shape)}, expected a mask for "
                "each box, N x 1 x S x S"
            )
        self.side = shape[2]
        if self.side != config.sds.mask_size:
            raise UsageError(
                f"SDS.MASK_SIZE is {config.sds.mask_size}, but net '{net.description.name}' gives masks of "
                f"{self.side} x {self.side}"
            )

    def __call__(self, question: MaskQuestion) -> np.ndarray:
        """Probabilities on the grid over each box: float32 [N, 1, S, S].

        Raises:
            NetError: numbers that are not finite.
        """
        found = [np.zeros((0, 1, self.side, self.side), np.float32)]
        pictures = dict(zip(self.pictures, question.images, strict=True))
        for start in range(0, len(question), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            inputs = {**pictures, **{name: getattr(question.blobs, name)[rows] for name in BOX_BLOBS}}
            with torch.inference_mode():
                said = self.net(
                    blobs=[self.output],
                    **{name: torch.from_numpy(blob).to(self.device) for name, blob in inputs.items()},
                )[self.output]
            found.append(said.float().cpu().numpy())
        whole = np.concatenate(found)
        bad = int(whole.size - np.isfinite(whole).sum())
        if bad:
            raise NetError(
                f"net '{self.net.description.name}': {bad} of {whole.size} numbers in blob '{self.output}' are NaN or "
                "infinite"
            )
        return whole

    def _check_inputs(self, modalities: int) -> None:
        expected = (*self.pictures, *BOX_BLOBS)
        if len(self.pictures) != modalities or sorted(self.net.input_names) != sorted(expected):
            raise NetError(
                f"net '{self.net.description.name}' takes the inputs {', '.join(self.net.input_names) or 'none'}; "
                f"expected {', '.join(expected)} for images of {modalities} "
                f"{'modality' if modalities == 1 else 'modalities'} (--sds_img_blob_names)"
            )

    def _named_output(self, name: str | None) -> str:
        names = self.net.output_names
        if name is None and len(names) == 1:
            return names[0]
        if name is None or name not in self.net.blob_shapes:
            which = "which output holds the masks?" if name is None else f"no blob '{name}';"
            raise NetError(f"net '{self.net.description.name}': {which} its outputs are {', '.join(names)}")
        return name
