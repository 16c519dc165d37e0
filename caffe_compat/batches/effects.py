"""Which effects of ``distort_param`` and ``noise_param`` happen to a picture, in SSD's words and in jolibrain/caffe's.

SSD has a probability for each distortion, and noise that is asked for always happens.  In jolibrain/caffe (the caffe of
beniz/deepdetect) both messages have one ``prob``, and a switch for each effect or ``all_effects``; each effect that is
asked for happens with that probability, and without ``prob`` none does.  Source: jolibrain/caffe, im_transforms.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DISTORTIONS", "check_effects", "has_switches", "happens"]

DISTORTIONS = ("brightness", "contrast", "hue", "saturation", "random_order")
"""Of ``distort_param``."""


def has_switches(wanted: Any) -> bool:
    """Whether a ``DistortionParameter`` or ``NoiseParameter`` is in jolibrain/caffe's words.

    Of noise only ``all_effects`` tells: SSD's message has ``prob`` too, and reads it nowhere.
    """
    if "brightness_prob" not in wanted.DESCRIPTOR.fields_by_name:
        return bool(wanted.HasField("all_effects"))
    return any(wanted.HasField(name) for name in ("prob", "all_effects", *DISTORTIONS))


def happens(wanted: Any, effect: str, random: np.random.Generator) -> bool:
    """Whether a distortion happens to this picture."""
    if not has_switches(wanted):
        return bool(random.random() < getattr(wanted, f"{effect}_prob"))
    return bool((wanted.all_effects or getattr(wanted, effect)) and random.random() < wanted.prob)


def check_effects(distort: Any, noise: Any) -> str:
    """What is wrong with the messages (or None), or ``""``."""
    for name, wanted in (("distort_param", distort), ("noise_param", noise)):
        if wanted is not None and has_switches(wanted) and not 0 <= wanted.prob <= 1:
            return f"{name}.prob is {wanted.prob:g}, expected 0 to 1"
    if distort is not None and has_switches(distort):
        both = [f"{effect}_prob" for effect in DISTORTIONS if distort.HasField(f"{effect}_prob")]
        if both:
            return f"distort_param has {both[0]} (SSD's) with prob or a switch (jolibrain/caffe's), expected one form"
    if noise is not None and (noise.convert_to_hsv or noise.convert_to_lab or noise.all_effects):
        return "noise_param has convert_to_hsv, convert_to_lab or all_effects, which is not done here"
    return ""
