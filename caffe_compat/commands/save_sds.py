"""Draw segmented detections: for each class a sheet of pictures with the region and the box, from the surest on.

    tools/save_sds.py --imdb_name nyud2_images_2015_test --sds_sp_dir data/nyud2_sp \\
        --sds_detection_file output/sds/alexnet_rgb/{}/inst_segm_iter_10000/segm/detections.npz --nx 5 --ny 4
    tools/save_sds.py --imdb_name scenes_images_test --sds_detection_file segm/detections.npz --images 20

A sheet CLASS.png has NX x NY pictures, evenly from the surest detection to the one whose rank is COUNT_F times the
objects of the class.  Pictures that cannot be drawn are named at the end; the status is then 1.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from caffe_compat.commands.inputs import DETECTIONS, FOLDER, NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import DataError, MissingFileError, UsageError, in_file, printable

if TYPE_CHECKING:
    import numpy as np

    from caffe_compat.datasets import ImageDatabase
    from caffe_compat.segmentation.stored import SegmentedDetections
    from caffe_compat.segmentation.superpixels import SuperpixelSource

T = TypeVar("T")

MOST_NAMED = 10
"""Problems that are named."""
_DPI = 100


def make_parser() -> argparse.ArgumentParser:
    """The branch's flags, and pictures of whole images."""
    p = Parser(__doc__)
    p.add_argument("--imdb_name", required=True, help="image database")
    p.add_argument(
        "--sds_detection_file", type=DETECTIONS.later(), required=True, metavar="FILE",
        help="what test_net --sds 1 wrote, or the branch's .pkl; {} stands for the database",
    )  # fmt: skip
    p.add_argument(
        "--sds_sp_dir", type=FOLDER, metavar="DIR", help="superpixels (default: superpixels beside the detections)"
    )
    p.add_argument("--sds_output_dir", type=NEW_FOLDER, metavar="DIR", help="default: vis beside the detections")
    p.add_argument("--root", type=FOLDER, default=".", help="folder that holds data/ (default: this one)")
    p.add_argument("--nx", type=int, default=5, help="pictures in a row (%(default)s)")
    p.add_argument("--ny", type=int, default=4, help="rows (%(default)s)")
    p.add_argument("--sx", type=float, default=2.4, help="width of a picture in inches, of 100 pixels (%(default)s)")
    p.add_argument("--sy", type=float, default=1.8, help="its height (%(default)s)")
    p.add_argument("--count_f", type=float, default=1.0, help="the last rank, in objects of the class (%(default)s)")
    p.add_argument("--ext", default="png", metavar="png|jpg", help="kind of pictures (%(default)s)")
    p.add_argument("--images", type=int, default=0, metavar="N", help="draw the first N whole images too (-1: all)")
    p.add_argument("--score", type=float, default=0.5, help="least score in those (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Draw; 1 if something could not be drawn."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets import find_imdb
    from caffe_compat.detection.results import make_folder
    from caffe_compat.media.pictures import can_encode
    from caffe_compat.segmentation.stored import read_segmented

    for name in ("nx", "ny", "sx", "sy", "count_f"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UsageError(f"--{name} is {getattr(args, name)}, expected a number above 0")
    if not can_encode(args.ext):
        raise UsageError(f"--ext {args.ext}: no kind of pictures that is written here; expected png or jpg")
    imdb = find_imdb(args.imdb_name, args.root)
    file = Path(args.sds_detection_file.replace("{}", imdb.name))
    content = read_segmented(file, imdb.classes, [record.name for record in imdb.records])
    with in_file(file):
        _check(imdb, content)
    folder = Path(args.sds_output_dir or file.parent / "vis")
    make_folder(folder)
    drawing = _Drawing(imdb, content, _superpixels(args, file.parent), folder, args.ext)
    written = drawing.sheets(args) + drawing.images(args.images, args.score)
    print(printable(f"wrote {written} pictures into {folder}"))
    for problem in drawing.problems[:MOST_NAMED]:
        print(printable(f"  not drawn: {problem}"))
    if len(drawing.problems) > MOST_NAMED:
        print(f"  and {len(drawing.problems) - MOST_NAMED} more")
    return 1 if drawing.problems else 0


def _check(imdb: ImageDatabase, content: SegmentedDetections) -> None:
    """Refuse regions of other images or classes, or in another order."""
    from caffe_compat.evaluation.database import in_order_of

    if in_order_of(imdb, content.detections) is not content.detections:
        raise DataError(f"images or classes are in another order than those of {imdb.name}")


def _superpixels(args: argparse.Namespace, beside: Path) -> SuperpixelSource:
    from caffe_compat.segmentation.superpixels import SuperpixelsOfFolder

    made = SuperpixelsOfFolder(beside / "superpixels")
    return SuperpixelsOfFolder(args.sds_sp_dir, made) if args.sds_sp_dir else made


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What is drawn, where it goes, and what could not be drawn."""

    imdb: ImageDatabase
    content: SegmentedDetections
    source: SuperpixelSource
    folder: Path
    kind: str
    problems: list[str] = field(default_factory=list)

    def sheets(self, args: argparse.Namespace) -> int:
        """A sheet for each class with detections; how many."""
        from caffe_compat.media.contact import contact_sheet
        from caffe_compat.segmentation.sheets import ranked, sheet_tile, shown_ranks

        size, written, empty = (round(args.sx * _DPI), round(args.sy * _DPI)), 0, []
        for category, name in enumerate(tqdm(self.imdb.classes, "classes", disable=None, leave=False)):
            found = ranked(self.content, category)
            objects = sum((record.classes or ()).count(name) for record in self.imdb.records)
            tiles = []
            for rank in shown_ranks(len(found), objects or len(found), args.count_f, args.nx * args.ny):
                draw = partial(sheet_tile, self.imdb, self.content, category, found[rank], self.source)
                tiles += self._drawn(draw)
            if tiles:
                title = f"{name}: {len(found)} detections, {objects} objects"
                self._write(re.sub(r"[^A-Za-z0-9.-]+", "_", name), contact_sheet(tiles, title, args.nx, size))
                written += 1
            empty += [] if found else [name]
        if empty:
            print(printable(f"no detections of {', '.join(empty)}, so no sheets"))
        return written

    def images(self, wanted: int, score: float) -> int:
        """Whole images; how many."""
        from caffe_compat.segmentation.sheets import draw_image

        count, written = len(self.imdb.records), 0
        for number in tqdm(range(count if wanted < 0 else min(wanted, count)), "images", disable=None, leave=False):
            for picture in self._drawn(partial(draw_image, self.imdb, self.content, number, score, self.source)):
                self._write(f"images/{self.imdb.records[number].name}", picture)
                written += 1
        return written

    def _drawn(self, draw: Callable[[], T]) -> list[T]:
        """What is drawn, or nothing, and why."""
        try:
            return [draw()]
        except (DataError, MissingFileError) as error:
            self.problems.append(str(error))
            return []

    def _write(self, name: str, picture: np.ndarray) -> None:
        from caffe_compat.files import write_file
        from caffe_compat.media.pictures import encode

        path = self.folder / f"{name}.{self.kind}"
        write_file(path, encode(picture, self.kind, str(path)))
