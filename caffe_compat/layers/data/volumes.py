"""Clips of videos for C3D's nets: VideoData in its meaning, and volumes with a truth for every voxel."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.volumes import (
    TruthReader,
    TruthTransform,
    VolumeClip,
    VolumeJob,
    VolumeReader,
    VolumeTransform,
)
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media.lists import read_words
from caffe_compat.media.means import read_volume_mean

__all__ = ["VideoSegmentationData", "VideoVolumes", "VideoWithVoxelTruthData"]

_OWN = (
    "use_image",
    "use_temporal_jitter",
    "sampling_rate",
    "show_data",
    "use_multiple_label",
    "use_sampling_rate_jitter",
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


def _means_volumes(params: Params) -> bool:
    section = params.section("video_data_param")
    return section.has("source") and any(section.has(name) for name in _OWN)


class _Volumes(DataLayer):
    """What all share: a list, its order, the transform."""

    size: int
    source: str
    clips: list[VolumeClip]

    def read_transform(self, room: int) -> VolumeTransform:
        """``transform_param``; see :class:`VolumeTransform` for ``room``."""
        section = self.params.section("transform_param")
        if section.has("mean_file") and section.mean_value:
            raise self.error(f"has mean_file ({section.mean_file}) and mean_value, expected one of them")
        return VolumeTransform(
            self.params.phase == "TRAIN",
            np.float32(section.scale),
            bool(section.mirror),
            int(section.crop_size),
            room,
            np.array(section.mean_value, np.float32),
            read_volume_mean(str(section.mean_file)) if section.has("mean_file") else None,
        )

    def read_order(self, section: Section) -> None:
        """``shuffle`` and ``rand_skip``."""
        self.samples = len(self.clips)
        self.order = Order(self.samples, bool(section.shuffle), self.seed)
        rand_skip = int(section.rand_skip)
        self.skip = int(np.random.default_rng((self.seed, 2)).integers(rand_skip)) if rand_skip else 0
        if self.skip >= len(self.clips):
            raise self.error(f"rand_skip {rand_skip} is too much for a list of {len(self.clips)} clips")

    def job(self, number: int) -> VolumeJob:
        """As :meth:`DataLayer.job`."""
        records = [self.order[index + self.skip] for index in self.records(number, self.size)]
        return VolumeJob(self.random_seed(number), [self.clips[record] for record in records])

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]


@register(when=_means_volumes, dialect="c3d")
class VideoVolumes(_Volumes):
    """Clips of ``new_length`` frames, every ``sampling_rate``-th, as one volume.

    Tops: (batch, 3, length, height, width), BGR, and labels (batch), or with ``use_multiple_label`` (batch,
    ``num_of_labels``) of 0 and 1.

    ``source`` has lines ``path first label``: a video, its frames counted from 0, or with ``use_image`` a folder of
    ``%06d.jpg``.  With ``use_temporal_jitter`` the first frame is drawn; the lines of videos have none then, those of
    folders the number of frames (in TEST such a clip begins with picture 0, as in the fork).
    ``use_sampling_rate_jitter`` draws the rate up to ``max_sampling_rate``.  A mean file has the whole volume's mean.
    A clip that is missing or too short is an error; in TRAIN the fork goes on with the next line.  Frames are never
    found by seeking, as the fork's second try, not its first, does it.  Version 1.0 never lets a crop begin at the last
    place that it could, and gives labels the shape (batch, 1, 1, 1, 1).
    """

    caffe_type = "VideoData"
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("video_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        section.ignore("show_data")
        self.size, self.source = self.batch_size(section), str(section.source)
        if not section.is_color:
            raise self.error("video_data_param.is_color is false, expected true: the fork reads colours anyway")
        new_size = int(section.new_height), int(section.new_width)
        if bool(new_size[0]) != bool(new_size[1]):
            raise self.error(f"new_height and new_width are {new_size[0]} and {new_size[1]}, expected both or none")
        images, jitter = bool(section.use_image), bool(section.use_temporal_jitter)
        length, rate, most = int(section.new_length), int(section.sampling_rate), int(section.max_sampling_rate)
        if min(length, rate, most) < 1:
            raise self.error(
                f"new_length, sampling_rate and max_sampling_rate are {length}, {rate} and {most}, expected positive "
                "numbers"
            )
        several = bool(section.use_multiple_label)
        if several and (not section.has("num_of_labels") or section.num_of_labels < 1):
            raise self.error("use_multiple_label without num_of_labels, expected a positive number of them")
        classes = int(section.num_of_labels) if several else 0
        self.clips = self._read_list(str(section.root_folder), images or not jitter, several)
        self.read_order(section)
        if not section.use_sampling_rate_jitter:
            most = 0
        self.reader = reader = VolumeReader(
            *(self.who, self.source, images, jitter, length, rate, most, new_size, classes),
            self.read_transform(room=0),
        )
        first = self.clips[0 if jitter and not images else self.order[self.skip]]
        height, width = reader.one_frame(first)
        crop = reader.transform.crop
        volume: Shape = (self.size, 3, length, crop or height, crop or width)
        label: Shape = (self.size, classes) if classes else (self.size,)
        self.shapes = [volume, label][: len(params.tops)]

    def _read_list(self, root: str, numbered: bool, several: bool) -> list[VolumeClip]:
        wanted = ("path", "first", "label") if numbered else ("path", "label")
        found = []
        for line, words in read_words(self.source):
            numbers = words[1:-1] if several else words[1:]
            if len(words) != len(wanted) or not all(map(_NUMBER.fullmatch, numbers)):
                raise self.data_error(f"{self.source}, line {line}: {' '.join(words)!r}, expected '{' '.join(wanted)}'")
            found.append(VolumeClip(root + words[0], int(words[1]) if numbered else 0, words[-1], line))
        return found


class _Truth(_Volumes):
    """Volumes in C3D's binary files, of which the last channels are the truth."""

    top_count = (2, 2)
    truth: int
    single_bytes: bool

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section, transform = params.section("video_data_param"), params.section("transform_param")
        section.ignore("show_data")
        self.size, self.source = self.batch_size(section), str(section.source)
        if len(transform.mean_value) > 1:
            raise self.error(f"has {len(transform.mean_value)} mean_value, expected one")
        if transform.mirror and not transform.crop_size:
            raise self.error("has mirror without crop_size, expected both, as in the fork")
        truth_transform = self.read_truth(section)
        if self.truth < 1:
            raise self.error(f"num_truth_channels is {self.truth}, expected a positive number")
        self.clips = []
        for line, words in read_words(self.source):
            if len(words) != 1:
                raise self.data_error(f"{self.source}, line {line}: {' '.join(words)!r}, expected the name of one file")
            self.clips.append(VolumeClip(words[0], 0, "", line))
        self.read_order(section)
        self.reader = reader = TruthReader(
            *(self.who, self.source, self.truth, self.single_bytes), self.read_transform(room=1), truth_transform
        )
        data, truth = reader.item(self.clips[0], np.random.default_rng(0))
        self.shapes = [(self.size, *data.shape), (self.size, *truth.shape)]

    def read_truth(self, section: Section) -> TruthTransform:
        """Read what is done with the truth."""
        raise NotImplementedError


@register(dialect="c3d")
class VideoSegmentationData(_Truth):
    """Volumes of bytes, of which the last channel has the label of each voxel.

    Tops: (batch, C - 1, length, height, width) and (batch, 1, length, height, width).
    ``source`` names one file a line (:func:`~caffe_compat.batches.volumes.read_volume`).  The crop is random in TRAIN,
    never at the last place, and central in TEST; the volume must be larger than it.
    """

    caffe_type = "VideoSegmentationData"

    def read_truth(self, section: Section) -> TruthTransform:
        """Labels stay."""
        self.truth, self.single_bytes = 1, True
        return TruthTransform(np.float32(1), None, False)


@register(dialect="c3d")
class VideoWithVoxelTruthData(_Truth):
    """Volumes of which the last ``num_truth_channels`` channels are what is to be learned of each voxel, such as flow.

    They are float32 (``use_byte_input``: bytes); tops, lists and crops are VideoSegmentationData's.  The truth is
    multiplied by ``truth_scale``, or moved so that ``clip_min`` becomes 0 and ``clip_max`` 1 and held there; with
    ``is_flow`` a mirror changes the sign of its first channel.  Without a crop it stays as it is, as in the fork.
    """

    caffe_type = "VideoWithVoxelTruthData"

    def read_truth(self, section: Section) -> TruthTransform:
        """Its scale, or its limits."""
        self.truth, self.single_bytes = int(section.num_truth_channels), bool(section.use_byte_input)
        limits = None
        if section.has("clip_min") or section.has("clip_max"):
            limits = float(section.clip_min), float(section.clip_max)
            if not (section.has("clip_min") and limits[0] < limits[1]):
                raise self.error(
                    f"clip_min and clip_max are {limits[0]:g} and {limits[1]:g}, expected the first smaller"
                )
        return TruthTransform(np.float32(section.truth_scale), limits, bool(section.is_flow))
