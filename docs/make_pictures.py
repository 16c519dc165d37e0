"""Pictures for the README, of what the demo made: ``make docs-pictures`` runs the demo and then this.

python docs/make_pictures.py [FOLDER OF THE DEMO'S OUTPUT [FOLDER OF ITS DATA]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from caffe_compat.figures.filters import read_filters
from caffe_compat.figures.panels import Look, draw_filters
from caffe_compat.figures.save import write_figure
from caffe_compat.files import write_file
from caffe_compat.media.pictures import encode, read_picture
from caffe_compat.proto import read_net
from caffe_compat.pycaffe.draw import svg_of
from caffe_compat.transfer.curves import group_runs
from caffe_compat.transfer.report_plot import write_curves
from caffe_compat.transfer.runs import read_run

HERE = Path(__file__).resolve().parent / "pictures"
NETS = HERE.parents[1] / "prototxt/demo"
FRAMES = 2


def main(output: Path, data: Path) -> int:
    """Write them and say how large they are."""
    write_file(HERE / "scenes.png", scenes(data))
    filters(output)
    write_curves(HERE / "curves.png", group_runs([read_run(output / "transfer_metrics.jsonl")]))
    write_file(HERE / "net.svg", svg_of(read_net(NETS / "teacher/deploy.prototxt"), "LR"))
    for path in sorted(HERE.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")
        if path.stat().st_size >= 100_000:
            raise SystemExit(f"{path.name} is too large")
    return 0


def scenes(data: Path) -> bytes:
    """Drawn scenes, in colour above and as HHA below."""
    rows = []
    for name in ("test_images.txt", "test_hha.txt"):
        lines = (data / "lists" / name).read_text(encoding="utf-8").splitlines()[:FRAMES]
        pictures = [read_picture(str(data / line.rpartition(" ")[0])) for line in lines]
        rows.append(np.concatenate([np.pad(one, ((0, 2), (0, 2), (0, 0)), constant_values=255) for one in pictures], 1))
    sheet = np.concatenate(rows)
    return encode(sheet, "png", "scenes")


def filters(output: Path) -> None:
    """The student's first filters before the transfer and after, beside the teacher's."""
    teacher = str(next(output.glob("teacher_iter_*.caffemodel")))
    transfer = str(NETS / "transfer/train_val.prototxt")
    shown = [
        read_filters("teacher, on colour", str(NETS / "teacher/deploy.prototxt"), teacher, "conv1"),
        read_filters("student before, for HHA", transfer, "random", "da_conv1", seed=101),
        read_filters(
            "student after, for HHA",
            str(NETS / "transfer/franken_deploy.prototxt"),
            str(output / "franken.caffemodel"),
            "da_conv1",
        ),
    ]
    write_figure(HERE / "filters.png", draw_filters(shown, Look(dpi=120)))


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:3]]
    raise SystemExit(main(*given, *[Path("output/demo"), Path("data/demo")][len(given) :]))
