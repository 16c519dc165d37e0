"""Pictures for the README, of what the demo made: ``make docs-pictures`` runs the demo and then this.

python docs/make_pictures.py [FOLDER OF THE DEMO'S OUTPUT [FOLDER OF ITS DATA]]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.figures.filters import read_filters
from caffe_compat.figures.panels import Look, draw_filters
from caffe_compat.figures.save import write_figure
from caffe_compat.files import write_file
from caffe_compat.media.pictures import encode, read_picture
from caffe_compat.proto import read_net
from caffe_compat.pycaffe.draw import svg_of
from caffe_compat.scenes import CLASSES
from caffe_compat.transfer.curves import group_runs
from caffe_compat.transfer.report_plot import write_curves
from caffe_compat.transfer.runs import read_run

HERE = Path(__file__).resolve().parent / "pictures"
NETS = HERE.parents[1] / "prototxt/demo"
FRAMES = 2
DETECTOR = Path("output/docs_detector")
ITERATIONS = 1600
SURE, SHOWN = 0.8, 3
"""The first so many of the scenes that the detector has not seen in which it is so sure of something."""


def main(output: Path, data: Path) -> int:
    """Write them and say how large they are."""
    write_file(HERE / "scenes.png", scenes(data))
    filters(output)
    write_file(HERE / "detection.jpg", detection(output))
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


def detection(output: Path) -> bytes:
    """What a small detector, trained on 96 drawn scenes from the demo's teacher, finds in others."""
    folder, data = DETECTOR, f"tree:{DETECTOR}/data,split=train,modalities="
    run("make_scenes", "--out", f"{folder}/data", "--train 96 --pairs 1 --val 1 --test 24 --seed 7")
    boxes = folder / "boxes.npz"
    if not boxes.exists():
        run("make_proposals", "--imdb", f"{data}images+depth", "--output", boxes, "--count 200")
    schedule = f"--iters {ITERATIONS} --base-lr 0.01 --stepsize {ITERATIONS * 3 // 4} --snapshot-iters {ITERATIONS}"
    words = ("--exp-dir", folder.name, schedule, "--net small --classes 8 --scales 96 --loss-weight 1")
    run("make_detection", "--folder", folder, *words)
    names = [f"conv{number}" for number in range(1, 6)]
    copied = {
        "prototxt": str(NETS / "teacher/deploy.prototxt"),
        "model": str(next(output.glob("teacher_iter_*.caffemodel"))),
        "copy_ops": {"source": names, "dest": names, "reshape": [0] * len(names)},
    }
    write_file(folder / "surgery.json", json.dumps([copied], indent=1))
    net, start = folder / "train.prototxt", folder / "start.caffemodel"
    run("net_surgery", "--out_net_def", net, "--net_surgery_json", folder / "surgery.json", "--out_net_file", start)
    words = ("--solver", folder / "solver.prototxt", "--cfg", folder / "config.yml", "--weights", start)
    words += ("--imdb", f"{data}images", "--proposals", boxes, f"--iters {ITERATIONS} --resume --no-tensorboard")
    run("train_net", *words)
    weights = folder / "data_images_train" / f"fast_rcnn_iter_{ITERATIONS}.caffemodel"
    unseen = (folder / "data/lists/test_images.txt").read_text(encoding="utf-8").splitlines()
    pictures = [folder / "data" / line.rpartition(" ")[0] for line in unseen]
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    words = ("--def", folder / "test.prototxt", "--net", weights, "--classes", folder / "names.txt", f"--conf {SURE}")
    run("predict", *words, *pictures, "--draw", folder / "drawn", "--json", folder / "found.json", "--overwrite")
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))["pictures"]
    names = [Path(one["picture"]).name for one in found if one["objects"]][:SHOWN]
    drawn = np.concatenate([read_picture(str(folder / "drawn" / name)) for name in names], 1)
    small = cv2.resize(drawn, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    return encode(small, "jpg", "detection")


def run(name: str, *words: object) -> None:
    """Run a command of the package; a text with spaces holds several words."""
    told = [word for given in words for word in (str(given).split(" ") if isinstance(given, str) else [str(given)])]
    print(f"$ {name} {' '.join(told)}", flush=True)
    subprocess.run([sys.executable, "-m", "caffe_compat", name, *told], check=True)


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:3]]
    raise SystemExit(main(*given, *[Path("output/demo"), Path("data/demo")][len(given) :]))
