"""What the files under ``experiments/`` say: the rows of a table, and what they run on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType

from caffe_compat.errors import UsageError, nearest
from caffe_compat.experiments.reading import read_declaration
from caffe_compat.resources import checkout, root

__all__ = [
    "Database",
    "Experiment",
    "Masks",
    "Modality",
    "NetRole",
    "Need",
    "Pairs",
    "Preparation",
    "Row",
    "Setting",
    "Timing",
    "Transfer",
    "experiment_names",
    "read_experiment",
    "read_setting",
    "setting_names",
]

NOTHING: Mapping[str, str] = MappingProxyType({})
IMAGENET = "imagenet"


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} is '{value}', expected one of {', '.join(known)}{nearest(value, known)}")


@dataclass(frozen=True)
class Transfer:
    """A supervision transfer.

    Args:
        teacher: ``imagenet`` (the weights that the setting gives for its net), or the row whose detector teaches;
            ``TABLE/ROW`` names one of another file.
        layers: features, by the names that AlexNet's have; the setting says what its nets call them.
        schedule: of the setting.
        teacher_net: role of the teacher's net if it is not the student's, where the teacher is ``imagenet``.
        pairs: which of the setting's pairs.
        boxes: regions of each image on which features are compared, for fc6 and fc7; 0: on whole maps.
        start: of the student: ``fillers``, as in the paper, or ``copy`` (the setting's weights for colour).
        options: more of make_transfer.
    """

    teacher: str
    layers: tuple[str, ...]
    schedule: str = "transfer"
    teacher_net: str = ""
    pairs: str = "train"
    boxes: int = 0
    start: str = "fillers"
    options: str = ""

    def __post_init__(self) -> None:
        _check_choice("start", self.start, ("fillers", "copy"))


@dataclass(frozen=True)
class Masks:
    """Detections that are segmented by hypercolumns.

    Args:
        of: the row whose detections they are, and whose detector stays below the classifiers; ``TABLE/ROW`` names one
            of another file.  Of a row that fuses two detectors each gets classifiers of its own.
        maps: ``all`` that the setting's net has, beside fc7, or ``none``: fc7 alone.
        overlap: at which an object is found, of those that test_net counts: 0.5 or 0.7.
        schedule: of the setting.
    """

    of: str
    maps: str = "all"
    overlap: float = 0.5
    schedule: str = "masks"

    def __post_init__(self) -> None:
        if self.maps not in ("all", "none"):
            raise UsageError(f"maps is '{self.maps}', expected all or none{nearest(self.maps, ('all', 'none'))}")
        if self.overlap not in (0.5, 0.7):
            raise UsageError(f"overlap is {self.overlap:g}, expected 0.5 or 0.7")


@dataclass(frozen=True)
class Row:
    """A row of a table: a detector, how it comes about, and what it is tested on; or masks of its detections.

    Args:
        what: for the reader.
        paper: the paper's figure, mean average precision in %; None: it gives none.
        input: what the net sees, by the setting's names: rgb, hha, disparity, flow.
        net: role of the net: alexnet, vgg16, ...
        init: of the detector's weights: ``none`` (fillers), ``copy`` (those for colour), ``supervised`` (of a
            classifier of labelled pictures of what the net sees) or ``transfer``.
        transfer: the transfer, where ``init`` is that.
        tune: ``all``, or ``fc``: the convolutions stay as they are.
        schedule: of the setting.
        train, test: sets of the setting.
        head: zero-shot: the row whose detector gives fc6 and above; nothing is tuned, and ``init`` is transfer.
        fuse: two rows, colour first, whose scores are averaged; or none.
        same_as: the row, here or ``TABLE/ROW``, that this one is; the rest but ``what`` and ``paper`` is its.
        masks: AP^r of these instead; of the rest ``train`` and ``test`` hold.
    """

    what: str
    paper: float | None = None
    input: str = "hha"
    net: str = "alexnet"
    init: str = "copy"
    transfer: Transfer | None = None
    tune: str = "all"
    schedule: str = "finetune"
    train: str = "train"
    test: str = "val"
    head: str = ""
    fuse: tuple[str, ...] = ()
    same_as: str = ""
    masks: Masks | None = None

    def __post_init__(self) -> None:
        _check_choice("init", self.init, ("none", "copy", "supervised", "transfer"))
        _check_choice("tune", self.tune, ("all", "fc"))
        if (self.init == "transfer") != (self.transfer is not None):
            raise UsageError("'init: transfer' and 'transfer:' belong together, one of them is missing")
        if self.fuse and len(self.fuse) != 2:
            raise UsageError(f"fuse has {len(self.fuse)} rows, expected two: colour first")
        if self.head and self.transfer is None:
            raise UsageError("head: a zero-shot row is expected to have 'init: transfer'")
        if self.masks is not None:
            said = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
            more = [name for name in said if name not in ("what", "paper", "train", "test", "masks")]
            if more:
                raise UsageError(f"masks: '{more[0]}' is what the row '{self.masks.of}' says, expected nothing here")


@dataclass(frozen=True)
class Experiment:
    """A table.

    Args:
        title: stands above it.
        about: more, for ``--list``.
        rows: by name, in the table's order.
        data: of the paper's figures.
        settings: those of which the first is taken that has its data, if nobody says which.
        name: of the file.
    """

    title: str
    rows: Mapping[str, Row]
    about: str = ""
    data: str = "NYUD2"
    settings: tuple[str, ...] = ("nyud2", "mosd", "scenes")
    name: str = ""


@dataclass(frozen=True)
class Need:
    """Something that must be there before: a file or folder, and where it comes from.

    ``{shared}`` in the path is ``$CAFFE_COMPAT_SHARED``, else ``../shared``.
    """

    path: str
    comes_from: str


@dataclass(frozen=True)
class Preparation:
    """Commands that make data or weights, in a folder of their own.

    ``{here}`` is that folder, ``{seed}`` the seed (one preparation for each, if it stands anywhere in it), ``{NAME}``
    the folder of another preparation, ``{need:NAME}`` the path of something needed, ``{cores}`` the number of cores.

    Args:
        run: commands of this project, in order.
        templates: a folder of text files (prototxts) that are written into the preparation's, with the same
            placeholders between at signs, as ``@here@``.
    """

    run: tuple[str, ...]
    templates: str = ""


@dataclass(frozen=True)
class Modality:
    """Pictures of one modality.

    Args:
        folder: as image databases name it.
        after: the preparation that makes it, where the folder's text does not name it.
        kind: its name in the table of modalities, where another mean than colour's is subtracted or a mirror turns
            numbers about: flow.
        needs: names of what it needs.
    """

    folder: str
    after: str = ""
    kind: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Database:
    """Images with objects; ``{input}`` is the folder, or the folders, of the modality.

    Args:
        imdb: name of the image database.
        classes: how many it has, without the background.
        proposals: for ``--proposals``; empty: the database's own.
        mean: classes over which the mean is taken; none: all that have objects.
        needs: names of what it needs.
    """

    imdb: str
    classes: int
    proposals: str = ""
    mean: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """Lists of pairs of colour and another modality.

    Args:
        train, val: the lists.
        root: what paths in them are relative to; empty: to the list.
        proposals: of the pictures, for transfers at fc6 and fc7; a file, or ``builtin``.
        needs: names of what it needs.
    """

    train: str
    val: str
    root: str = ""
    proposals: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetRole:
    """A net by the role that it has in the rows.

    Args:
        rgb, depth, franken: backbones of make_detection for colour, for other modalities, and for a student under its
            teacher's head (empty: there is none).
        teacher, student: prototxts for make_transfer.
        regions: prototxt of both where features are compared on regions (fc6, fc7); empty: teacher and student.
        classifier: prototxt of the net that the weights are of.
        weights: trained on labelled colour pictures.
        supervised: trained on labelled pictures of other modalities, by the rows' inputs; of the same net.
        layers: what its features are called, by AlexNet's names.
        detector, transfer: more options of make_detection and, where it is the student, make_transfer.
        needs: names of what its weights need.
    """

    rgb: str
    depth: str
    teacher: str
    student: str
    classifier: str
    weights: str
    franken: str = ""
    regions: str = ""
    layers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    supervised: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    detector: str = ""
    transfer: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """A schedule.

    Args:
        iters: iterations.
        base_lr: learning rate of a detector; of a transfer the largest that is tried.
        stepsize: of a detector: iterations after which the rate falls to a tenth.
        options: more of make_detection, or of make_transfer.
    """

    iters: int
    base_lr: float
    stepsize: int = 0
    options: str = ""


@dataclass(frozen=True)
class Setting:
    """What the rows run on.

    Args:
        title: names the data set in every table.
        about: schedules and how they differ from the paper's; stands below every table.
        needs: what must be there, by name.
        inputs: by the rows' modality; the folders of two are joined by ``join``.
        prepare: by name; only what a row uses is made.
        sets: image databases by what rows call them.
        pairs: lists of pairs by what rows call them, and by the modality.
        nets: by role.
        missing: roles that there are none for -> why.
        schedules: by name.
        detector, train, test, transfer: options of make_detection, train_net and test_net (of detectors), and
            make_transfer, for all rows.
        masks, mask_test: options of make_sds, and of test_net where it segments.
        match_norms: whether students get their teachers' mean norms (match_norms) before they are tuned.
        name: of the file.
    """

    title: str
    about: str
    inputs: Mapping[str, Modality]
    sets: Mapping[str, Database]
    pairs: Mapping[str, Mapping[str, Pairs]]
    nets: Mapping[str, NetRole]
    schedules: Mapping[str, Timing]
    needs: Mapping[str, Need] = field(default_factory=dict)
    prepare: Mapping[str, Preparation] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    join: str = "+"
    detector: str = ""
    train: str = ""
    test: str = ""
    transfer: str = ""
    masks: str = ""
    mask_test: str = ""
    match_norms: bool = False
    name: str = ""


def experiment_names(folder: Path | None = None) -> list[str]:
    """The experiments that are declared."""
    return sorted(path.stem for path in (folder or root() / "experiments").glob("*.yml"))


def setting_names(folder: Path | None = None) -> list[str]:
    """The settings that are declared."""
    return experiment_names((folder or root() / "experiments") / "settings")


def read_experiment(name: str, folder: Path | None = None) -> Experiment:
    """An experiment by its name, or by its file's.

    Raises:
        UsageError: there is none; or its file is wrong, named with the line.
    """
    path = _find(name, folder or root() / "experiments", "experiment")
    found = read_declaration(Experiment, path, ("defaults", "rows"))
    return replace(found, name=path.stem)


def read_setting(name: str, folder: Path | None = None) -> Setting:
    """A setting by its name, or by its file's.

    Raises:
        UsageError: there is none; or its file is wrong, named with the line.
    """
    path = _find(name, (folder or root() / "experiments") / "settings", "setting")
    found = read_declaration(Setting, path)
    shared = os.environ.get("CAFFE_COMPAT_SHARED", os.path.relpath((checkout() or Path.cwd()).parent / "shared"))
    needs = {key: Need(need.path.replace("{shared}", shared), need.comes_from) for key, need in found.needs.items()}
    return replace(found, name=path.stem, needs=needs)


def _find(name: str, folder: Path, what: str) -> Path:
    if name.endswith(".yml"):
        return Path(name)
    path, known = folder / f"{name}.yml", sorted(path.stem for path in folder.glob("*.yml"))
    if name not in known:
        raise UsageError(f"no {what} '{name}', expected one of {', '.join(known)}{nearest(name, known)}")
    return Path(os.path.relpath(path)) if path.is_relative_to(Path.cwd()) else path
