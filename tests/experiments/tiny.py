"""The setting of the drawn scenes, so small that a row takes seconds."""

from __future__ import annotations

import re
from pathlib import Path

from caffe_compat.resources import root

FEWER = (
    (r"--train 2000 --pairs 2000 --val 200 --test 500", "--train 16 --pairs 16 --val 8 --test 8"),
    (r"--count 300", "--count 40"),
    (r"--iters 800", "--iters 4"),
    (r"iter_800", "iter_4"),
    (r"iters: \d+, base_lr: [\d.]+", "iters: 4, base_lr: 0.001"),
    (r"--batch-size 16", "--batch-size 2 --sweep 12 --test-iter 2"),
    (r"experiments/settings/scenes\n", f"{root()}/experiments/settings/scenes\n"),
)


def tiny_setting(folder: Path) -> Path:
    """Write it, and return the file."""
    text = (root() / "experiments/settings/scenes.yml").read_text(encoding="utf-8")
    for pattern, instead in FEWER:
        text, count = re.subn(pattern, instead, text)
        assert count, pattern
    path = folder / "tiny.yml"
    path.write_text(text, encoding="utf-8")
    return path
