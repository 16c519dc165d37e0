"""A hypercolumn net that was exported, run by ONNX Runtime.  Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.deploy.facts import read_stride
from caffe_compat.deploy.feed import Runner, picture_inputs
from caffe_compat.errors import NetError, UsageError
from caffe_compat.media import Preprocessing
from caffe_compat.segmentation.questions import MaskQuestion

__all__ = ["BOX_INPUTS", "DeployedMasks", "check_stride", "is_mask_net", "mask_options"]

BOX_INPUTS = ("normalizedboxes", "sppboxes", "categids")
"""What the branch calls the inputs that say which boxes are to be segmented."""


def is_mask_net(inputs: Sequence[str] | Mapping[str, object]) -> bool:
    """Whether a net of these inputs segments boxes."""
    return {"sppboxes", "categids"} <= set(inputs)


class DeployedMasks:
    """Answers to questions about boxes.

    Args:
        session: of a model whose inputs are pictures and :data:`BOX_INPUTS` (of nets without maps not all of them).
        blob: output with probabilities [N, 1, S, S]; None: the only one.

    Attributes:
        pictures: names of the inputs with pictures.

    Raises:
        NetError: other inputs, or no telling which output it is.
    """

    def __init__(self, session: Runner, blob: str | None = None) -> None:
        self.session, self.pictures = session, picture_inputs(session)
        others = [name for name in session.inputs if name not in (*self.pictures, *BOX_INPUTS)]
        if others or not self.pictures or not is_mask_net(session.inputs):
            raise NetError(
                f"the model takes the inputs {', '.join(session.inputs)}; a net that segments boxes takes pictures, "
                f"{', '.join(BOX_INPUTS)}"
            )
        names = session.output_names
        if blob is None and len(names) != 1:
            raise NetError(f"which output holds the masks? The model gives {', '.join(names)}")
        self.blob = names[0] if blob is None else blob

    def __call__(self, question: MaskQuestion) -> np.ndarray:
        """Probabilities on the grid over each box: float32 [N, 1, S, S].

        Raises:
            UsageError: pictures of another number of modalities.
            NetError: numbers that are not finite, or of other boxes.
            CaffeCompatError: as the session.
        """
        if len(question.images) != len(self.pictures):
            raise UsageError(
                f"the net that segments boxes takes {len(self.pictures)} pictures of a scene, there are "
                f"{len(question.images)}"
            )
        if not len(question):
            sides = [side if isinstance(side, int) else 1 for side in self.session.outputs[self.blob].shape[2:]]
            return np.zeros((0, 1, *sides), np.float32)
        feed: dict[str, np.ndarray] = dict(zip(self.pictures, question.images, strict=True))
        feed |= {name: getattr(question.blobs, name) for name in BOX_INPUTS if name in self.session.inputs}
        found = np.asarray(self.session(feed, [self.blob])[self.blob], np.float32)
        if found.ndim != 4 or found.shape[:2] != (len(question), 1) or found.shape[2] != found.shape[3]:
            raise NetError(
                f"output '{self.blob}' has the shape {list(found.shape)} for {len(question)} boxes, expected "
                f"{[len(question), 1]} and the sides of a mask"
            )
        bad = int(found.size - np.isfinite(found).sum())
        if bad:
            raise NetError(f"{bad} of {found.size} numbers in output '{self.blob}' are NaN or infinite")
        return found


def mask_options(session: Runner, wanted: Sequence[Preprocessing]) -> list[str]:
    """Size, means and stride that a model carries, as ``KEY VALUE`` pairs of the fast-rcnn tools' options.

    Args:
        wanted: of its pictures.

    Raises:
        UsageError: a model that these tools cannot feed: several sizes, another order of channels, a crop.
    """
    first = wanted[0]
    for one in wanted:
        alike = (one.short_side, one.longest_side) == (first.short_side, first.longest_side)
        if not alike or len(one.mean or ()) != 3 or one.scale != 1 or one.crop or one.order != [0, 1, 2]:
            raise UsageError(
                "a net that segments boxes is fed pictures of one size in the order of the file less one mean for each "
                f"of 3 channels, not cut; the model wants {one}"
            )
    means = tuple(tuple(map(float, one.mean or ())) for one in wanted)
    found = ["PIXEL_MEANS", str(means[0])]
    found += ["MODALITY_MEANS", str(means)] if len(set(means)) > 1 else []
    if first.short_side:
        found += ["SDS.TARGET_SIZE", str(first.short_side)]
        found += ["SDS.MAX_SIZE", str(first.longest_side)] if first.longest_side else []
    stride = read_stride(session.metadata)
    return found + (["SDS.FEAT_SCALE", str(stride)] if stride else [])


def check_stride(config: Config, session: Runner) -> None:
    """Refuse options with another stride than the model's.

    Raises:
        UsageError: they differ.
    """
    stride = read_stride(session.metadata)
    if stride is not None and stride != config.sds.feat_scale:
        raise UsageError(f"SDS.FEAT_SCALE is {config.sds.feat_scale}, the model's maps have cells of {stride} pixels")
