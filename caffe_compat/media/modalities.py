"""The kinds of pictures that nets of this package see, in one table.

A picture of any modality but ``gray`` is stored as 8-bit png or jpg of three channels.  OpenCV, and so every net
trained with Caffe, sees these in the order blue, green, red of the file; :attr:`Modality.channels` names them so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from caffe_compat.errors import UsageError, nearest

__all__ = ["FORK_MEAN", "IMAGENET_MEAN", "MODALITIES", "Modality", "find_modality"]

FORK_MEAN = (102.9801, 115.9465, 122.7717)
"""Blue, green, red: what fast-rcnn subtracts from colour, and the released code of supervision transfer from both
modalities, HHA and disparity included."""
IMAGENET_MEAN = (104.0, 117.0, 123.0)
"""The same of BVLC's nets, rounded."""


@dataclass(frozen=True)
class Modality:
    """What the numbers of a kind of picture mean.

    Attributes:
        name: its name in ``preprocessing.json``.
        channels: what they hold, in the order in which a net sees them.
        units: what a number stands for.
        mean: what is subtracted from each channel, unless a net says otherwise.
        scale: factor on what is left.
        encoder: the name of what makes such pictures of measurements (``Kind`` of the depth encoders); empty if a
            sensor gives them.
        negated: channels whose numbers point to the right: seen in a mirror, v becomes 2 about - v, at most
            255.
        about: the number that stands for nothing to the right or left: 128, or 127.5 where 0 to 255 lie about it.
    """

    name: str
    channels: tuple[str, ...]
    units: str
    mean: tuple[float, ...]
    scale: float = 1.0
    encoder: str = ""
    negated: tuple[int, ...] = ()
    about: float = 128.0


_TABLE = (
    Modality("color", ("blue", "green", "red"), "sRGB codes 0 to 255", FORK_MEAN),
    # what Caffe's is_color: false reads, as for LeNet; the only one of a single channel
    Modality("gray", ("gray",), "codes 0 to 255", (0.0,)),
    # file order R, G, B = disparity, height, angle (saveHHA); the fork subtracts the colour mean
    Modality(
        "hha",
        ("angle", "height", "disparity"),
        "degrees + 38, centimetres above the floor, scale / centimetres of depth; clipped to 0 to 255",
        FORK_MEAN,
        encoder="hha",
    ),
    Modality(
        "disparity",
        ("disparity", "disparity", "disparity"),
        "scale / centimetres of depth, clipped to 0 to 255",
        FORK_MEAN,
        encoder="disparity",
    ),
    # ActionTubes: file order R, G, B = x, y, magnitude; caffe_compat.flow makes them
    Modality(
        "flow",
        ("magnitude", "y", "x"),
        "128 + 16 x pixels a frame (y downwards), clipped to 0 to 255",
        (128.0, 128.0, 128.0),
        negated=(2,),
    ),
    Modality(
        "depth",
        ("depth", "depth", "depth"),
        "depth times a factor of one's own, clipped to 0 to 255; 0: not measured",
        (128.0, 128.0, 128.0),
    ),
    Modality(
        "events",
        ("polarity", "polarity", "polarity"),
        "128 + events that became brighter - events that became darker, clipped to 0 to 255",
        (128.0, 128.0, 128.0),
    ),
    # RoadScene's 8-bit frames have a mean of 129.9, with 15.6 between frames: the middle of the codes is as good
    Modality("thermal", ("intensity", "intensity", "intensity"), "sensor codes 0 to 255", (128.0, 128.0, 128.0)),
    # what a data layer reads of which nobody has said what it is
    Modality("unknown", ("first", "second", "third"), "not stated", (0.0, 0.0, 0.0)),
    # file order R, G, B = x, y, z
    Modality(
        "normals",
        ("z", "y", "x"),
        "128 + 127 x component of the unit normal (x to the right, y down, z away)",
        (128.0, 128.0, 128.0),
        negated=(2,),
    ),
    # the same with 0 to 255 about 127.5, as tools of others write them
    Modality(
        "normals_255",
        ("z", "y", "x"),
        "127.5 + 127.5 x component of the unit normal (x to the right, y down, z away)",
        (127.5, 127.5, 127.5),
        negated=(2,),
        about=127.5,
    ),
)

MODALITIES: Mapping[str, Modality] = MappingProxyType({modality.name: modality for modality in _TABLE})
"""All of them, by name."""


def find_modality(name: str) -> Modality:
    """The modality of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in MODALITIES:
        raise UsageError(f"modality '{name}'{nearest(name, MODALITIES)}: expected one of {', '.join(MODALITIES)}")
    return MODALITIES[name]
