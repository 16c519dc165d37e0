"""What C3D 1.0 learns labels and flow of every voxel with, and how it makes labels coarser.

Source: ``voxel_wise_softmax_loss_layer.cpp``, ``voxel_custom_loss_layer.cpp`` and ``down_sampling_layer.cpp`` of
facebook/C3D, version 1.0.  Blobs are Tensor[N, C, L, H, W].  Its softmax of every voxel is Softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, LossLayer, Shape, count
from caffe_compat.layers.labels import can_look, judged_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, kept, with_gradient

__all__ = ["DownSampling", "VoxelCustomLoss", "VoxelSoftmaxWithLoss"]

FLT_MIN = 1.17549435e-38
AXES = 5


@register(dialect="c3d")
class VoxelSoftmaxWithLoss(LossLayer):
    """Cross entropy of the softmax over the channels at every voxel, over the number of all voxels.

    Bottoms: scores Tensor[N, C, L, H, W] and labels, in channel 0 of Tensor[N, ., L, H, W].  A voxel with a label of C
    or more adds nothing to the loss; its gradient, as in the fork, is the probabilities, which are not set to 0.
    """

    caffe_type = "VoxelSoftmaxWithLoss"
    answer = "Softmax"
    creates_layer = True  # a Softmax
    no_gradient = (1,)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        scores, label = (tuple(shape) for shape in bottoms)
        self.require(
            len(scores) == len(label) == AXES and scores[:1] + scores[2:] == label[:1] + label[2:] and label[1] > 0,
            f"bottoms have shapes {list(scores)} and {list(label)}, expected N x C x L x H x W and labels of voxels",
        )
        return [()]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """The sum over the voxels with a label, over all."""
        voxels = max(1, count(scores.shape) // max(1, scores.shape[1]))
        whole = label[:, :1].detach().long()
        valid = whole < scores.shape[1]
        what = f"a label in bottom '{self.params.bottoms[1]}'"
        places = judged_indices(self, torch.where(valid, whole, 0), scores.shape[1], what)[0]
        probabilities = scores.detach().softmax(1)
        picked = probabilities.gather(1, places).clamp(min=FLT_MIN).log()
        loss = -picked.masked_fill(~valid, 0).sum() / voxels

        def rule(seed: Tensor) -> Tensor:
            wanted = torch.zeros_like(probabilities).scatter_(1, places, valid.to(probabilities))
            return (probabilities - wanted) * (seed / voxels)

        return with_gradient(loss, scores, rule)


@register(dialect="c3d")
class VoxelCustomLoss(LossLayer):
    """The mean of the squares of differences, which are held within 1.

    As in the fork the gradient is the difference over the number of items (not twice it over that of all numbers), and
    goes on where the difference is held; bottom 1 gets none.
    """

    caffe_type = "VoxelCustomLoss"
    no_gradient = (1,)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        first, second = (tuple(shape) for shape in bottoms)
        self.require(first == second, f"expected equal shapes, bottoms are {list(first)} and {list(second)}")
        return super().top_shapes(bottoms)

    def backward_reads(self) -> Reads:
        """Nothing: the difference is kept."""
        return Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """The same again."""
        return self.forward(kept(memory.then[0], memory.bottoms[0]), memory.then[1])

    def forward(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Mean square."""
        diff = (scores - truth).detach().clamp(-1, 1)
        loss = diff.square().sum() / max(1, diff.numel())
        return with_gradient(loss, scores, lambda seed: diff * (seed / max(1, len(diff))))


@register(dialect="c3d")
class DownSampling(Layer):
    """Labels of blocks of ``temporal_factor`` x ``spatial_factor`` x ``spatial_factor`` voxels, by vote.

    What does not fill a block is left out.  Of values with as many votes the smallest wins.  A value stands for the
    smallest one of the whole bottom plus a whole number.
    """

    caffe_type = "DownSampling"
    no_gradient = (0,)
    onnx_reason = "it makes labels coarser, for training"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("down_sampling_param")
        self.space, self.time = int(section.spatial_factor), int(section.temporal_factor)
        if section.enum("type") != "VOTE":
            raise self.error(f"down_sampling_param.type is {section.enum('type')}, expected VOTE, as in the fork")
        if min(self.space, self.time) < 2:
            raise self.error(
                f"down_sampling_param has spatial_factor {self.space} and temporal_factor {self.time}, expected 2 or "
                "more"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C, L / temporal_factor, H / spatial_factor, W / spatial_factor]."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == AXES, f"bottom has shape {list(shape)}, expected {AXES} axes: N, C, L, H, W")
        return [(*shape[:2], shape[2] // self.time, shape[3] // self.space, shape[4] // self.space)]

    @torch.no_grad()
    def forward(self, bottom: Tensor) -> Tensor:
        """Count votes, block by block."""
        outs = self.top_shapes([tuple(bottom.shape)])[0]
        if bottom.is_meta or 0 in outs:
            return bottom.new_empty(outs)
        if can_look(bottom) and not bool(torch.isfinite(bottom).all()):
            raise self.error(f"bottom '{self.params.bottoms[0]}' has numbers that are not finite, expected labels")
        least = bottom.amin()
        places = (bottom - least).long()
        blocks = places
        for axis, side in ((2, self.time), (3, self.space), (4, self.space)):
            blocks = blocks.unfold(axis, side, side)
        blocks = blocks.reshape(*outs, -1)
        kinds = int(places.max()) + 1
        votes = torch.zeros(*outs, kinds, dtype=torch.long, device=bottom.device)
        votes.scatter_add_(-1, blocks, torch.ones_like(blocks))
        order = torch.arange(kinds, device=bottom.device)
        return (votes * kinds - order).argmax(-1).to(bottom) + least
