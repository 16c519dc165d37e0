"""Segmenting detections in parity with the branch: what the net is fed, masks onto superpixels, AP^r, draws."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.config import Config, SdsConfig
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.layers.data import HypercolumnSettings
from caffe_compat.segmentation.average import RegionAverage
from caffe_compat.segmentation.blobs import box_blobs, box_weights, grid_labels, image_blob
from caffe_compat.segmentation.regions import (
    Superpixels,
    choose_regions,
    map_counts,
    region_overlaps,
    superpixel_values,
)
from caffe_compat.segmentation.sampling import BoxBatches, BoxSampler, pool_boxes

Arrays = Mapping[str, np.ndarray]
TOPS = ("image", "normalizedboxes", "sppboxes", "categids", "labels", "instance_wts")
THRESHOLD = 0.25
"""Of the regions in these files."""


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """All of sds.npz; what a computation starts from is taken for agreed once it was read."""
    with np.load(folder / "sds.npz", allow_pickle=False) as held:
        arrays = dict(held)
    facts = json.loads(str(arrays["config"]))
    config = Config(
        sds=SdsConfig(facts["TARGET_SIZE"], facts["MAX_SIZE"], facts["FEAT_SCALE"], facts["MASK_SIZE"]),
        rng_seed=facts["seed"],
        parity=True,
    )
    yield "config", ""
    yield from _each(arrays, "blobs", partial(_blobs, config=config))
    yield from _each(arrays, "paste", _paste)
    yield from _each(arrays, "apr", _apr)
    yield from _draws(_below(arrays, "draws/"), facts, config)


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _each(arrays: Arrays, part: str, compute: Callable[[Arrays], Arrays]) -> Iterator[tuple[str, str]]:
    for number in sorted({name.split("/")[1] for name in arrays if name.startswith(f"{part}/")}, key=int):
        prefix = f"{part}/{number}/"
        given = _below(arrays, prefix)
        mine = compute(given)
        yield from ((prefix + name, _near(mine[name], value) if name in mine else "") for name, value in given.items())


def _blobs(given: Arrays, config: Config) -> Arrays:
    boxes, size = given["boxes"], given["image"].shape[:2]
    image = image_blob(given["image"], config)
    blobs = box_blobs(boxes, given["classes"], size, image.shape[2:], config)
    masks = given["masks"].reshape(-1, *size).astype(bool)
    return {
        "net_image": image,
        "sppboxes": blobs.sppboxes,
        "normalizedboxes": blobs.normalizedboxes,
        "categids": blobs.categids,
        "labels": grid_labels(masks, np.arange(len(masks)), boxes, config.sds.mask_size),
        "instance_wts": box_weights(boxes),
    }


def _paste(given: Arrays) -> Arrays:
    superpixels = Superpixels(given["sp"])
    values = superpixel_values(given["output"], given["boxes"], superpixels, parity=True)
    regions = choose_regions(values, THRESHOLD)
    overlaps = region_overlaps(regions, map_counts(given["inst"], superpixels), superpixels)
    return {"values": values.reshape(given["values"].shape), "regions": regions.T, "overlaps": overlaps.T}


def _apr(given: Arrays) -> Arrays:
    names = sorted(re.sub("ap_", "", name) for name in given if name.startswith("ap_"))
    evaluator = RegionAverage(["1"], [float(name) for name in names], parity=True)
    images = range(int(given["images"]))
    scores = [given[f"{number}/scores"].ravel() for number in images]
    ranks = iter(np.argsort(np.argsort(np.concatenate([np.zeros(0), *scores]))))  # float32 holds these exactly
    for number in images:
        kept = given[f"{number}/classes"].ravel() == 1
        found = np.zeros((len(scores[number]), 5), np.float32)
        found[:, 4] = [next(ranks) for _ in found]
        record = FrameRecord(str(number), boxes=np.zeros((int(kept.sum()), 4), np.float32), classes=("1",) * kept.sum())
        overlaps = given[f"{number}/overlaps"].reshape(len(kept), len(found))[kept].T
        evaluator.process(record, [found], overlaps)
    mine: dict[str, np.ndarray] = {}
    for name, result in zip(names, evaluator.evaluate().values(), strict=True):
        mine |= {f"ap_{name}": result.ap[0], f"prec_{name}": result.precision[0], f"rec_{name}": result.recall[0]}
    return mine


def _draws(given: Arrays, facts: Mapping[str, object], config: Config) -> Iterator[tuple[str, str]]:
    images = sorted({int(name.split("/")[0]) for name in given if not name.startswith("batch_")})
    with tempfile.TemporaryDirectory() as folder:
        read = cache(_batches(given, images, facts, config, Path(folder)).read) if images else None
        for name, value in given.items():
            batch = re.fullmatch(r"batch_(\d+)/(\w+)", name)
            if batch is None or read is None:
                yield f"draws/{name}", ""
            else:
                yield f"draws/{name}", _near(dict(zip(TOPS, read(int(batch[1])), strict=True))[batch[2]], value)


def _batches(given: Arrays, images: list[int], facts: Mapping[str, object], config: Config, folder: Path) -> BoxBatches:
    records, rows = [], []
    for number in images:
        of = _below(given, f"{number}/")
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), of["image"])
        records.append(
            FrameRecord(
                str(number),
                {"images": str(path)},
                size=of["instances"].shape,
                boxes=of["gt_boxes"].astype(np.float32),
                classes=tuple(str(label) for label in of["gt_classes"]),
                masks=partial(np.equal, of["instances"], of["instance_id"].reshape(-1, 1, 1)),
            )
        )
        rows.append((of["proposals"], of["gt_boxes"], of["gt_classes"] - 1))
    names = tuple(str(label + 1) for label in range(int(str(facts["classes"]))))
    settings = HypercolumnSettings(
        "drawn", float(str(facts["ov_thresh"])), int(str(facts["samples"])), len(names), config.sds.target_size
    )
    pools = pool_boxes(rows, len(names), settings.ov_thresh)
    sampler = BoxSampler(pools, settings.train_samples_per_img, config.rng_seed, parity=True)
    return BoxBatches(ImageDatabase("drawn", names, ("images",), records), sampler, settings, config)


def _near(mine: np.ndarray, wanted: np.ndarray) -> str:
    mine, wanted = np.asarray(mine), np.asarray(wanted)
    if mine.shape != wanted.shape:
        return f"shape {mine.shape}, expected {wanted.shape}"
    if wanted.dtype == bool:
        return "" if (mine == wanted).all() else f"{int((mine != wanted).sum())} of {mine.size} values differ"
    if np.allclose(mine, wanted, rtol=1e-6, atol=1e-6, equal_nan=True):
        return ""
    return f"differs by up to {np.abs(mine - wanted).max():.3g}, values up to {np.abs(wanted).max():.3g}"
