#!/usr/bin/env python
"""Run every exported layer in every runtime that people read ONNX with.

    python tests/onnx_matrix/run.py [--only NAME ...] [--cases PART] [--opsets N ...]

Makes a small environment for each runtime, once; exports the layers; runs them; prints a table, and below it what fails
and why some models are not for a runtime.  Ends with status 0 only if nothing fails.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from onnx_matrix.cases import subjects, write  # noqa: E402
from onnx_matrix.environments import ENVIRONMENTS, make, version  # noqa: E402

from caffe_compat.onnx.graph import OPSETS  # noqa: E402

RUNNER = Path(__file__).with_name("runner.py")
Results = dict[str, str]


def export_all(folder: Path, part: str, opsets: Sequence[int]) -> tuple[list[str], dict[str, str]]:
    """Write the models of all nets whose name has ``part``, an expression, in it.

    Returns:
        Their names, and the nets that do not export, with the reasons.
    """
    shutil.rmtree(folder, ignore_errors=True)
    models, refused = [], {}
    for subject in subjects():
        if re.search(part, subject.name):
            names, reason = write(subject, folder, opsets)
            models += names
            if reason:
                refused[subject.name] = reason
    return models, refused


def features(path: Path) -> set[str]:
    """Operators of a model, such as ``Conv``, ``Conv of opset 17``, ``Conv with groups``."""
    model = onnx.load(path)
    found = set()
    for node in model.graph.node:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        found |= {node.op_type, f"{node.op_type} of opset {model.opset_import[0].version}"}
        if attributes.get("group", 1) > 1:
            found.add(f"{node.op_type} with groups")
        if {*attributes.get("strides", [1])} == {1} and len({*attributes.get("pads", [0])}) > 1:
            found.add(f"{node.op_type} of stride 1 with uneven pads")
    return found


def run(name: str, python: Path, cases: Path, models: Sequence[str]) -> Results:
    """What is wrong with each model in a runtime; one that ends the process has ended it, and the next ones run."""
    report = cases.parent / f"{name}.txt"
    report.unlink(missing_ok=True)
    results: Results = {}
    while len(results) < len(models):
        rest = models[len(results) :]
        command = [str(python), str(RUNNER), ENVIRONMENTS[name].backend, str(cases), str(report)]
        done = subprocess.run(command, input="\n".join(rest), capture_output=True, text=True)
        lines = report.read_text(encoding="utf-8").splitlines() if report.is_file() else []
        results = dict(line.split("\t", 1) for line in lines)
        if done.returncode:
            if not results:
                raise RuntimeError(f"{name} does not start: {done.stderr[-2000:]}")
            with report.open("a", encoding="utf-8") as file:
                file.write(f"{models[len(results)]}\tends the process: {done.stderr[-200:]!r}\n")
    return results


def columns(models: Sequence[str]) -> list[str]:
    """Variants, such as static-17, in order."""
    return sorted({Path(model).stem for model in models}, key=lambda name: (name.startswith("dynamic"), name))


def kind(found: str) -> str:
    """What a line of a report is called in the table."""
    return "wrong" if found.startswith("wrong: ") else "refused" if found else ""


def row(title: str, variants: Sequence[str], results: Results, away: Mapping[str, str]) -> str:
    """A line of the table: how many pass, and how many do not."""
    cells = []
    for variant in variants:
        mine = [name for name in results if Path(name).stem == variant]
        count = Counter("not applicable" if name in away else kind(results[name]) for name in mine)
        words = [f"{count[word]} {word}" for word in ("wrong", "refused", "not applicable") if count[word]]
        cells.append(", ".join([str(count[""]), *words]))
    return f"| {title} | {' | '.join(cells)} |"


def not_for(name: str, uses: Mapping[str, set[str]]) -> dict[str, str]:
    """Models that a runtime cannot compute however they are written, with the reasons."""
    environment, found = ENVIRONMENTS[name], {}
    for model, features in uses.items():
        for what, reason in environment.lacks.items():
            if what in features:
                found[model] = f"{what}: {reason}"
        for what, reason in environment.cannot.items():
            if model.startswith(what):
                found[model] = f"{what}: {reason}"
    return found


def failures(name: str, results: Results, away: Mapping[str, str]) -> Iterator[str]:
    """A line for each."""
    for model, wrong in results.items():
        if wrong and model not in away:
            yield f"{name}: {model}: {wrong}"


def main(argv: Sequence[str] | None = None) -> int:
    """The status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ENVIRONMENTS), default=list(ENVIRONMENTS), metavar="NAME")
    parser.add_argument("--cases", default="", metavar="PART", help="only cases whose name has this expression in it")
    parser.add_argument("--folder", type=Path, default=ROOT / "output" / "onnx-matrix")
    parser.add_argument("--opsets", nargs="+", type=int, default=OPSETS, metavar="N", help="default: %(default)s")
    args = parser.parse_args(argv)
    logging.getLogger("caffe_compat.net.untrained").setLevel(logging.ERROR)  # random weights are what is wanted here
    pythons = {name: make(name, args.folder / "environments") for name in args.only}
    cases = args.folder / "cases"
    models, refused = export_all(cases, args.cases, args.opsets)
    if not models:
        parser.error(f"no case with '{args.cases}' in its name exports")
    uses = {model: features(cases / model) for model in models}
    variants = columns(models)
    print(f"{len({Path(model).parent for model in models})} nets, {len(models)} models; {len(refused)} do not export\n")
    print(f"| runtime | {' | '.join(name.replace('-', ', opset ') for name in variants)} |")
    print(f"|---|{'---|' * len(variants)}", flush=True)
    bad, notes, reasons = [], [], set()
    for name, python in pythons.items():
        results, away = run(name, python, cases, models), not_for(name, uses)
        print(row(version(name, python), variants, results, away), flush=True)
        found = list(failures(name, results, away))
        notes += found
        bad += [] if ENVIRONMENTS[name].optional else found
        reasons |= {f"{name}: {reason}" for reason in away.values()}
    print("", *sorted(reasons), "", *notes, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
