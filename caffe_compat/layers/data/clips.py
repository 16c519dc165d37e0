"""VideoData in two meanings: yjxiong's stacks of frames in folders, and SSD's frames of a video file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.clips import ClipFolder, ClipJob, ClipReader, ClipTransform, FrameJob, FrameReader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.annotated import read_transform
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import read_clip_list, read_mean

__all__ = ["VideoClips", "VideoFrames"]

_FRAMES = ("video_type", "device_id", "video_file", "skip_frames")
_C3D = (
    *("use_image", "use_temporal_jitter", "sampling_rate", "show_data", "use_multiple_label", "is_color"),
    "use_sampling_rate_jitter",
)


def _means_frames(params: Params) -> bool:
    section = params.section("video_data_param")
    return any(section.has(name) for name in _FRAMES)


def _means_clips(params: Params) -> bool:
    section = params.section("video_data_param")
    return section.has("source") and not any(section.has(name) for name in _C3D)


def _read_clip_transform(params: Params) -> ClipTransform:
    section = params.section("transform_param")
    if section.has("mean_file") and section.mean_value:
        raise params.error(f"has mean_file ({section.mean_file}) and mean_value, expected one of them")
    ratios = [float(ratio) for ratio in section.scale_ratios]
    if ratios and not (min(ratios) > 0 and max(ratios) <= 1):
        raise params.error(f"transform_param.scale_ratios is {ratios}, expected numbers above 0, 1 at most")
    if section.max_distort < 0:
        raise params.error(f"transform_param.max_distort is {section.max_distort}, expected 0 or more")
    fixed, more = bool(section.fix_crop), bool(section.more_fix_crop)
    return ClipTransform(
        params.phase == "TRAIN",
        np.float32(section.scale),
        bool(section.mirror),
        int(section.crop_size),
        np.array(section.mean_value, np.float32),
        read_mean(str(section.mean_file)) if section.has("mean_file") else None,
        ratios if section.multi_scale else None,
        int(section.max_distort),
        more if fixed else None,
        bool(section.is_flow),
    )


@register(when=_means_clips, dialect="pspnet")
class VideoClips(DataLayer):
    """Stacks of frames of clips, which are folders of pictures, as two-stream nets and temporal segment networks learn.

    ``source`` has lines ``folder frames label``.  A clip is cut into ``num_segments`` equal parts, of each of which
    ``new_length`` frames in a row are taken: anywhere in TRAIN, from the middle in TEST, from the clip's start if the
    parts are shorter.  ``modality: FLOW`` (the default) has two grey pictures a frame, x and y; RGB one of three
    channels, BGR, or of one if ``grayscale``.  Names are ``name_pattern``, else ``flow_%c_%04d.jpg`` and
    ``image_%04d.jpg``, counted from 1.  Tops: (batch, channels, height, width) and (batch, 1, 1, 1).  Of
    transform_param ``multi_scale``, ``scale_ratios``, ``max_distort``, ``fix_crop``, ``more_fix_crop`` and ``is_flow``
    are read, and groups of mean_value repeat.  A frame that is missing is an error, where the fork goes on with an old
    stack.  Source: yjxiong/caffe, video_data_layer.cpp and data_transformer.cpp.
    """

    caffe_type = "VideoData"
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("video_data_param")
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror")
        section.ignore("rand_skip", "encoded")  # the fork reads them nowhere
        self.size = self.batch_size(section)
        flow = section.enum("modality") == "FLOW"
        pattern = str(section.name_pattern) or ("flow_%c_%04d.jpg" if flow else "image_%04d.jpg")
        try:
            (pattern % ("x", 1)) if flow else (pattern % 1)
        except (TypeError, ValueError) as error:
            wanted = "a letter and a number, such as flow_%c_%04d.jpg" if flow else "a number, such as image_%04d.jpg"
            raise self.error(f"video_data_param.name_pattern is '{pattern}', expected {wanted}") from error
        length, segments = int(section.new_length), int(section.num_segments)
        if length < 1 or segments < 1:
            raise self.error(f"new_length and num_segments are {length} and {segments}, expected positive numbers")
        new_size = (int(section.new_height), int(section.new_width))
        source = str(section.source)
        self.clips = [ClipFolder(*found) for found in read_clip_list(source)]
        self.samples = len(self.clips)
        self.order = Order(self.samples, bool(section.shuffle), self.seed)
        self.reader = reader = ClipReader(
            self.who,
            source,
            pattern,
            flow,
            bool(section.grayscale),
            new_size,
            length,
            segments,
            _read_clip_transform(params),
        )
        self.shapes = [(self.size, *reader.shape(self.clips[self.order[0]])), (self.size, 1, 1, 1)]
        self.require_memory("a batch of clips", self.shapes[:1])

    def job(self, number: int) -> ClipJob:
        """As :meth:`DataLayer.job`."""
        chosen = [self.clips[self.order[index]] for index in self.records(number, self.size)]
        return ClipJob(self.random_seed(number), chosen)


@register(when=_means_frames, dialect="ssd")
class VideoFrames(DataLayer):
    """Frames of a video, for a net that detects in them; tops: (batch, 3, height, width), BGR, and zeros (batch).

    ``skip_frames`` frames are left out before each that is taken.  After the last the run ends with an error, where
    the fork sends itself a signal.  (In the fork's code a frame that is to be skipped is written into the batch, and
    with the first frame of a batch before it.)  ``video_type: WEBCAM``, the default, is refused: batches are read ahead
    and in any order here.  Of transform_param what AnnotatedData reads is read.  Source: weiliu89/caffe, branch ssd,
    video_data_layer.cpp.
    """

    caffe_type = "VideoData"
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        data, section = params.section("data_param"), params.section("video_data_param")
        super().__init__(params, bottoms, int(data.prefetch))
        self.size, self.skip = self.batch_size(data), int(section.skip_frames)
        data.ignore("source", "backend")
        if section.enum("video_type") != "VIDEO":
            raise self.error(
                f"video_data_param.video_type is WEBCAM (device_id {section.device_id}), expected VIDEO: no camera is "
                "read here"
            )
        section.ignore("device_id")
        if not section.has("video_file"):
            raise self.error("video_data_param.video_file is missing, expected the name of a video")
        transform = read_transform(params)
        if self.size > 1 and not transform.one_size and transform.resizes:
            raise self.error(f"data_param.batch_size is {self.size}, expected 1 with FIT_SMALL_SIZE")
        for one in transform.resizes:
            self.require_memory("a batch of resized pictures", [(self.size, 3, one.height, one.width)])
        self.reader = reader = FrameReader.opened(self.who, str(section.video_file), transform, self.skip + 1)
        first = reader.frame(0, np.random.default_rng(0))
        self.shapes = [(self.size, *first.shape), (self.size,)][: len(params.tops)]

    def job(self, number: int) -> FrameJob:
        """As :meth:`DataLayer.job`."""
        frames = [index * (self.skip + 1) + self.skip for index in self.records(number, self.size)]
        return FrameJob(self.random_seed(number), frames)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]
