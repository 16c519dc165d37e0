"""What a setting says, and the stages of its preparations: what the planning of rows stands on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caffe_compat.errors import CaffeCompatError, UsageError, nearest
from caffe_compat.experiments.declarations import Database, Need, NetRole, Preparation, Row, Setting, Timing
from caffe_compat.experiments.stages import CORES, HERE, Stage
from caffe_compat.resources import root
from caffe_compat.stamps import file_digest

__all__ = ["Unavailable", "Workplace"]


class Unavailable(CaffeCompatError):
    """A row that cannot run in a setting; says why."""


class Workplace:
    """A setting with a seed, and a folder for stages.

    Args:
        setting: what rows run on.
        seed: of everything random.
        folder: of all stages.
    """

    def __init__(self, setting: Setting, seed: int, folder: str) -> None:
        self.setting, self.seed, self.folder = setting, seed, folder
        self._prepared: dict[str, Stage] = {}
        self._digests: dict[str, str] = {}
        self._open: list[str] = []

    # -- what the setting says ------------------------------------------------------------------------------------

    def _net(self, role: str) -> NetRole:
        if role in self.setting.missing:
            raise Unavailable(self.setting.missing[role])
        if role not in self.setting.nets:
            known = [*self.setting.nets, *self.setting.missing]
            raise UsageError(f"{self.setting.name}: no net '{role}'{nearest(role, known)}")
        return self.setting.nets[role]

    def _database(self, name: str) -> Database:
        if name not in self.setting.sets:
            raise Unavailable(f"{self.setting.title}: there is no set '{name}'")
        return self.setting.sets[name]

    def _timing(self, name: str) -> Timing:
        known = self.setting.schedules
        if name not in known:
            raise UsageError(f"{self.setting.name}: no schedule '{name}'{nearest(name, known)}")
        return known[name]

    def _input(self, row: Row) -> str:
        """Folder of a modality, or folders of two."""
        kinds = ("rgb", row.input) if row.fuse else (row.input,)
        for kind in kinds:
            if kind not in self.setting.inputs:
                raise Unavailable(f"{self.setting.title}: there are no pictures of '{kind}'")
        return self._text(self.setting.join.join(self.setting.inputs[kind].folder for kind in kinds))

    def _kinds(self, *inputs: str) -> list[str]:
        """For make_detection and make_transfer: what nets see, if that is not all alike to them."""
        kinds = [self.setting.inputs[name].kind for name in inputs if name in self.setting.inputs]
        return ["--modality", *(kind or "color" for kind in kinds)] if any(kinds) else []

    def _made_before(self, row: Row) -> tuple[list[Stage], tuple[str, ...]]:
        """Preparations and needs of the pictures of a row's modality that no command names."""
        found = self.setting.inputs[row.input]
        return [self._stage_of(found.after)] if found.after else [], found.needs

    def _imdb(self, database: Database, known: str) -> str:
        return self._text(database.imdb, known)

    def _proposals(self, database: Database, known: str) -> list[str]:
        return ["--proposals", self._text(database.proposals, known)] if database.proposals else []

    # -- preparations and placeholders ------------------------------------------------------------------------------

    def _stage_of(self, name: str) -> Stage:
        """The stage of a preparation."""
        if name in self._open:
            raise UsageError(f"{self.setting.name}: prepare: {' needs '.join([*self._open, name])}")
        if name not in self._prepared:
            self._open.append(name)
            entry = self.setting.prepare[name]
            files = self._templates(entry)
            commands = [self._words(command) for command in entry.run]
            texts = [*entry.run, *files.values()]
            before = dict.fromkeys(word for text in texts for word in self._mentions(text) if word != name)
            own = "{seed}" in " ".join(entry.run) or "@seed@" in " ".join(files.values())
            files = {key: self._template(text) for key, text in files.items()}
            wanted = [word.partition(":")[2] for text in texts for word in _names(text) if word.startswith("need:")]
            after = [self._stage_of(word) for word in before]
            stage = self._stage("prepare", name, commands, files, after, wanted)
            seeded = own or any(found.seed is not None for found in after)
            self._prepared[name] = replace(stage, seed=self.seed if seeded else None)
            self._open.remove(name)
        return self._prepared[name]

    def _templates(self, entry: Preparation) -> Mapping[str, str]:
        if not entry.templates:
            return {}
        folder = Path(self._file(entry.templates))
        if not folder.is_dir():
            raise UsageError(f"{self.setting.name}: templates: {folder} is no folder")
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}

    def _mentions(self, text: str) -> list[str]:
        """Preparations that a text names."""
        return [name for name in _names(text) if name in self.setting.prepare]

    def _text(self, text: str, modality: str = "") -> str:
        """A text with what its placeholders between braces stand for."""
        return re.sub(r"\{([\w:]+)\}", lambda match: self._meaning(match[1], modality), text)

    def _template(self, text: str) -> str:
        """The same for at signs; ``@here@`` stays."""
        known = "|".join((*map(re.escape, self.setting.prepare), "seed", r"need:\w+"))
        return re.sub(rf"@({known})@", lambda match: self._meaning(match[1], ""), text)

    def _meaning(self, name: str, modality: str) -> str:
        if name == "here":
            return HERE
        if name == "cores":
            return CORES
        if name == "seed":
            return str(self.seed)
        if name == "input":
            return modality
        if name.startswith("need:"):
            return self._need(name.partition(":")[2]).path
        if name not in self.setting.prepare:
            known = [*self.setting.prepare, "cores", "here", "input", "seed"]
            raise UsageError(f"{self.setting.name}: {{{name}}} stands for nothing{nearest(name, known)}")
        return self._stage_of(name).folder

    def _need(self, name: str) -> Need:
        known = self.setting.needs
        if name not in known:
            raise UsageError(f"{self.setting.name}: no need '{name}'{nearest(name, known)}")
        return known[name]

    def _words(self, text: str) -> list[str]:
        return [self._text(word) for word in shlex.split(text)]

    def _file(self, name: str) -> str:
        """A file that came with the project, as seen from here."""
        path = Path(name)
        return name if path.is_absolute() or path.exists() else str(root() / name)

    def _stage(
        self,
        kind: str,
        label: str,
        commands: Sequence[Sequence[str]],
        files: Mapping[str, str] | None = None,
        after: Sequence[Stage] = (),
        needs: Sequence[str] = (),
    ) -> Stage:
        words = [word for command in commands for word in command]
        mentioned = [stage for stage in self._prepared.values() if any(f"{stage.folder}" in word for word in words)]
        before = {stage.name: stage for stage in (*after, *mentioned)}
        return Stage(
            kind,
            label,
            self.folder,
            tuple(map(tuple, commands)),
            seed=self.seed,
            files=files or {},
            after=tuple(before.values()),
            needs=tuple(self._need(name) for name in dict.fromkeys(needs)),
            inputs=self._inputs(words),
        )

    def _inputs(self, words: Sequence[str]) -> dict[str, str]:
        """Digests of the files among the words that are there and that no stage makes."""
        found = {}
        for word in dict.fromkeys(words):
            if not word.startswith((self.folder, HERE, "-")) and "/" in word and Path(word).is_file():
                if word not in self._digests:
                    self._digests[word] = file_digest(word)
                found[word] = self._digests[word]
        return found


def _names(text: str) -> list[str]:
    """What stands between braces or at signs."""
    return [brace or sign for brace, sign in re.findall(r"\{([\w:]+)\}|@([\w:]+)@", text)]
