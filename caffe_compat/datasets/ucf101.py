"""UCF101: 13,320 clips of 101 actions in three official splits, and pairs of frames and flow of them for transfers.

::

    data/ucf101/UCF-101/ACTION/v_ACTION_gNN_cNN.avi     clips, as UCF101.rar (and zips of others) unpack; NN: the group
    data/ucf101/ucfTrainTestlist/classInd.txt           number and name of each action, from 1
    data/ucf101/ucfTrainTestlist/trainlist01.txt        ACTION/CLIP.avi NUMBER, a clip a line; 02 and 03 too
    data/ucf101/ucfTrainTestlist/testlist01.txt         ACTION/CLIP.avi (a number after it, as some copies have, is
                                                        checked)

The clips of a group were cut from one video, so a group is never on both sides of a split.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from caffe_compat.datasets.actions import Part
from caffe_compat.errors import DataError, MissingFileError, UsageError, nearest
from caffe_compat.files import open_existing
from caffe_compat.flow.clips import Outputs, VideoClip, evenly
from caffe_compat.flow.methods import Method
from caffe_compat.flow.run import Work
from caffe_compat.frames.png import is_whole_png
from caffe_compat.media import write_image_list, write_pairs
from caffe_compat.media.video import video_head

__all__ = ["PER_CLIP", "UcfClip", "UcfPairs", "read_actions", "read_ucf_split"]

PathLike = str | os.PathLike[str]
PER_CLIP = 5
"""Frames of each clip that the paper transfers with; their places are not stated: here evenly spaced."""
HOLD_OUT = 20
"""Every so many groups of clips validate."""
_CLIP = re.compile(r"(?P<action>[^/\s]+)/(?P<clip>[^/\s]+)\.avi(?:\s+(?P<label>\d+))?")
_GROUP = re.compile(r"_c\d+$")
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class UcfClip:
    """A clip of a list.

    Args:
        action: what is done.
        name: of the clip, without its ending.
        label: of the action, from 0.
    """

    action: str
    name: str
    label: int

    @property
    def group(self) -> str:
        """The video that it was cut from, ``v_ACTION_gNN``."""
        return _GROUP.sub("", self.name)

    @property
    def stem(self) -> str:
        """``ACTION/CLIP``: where its file, and what is made of it, lies."""
        return f"{self.action}/{self.name}"


def read_actions(folder: PathLike) -> tuple[str, ...]:
    """The actions of ``classInd.txt``; the first is label 0.

    Raises:
        MissingFileError: no such file.
        DataError: a line that is not the next number and another name; names the line.
    """
    path = Path(folder) / "classInd.txt"
    names: list[str] = []
    for number, line in _lines(path, "numbers and names of the actions"):
        words = line.split()
        if len(words) != 2 or words[0] != str(len(names) + 1) or words[1] in names:
            raise DataError(f"{path}, line {number}: {line[:80]!r}, expected '{len(names) + 1} NAME' with another name")
        names.append(words[1])
    if not names:
        raise DataError(f"{path}: names no actions")
    return tuple(names)


def read_ucf_split(folder: PathLike, number: int, part: Part) -> list[UcfClip]:
    """The clips of a part of an official split, in the order of its list.

    Args:
        folder: ``ucfTrainTestlist``.
        number: 1, 2 or 3.
        part: ``train`` or ``test``.

    Raises:
        MissingFileError: a list is not there.
        DataError: a line that is not as it should be; an action that ``classInd.txt`` has not, or has another number
            for; a clip that is there twice.  Names the file and the line.
    """
    actions = read_actions(folder)
    path = Path(folder) / f"{part}list{number:02d}.txt"
    clips: dict[str, UcfClip] = {}
    for count, line in _lines(path, f"clips that {part} in split {number}"):
        where = f"{path}, line {count}"
        match = _CLIP.fullmatch(line)
        if match is None or (part == "train" and match["label"] is None):
            wanted = "ACTION/CLIP.avi NUMBER" if part == "train" else "ACTION/CLIP.avi"
            raise DataError(f"{where}: {line[:80]!r}, expected '{wanted}'")
        action = match["action"]
        if action not in actions:
            raise DataError(f"{where}: no action '{action}' in classInd.txt{nearest(action, actions)}")
        label = actions.index(action)
        if match["label"] is not None and int(match["label"]) != label + 1:
            raise DataError(f"{where}: {action} has the number {match['label']}, in classInd.txt {label + 1}")
        clip = UcfClip(action, match["clip"], label)
        if clip.stem in clips:
            raise DataError(f"{where}: clip {clip.stem} is there more than once")
        clips[clip.stem] = clip
    if not clips:
        raise DataError(f"{path}: names no clips")
    return list(clips.values())


def _lines(path: Path, why: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    with open_existing(path, why) as stream:
        lines = stream.read().decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.strip()


@dataclasses.dataclass(frozen=True)
class UcfPairs:
    """Frames of clips and the flow from each to the next, and the lists that training reads.

    ::

        OUTPUT/images/ACTION/CLIP/00012.png, OUTPUT/flow/ACTION/CLIP/00012.png    as make_flow makes them
        OUTPUT/lists/split1_pairs_train.txt     image and flow, relative to the list, for transfers
        OUTPUT/lists/split1_images_train.txt    image and label (from 0), relative to OUTPUT (root_folder), for nets
        OUTPUT/lists/split1_flow_train.txt      the same of the flow, for the baseline that is trained with labels
        OUTPUT/lists/split1_..._val.txt         of the groups that were held out
        OUTPUT/lists/split1_..._test.txt        where the test clips were asked for

    Args:
        videos: folder with ``ACTION/CLIP.avi``.
        output: where everything goes.
        clips: which.
        count: frames of each.
    """

    videos: Path
    output: Path
    clips: Sequence[UcfClip]
    count: int = PER_CLIP

    def work(self, method: Method) -> tuple[list[Work], list[tuple[str, str]]]:
        """What :func:`caffe_compat.flow.run.run_clips` is to do, and (name, reason) of what cannot be done.

        Clips that are not there are told in one line; one with too few frames (the count, and one that the last of them
        flows to) in a line of its own, as is one that is no video.

        Raises:
            MissingFileError: no such folder, or none of the clips is in it.
        """
        if not self.videos.is_dir():
            raise MissingFileError(self.videos, "folder with ACTION/CLIP.avi, as UCF101.rar unpacks to UCF-101")
        there = [clip for clip in self.clips if self._video(clip).is_file()]
        if not there:
            first = f"none of the {len(self.clips)} clips of the list is there, such as {self.clips[0].stem}.avi"
            raise MissingFileError(self.videos, first)
        failed: list[tuple[str, str]] = []
        absent = [f"{clip.stem}.avi" for clip in self.clips if not self._video(clip).is_file()]
        if absent:
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            shown = ", ".join(absent[:_SHOWN])
            of = f"{len(absent)} of {len(self.clips)} clips of the list are missing"
            failed.append((str(self.videos), f"{self.videos}: {of}: {shown}{more}"))
        work: list[Work] = []
        for clip in there:
            path = str(self._video(clip))
            try:
                frames = video_head(path).frames
                if frames <= self.count:
                    raise DataError(f"{path}: has {frames} frames, expected more than {self.count}")
            except (DataError, MissingFileError) as error:
                failed.append((path, str(error)))
                continue
            outputs = Outputs(str(self._folder("flow", clip)), str(self._folder("images", clip)))
            work.append((VideoClip(path, method), outputs))
        return work, failed

    def write_lists(self, split: int, part: Part, hold_out: int | None = None) -> list[tuple[Path, int]]:
        """Write the lists of what is there.

        Args:
            split: its number goes into the names.
            part: ``train`` or ``test``, too.
            hold_out: every so many groups (in the order of the list, the first is number ``hold_out // 2``) go into
                lists of their own, ``val``.  0: none, and lists of that name that are there are removed: what they
                hold is trained on now.  None: for ``train`` 20, or the number of groups if that is less and not 1.

        Returns:
            The lists, and how many entries each has.

        Raises:
            UsageError: ``hold_out`` is 1, or more than there are groups.
            DataError: no frame is there.
            WriteError: a list cannot be written.
        """
        entries = [(clip, name) for clip in self.clips for name in self._made(clip)]
        if not entries:
            raise DataError(f"{self.output}: no frame of the {len(self.clips)} clips was made")
        groups = list(dict.fromkeys(clip.group for clip, _ in entries))
        if hold_out is None:
            hold_out = min(HOLD_OUT, len(groups)) if part == "train" and len(groups) > 1 else 0
        if hold_out and not 2 <= hold_out <= len(groups):
            raise UsageError(f"cannot hold out every {hold_out}th of {len(groups)} groups, expected 2 to {len(groups)}")
        held = set(groups[hold_out // 2 :: hold_out]) if hold_out else set()
        written: list[tuple[Path, int]] = []
        for name, chosen in (
            (part, [entry for entry in entries if entry[0].group not in held]),
            ("val", [entry for entry in entries if entry[0].group in held]),
        ):
            if chosen:
                written += self._write(f"split{split}", name, chosen)
        if part == "train" and not hold_out:
            for kind in ("pairs", "images", "flow"):
                (self.output / "lists" / f"split{split}_{kind}_val.txt").unlink(missing_ok=True)
        return written

    def _write(self, stem: str, name: str, entries: Sequence[tuple[UcfClip, str]]) -> Iterator[tuple[Path, int]]:
        folder = self.output / "lists"
        path = folder / f"{stem}_pairs_{name}.txt"
        pictures = [[str(self._folder(kind, clip) / file) for kind in ("images", "flow")] for clip, file in entries]
        write_pairs(path, [(image, flow) for image, flow in pictures])
        yield path, len(entries)
        for kind in ("images", "flow"):
            path = folder / f"{stem}_{kind}_{name}.txt"
            write_image_list(path, ((f"{kind}/{clip.stem}/{file}", clip.label) for clip, file in entries))
            yield path, len(entries)

    def _made(self, clip: UcfClip) -> Iterable[str]:
        """Names of the frames of a clip that are there, both of each; only those that this count asks for."""
        try:
            length = video_head(self._video(clip)).frames
        except (DataError, MissingFileError):
            return  # reported by the work
        for number in evenly(self.count, length):
            name = f"{number + 1:05d}.png"
            if all(is_whole_png(self._folder(kind, clip) / name) for kind in ("images", "flow")):
                yield name

    def _video(self, clip: UcfClip) -> Path:
        return self.videos / f"{clip.stem}.avi"

    def _folder(self, kind: str, clip: UcfClip) -> Path:
        return self.output / kind / clip.stem
