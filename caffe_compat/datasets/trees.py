"""Image databases on trees laid out as NYUD2 is: NYUD2 itself, the drawn scenes, and one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_compat.datasets.coco_classes import COCO_CLASSES, NYUD2_IN_COCO
from caffe_compat.datasets.imdb import FileProposals, ImageDatabase, ProposalSource, register_imdb
from caffe_compat.datasets.nyud2 import CLASSES
from caffe_compat.datasets.tree import NYUD2Tree
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["nyud2", "own_tree", "scenes"]

_MODALITIES = r"(?P<modalities>[^_:/,+]+(?:\+[^_:/,+]+)*)"


@register_imdb(
    rf"nyud2_{_MODALITIES}_2015_(?P<split>\w+)(?P<coco>,classes=coco)?",
    [
        *(f"nyud2_{kind}_2015_{split}" for kind in ("images", "hha", "images+hha") for split in ("trainval", "test")),
        "nyud2_images_2015_test,classes=coco",
    ],
)
def nyud2(root: Path, modalities: str, split: str, coco: str | None = None) -> ImageDatabase:
    """NYUD2 on the tree ``data/nyud2`` with the proposals ``data/nyud2_mcg_boxes.mat``.

    Args:
        root: the folder that holds ``data/``.
        modalities: folders of ``data/nyud2/data`` joined by ``+``.
        split: train, val, trainval, test, or another of ``nyusplits.mat``; the records have the order of its numbers.
        coco: classes are COCO's, for detectors that were trained there; of the objects those of the 7 classes that
            both have count.

    Raises:
        MissingFileError, DataError: pictures or boxes are missing (named) or cannot be used.
    """
    name, tree = f"nyud2_{modalities}_2015_{split}", NYUD2Tree(root / "data" / "nyud2")
    found = _database(name, tree, modalities, split, CLASSES, root / "data" / "nyud2_mcg_boxes.mat")
    return _with_cocos_classes(found) if coco else found


def _with_cocos_classes(found: ImageDatabase) -> ImageDatabase:
    records = []
    for record in found.records:
        names = record.classes or ()
        keep = np.array([name in NYUD2_IN_COCO for name in names], bool)
        kept = {
            kind: values[keep]
            for kind in ("boxes", "difficult", "crowd", "areas")
            if (values := getattr(record, kind)) is not None
        }
        classes = tuple(NYUD2_IN_COCO[name] for name in names if name in NYUD2_IN_COCO)
        records.append(dataclasses.replace(record, classes=classes, masks=None, instances=None, **kept))
    return dataclasses.replace(found, name=f"{found.name}_coco", classes=COCO_CLASSES, records=records)


@register_imdb(rf"scenes_{_MODALITIES}_(?P<split>\w+)", ["scenes_images_train", "scenes_images+hha_test"])
def scenes(root: Path, modalities: str, split: str) -> ImageDatabase:
    """The drawn scenes in ``data/scenes``, where ``make_scenes --out data/scenes`` puts them.

    Args:
        root: the folder that holds ``data/``.
        modalities: images, hha, depth or rawdepth, joined by ``+``.
        split: train, val, trainval, test, or pairs, which has no boxes.

    Raises:
        MissingFileError, DataError: as :func:`nyud2`.
    """
    name, tree = f"scenes_{modalities}_{split}", NYUD2Tree(root / "data" / "scenes")
    return _database(name, tree, modalities, split, _classes(tree))


@register_imdb(
    rf"tree:(?P<folder>[^,]+),split=(?P<split>\w+)(?:,modalities={_MODALITIES})?",
    ["tree:FOLDER,split=NAME,modalities=images+hha"],
)
def own_tree(root: Path, folder: str, split: str, modalities: str | None) -> ImageDatabase:
    """Any folder laid out as NYUD2's.

    Args:
        root: not looked at: the folder is the one that a shell would find.
        folder: its ``classes.txt`` has the names of the classes, one a line; without it they are NYUD2's.
        split: as for :func:`nyud2`.
        modalities: as for :func:`nyud2`; images if not given.

    Raises:
        MissingFileError, DataError: as :func:`nyud2`.
    """
    tree, kinds = NYUD2Tree(Path(folder).expanduser()), modalities or "images"
    return _database(f"{tree.root.resolve().name}_{kinds}_{split}", tree, kinds, split, _classes(tree))


def _database(
    name: str, tree: NYUD2Tree, modalities: str, split: str, classes: Sequence[str], proposals: Path | None = None
) -> ImageDatabase:
    tree.check(split, modalities, ground_truth=split != "pairs")
    records = [tree.record(number, modalities, classes=classes) for number in tree.split(split)]
    source: ProposalSource | None = None
    if proposals is not None:
        source = FileProposals(proposals, [record.name for record in records])
    return ImageDatabase(name, tuple(classes), tuple(modalities.split("+")), records, source)


def _classes(tree: NYUD2Tree) -> tuple[str, ...]:
    path = tree.root / "classes.txt"
    if not path.exists():
        return CLASSES
    with open_existing(path, "names of classes") as stream:
        names = tuple(line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path}: expected the names of classes, one a line, each once")
    return names
