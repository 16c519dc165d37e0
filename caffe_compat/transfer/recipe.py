"""What a supervision transfer consists of, and the nets that follow from it.

Gupta, Hoffman, Malik: Cross Modal Distillation for Supervision Transfer, CVPR 2016.  A frozen teacher sees one
modality, the student the other; the student's feature, through a 1x1 convolution and a ReLU, learns to be the
teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from caffe_compat.errors import UsageError
from caffe_compat.layers import Shape
from caffe_compat.net import Plan
from caffe_compat.proto import read_net
from caffe_compat.transfer.branch import Branch, read_branch

__all__ = ["MEANS", "Recipe", "Transfer"]

MEANS = (102.9801, 115.9465, 122.7717)
"""Blue, green, red: what the released code subtracts from both modalities."""


@dataclass(frozen=True)
class Recipe:
    """What the user decides.

    Attributes:
        teacher, student: prototxt files, deploy or train_val.
        layers, student_layers: blobs to be matched, as many of each; student_layers may be empty for the same names.
        output: folder for the files; it also stands in the solver.
        source, val_source, root_folder: pair lists for training and validation.
        teacher_weights: named in the solver and in surgery.json.
        mean_norms: measured mean norm of the teacher's features, one per layer, before ``scale``; empty: taken as 1.
        scale: factor on the teacher's feature (None: no scaling layer).
        loss: ``l2`` or ``sigmoid``; alpha and tau belong to the latter.
        loss_weight: None for 1 / (H W n).
        crop: height and width of random crops; None: whole frames of ``image_size``.
        image_size: height and width of the frames after resizing.
        short_side, multiple_of, batch_size, mean, mean_second, negate_x: of the data layer.
        prefix: of the student's layers and blobs.
        filler: weight filler for the student and the adaptation instead of their own ones; biases then start at 0.
    """

    teacher: str
    student: str
    layers: tuple[str, ...]
    output: str
    student_layers: tuple[str, ...] = ()
    source: str = "output/rgbd/train_pairs.txt"
    val_source: str = "output/rgbd/val_pairs.txt"
    root_folder: str = ""
    teacher_weights: str | None = None
    mean_norms: tuple[float, ...] = ()
    scale: float | None = None
    loss: str = "l2"
    alpha: float = 1.0
    tau: float = 0.0
    loss_weight: float | None = None
    crop: tuple[int, int] | None = None
    image_size: tuple[int, int] = (480, 640)
    short_side: int | None = None
    multiple_of: int = 1
    batch_size: int = 2
    mean: tuple[float, ...] = MEANS
    mean_second: tuple[float, ...] = ()
    negate_x: int = -1
    prefix: str = "da_"
    filler: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise UsageError(f"--layer is {list(self.layers)}, expected one or more different blobs")
        if self.student_layers and len(self.student_layers) != len(self.layers):
            raise UsageError(f"--student-layer has {len(self.student_layers)} entries, --layer {len(self.layers)}")
        if self.mean_norms and len(self.mean_norms) != len(self.layers):
            raise UsageError(f"--mean-norm has {len(self.mean_norms)} entries, --layer {len(self.layers)}")
        if self.loss not in ("l2", "sigmoid"):
            raise UsageError(f"--loss is '{self.loss}', expected l2 or sigmoid")
        for option, value in (
            ("--scale", self.scale),
            ("--alpha", self.alpha),
            ("--loss-weight", self.loss_weight),
            *(("--mean-norm", norm) for norm in self.mean_norms),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{option} is {value:g}, expected a positive number")
        for option, numbers in (("--mean", self.mean), ("--mean-second", self.mean_second or self.mean)):
            if len(numbers) not in (1, 3):
                raise UsageError(f"{option} has {len(numbers)} numbers, expected 1 or 3 (blue, green, red)")
        if min(*self.size, self.batch_size, self.multiple_of) < 1:
            raise UsageError("--crop, --image-size, --batch-size and --multiple-of must be positive")
        if not self.prefix:
            raise UsageError("--prefix is empty, expected a word that tells the student's layers from the teacher's")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the nets see."""
        height, width = self.crop or self.image_size
        return height // self.multiple_of * self.multiple_of, width // self.multiple_of * self.multiple_of


@dataclass(frozen=True)
class Feature:
    """One pair of features.

    Attributes:
        teacher, student: their blobs, as their prototxt files call them.
        shape, student_shape: for one image of the recipe's size.
        align: whether images are possible for which the maps differ by one row or column.
        norm: mean norm of the teacher's feature after scaling, or None if it was not measured.
    """

    teacher: str
    student: str
    shape: Shape
    student_shape: Shape
    align: bool
    norm: float | None

    @property
    def locations(self) -> int:
        """Units per channel that the loss compares."""
        pairs = zip(self.shape[2:], self.student_shape[2:], strict=True)
        return math.prod(min(pair) for pair in pairs)


class Transfer:
    """A recipe with both nets read and checked against each other.

    Raises:
        CaffeCompatError: a file, a blob, or a pair of features that no loss can compare.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.teacher = read_branch(recipe.teacher, recipe.layers, "TEST")
        self.student = read_branch(recipe.student, recipe.student_layers or self._same_layers(), "TRAIN")
        size = self.teacher.size
        if self.teacher.fixed and size and size != recipe.size:
            raise UsageError(
                f"{recipe.teacher}: '{recipe.layers[0]}' comes after an InnerProduct layer, which takes images of "
                f"{size[0]} x {size[1]} only, not {recipe.size[0]} x {recipe.size[1]}; use --crop {size[0]} {size[1]}"
            )
        self.features = [self._feature(index) for index in range(len(recipe.layers))]

    def _same_layers(self) -> tuple[str, ...]:
        """The teacher's names, with the prefix where the student's prototxt has it."""
        tops = {top for layer in read_net(self.recipe.student).layer for top in layer.top}
        prefix = self.recipe.prefix
        return tuple(prefix + name if prefix + name in tops else name for name in self.recipe.layers)

    @cached_property
    def _plans(self) -> tuple[Plan, Plan]:
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
                )
            align = self._sizes_differ(names)
        norm = recipe.mean_norms[index] * (recipe.scale or 1.0) if recipe.mean_norms else None
        return Feature(names[0], names[1], shapes[0], shapes[1], align, norm)

    def _check_strides(self, who: str, names: Sequence[str]) -> None:
        size = self.recipe.size
        strides = [
            branch.stride(plan, size, name)
            for branch, plan, name in zip((self.teacher, self.student), self._plans, names, strict=True)
        ]
        if strides[0] != strides[1]:
            raise UsageError(
                f"{who} have strides of {strides[0]:g} and {strides[1]:g} pixels, expected equal strides; choose other "
                "layers (--student-layer)"
            )

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

        For the sigmoid loss, whose gradient at a unit is a probability error, n is the root of the channel count.
        Six significant digits.
        """
        if self.recipe.loss_weight is not None:
            return self.recipe.loss_weight
        norm = math.sqrt(feature.shape[1]) * self.recipe.alpha if self.recipe.loss == "sigmoid" else feature.norm or 1.0
        return float(f"{1 / (feature.locations * norm):.6g}")


def _size(shape: Shape) -> str:
    return " x ".join(str(dim) for dim in shape[2:])
