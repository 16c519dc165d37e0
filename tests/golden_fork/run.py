#!/usr/bin/env python
"""Compare this package with arrays that the forks' own code made.

    python tests/golden_fork/run.py detection FOLDER
    python tests/golden_fork/run.py sds FOLDER

prints ``N of N arrays`` and ends with status 0 only if all agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in (str(ROOT), str(ROOT / "tests")):
    if place not in sys.path:
        sys.path.insert(0, place)

Check = Callable[[Path], Iterator[tuple[str, str]]]
"""Yields the name of every array and what is wrong with it; "" if nothing is."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "detection": ("detection_training", "detection_testing", "detection_evaluation"),
    "sds": ("sds",),
}
"""Modules beside this file; each has a function ``check`` of type :data:`Check`."""


def run(suite: str, folder: Path) -> tuple[int, list[str]]:
    """How many arrays there are, and what is wrong: a line each."""
    count, wrong = 0, []
    for module in SUITES[suite]:
        check: Check = import_module(f"golden_fork.{module}").check
        for name, problem in check(folder):
            count += 1
            if problem:
                wrong.append(f"{name}: {problem}")
    return count, wrong


def main() -> int:
    """Run one suite on one folder."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("suite", choices=sorted(SUITES))
    p.add_argument("folder", type=Path)
    args = p.parse_args()
    count, wrong = run(args.suite, args.folder)
    for line in wrong:
        print(line)
    print(f"{count - len(wrong)} of {count} arrays")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
