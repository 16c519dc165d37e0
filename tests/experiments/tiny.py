"""The setting of the drawn scenes, so small that a row takes seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from caffe_compat.resources import root

FEWER = {"train": 16, "pairs": 16, "val": 8, "test": 8, "count": 40, "iters": 4}
Tree = dict[str, Any]


def scenes(folder: Path, change: Callable[[Tree], None]) -> Path:
    """Write the setting with a change, as ``tiny.yml``."""
    tree = yaml.safe_load((root() / "experiments/settings/scenes.yml").read_text(encoding="utf-8"))
    change(tree)
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def tiny_setting(folder: Path) -> Path:
    """Write it, and return the file."""
    return scenes(folder, _shrink)


def _shrink(tree: Tree) -> None:
    for entry in tree["prepare"].values():
        entry["run"] = [_fewer(command) for command in entry["run"]]
        if "templates" in entry:
            entry["templates"] = str(root() / entry["templates"])
    for net in tree["nets"].values():
        net["weights"] = re.sub(r"_iter_\d+", f"_iter_{FEWER['iters']}", net["weights"])
    for name, timing in tree["schedules"].items():
        timing |= {"iters": FEWER["iters"], "base_lr": 0.001}
        if name.startswith("transfer"):
            timing["options"] = "--batch-size 2 --sweep 12 --test-iter 2"


def _fewer(command: str) -> str:
    for option, number in FEWER.items():
        command = re.sub(rf"--{option} \d+", f"--{option} {number}", command)
    return command
