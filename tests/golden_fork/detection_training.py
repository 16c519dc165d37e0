"""Training in parity with the branch: the roidb with its targets, minibatches, and 20 iterations on real Caffe.

Where a class has too few examples for a standard deviation the branch divides by 0; there the rule of this package is
expected instead: at least 1e-6, and 1 without examples.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from caffe_compat.config import Config, load_config
from caffe_compat.datasets.imdb import find_imdb
from caffe_compat.detection.roidb import Roidb, RoiImage, build_roidb
from caffe_compat.detection.sampling import Minibatches
from caffe_compat.detection.targets import LEAST_STD, normalised, raw_targets, target_statistics
from caffe_compat.detection.training import DetectorRun, detector_solver, set_snapshots
from caffe_compat.net import load_net
from caffe_compat.proto import read_solver
from caffe_compat.solver import Solver

Arrays = Mapping[str, np.ndarray]
BATCHES = {1: "nyud2_hha_2015_train", 2: "nyud2_images+hha_2015_train"}
BLOBS = ("data", "data_1", "rois", "labels", "bbox_targets", "bbox_loss_weights")


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """``config``, ``train/...`` and ``batch_...`` of fastrcnn.npz, ``config`` and ``train/...`` of the trace."""
    arrays = np.load(folder / "fastrcnn.npz", allow_pickle=False)
    config = parity_config(arrays)
    yield "config", ""
    yield from _roidb(arrays, config, folder / "tree")
    for modalities, imdb in BATCHES.items():
        yield from _batches(arrays, f"batch_{modalities}", imdb, config, folder / "tree")
    if (folder / "trace" / "trace.npz").exists():
        yield from ((name, f"trace: {problem}" if problem else "") for name, problem in _trace(folder))


def parity_config(arrays: Arrays) -> Config:
    """The options that a file of arrays was made with."""
    pairs: list[str] = []
    for key, value in json.loads(str(arrays["config"])).items():
        if key.isupper():
            for name, entry in value.items() if isinstance(value, dict) else [("", value)]:
                pairs += [f"{key}.{name}" if name else key, repr(entry)]
    return load_config(None, pairs, parity=True)


# -- the roidb ------------------------------------------------------------------------------------------------------


def _roidb(arrays: Arrays, config: Config, root: Path) -> Iterator[tuple[str, str]]:
    imdb = find_imdb(BATCHES[1], root)
    roidb = build_roidb(imdb, config)
    labels = len(imdb.classes) + 1
    statistics = target_statistics(roidb, labels, config)
    good = _good(arrays["train/stds"])
    yield "train/count", "" if int(arrays["train/count"]) == len(roidb) else f"{len(roidb)}"
    yield "train/means", _near(statistics.means.ravel(), arrays["train/means"], 1e-6)
    yield "train/stds", _stds(statistics.stds.ravel(), arrays["train/stds"], statistics.counts)
    for name in sorted(key for key in arrays if re.fullmatch(r"train/\d+/\w+", key)):
        _, number, what = name.split("/")
        if int(number) >= len(roidb):
            yield name, f"there are {len(roidb)} entries"
            continue
        image = roidb[int(number)]
        if what != "bbox_targets":
            yield name, _equal(_field(image, what, labels), arrays[name])
            continue
        found, raw = raw_targets(image, config)
        mine = np.concatenate([found[:, None], normalised(found, raw, statistics)], 1)
        ok = np.concatenate([np.ones((len(found), 1), bool), good.reshape(-1, 4)[found] | (found == 0)[:, None]], 1)
        yield name, _near(mine[ok], arrays[name][ok], 1e-4, 1e-5)


def _field(image: RoiImage, what: str, labels: int) -> np.ndarray:
    """An array of the branch's roidb entry."""
    if what != "overlaps":
        return np.asarray(getattr(image, what))
    table = np.zeros((len(image.boxes), labels), np.float32)
    table[np.arange(len(table)), image.max_classes] = image.max_overlaps
    return table


def _good(stds: np.ndarray) -> np.ndarray:
    """Where a standard deviation of the branch can be divided by."""
    return np.isfinite(stds) & (stds > LEAST_STD)


def _stds(mine: np.ndarray, wanted: np.ndarray, counts: np.ndarray) -> str:
    rule = np.where(np.repeat(counts, 4) > 0, LEAST_STD, 1.0)
    return _near(mine, np.where(_good(wanted), wanted, rule), 1e-5)


# -- minibatches ----------------------------------------------------------------------------------------------------


def _batches(arrays: Arrays, prefix: str, name: str, config: Config, root: Path) -> Iterator[tuple[str, str]]:
    keys = sorted(key for key in arrays if key.startswith(f"{prefix}/"))
    if not keys:
        return
    imdb = find_imdb(name, root)
    roidb = build_roidb(imdb, config)
    statistics = target_statistics(roidb, len(imdb.classes) + 1, config)
    minibatches = Minibatches(roidb, imdb.modalities, config, statistics)
    good = _good(arrays["train/stds"])  # of the same images
    found: dict[int, dict[str, np.ndarray]] = {}
    for key in keys:
        _, number, what = key.split("/")
        blobs = found.setdefault(int(number), _blobs(minibatches, int(number)))
        if what == "images":
            yield key, _equal(np.array([pick.image for pick in minibatches.sampler.batch(int(number))]), arrays[key])
        elif what == "bbox_targets":
            yield key, _near(blobs[what][:, good], arrays[key][:, good], 1e-4, 1e-5)
        else:
            yield key, _near(blobs[what], arrays[key], 1e-6, 1e-4 if what.startswith("data") else 0)


def _blobs(minibatches: Minibatches, number: int) -> dict[str, np.ndarray]:
    absent = set() if minibatches.num_data == 2 else {"data_1"}
    if not minibatches.config.train.bbox_reg:
        absent |= {"bbox_targets", "bbox_loss_weights"}
    names = [name for name in BLOBS if name not in absent]
    return dict(zip(names, minibatches.read(number), strict=True))


# -- the trace ------------------------------------------------------------------------------------------------------


def _trace(folder: Path) -> Iterator[tuple[str, str]]:
    arrays = np.load(folder / "trace" / "trace.npz", allow_pickle=False)
    config, facts = parity_config(arrays), json.loads(str(arrays["config"]))
    yield "config", ""
    with tempfile.TemporaryDirectory() as temporary:
        solver, roidb = _trace_solver(folder, config, facts["imdb"], Path(temporary))
        layers = config.train.bbox_pred_param_names
        statistics = target_statistics(roidb, len(arrays["train/means"]) // 4, config)
        yield "train/means", _near(statistics.means.ravel(), arrays["train/means"], 1e-6)
        yield "train/stds", _stds(statistics.stds.ravel(), arrays["train/stds"], statistics.counts)
        spoiled = _spoiled(arrays, facts["iters"])
        for iteration in range(1, facts["iters"] + 1):
            solver.step(1)
            for key in sorted(key for key in arrays if re.fullmatch(rf"train/\w+/{iteration}", key)):
                what = key.split("/")[1]
                if iteration > spoiled - (what == "loss_bbox") and what.startswith("loss_"):
                    yield key, ""
                    continue
                mine = solver.engine.blob(what).tensor.detach().numpy()
                yield key, _near(mine, arrays[key], 1e-4 if iteration <= 10 else 1e-3, 1e-6)
        model, _ = solver.snapshot()
        written = load_net(folder / "trace" / "train.prototxt", model, phase="TRAIN")
    for key in sorted(key for key in arrays if re.fullmatch(r"train/(raw|snapshot)/\w+/\d+", key)):
        _, which, layer, blob = key.split("/")
        net = solver.net if which == "raw" else written
        mine, wanted = net.layer(layer).blobs[int(blob)].detach().numpy(), arrays[key]
        if which == "snapshot" and layer in layers:
            good = _good(arrays["train/stds"])
            raw = arrays[f"train/raw/{layer}/{blob}"].reshape(len(good), -1)
            rule = raw * statistics.stds.ravel()[:, None] + (statistics.means.ravel()[:, None] if blob == "1" else 0)
            wanted = np.where(good[:, None], wanted.reshape(len(good), -1), rule).reshape(mine.shape)
        if spoiled <= facts["iters"] and mine.shape == wanted.shape:
            yield key, ""
        else:
            yield key, _near(mine, wanted, 1e-3, 1e-4 * float(np.abs(wanted).max(initial=0)))


def _spoiled(arrays: Arrays, iterations: int) -> float:
    """The first iteration with an example whose targets the branch divided by 0: what it learns from then on is NaN.

    Rois and labels go on to agree, for they depend on no weights.
    """
    bad = np.flatnonzero(~_good(arrays["train/stds"]).reshape(-1, 4).all(1))
    labels = ((number, arrays.get(f"train/labels/{number}", np.zeros(0))) for number in range(1, iterations + 1))
    return next((number for number, found in labels if np.isin(found[found > 0], bad).any()), np.inf)


def _trace_solver(folder: Path, config: Config, name: str, output: Path) -> tuple[Solver, Roidb]:
    imdb = find_imdb(name, folder / "tree")
    param = read_solver(folder / "trace" / "solver.prototxt")
    param.net, param.random_seed = str(folder / "trace" / "train.prototxt"), config.rng_seed
    set_snapshots(param, config, output)
    run = DetectorRun(imdb, config, weights=[str(folder / "trace" / "init.caffemodel")])
    return detector_solver(param, run), build_roidb(imdb, config)


# -- comparisons ----------------------------------------------------------------------------------------------------


def _equal(mine: np.ndarray, wanted: np.ndarray) -> str:
    mine, wanted = np.asarray(mine), np.asarray(wanted)
    if mine.shape != wanted.shape:
        return f"shape {mine.shape}, expected {wanted.shape}"
    return "" if (mine == wanted).all() else f"{int((mine != wanted).sum())} of {mine.size} values differ"


def _near(mine: np.ndarray, wanted: np.ndarray, rtol: float, atol: float = 1e-9) -> str:
    mine, wanted = np.asarray(mine), np.asarray(wanted)
    if mine.shape != wanted.shape:
        return f"shape {mine.shape}, expected {wanted.shape}"
    if np.allclose(mine, wanted, rtol=rtol, atol=atol):
        return ""
    return f"differs by up to {np.abs(mine - wanted).max():.3g}, values up to {np.abs(wanted).max():.3g}"
