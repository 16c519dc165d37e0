"""Everything in the package that writes files: how to have it write small ones."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from transfer.tiny_nets import MAKE_TRANSFER, write_nets, write_pairs

from caffe_compat import load_net, media, scenes
from caffe_compat.commands import (
    compress_net,
    detecting,
    infer_results,
    infer_sheet,
    make_detection,
    make_sds,
    make_transfer,
    match_norms,
    net_surgery,
    save_sds,
    window_scores,
    zoo,
)
from caffe_compat.commands.classifying import write_scores
from caffe_compat.commands.demo_run import Demo, conv1_picture
from caffe_compat.commands.deploying import write_deploy
from caffe_compat.commands.experiment_actions import write_table
from caffe_compat.commands.image_mean import compute_image_mean
from caffe_compat.commands.log_tables import LogTables, write_tables
from caffe_compat.commands.upgrade import upgrade_net_file, upgrade_solver_file
from caffe_compat.config import Config, write_config
from caffe_compat.datasets import actions, boxes, downloads, mat, proposal_file, selection
from caffe_compat.datasets.folders import write_index
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.datasets.tree import NYUD2Tree
from caffe_compat.datasets.video import VideoPair
from caffe_compat.deploy.feed import Sample
from caffe_compat.deploy.journal import Journal
from caffe_compat.depth import io as depth_io
from caffe_compat.depth import show
from caffe_compat.detection import partial
from caffe_compat.detection.objects import Found
from caffe_compat.detection.snapshots import Regression, write_regression
from caffe_compat.detection.targets import TargetStatistics
from caffe_compat.evaluation import competition, examples, pictures, plots, reports, splits
from caffe_compat.evaluation.action import ActionAverage
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.detections import Detections, write_detections, write_detections_mat
from caffe_compat.evaluation.result import SplitMeans
from caffe_compat.experiments.declarations import Experiment, read_setting
from caffe_compat.experiments.running import make_folder as make_stage
from caffe_compat.experiments.stages import Stage
from caffe_compat.figures.answers import Feature, Moments
from caffe_compat.figures.pair import NetPair, write_numbers
from caffe_compat.figures.save import write_figure
from caffe_compat.files import copy_file
from caffe_compat.flow import write_flo
from caffe_compat.frames import png
from caffe_compat.media import create_database
from caffe_compat.net import weights as net_weights
from caffe_compat.onnx import export_onnx, export_verified, save_onnx
from caffe_compat.proto import caffe_pb2, hdf5, read_net, state, weights
from caffe_compat.pycaffe import draw
from caffe_compat.reports.page import write_page
from caffe_compat.segmentation.average import RegionAverage
from caffe_compat.segmentation.regions import Superpixels
from caffe_compat.segmentation.reports import write_region_reports
from caffe_compat.segmentation.stored import SegmentedDetections, write_segmented
from caffe_compat.segmentation.superpixels import KeptSuperpixels
from caffe_compat.segmentation.training import write_settings
from caffe_compat.solver.metrics import Metrics
from caffe_compat.stamps import write_stamp
from caffe_compat.transfer import Recipe, Schedule, Transfer
from caffe_compat.transfer.measured import write_measured
from caffe_compat.transfer.report import write_report
from caffe_compat.transfer.runs import read_run
from caffe_compat.transfer.start import Start, Verdict

NET = """name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 200 } }
"""
TRAINED = """layer { name: "d" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
"""
RNG = np.random.default_rng(0)
FOUND = Found("chair", 0.9, (1.0, 2.0, 20.0, 25.0))
PICTURE = RNG.integers(0, 255, (30, 40, 3), dtype=np.uint8)
ARRAYS = [RNG.normal(size=(20, 30)).astype("f4"), np.zeros(20, "f4")]


@dataclass(frozen=True)
class Writer:
    """One way of writing.

    Args:
        write: does it, given the target; the current folder is the target's.
        homes: modules of the package (below it) whose writing this is.
        name: of the target.
        many: it writes several files one by one, of which each is whole or as it was.
        replaces: it may be given the name of a file that exists.
        prepare: makes inputs; its result is the second argument of ``write``.
    """

    write: object
    homes: tuple[str, ...]
    name: str = "target.bin"
    many: bool = False
    replaces: bool = True
    prepare: object = None


def a_net(folder):
    (folder / "n.prototxt").write_text(NET)
    torch.manual_seed(0)
    return load_net(folder / "n.prototxt")


def _hdf5_output(path, _):
    message = caffe_pb2.NetParameter(name="n")
    for top, shape in (("data", (2, 3)), ("label", (2,))):
        layer = message.layer.add(name=top, type="Input", top=[top])
        layer.input_param.shape.add(dim=shape)
    message.layer.add(name="out", type="HDF5Output", bottom=["data", "label"]).hdf5_output_param.file_name = str(path)
    from caffe_compat.description import State, describe_net
    from caffe_compat.net import Net

    Net(describe_net(message, State("TEST")))(data=torch.ones(2, 3), label=torch.ones(2))


def _database(backend):
    def write(path, _):
        with create_database(str(path), backend) as records:
            for number in range(50):
                records.put(b"%08d" % number, bytes(2000))

    return write


def _mean(folder):
    with create_database(str(folder / "records"), "lmdb") as records:
        datum = caffe_pb2.Datum(channels=3, height=30, width=40, data=PICTURE.tobytes(), label=1)
        records.put(b"0", datum.SerializeToString())
    return str(folder / "records")


def _old_net(folder):
    (folder / "old.prototxt").write_text('layers { name: "a" type: RELU bottom: "x" top: "y" }' * 40)
    (folder / "solver.prototxt").write_text('net: "n.prototxt" solver_type: ADAM')
    return folder


def _transfer(folder):
    write_nets(folder)
    write_pairs(folder / "pairs")
    load_net(folder / "teacher.prototxt").save(folder / "teacher.caffemodel")
    return folder


def _write_transfer(path, _):
    make_transfer.main(MAKE_TRANSFER)


def _surgery(folder):
    a_net(folder).save(folder / "source.caffemodel")
    ops = {"source": ["fc"], "dest": ["fc"]}
    entry = {"prototxt": "n.prototxt", "model": "source.caffemodel", "copy_ops": ops}
    (folder / "surgery.json").write_text(json.dumps([entry]))
    return folder


def _run_surgery(path, _):
    net_surgery.main(["--out_net_def", "n.prototxt", "--net_surgery_json", "surgery.json", "--out_net_file", path.name])


def _transferred(folder):
    text = (
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } '
        'data_filler { type: "gaussian" std: 9 } } }'
    )
    for name, bottom in (("y", "x"), ("da_y", "x"), ("adapt_y", "da_y")):
        text += (
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
            'inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }'
        )
    (folder / "pair.prototxt").write_text(text)
    load_net(folder / "pair.prototxt").save(folder / "source.caffemodel")


def _run_match(path, _):
    match_norms.main(
        ["--model", "pair.prototxt", "--weights", "source.caffemodel", "--output", path.name, "--count", "1"]
    )


def _compressed(folder):
    a_net(folder).save(folder / "source.caffemodel")
    fc = 'type: "InnerProduct" bottom: "%s" top: "%s" inner_product_param { num_output: %d bias_term: %s } }'
    small = (
        f'layer {{ name: "fc_L" {fc % ("data", "l", 2, "false")}\nlayer {{ name: "fc_U" {fc % ("l", "fc", 200, "true")}'
    )
    (folder / "svd.prototxt").write_text(NET[: NET.index('layer { name: "fc"')] + small)
    return folder


def _run_compress(path, _):
    compress_net.main(["--def", "n.prototxt", "--def-svd", "svd.prototxt", "--net", "source.caffemodel"])


def _demo(folder):
    (folder / "prototxt" / "demo" / "a").mkdir(parents=True)
    for name in ("a/x.prototxt", "y.prototxt"):
        (folder / "prototxt" / "demo" / name).write_text('source: "data/demo/x" random_seed: 5')
    return Demo(folder, seed=1234)


def _conv1(folder):
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }\n'
    nets = []
    for name in ("conv1", "da_conv1"):
        (folder / f"{name}.prototxt").write_text(
            text + f'layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_size: 3 } }"
        )
        nets.append(load_net(folder / f"{name}.prototxt"))
        nets[-1].layer(name).blobs[0].data.copy_(torch.arange(108.0).view(4, 3, 3, 3) % 17)
    return nets


def _start(folder):
    _transfer(folder)
    recipe = Recipe("teacher.prototxt", "student.prototxt", ("pool1",), "out", ("c2",), image_size=(40, 48))
    return Start(Transfer(recipe), Schedule(), (Verdict(0.01, 1.0, 0.5, 1.0, 1.0, 0.0, ""),))


def _run(folder):
    records = [{"iteration": i, "net": 0, "scores": {"accuracy": 0.1 * i}} for i in range(3)]
    lines = [json.dumps({"phase": "test", **record}) + "\n" for record in records]
    (folder / "run").mkdir()
    (folder / "run" / "x_metrics.jsonl").write_text("".join(lines))
    return [read_run("run")]  # whose paths stand in the report


def _numbers(path, _):
    pairs = SimpleNamespace(source="pairs.txt", pairs=[])
    feature = Feature(None, "pool5", "m.prototxt", "w.caffemodel")
    write_numbers(path, NetPair(feature, feature, pairs, "hha"), [], Moments(300), [None, None])


def _figure(folder):
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


def _archive(folder):
    import zipfile

    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x/1", b"new" * 1000)
        archive.writestr("x/2", b"new" * 1000)
    return folder / "a.zip"


def _imdb(folder):
    (folder / "a.png").write_bytes(media.pictures.encode(PICTURE, "png", "a.png"))
    files, none = {"images": str(folder / "a.png")}, np.zeros((0, 4), "f4")
    records = [FrameRecord(name, files, boxes=none, classes=()) for name in ("img_1", "img_2")]
    return ImageDatabase("toy_test", ("bed", "chair", "lamp"), ("images",), records)


def _detections(_=None):
    rows = np.random.default_rng(0).random((2, 3, 9, 5), dtype=np.float32)
    rows[..., 2:4] += rows[..., :2]
    return Detections(("bed", "chair", "lamp"), ("img_1", "img_2"), [[rows[i, c] for i in range(2)] for c in range(3)])


def _evaluation():
    judge = AveragePrecision(("bed", "lamp"))
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9]], "f4")
    found = np.hstack([boxes, np.array([[0.5], [0.25]], "f4")])
    judge.process(FrameRecord("img_1", boxes=boxes, classes=("bed", "bed")), [found, found])
    return judge.evaluate()


def _tubes():
    judge = ActionAverage(("run", "jump"))
    for clip in CLIPS:
        for number, box in zip(clip.frames, clip.boxes, strict=True):
            record = FrameRecord(f"{clip.name}{number}", scene=clip.name, boxes=box[None], classes=(clip.action,))
            judge.process(record, [np.append(box, np.float32(0.5))[None]] * 2)
    return judge.evaluate().video


def _splits():
    figures = np.full((2, 1), 0.5)
    return SplitMeans(("a", "b"), ("run",), "action", 0.5, figures, figures[:, 0], figures, (0.5,))


def _settings():
    return scenes.Settings(train=10, pairs=10, val=10, test=10, width=48, height=48)


def _clips():
    return scenes.ClipSettings(train=1, videos=2, test=1, frames=2, width=48, height=48)


CLIPS = [
    actions.ActionClip(name, stem, np.array([[1, 2, 5, 6]] * 9, "f4")) for name, stem in (("run", "a"), ("jump", "b"))
]
TRUTH = boxes.GroundTruth(
    np.array([[1, 2, 5, 6]], "f4"), ["chair"], np.ones(1, "i8"), np.zeros(1, bool), np.zeros(1, bool), (20, 30)
)


def _regression():
    statistics = TargetStatistics(np.zeros((20, 4)), np.ones((20, 4)), np.zeros(20, np.int64))
    return Regression(statistics, {"bbox_pred": (ARRAYS[0], ARRAYS[1])}, {"imdb": "a"})


def _write_windows():
    scored = window_scores.Scored(["a.png"] * 40, np.zeros((40, 4)), np.ones((40, 20), "f4"))
    return lambda path, _: window_scores.write_table(str(path), scored)


def _training_net(folder):
    (folder / "train.prototxt").write_text(TRAINED)
    return folder / "train.prototxt"


def _sheet(path):
    sheet = infer_sheet.Sheet(str(path), 4, True)
    sheet.offer(Sample("a", ("a.png",)), {"labels": [{"class": "cat", "score": 0.5}]}, PICTURE)
    sheet.write(lambda sample: PICTURE)


def _segmented(folder):
    found = Detections(("bed",), ("a",), [[ARRAYS[0][:, :5]]])
    return SegmentedDetections(found, [np.random.default_rng(0).random((len(ARRAYS[0]), 900)) > 0.5])


def _drawing(folder):
    return save_sds._Drawing(None, None, None, folder, "png")


WRITERS = {
    "caffemodel": Writer(lambda path, net: net.save(path), ("proto/weights.py",), prepare=a_net),
    "caffemodel with diffs": Writer(
        lambda path, _: weights.write(path, "n", [(caffe_pb2.LayerParameter(name="a", type="ReLU"), ARRAYS, ARRAYS)]),
        ("proto/weights.py",),
    ),
    "aligned caffemodel": Writer(lambda path, net: net.save(path, aligned=True), ("proto/weights.py",), prepare=a_net),
    "caffemodel.h5": Writer(
        lambda path, net: net_weights.save_hdf5(net.plan, path), ("proto/hdf5.py", "proto/hdf5_file.py"), prepare=a_net
    ),
    "many layers in HDF5": Writer(
        lambda path, _: hdf5.write_hdf5(path, [(f"layer{k}", {0: ARRAYS[1]}) for k in range(40)], [("layer0", {})]),
        ("proto/hdf5.py",),
    ),
    "solverstate": Writer(
        lambda path, _: state.write_state(path, state.SolverState(7, "x.caffemodel", 1, ARRAYS)), ("proto/state.py",)
    ),
    "solverstate.h5": Writer(
        lambda path, _: hdf5.write_state_hdf5(path, state.SolverState(7, "x.caffemodel", 1, ARRAYS)), ("proto/hdf5.py",)
    ),
    "HDF5Output": Writer(_hdf5_output, ("layers/data/hdf5.py",)),
    "regression of a detector": Writer(
        lambda path, _: write_regression(path, _regression()), ("detection/snapshots.py",), "n.regression.npz"
    ),
    "color png": Writer(lambda path, _: png.write_color(path, PICTURE), ("frames/png.py",)),
    "encoded png": Writer(lambda path, _: png.write_encoded(path, PICTURE, {"a": 1}), ("frames/png.py",)),
    "depth png": Writer(lambda path, _: depth_io.write_depth(path, PICTURE[..., 0] / 50), ("depth/io.py",)),
    "figure": Writer(lambda path, figure: show.save_figure(path, figure), ("depth/show.py",), "f.png", prepare=_figure),
    "numbers of patches": Writer(_numbers, ("figures/pair.py",)),
    "mat": Writer(lambda path, _: mat.write_mat(path, {"a": PICTURE}), ("datasets/mat.py",)),
    "boxes": Writer(lambda path, _: boxes.write_ground_truth(path, TRUTH), ("datasets/boxes.py",)),
    "proposals": Writer(
        lambda path, _: proposal_file.write_proposal_file(
            path, proposal_file.ProposalFile(["a"], [ARRAYS[0][:, :4] ** 2 * [0, 0, 1, 1]])
        ),
        ("datasets/proposal_file.py",),
    ),
    "segmentation": Writer(
        lambda path, _: NYUD2Tree(path.parent).write_segmentation(5001, PICTURE[..., 0] % 3, PICTURE[..., 1] % 3),
        ("datasets/tree.py",),
        many=True,
    ),
    "pairs": Writer(lambda path, _: media.write_pairs(path, [("a.png", "b.png")] * 100), ("media/lists.py",)),
    "preprocessing": Writer(
        lambda path, _: media.write_preprocessing(path, media.Preprocessing()), ("media/preparation.py",)
    ),
    "image list": Writer(lambda path, _: media.write_image_list(path, [("a.png", 1)] * 100), ("media/lists.py",)),
    "selection": Writer(
        lambda path, _: selection.write_selection(
            path,
            [VideoPair("s", str(path.parent / f"{k}d"), str(path.parent / f"{k}c"), k, 0.1) for k in range(50)],
            path.parent,
            1,
        ),
        ("datasets/selection.py",),
    ),
    "options": Writer(lambda path, _: write_config(path, Config()), ("config/document.py",)),
    "stamp": Writer(lambda path, _: write_stamp(path, {"a": list(range(100))}), ("stamps.py",)),
    "copy": Writer(
        lambda path, source: copy_file(source, path),
        ("datasets/prepare.py",),
        prepare=lambda folder: (folder / "n.prototxt").write_text(NET) and folder / "n.prototxt",
    ),
    "what a test has found": Writer(
        lambda path, _: partial.PartialResults(path, {"a": 1}, 2).append("0", [ARRAYS[0][:, :5]] * 2),
        ("record_file.py",),
    ),
    "what a training says of itself": Writer(
        lambda path, _: Metrics(path, 0).append({"phase": "start", "iteration": 0, "loss": [1.5] * 99}),
        ("solver/metrics.py",),
    ),
    "what was measured": Writer(
        lambda path, start: write_measured(path.parent, start),
        ("transfer/measured.py",),
        "measured.json",
        prepare=_start,
    ),
    "report of a training": Writer(
        lambda path, runs: write_report(runs, path.parent),
        ("transfer/report.py", "transfer/report_plot.py"),
        many=True,
        prepare=_run,
    ),
    "page about trainings": Writer(
        lambda path, runs: write_page(runs, path.parent), ("reports/page.py",), "report.html", prepare=_run
    ),
    "onnx": Writer(lambda path, net: export_onnx(net, path), ("onnx/save.py",), "n.onnx", prepare=a_net),
    "verified onnx": Writer(
        lambda path, net: export_verified(net, path),
        ("onnx/save.py",),
        "n.onnx",
        prepare=a_net,
    ),
    "onnx with external data": Writer(
        lambda path, net: save_onnx(export_onnx(net), path, external=True), ("onnx/save.py",), "n.onnx", prepare=a_net
    ),
    "drawing": Writer(
        lambda path, _: draw.draw_net_to_file(read_net(path.parent / "n.prototxt"), path),
        ("pycaffe/draw.py",),
        "n.dot",
        prepare=a_net,
    ),
    "transfer": Writer(_write_transfer, ("transfer/files.py",), many=True, prepare=_transfer),
    "detector": Writer(
        lambda path, _: make_detection.main(["--net", "caffenet", "--classes", "3", "--folder", "out"]),
        ("detection/net_files.py",),
        many=True,
    ),
    "hypercolumn net": Writer(
        lambda path, _: make_sds.main(["--net", "caffenet", "--classes", "3", "--folder", "out"]),
        ("segmentation/net_files.py",),
        many=True,
    ),
    "settings of a hypercolumn net's snapshot": Writer(
        lambda path, _: write_settings(str(path), {"RNG_SEED": 3}),
        ("segmentation/training.py",),
        "new.settings.json",
    ),
    "segmented detections": Writer(
        lambda path, content: write_segmented(path, content), ("segmentation/stored.py",), prepare=_segmented
    ),
    "what is said of regions": Writer(
        lambda path, found: write_region_reports(path.parent / "segm_eval", found),
        ("segmentation/reports.py",),
        many=True,
        prepare=lambda folder: RegionAverage(["bed"]).evaluate(),
    ),
    "superpixels that were made": Writer(
        lambda path, _: KeptSuperpixels(lambda record: Superpixels(1 + np.arange(99).reshape(9, 11)), path.parent)(
            FrameRecord("new")
        ),
        ("segmentation/superpixels.py",),
        "new.png",
    ),
    "sheet of regions": Writer(
        lambda path, drawing: drawing._write("new", PICTURE), ("commands/save_sds.py",), "new.png", prepare=_drawing
    ),
    "compressed": Writer(_run_compress, ("proto/weights.py",), "source_svd_fc_2.caffemodel", prepare=_compressed),
    "surgery": Writer(_run_surgery, ("proto/weights.py",), "out.caffemodel", prepare=_surgery),
    "match_norms": Writer(_run_match, ("proto/weights.py",), "out.caffemodel", prepare=_transferred),
    "lmdb": Writer(_database("lmdb"), ("media/records.py",), "new", replaces=False),
    "leveldb": Writer(_database("leveldb"), ("media/records.py",), "new", replaces=False),
    "mean": Writer(lambda path, records: compute_image_mean(records, str(path)), ("media/means.py",), prepare=_mean),
    "upgraded net": Writer(
        lambda path, _: upgrade_net_file("old.prototxt", str(path)), ("commands/upgrade.py",), prepare=_old_net
    ),
    "upgraded solver": Writer(
        lambda path, _: upgrade_solver_file("solver.prototxt", str(path)), ("commands/upgrade.py",), prepare=_old_net
    ),
    "stage of an experiment": Writer(
        lambda path, _: make_stage(Stage("test", "a", "s", (), files={"a.json": "x" * 100, "b.json": "y" * 100})),
        ("experiments/running.py",),
        many=True,
    ),
    "table of an experiment": Writer(
        lambda path, _: write_table(path.parent / "t", Experiment("t", {}), read_setting("scenes"), []),
        ("commands/experiment_actions.py",),
        many=True,
    ),
    "demo prototxts": Writer(
        lambda path, demo: demo._write_prototxts(), ("commands/demo_run.py",), many=True, prepare=_demo
    ),
    "tables of a log": Writer(
        lambda path, _: write_tables(
            LogTables("a.log", [{"NumIters": 0.0, "loss": 2.0}] * 9, [{"NumIters": 1.0}]), "."
        ),
        ("commands/log_tables.py",),
        many=True,
    ),
    "scores": Writer(lambda path, _: write_scores(path, np.zeros((9, 9))), ("commands/classifying.py",), "scores.npy"),
    "scores of windows": Writer(_write_windows(), ("commands/window_scores.py",), "scores.csv"),
    "scores of windows in HDF5": Writer(
        _write_windows(), ("commands/window_scores.py", "proto/hdf5_file.py"), "scores.h5"
    ),
    "deploy form": Writer(
        lambda path, net: write_deploy(str(net), path, {}),
        ("commands/deploying.py",),
        "d.prototxt",
        prepare=_training_net,
    ),
    "prototxts of the zoo": Writer(
        lambda path, _: zoo.main(["vgg16", "--copy", str(path.parent / "my")]), ("commands/zoo.py",), many=True
    ),
    "conv1 picture": Writer(
        lambda path, nets: conv1_picture(*nets, path), ("figures/save.py",), "conv1.png", prepare=_conv1
    ),
    "figure of a paper": Writer(
        lambda path, drawn: write_figure(path, drawn), ("figures/save.py",), "f.pdf", prepare=_figure
    ),
    "scenes": Writer(
        lambda path, _: (
            scenes.open_root(path.parent / "set", _settings()),
            scenes.write_lists(path.parent / "set", _settings()),
        ),
        ("scenes/dataset.py",),
        many=True,
    ),
    "drawn clips": Writer(
        lambda path, _: (
            scenes.open_clips(path.parent / "clips", _clips()),
            [scenes.write_clip(path.parent / "clips", _clips(), True, spec) for spec in scenes.clip_specs(_clips())],
            scenes.write_clip_lists(path.parent / "clips", _clips()),
        ),
        ("scenes/clips.py",),
        many=True,
    ),
    "detections": Writer(
        lambda path, _: write_detections(path, _detections()), ("evaluation/detections.py",), "detections.npz"
    ),
    "detections for Matlab": Writer(
        lambda path, _: write_detections_mat(path, _detections()), ("evaluation/detections.py",), "detections.mat"
    ),
    "evaluation": Writer(
        lambda path, _: reports.write_reports(path.parent, _evaluation()), ("evaluation/reports.py",), many=True
    ),
    "sheets of detections": Writer(
        lambda path, imdb: pictures.write_sheets(
            path.parent, imdb, examples.choose_examples(imdb, _detections(imdb)), np.zeros(3)
        ),
        ("evaluation/pictures.py",),
        many=True,
        prepare=_imdb,
    ),
    "detections for a server": Writer(
        lambda path, imdb: competition.write_competition(path.parent, imdb, _detections(imdb)),
        ("evaluation/competition.py",),
        many=True,
        prepare=_imdb,
    ),
    "objects found": Writer(
        lambda path, _: detecting.write_objects(path, [FOUND] * 50, {"image": "a"}), ("commands/detecting.py",)
    ),
    "drawing of objects": Writer(
        lambda path, _: detecting.write_drawing(path, PICTURE, [FOUND]), ("commands/detecting.py",), "found.png"
    ),
    "what infer_onnx finds": Writer(
        lambda path, _: infer_results.write_records(path, {"pictures": [{"picture": "a"}] * 50}),
        ("commands/infer_results.py",),
    ),
    "outputs that infer_onnx keeps": Writer(
        lambda path, _: infer_results.write_arrays(path, ["a", "b"], [{"prob": ARRAYS[0]}] * 2, {"a": 1}),
        ("commands/infer_results.py",),
        "o.npz",
    ),
    "outputs that predict keeps in HDF5": Writer(
        lambda path, _: infer_results.write_arrays_hdf5(path, ["a", "b"], [{"prob": ARRAYS[0]}] * 2, {"a": 1}),
        ("commands/infer_results.py",),
        "o.h5",
    ),
    "contact sheet": Writer(lambda path, _: _sheet(path), ("commands/infer_sheet.py",), "s.png"),
    "picture that infer_onnx draws": Writer(
        lambda path, _: infer_results.write_drawn(path, PICTURE, True), ("commands/infer_results.py",), "drawn.png"
    ),
    "what infer_onnx has found so far": Writer(
        lambda path, _: Journal(path, {"a": 1}).append("0", {"labels": [1]}, {"prob": ARRAYS[0]}),
        ("record_file.py",),
    ),
    "list of frames": Writer(
        lambda path, _: write_index(path, [{"color": "c.png", "depth": "d.png", "origin": 0}] * 50),
        ("datasets/folders.py",),
    ),
    "flow": Writer(lambda path, _: write_flo(path, RNG.normal(size=(20, 30, 2))), ("flow/stored.py",), "f.flo"),
    "curves": Writer(lambda path, _: plots.write_plot(path, _evaluation()), ("evaluation/plots.py",), "curves.png"),
    "curves of tubes": Writer(
        lambda path, _: plots.write_video_plot(path, _tubes()), ("evaluation/plots.py",), "video.png"
    ),
    "mean over splits": Writer(
        lambda path, _: splits.write_splits(path.parent / "target", _splits()),
        ("evaluation/splits.py",),
        "target.json",
        many=True,
    ),
    "boxes of clips": Writer(lambda path, _: actions.write_annotation(path, CLIPS), ("datasets/actions.py",)),
    "split of clips": Writer(
        lambda path, _: actions.write_clip_split(path.parent, 1, CLIPS, {"a": "train", "b": "test"}),
        ("datasets/actions.py",),
        many=True,
    ),
    "archive": Writer(
        lambda path, archive: downloads._unpack(archive, path.parent),
        ("datasets/downloads.py",),
        "x",
        many=True,
        prepare=_archive,
    ),
}
