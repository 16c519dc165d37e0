"""What the user of a supervision transfer decides; plain data, without torch.

Gupta, Hoffman, Malik: Cross Modal Distillation for Supervision Transfer, CVPR 2016.  A frozen teacher sees one
modality, the student the other; the student's feature, through a 1x1 convolution and a ReLU, learns to be the
teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_compat.errors import UsageError
from caffe_compat.foreign.spec import ForeignSpec
from caffe_compat.media.modalities import FORK_MEAN

__all__ = ["CLIP", "Recipe", "Schedule", "of_layer"]

CLIP = 1.0
"""Norm that gradients are clipped at: at the usual rate it moves a layer by about 1 % an iteration."""


@dataclass(frozen=True)
class Recipe:
    """What the user decides.

    Attributes:
        teacher, student: prototxt files, deploy or train_val; the teacher's may be the name of a net that ``foreign``
            describes.
        layers, student_layers: blobs to be matched, as many of each; student_layers may be empty for the same names.
        output: folder for the files; it also stands in the solver.
        source, val_source, root_folder: pair lists for training and validation.
        teacher_weights: named in the solver and in surgery.json; not those of a net of another framework.
        student_weights: what the student starts from, in the names that its layers have in the transfer
            (:mod:`caffe_compat.transfer.student_weights`), instead of fillers; named in the solver.
        foreign: the teacher, if it is a net of another framework: it sees pictures as that one feeds them.
        mean_norms: measured mean norm of the teacher's features, one per layer, before ``scale``; empty: taken as 1.
        scales: factor on the teacher's features, one for all or one per layer (empty: no scaling layer).
        adapt_stds, adapt_biases: standard deviation of the adaptation's gaussian weights, and the value of its biases,
            one for all or one per layer; what :mod:`caffe_compat.transfer.start` measures.
        loss: ``l2`` or ``sigmoid``, which alphas and taus belong to.
        alphas, taus: p(x) = sigmoid(alpha x), and a unit of the teacher is on where it is above tau after scaling; one
            for all or one per layer; empty: 4 / the standard deviation, and the median of what is above 0, as measured.
        loss_weight: None for 1 / (H W n).
        crop: height and width of random crops; None: whole frames of ``image_size``.
        image_size: height and width of the frames after resizing.
        short_side, multiple_of, batch_size, mean, mean_second, negate_x: of the data layer.
        negate_about: what the numbers of that channel are mirrored about.
        modality: of the second images, see :data:`~caffe_compat.media.MODALITIES`; what the student wants of a picture
            is then written too.
        proposals: file (or folder) with boxes of the first images, or of the second; features after a fully connected
            layer are then over boxes.
        boxes_per_image: how many are drawn of a pair, from its first 2,000.
        prefix: of the student's layers and blobs.
        first_std: standard deviation of the student's first weights, instead of msra or xavier.
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
    student_weights: str | None = None
    mean_norms: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    adapt_stds: tuple[float, ...] = (0.01,)
    adapt_biases: tuple[float, ...] = (0.0,)
    loss: str = "l2"
    alphas: tuple[float, ...] = (1.0,)
    taus: tuple[float, ...] = (0.0,)
    loss_weight: float | None = None
    crop: tuple[int, int] | None = None
    image_size: tuple[int, int] = (480, 640)
    short_side: int | None = None
    multiple_of: int = 1
    batch_size: int = 2
    mean: tuple[float, ...] = FORK_MEAN
    mean_second: tuple[float, ...] = ()
    negate_x: int = -1
    negate_about: float = 128.0
    modality: str = ""
    proposals: str = ""
    boxes_per_image: int = 64
    prefix: str = "da_"
    filler: str | None = None
    first_std: float | None = None
    name: str = ""
    foreign: ForeignSpec | None = None

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise UsageError(f"--layer is {list(self.layers)}, expected one or more different blobs")
        if self.student_layers and len(self.student_layers) != len(self.layers):
            raise UsageError(f"--student-layer has {len(self.student_layers)} entries, --layer {len(self.layers)}")
        if self.mean_norms and len(self.mean_norms) != len(self.layers):
            raise UsageError(f"--mean-norm has {len(self.mean_norms)} entries, --layer {len(self.layers)}")
        for option, given in (
            ("--scale", self.scales or (1.0,)),
            ("--adapt-std", self.adapt_stds),
            ("--adapt-bias", self.adapt_biases),
            ("--alpha", self.alphas or (1.0,)),
            ("--tau", self.taus or (0.0,)),
        ):
            if len(given) not in (1, len(self.layers)):
                raise UsageError(f"{option} has {len(given)} entries, expected 1 or {len(self.layers)}, as --layer")
        if self.loss not in ("l2", "sigmoid"):
            raise UsageError(f"--loss is '{self.loss}', expected l2 or sigmoid")
        for option, value in (
            *(("--scale", scale) for scale in self.scales),
            *(("--adapt-std", std) for std in self.adapt_stds),
            *(("--alpha", alpha) for alpha in self.alphas),
            ("--first-std", self.first_std),
            ("--loss-weight", self.loss_weight),
            *(("--mean-norm", norm) for norm in self.mean_norms),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{option} is {value:g}, expected a positive number")
        for option, numbers in (("--mean", self.mean), ("--mean-second", self.mean_second or self.mean)):
            if len(numbers) not in (1, 3):
                raise UsageError(f"{option} has {len(numbers)} numbers, expected 1 or 3 (blue, green, red)")
        if min(*self.size, self.batch_size, self.multiple_of, self.boxes_per_image) < 1:
            raise UsageError("--crop, --image-size, --batch-size, --multiple-of and --boxes-per-image must be positive")
        if self.proposals and self.foreign is not None:
            raise UsageError("--proposals: features over boxes need the teacher as a prototxt")
        if not self.prefix:
            raise UsageError("--prefix is empty, expected a word that tells the student's layers from the teacher's")

    def scale(self, index: int) -> float | None:
        """Factor on the teacher's feature of layer ``index``, or None."""
        return of_layer(self.scales, index) if self.scales else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the nets see."""
        height, width = self.crop or self.image_size
        return height // self.multiple_of * self.multiple_of, width // self.multiple_of * self.multiple_of


def of_layer(values: Sequence[float], index: int) -> float:
    """That of layer ``index``, of one value for all layers or one for each."""
    return values[index if len(values) > 1 else 0]


@dataclass(frozen=True)
class Schedule:
    """The solver's side.

    Attributes:
        max_iter, base_lr, momentum, weight_decay, snapshot, test_interval, display, random_seed: as in Caffe.
        test_iter: validation pairs per test.
        clip_gradients: 0: none; None: :data:`CLIP` where the start is measured, else none.
        drops: fractions of max_iter after which the rate falls to a tenth.
    """

    max_iter: int = 100_000
    base_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    snapshot: int = 10_000
    test_interval: int = 1000
    test_iter: int = 100
    display: int = 20
    random_seed: int = 3
    clip_gradients: float | None = None
    drops: tuple[float, ...] = (0.3, 0.6, 0.9)

    def __post_init__(self) -> None:
        for name in ("max_iter", "base_lr", "test_interval", "test_iter"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected a positive number")
        if list(self.drops) != sorted(self.drops) or not all(0 < drop <= 1 for drop in self.drops):
            raise UsageError(f"--drops is {list(self.drops)}, expected rising fractions of max-iter, 0 to 1")
        for name in ("snapshot", "display", "momentum", "weight_decay", "clip_gradients"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 0 or more")
