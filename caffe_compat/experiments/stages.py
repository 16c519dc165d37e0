"""Stages: commands in a folder of their own, named by what they are, and made once for whoever needs them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from caffe_compat.devices import cores
from caffe_compat.experiments.declarations import Need

__all__ = ["CORES", "EXPERIMENT_FOLDER", "HERE", "Stage", "in_order", "longest_first"]

HERE = "@here@"
"""Stands in words and texts for the stage's own folder."""
EXPERIMENT_FOLDER = "@exp_dir@"
"""The same without ``output/``, as EXP_DIR wants it."""
CORES = "@cores@"
"""Stands for the number of cores of the machine that runs the commands; no result depends on it."""
LONGEST = 120
"""Letters of a folder's name that say what it is."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Commands that make something, and all that it depends on.

    Args:
        kind: prepare, detector, transfer, franken or test.
        label: what it is, in words that may stand in the name of a folder.
        root: folder of all stages.
        seed: None: it depends on none.
        commands: words; the first names the command.  A word with ``*`` stands for the one file that fits when it
            runs.
        files: texts that are written before, by name.
        after: stages that must be finished before.
        needs: what must be there before.
        inputs: digests of files that the commands read and no stage makes, by path.
    """

    kind: str
    label: str
    root: str
    commands: tuple[tuple[str, ...], ...]
    seed: int | None = None
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    after: tuple[Stage, ...] = ()
    needs: tuple[Need, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def declaration(self) -> dict[str, Any]:
        """All on which the result depends; paths of stages without the folder that all are in."""

        def plain(text: str) -> str:
            return text.replace(f"{self.root}/", "")

        return {
            "kind": self.kind,
            "label": self.label,
            "seed": self.seed,
            "commands": [[plain(word) for word in words] for words in self.commands],
            "files": {name: plain(text) for name, text in self.files.items()},
            "after": sorted(stage.name for stage in self.after),
            "inputs": dict(self.inputs),
        }

    @cached_property
    def name(self) -> str:
        """Of the folder: what it is, and a digest of all on which it depends."""
        text = json.dumps(self.declaration, sort_keys=True)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8]
        seed = "" if self.seed is None else f"-seed{self.seed}"
        return re.sub(r"[^\w.+-]+", "_", f"{self.kind}-{self.label}")[:LONGEST] + f"{seed}-{digest}"

    @property
    def folder(self) -> str:
        """Where everything that it makes goes."""
        return f"{self.root}/{self.name}"

    def filled(self, text: str) -> str:
        """A word or a text with the stage's folder in it."""
        below = self.folder.removeprefix("output/")
        return text.replace(HERE, self.folder).replace(EXPERIMENT_FOLDER, below).replace(CORES, str(cores()))


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """These stages and all that they depend on, each once, after what it depends on."""
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.name not in found:
            for before in stage.after:
                visit(before)
            found[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(found.values())


def longest_first(stages: Sequence[Stage]) -> list[Stage]:
    """Stages in the order in which several at once end soonest: first those with the longest chain behind them.

    Args:
        stages: in order, as :func:`in_order` gives them.
    """
    heights = {stage.name: 1 for stage in stages}
    for stage in reversed(stages):
        for before in stage.after:
            heights[before.name] = max(heights[before.name], heights[stage.name] + 1)
    return sorted(stages, key=lambda stage: -heights[stage.name])
