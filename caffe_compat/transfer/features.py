"""The features that a supervision transfer matches: both nets of a recipe read and checked against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_compat.errors import UsageError
from caffe_compat.layers import Shape
from caffe_compat.net import Plan
from caffe_compat.proto import read_net
from caffe_compat.transfer.boxes import read_features
from caffe_compat.transfer.branch import Branch
from caffe_compat.transfer.pairs import FeatureMap, feature_maps, nearest_fits
from caffe_compat.transfer.recipe import Recipe, of_layer
from caffe_compat.transfer.teachers import read_teacher

__all__ = ["Feature", "Transfer"]

_BOXES = {True: "boxes", False: "images"}


@dataclass(frozen=True)
class Feature:
    """One pair of features.

    Attributes:
        teacher, student: their blobs, as their prototxt files call them.
        shape, student_shape: for one image of the recipe's size.
        over_boxes: whether they have an item for each box, not for each image.
        align: whether images are possible for which the maps differ by one row or column.
        norm: mean norm of the teacher's feature after scaling, or None if it was not measured.
        scale: factor on the teacher's feature, or None.
        alpha, tau: of the sigmoid loss; None where they are to be measured.
        adapt_std, adapt_bias: how the adaptation's weights (gaussian) and biases (constant) start.
    """

    teacher: str
    student: str
    shape: Shape
    student_shape: Shape
    over_boxes: bool
    align: bool
    norm: float | None
    scale: float | None = None
    adapt_std: float = 0.01
    adapt_bias: float = 0.0
    alpha: float | None = 1.0
    tau: float | None = 0.0

    @property
    def locations(self) -> int:
        """Units per channel that the loss compares."""
        pairs = zip(self.shape[2:], self.student_shape[2:], strict=True)
        return math.prod(min(pair) for pair in pairs)


class Transfer:
    """A recipe with both nets read and checked against each other.

    Args:
        known: one whose nets are taken over, if its recipe means the same: reading a net of another framework takes
            a second.

    Raises:
        CaffeCompatError: a file, a blob, or a pair of features that no loss can compare.
    """

    def __init__(self, recipe: Recipe, known: Transfer | None = None) -> None:
        self.recipe = recipe
        self.teacher: Branch
        self.student: Branch
        if known is not None and _nets_of(known.recipe) != _nets_of(recipe):
            known = None
        if known is not None:
            self.teacher, self.student = known.teacher, known.student
        else:
            self.teacher = read_teacher(recipe)
            self.student = read_features(
                recipe.student, recipe.student_layers or self._same_layers(), "TRAIN", bool(recipe.proposals)
            )
        size = self.teacher.size
        if self.teacher.fixed and size and size != recipe.size:
            raise UsageError(
                f"{recipe.teacher}: '{recipe.layers[0]}' comes after an InnerProduct layer, which takes images of "
                f"{size[0]} x {size[1]} only, not {recipe.size[0]} x {recipe.size[1]}; use --crop {size[0]} "
                f"{size[1]}, or --proposals FILE (or builtin) for features over boxes, as in Fast R-CNN"
            )
        self._plans: tuple[Plan, Plan] = known._plans if known is not None else self._planned()
        self.features = [self._feature(index) for index in range(len(recipe.layers))]

    @property
    def over_boxes(self) -> bool:
        """Whether there are features over boxes."""
        return any(feature.over_boxes for feature in self.features)

    def _same_layers(self) -> tuple[str, ...]:
        """The teacher's names, with the prefix where the student's prototxt has it."""
        tops = {top for layer in read_net(self.recipe.student).layer for top in layer.top}
        prefix = self.recipe.prefix
        return tuple(prefix + name if prefix + name in tops else name for name in self.recipe.layers)

    def _planned(self) -> tuple[Plan, Plan]:
        return self.teacher.plan(self.recipe.size), self.student.plan(self.recipe.size)

    def learnable_counts(self, branch: Branch) -> dict[str, int]:
        """Number of blobs of every layer of a branch."""
        plan = self._plans[0 if branch is self.teacher else 1]
        return {node.name: len(node.layer.blobs) for node in plan.nodes}

    def _feature(self, index: int) -> Feature:
        recipe, size = self.recipe, self.recipe.size
        names = (self.teacher.blobs[index], self.student.blobs[index])
        shapes = [
            branch.shapes(plan, size)[name]
            for branch, plan, name in zip((self.teacher, self.student), self._plans, names, strict=True)
        ]
        who = f"'{names[0]}' of {recipe.teacher} and '{names[1]}' of {recipe.student}"
        over, theirs = names[0] in self.teacher.over_boxes, names[1] in self.student.over_boxes
        if over != theirs:
            raise UsageError(f"{who} are features over {_BOXES[over]} and over {_BOXES[theirs]}, expected alike")
        if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) not in (2, 4):
            raise UsageError(
                f"{who} have shapes {list(shapes[0])} and {list(shapes[1])}, expected both N x C x H x W or both N x C"
            )
        align = False
        if len(shapes[0]) == 4:
            if not (self.teacher.fixed or self.student.fixed):
                self._check_strides(who, names)
            if any(abs(a - b) > 1 for a, b in zip(shapes[0][2:], shapes[1][2:], strict=True)):
                raise UsageError(
                    f"{who} have maps of {_size(shapes[0])} and {_size(shapes[1])} for images of {size[0]} x {size[1]},"
                    " expected a difference of at most one row or column; change the pads or the size of the images"
                    + self._hint(names)
                )
            align = self._sizes_differ(names)
        scale = recipe.scale(index)
        norm = recipe.mean_norms[index] * (scale or 1.0) if recipe.mean_norms else None
        std, bias = of_layer(recipe.adapt_stds, index), of_layer(recipe.adapt_biases, index)
        alpha, tau = (of_layer(some, index) if some else None for some in (recipe.alphas, recipe.taus))
        return Feature(names[0], names[1], shapes[0], shapes[1], over, align, norm, scale, std, bias, alpha, tau)

    def _check_strides(self, who: str, names: Sequence[str]) -> None:
        size = self.recipe.size
        strides = [
            branch.stride(plan, size, name)
            for branch, plan, name in zip((self.teacher, self.student), self._plans, names, strict=True)
        ]
        if strides[0] != strides[1]:
            sizes = [
                _size(branch.shapes(plan, size)[name])
                for branch, plan, name in zip((self.teacher, self.student), self._plans, names, strict=True)
            ]
            raise UsageError(
                f"{who} have strides of {strides[0]:g} and {strides[1]:g} pixels and, for images of {size[0]} x "
                f"{size[1]}, maps of {sizes[0]} and {sizes[1]}, expected equal strides; choose other layers "
                f"(--student-layer){self._hint(names)}"
            )

    def _hint(self, names: Sequence[str]) -> str:
        """Which features fit instead, those first that stand nearest in their nets."""
        recipe = self.recipe
        paths = (recipe.teacher, recipe.student)
        theirs = feature_maps(recipe.student, "TRAIN", recipe.size)
        mine = [self._teacher_map(names[0])] if recipe.foreign else feature_maps(recipe.teacher, "TEST", recipe.size)
        maps = (mine, theirs)
        found = [[one for one in some if one.blob == name] for some, name in zip(maps, names, strict=True)]
        if not all(found):
            return ""
        told = []
        for this, other in ((0, 1), (1, 0)):
            fits = nearest_fits(found[this][0], found[other][0], maps[other])
            listed = ", ".join(f"'{one.blob}' ({one.height} x {one.width})" for one in fits) or "nothing"
            told.append(f"'{names[this]}' fits {listed} of {paths[other]}")
        return f"; {'; '.join(told)}; --list shows all"

    def _teacher_map(self, name: str) -> FeatureMap:
        """The feature of a teacher of another framework."""
        shape = self.teacher.shapes(self._plans[0], self.recipe.size)[name]
        stride = self.teacher.stride(self._plans[0], self.recipe.size, name)
        return FeatureMap(name, shape[1], shape[2], shape[3], stride, 1.0)

    def _sizes_differ(self, names: Sequence[str]) -> bool:
        """Whether the maps differ for some size of images that may come."""
        recipe = self.recipe
        sizes = [recipe.size]
        if not recipe.crop and not self.teacher.fixed and not self.student.fixed:
            stride = self.teacher.stride(self._plans[0], recipe.size, names[0])
            period = int(stride) if math.isfinite(stride) else 1
            steps = range(0, period * recipe.multiple_of, recipe.multiple_of)
            sizes += [(recipe.size[0] + step, recipe.size[1] + step) for step in steps]
        for size in sizes:
            maps = [
                branch.shapes(plan, size)[name][2:]
                for branch, plan, name in zip((self.teacher, self.student), self._plans, names, strict=True)
            ]
            if maps[0] != maps[1]:
                return True
        return False

    def loss_weight(self, feature: Feature) -> float:
        """1 / (H W n): the mean over locations, with gradients of about one unit whatever the teacher's scale.

        Caffe's loss is the mean over images already, or over boxes.

        For the sigmoid loss, whose gradient at a unit is a probability error, n is the root of the channel count.
        Six significant digits.
        """
        if self.recipe.loss_weight is not None:
            return self.recipe.loss_weight
        norm = feature.norm or 1.0
        if self.recipe.loss == "sigmoid":
            norm = math.sqrt(feature.shape[1]) * (feature.alpha or 1.0)
        return float(f"{1 / (feature.locations * norm):.6g}")


def _nets_of(recipe: Recipe) -> tuple[object, ...]:
    """What decides which nets a recipe is about."""
    return (
        recipe.teacher,
        recipe.foreign,
        recipe.student,
        recipe.layers,
        recipe.student_layers,
        recipe.prefix,
        bool(recipe.proposals),
        recipe.size,
    )


def _size(shape: Shape) -> str:
    return " x ".join(str(dim) for dim in shape[2:])
