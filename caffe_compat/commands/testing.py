"""What ``test_net`` does."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from caffe_compat.config import Config, load_config, write_config
from caffe_compat.datasets import ImageDatabase, find_imdb
from caffe_compat.datasets.pictures import check_pictures
from caffe_compat.detection.description import check_described
from caffe_compat.detection.inference import Detector, load_detector_net
from caffe_compat.detection.nms import apply_nms
from caffe_compat.detection.partial import PartialResults
from caffe_compat.detection.proposals import proposal_source
from caffe_compat.detection.results import evaluate_run, make_folder, write_for_server, write_run
from caffe_compat.detection.testing import Progress, TestRun, detect_all, detect_share, put_together, run_name
from caffe_compat.detection.training import output_folder
from caffe_compat.devices import own_device
from caffe_compat.errors import UsageError, in_file, printable
from caffe_compat.evaluation.detections import Detections, write_detections, write_detections_mat
from caffe_compat.evaluation.tables import table
from caffe_compat.gathering import Gathering
from caffe_compat.locks import hold
from caffe_compat.media import Preparation, stored_preparation
from caffe_compat.ranks import here
from caffe_compat.record_file import rank_file, rank_files
from caffe_compat.stamps import file_digest

__all__ = ["check_weights", "test", "wait_for"]

POLL = 10.0
"""Seconds between looks for weights that do not exist yet."""


def test(args: argparse.Namespace) -> None:
    """Test as the arguments say, and print what comes of it.

    Of several processes (:mod:`caffe_compat.ranks`) each detects in its share of the images; rank 0 evaluates.

    Raises:
        CaffeCompatError: naming the file, image, layer, blob or option that is wrong.
    """
    config = load_config(args.cfg, args.pairs, args.parity or None)
    ranks = here()
    device = own_device(args.gpu, ranks)
    imdb = find_imdb(args.imdb, config.root_dir or ".")
    wait_for(args.weights, args.wait)
    net = load_detector_net(args.prototxt, args.weights)
    check_weights(args.weights, imdb, config)
    blobs = (args.score_blob_name, args.bbox_blob_name)
    with in_file(args.prototxt):
        detector = Detector(net, len(imdb.classes) + 1, len(imdb.modalities), config, device, blobs)
    quiet = None if ranks.is_first else True
    with tqdm(ranks.share(imdb.records), "pictures", unit="image", disable=quiet, leave=False) as records:
        check_pictures(imdb.name, records, imdb.modalities)
    proposals = proposal_source(imdb, args.proposals, Path(config.root_dir or ".") / "data" / "cache")
    folder = output_folder(config, imdb) / run_name(args.weights)
    make_folder(folder)
    stem = folder / f"detections{config.test.det_salt}"
    instead = "give this run an EXP_DIR or TEST.DET_SALT of its own"
    with ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(hold(Path(f"{stem}.lock"), f"testing into {folder}", instead, UsageError))
        settings = _settings(args, imdb, config, device)
        run = TestRun(imdb, detector, config, proposals)
        detections = (
            _detect_with_others(run, f"{stem}.part", settings)
            if ranks.several
            else _detect(run, PartialResults(f"{stem}.part", settings, len(imdb.classes)))
        )
        if detections is None:
            return
        _finish(folder, imdb, config, detections, args.comp)
        for path in rank_files(f"{stem}.part"):
            path.unlink(missing_ok=True)


def check_weights(weights: Sequence[str], imdb: ImageDatabase, config: Config) -> list[Preparation]:
    """Compare what stands beside the weights; of several files each is of as many modalities as it says.

    Returns:
        What they want, as far as it is known.

    Raises:
        UsageError: other classes or means.
    """
    known: list[Preparation] = []
    place = 0
    for file in weights:
        stored = stored_preparation(file, strict=False)
        if stored is None or place + len(stored.inputs) > len(imdb.modalities):
            break
        check_described(stored, imdb, config, file, place)
        place += len(stored.inputs)
        known.append(stored)
    return known


_NO_BOX = "no score is above TEST.SCORE_THRESH, or all are equal, as of a net whose ReLUs died"


def wait_for(files: Sequence[str], wanted: bool) -> None:
    """Wait until all weights exist."""
    for file in files:
        while wanted and not Path(file).exists():
            if here().is_first:
                print(f"Waiting for {printable(file)} to exist...", flush=True)
            time.sleep(POLL)


def _settings(args: argparse.Namespace, imdb: ImageDatabase, config: Config, device: torch.device) -> dict[str, Any]:
    """All on which detections depend, but for what is known of each image."""
    options = {
        key: repr(value)
        for key, value in config.items().items()
        if (key.startswith("TEST.") and not key.endswith(("NMS", "_SALT", "MAX_PER_IMAGE_ALL")))
        or key in ("DEDUP_BOXES", "PIXEL_MEANS", "MODALITY_MEANS", "EPS", "PARITY")
    }
    return {
        "net": file_digest(args.prototxt),
        "weights": [file_digest(file) for file in args.weights],
        "blobs": [args.score_blob_name, args.bbox_blob_name],
        "imdb": [imdb.name, len(imdb.records), *imdb.modalities],
        "classes": list(imdb.classes),
        "options": options,
        "made by": [device.type, torch.__version__],
    }


def _detect_with_others(run: TestRun, file: str, settings: dict[str, Any]) -> Detections | None:
    """Detect in this process's share of the images; on rank 0 what all have found."""
    ranks = here()

    def part(rank: int) -> PartialResults:
        shared = {**settings, "share": [rank, ranks.world]}
        return PartialResults(rank_file(file, rank), shared, len(run.imdb.classes))

    with Gathering(file, ranks, [record.name for record in run.imdb.records], "images") as others:
        own = part(ranks.rank)
        with _bar(len(ranks.share(len(run.imdb.records)))) as show:
            detect_share(run, ranks, own, show)
        if others.gather(len(own)) is None:
            print(f"{ranks}: {len(own)} images", flush=True)
            return None
        return put_together(run, [part(rank) for rank in range(ranks.world)])


def _detect(run: TestRun, partial: PartialResults) -> Detections:
    with _bar(len(run.imdb.records)) as show:
        return detect_all(run, partial, show)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Progress], None]]:
    """Shows a bar, or, where nobody looks at a terminal, the branch's line for each image; only on rank 0."""
    first = here().is_first
    with tqdm(total=total, unit="image", disable=None if first else True) as bar:

        def show(progress: Progress) -> None:
            bar.set_postfix_str(f"net {progress.detect:.3f}s, rest {progress.misc:.3f}s", refresh=False)
            bar.update()
            if first and bar.disable and progress.done > progress.resumed:
                print(progress, flush=True)

        yield show


def _finish(folder: Path, imdb: ImageDatabase, config: Config, detections: Detections, comp: bool) -> None:
    """Write everything, and print the table."""
    written = [folder / "config.yml", *(folder / f"detections{config.test.det_salt}{end}" for end in (".npz", ".mat"))]
    write_config(written[0], config)
    write_detections(written[1], detections)
    write_detections_mat(written[2], detections)
    print(printable(f"{len(detections)} boxes; overlap from {config.test.nms:g} is suppressed"), flush=True)
    empty = [name for name, row in zip(imdb.classes, detections.boxes, strict=True) if not any(map(len, row))]
    if empty:
        print(printable(f"no box of {', '.join(empty)}: {_NO_BOX}"), flush=True)
    if all(record.boxes is None for record in imdb.records):
        print(printable(f"{imdb.name}: its objects are not known, so nothing is evaluated"))
        kept = apply_nms(detections, config.test.nms, config.parity, config.test.max_per_image_all)
    else:
        evaluation, kept = evaluate_run(imdb, detections, config)
        print(printable(table(evaluation)), flush=True)
        written += write_run(folder, evaluation, config)
    if comp:
        salt = config.test.det_salt + config.test.eval_salt
        written += write_for_server(folder / f"competition{salt}", imdb, kept)
    print(printable(f"wrote {len(written)} files into {folder}"))
