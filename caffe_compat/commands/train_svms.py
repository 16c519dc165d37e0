"""Train linear SVMs on a detector's fc7, one for each class, to take the place of its scores.

    tools/train_svms.py --def prototxt/detection/alexnet_hha/test.prototxt \\
        --cfg prototxt/detection/alexnet_hha/config.yml --imdb nyud2_hha_2015_trainval \\
        --net output/alexnet_hha/nyud2_hha_2015_trainval/fast_rcnn_iter_40000.caffemodel

Written is MODEL_svm.caffemodel beside the model, with the SVMs as cls_score; test it with --set TEST.SVM True.
Needs scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import MODEL, NET, OPTIONS, PROPOSALS
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable


def make_parser() -> argparse.ArgumentParser:
    """The flags of fast-rcnn's train_svms.py, and the proposals."""
    p = Parser(__doc__)
    p.add_argument(
        "--def", type=NET, dest="prototxt", required=True, metavar="PROTOTXT", help="test net of one modality"
    )
    p.add_argument("--net", type=MODEL, required=True, metavar="MODEL", help="caffemodel")
    p.add_argument("--imdb", default="voc_2007_trainval", help="image database to train on (%(default)s)")
    p.add_argument("--cfg", type=OPTIONS, help="YAML file with options of the fast-rcnn tools")
    p.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    p.add_argument("--proposals", type=PROPOSALS, help="a file, or 'builtin' (default: the database's own)")
    p.add_argument("--parity", action="store_true", help="choose negatives as the released code did")
    add_gpu(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Train, write, and say what became of each class."""
    args = make_parser().parse_args(argv)
    from tqdm import tqdm

    from caffe_compat.config import load_config
    from caffe_compat.datasets.imdb import find_imdb
    from caffe_compat.detection.description import describe_detector
    from caffe_compat.detection.proposals import proposal_source
    from caffe_compat.detection.svm_training import SvmTrainer
    from caffe_compat.devices import choose
    from caffe_compat.media import describe_weights, stored_preparation
    from caffe_compat.net import load_net

    def steps(numbers: Iterable[int], what: str) -> Iterable[int]:
        shown: Iterable[int] = tqdm(numbers, desc=what, unit="image", disable=None)
        return shown

    config = load_config(args.cfg, args.pairs, args.parity or None)
    imdb = find_imdb(args.imdb, config.root_dir or ".")
    net = load_net(args.prototxt, args.net, optimize=True)
    proposals = proposal_source(imdb, args.proposals, Path(config.root_dir or ".") / "data" / "cache")
    trainer = SvmTrainer(net, imdb, config, proposals, choose(args.gpu))
    svms = trainer.train(steps)
    path = Path(args.net).with_name(f"{Path(args.net.removesuffix('.h5')).stem}_svm.caffemodel")
    net.save(path)
    describe_weights(path, stored_preparation(args.net, strict=False) or describe_detector(imdb, config))
    print(f"feature scale {trainer.scale:.6g}")
    for svm in svms:
        if not svm.fits:
            print(printable(f"{svm.name}: no objects, it will never be found"))
            continue
        last = svm.fits[-1]
        hint = "" if last.converged else ", the solver did not converge"
        print(
            printable(
                f"{svm.name}: {last.positives} objects, {last.negatives} negatives, loss {last.loss:.4g} after "
                f"{len(svm.fits)} fits{hint}"
            )
        )
    print(printable(f"wrote {path}; test it with --set TEST.SVM True"))
    return 0
