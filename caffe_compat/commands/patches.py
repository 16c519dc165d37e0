"""What ``show_patches`` does."""

from __future__ import annotations

import argparse

from caffe_compat.devices import choose
from caffe_compat.figures.answers import answer, choose_units
from caffe_compat.figures.pair import NetPair, PairNames, lines, open_pair, write_numbers
from caffe_compat.figures.panels import Look
from caffe_compat.figures.patches import Windows, cut_patches
from caffe_compat.figures.save import check_name, write_figure
from caffe_compat.figures.sheet import Heads, draw_patches
from caffe_compat.figures.sources import Feeding

__all__ = ["show_patches"]


def show_patches(args: argparse.Namespace) -> list[str]:
    """Draw the sheet, write the numbers, and tell them.

    Raises:
        CaffeCompatError: naming the option, file, blob or unit that is wrong.
    """
    check_name(args.output)
    look = Look(args.tile, args.columns, args.dpi)
    names = PairNames(tuple(args.model), tuple(args.weights), args.teacher_blob, args.student_blob, args.modality)
    feeding = Feeding(
        args.source, args.root_folder, args.short_side, args.multiple_of, tuple(args.mean), tuple(args.mean_second)
    )
    pair = open_pair(names, feeding, args.seed, choose(args.gpu))
    windows = (Windows(pair.teacher, pair.student, args.patch), Windows(pair.student, pair.teacher, args.patch))
    parts = (windows[0].inside, windows[1].inside) if args.inside else None
    *answers, moments = answer(pair.teacher, pair.student, pair.source, parts)
    units = args.units or choose_units(answers[0], answers[1], moments, args.choose, args.count, args.seed)
    found = cut_patches(units, args.top, (answers[0], answers[1]), moments, windows, pair.source)
    picture = pair.source.pictures(0)[0]
    grids = [side.grid((picture.shape[0], picture.shape[1])) for side in windows]
    write_figure(args.output, draw_patches(found, args.top, _heads(args, pair), look))
    told = [*lines(pair, found, answers, moments, grids), f"wrote {args.output}"]
    if args.json:
        write_numbers(args.json, pair, found, moments, grids)
        told.append(f"wrote {args.json}")
    return told


def _heads(args: argparse.Namespace, pair: NetPair) -> Heads:
    known = {"hha": "HHA", "": "second"}
    first, second = args.names or ("colour", known.get(pair.modality, pair.modality))
    teacher, student = args.titles or (f"teacher, {pair.teacher.blob}", f"student, {pair.student.blob}")
    return Heads(teacher, student, first, second)
