"""The demo: supervision transfer from colour to depth on drawn scenes, end to end, with the project's own tools."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from caffe_compat.compare import difference, nan_in
from caffe_compat.description import State
from caffe_compat.description.names import adaptation_of
from caffe_compat.errors import CaffeCompatError, DataError, ExportError, in_file
from caffe_compat.figures.filters import Filters
from caffe_compat.figures.panels import draw_filters
from caffe_compat.figures.save import write_figure
from caffe_compat.files import atomic_write
from caffe_compat.media import Preprocessing, read_image_list
from caffe_compat.net import BlobNet, Net, load_description, load_net
from caffe_compat.net.weights import blobs_in
from caffe_compat.resources import prototxt
from caffe_compat.scenes import CLASSES
from caffe_compat.scenes.settings import Settings
from caffe_compat.solver.scores import score
from caffe_compat.stamps import check_stamp, file_digest, read_stamp, write_stamp

__all__ = ["Demo", "Result", "accuracy", "conv1_picture", "explained_variance", "table"]

FIRST_SEED = 1
_PROGRESS = re.compile(r"iter/s|Test net output|Resuming|Stopped|^error")


@dataclass(frozen=True)
class Scale:
    """How large a demo is.

    Attributes:
        name: of its folders, after ``demo``.
        pictures: labelled ones, and as many pairs.
        val, test: pictures for validation, and for the scores.
        iterations: of the teacher's training, and of the transfer.
    """

    name: str
    pictures: int
    val: int
    test: int
    iterations: int


ITERATIONS = 800  #: that the prototxts of the demo say
FULL, SMALL = Scale("", 2000, Settings.val, Settings.test, ITERATIONS), Scale("_small", 96, 32, 48, 40)


@dataclass(frozen=True)
class Result:
    """Scores of one seed: accuracies on held-out pictures, and explained variances of the teacher's pool5.

    Attributes:
        teacher: the teacher on held-out colour pictures, for comparison.
        copied: its weights on held-out HHA pictures.
        franken: student below, teacher above, on the same HHA pictures; no label of a depth picture was ever used.
        before, copied_variance, after: explained variance of a random student, of the teacher's own weights on HHA,
            and of the trained student.
    """

    seed: int
    teacher: float
    copied: float
    franken: float
    before: float
    copied_variance: float
    after: float
    onnx_difference: float


class Demo:
    """All steps for one seed; files go to ``data/demo`` and ``output/demo`` (other seeds and scales beside them).

    Args:
        root: the folder that all paths are relative to.
        amp: of the trainings, as of ``train_net --amp``.

    Steps whose result is there already are skipped, and interrupted training goes on from its snapshot.
    """

    def __init__(self, root: Path, seed: int = FIRST_SEED, scale: Scale = FULL, amp: str = "") -> None:
        self.root, self.seed, self.scale, self.amp = root, seed, scale, amp
        suffix = scale.name + ("" if seed == FIRST_SEED else f"_seed{seed}")
        self.data = Path(f"data/demo{suffix}")
        suffix += f"_{amp}" if amp else ""
        self.output = Path(f"output/demo{suffix}")
        self._in_place = not suffix and (root / "prototxt/demo").is_dir()
        self.prototxt = Path("prototxt/demo") if self._in_place else self.output / "prototxt"

    def run(self) -> Result:
        """Every step in order, then the scores.

        Raises:
            CaffeCompatError: a step failed; its own message was printed before.
            KeyboardInterrupt: it was stopped.
        """
        self._write_prototxts()
        scale, iterations = self.scale, self.scale.iterations
        self._tool("make_scenes", "--out", self.data, "--train", scale.pictures, "--pairs", scale.pictures,
                   "--val", scale.val, "--test", scale.test, "--seed", self.seed)  # fmt: skip
        self._train("teacher/solver.prototxt", "teacher", iterations)
        self._train("transfer/transfer_solver.prototxt", "transfer", iterations)
        franken = self.output / "franken.caffemodel"
        deploy = self.prototxt / "transfer/franken_deploy.prototxt"
        surgery = self.prototxt / "transfer/surgery.json"
        self._tool("net_surgery", "--out_net_def", deploy, "--net_surgery_json", surgery,
                   "--out_net_file", franken)  # fmt: skip
        self._tool("export_onnx", "--model", deploy, "--weights", franken,
                   "--output", self.output / "franken.onnx")  # fmt: skip
        with contextlib.chdir(self.root):  # the lists in the prototxts are relative to it, as for the commands above
            return self.score()

    # -- steps ------------------------------------------------------------------------------------------------

    def _tool(self, command: str, *arguments: object, log: Path | None = None) -> None:
        """Run a command; with ``log`` its standard error goes there, and only the lines on progress are shown."""
        words = [command, *(str(argument) for argument in arguments)]
        print("$ " + " ".join(words), flush=True)
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(log.open("a", encoding="utf-8")) if log else None
            process = subprocess.Popen(
                [sys.executable, "-m", "caffe_compat", *words],
                cwd=self.root,
                stderr=subprocess.PIPE if out else None,
                text=True,
            )
            try:
                for line in process.stderr or ():
                    if out is not None:
                        out.write(line)
                    if _PROGRESS.search(line):
                        print("  " + line.rstrip().rpartition("] ")[2].strip(), flush=True)
            except KeyboardInterrupt:
                process.wait()  # it has got the signal too, and writes a snapshot first
                raise
            status = process.wait()
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise CaffeCompatError(f"{command} ended with status {status}" + (f"; see {log}" if log else ""))

    def _train(self, solver: str, name: str, iterations: int) -> None:
        final = self.root / self.output / f"{name}_iter_{iterations}.caffemodel"
        stamp, made_of = self._path(f"{name}.json"), self._made_of(iterations)
        states = {
            int(match[1]): path
            for path in (self.root / self.output).glob(f"{name}_iter_*.solverstate")
            if (match := re.search(r"_iter_(\d+)\.", path.name))
        }
        if final.exists() or states:
            hint = f"remove {self.output}, or its files {name}*, to train anew"
            check_stamp(f"{self.output}: the training '{name}'", read_stamp(stamp), made_of, hint)
        if final.exists():
            print(f"{final.relative_to(self.root)} is there already")
            return
        resume = ["--snapshot", states[max(states)].relative_to(self.root)] if states else []
        write_stamp(stamp, made_of)
        resume += ["--amp", self.amp] if self.amp else []
        self._tool("train_net", "--solver", self.prototxt / solver, *resume, log=self._path(f"{name}.log"))

    def _made_of(self, iterations: int) -> dict[str, object]:
        """What the weights depend on: how long, the data set, every prototxt."""
        folder = self.root / self.prototxt
        files = {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}
        return {"iterations": iterations, "data": read_stamp(self.root / self.data / "scenes.json"), **files}

    def _write_prototxts(self) -> None:
        """All but the first seed in a checkout use copies of the prototxts, with their own paths, seed and length."""
        if self._in_place:
            return
        source = self.root / "prototxt/demo"
        source = source if source.is_dir() else prototxt("demo")
        for path in sorted(source.rglob("*")):
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                for name in ("prototxt/demo", "data/demo", "output/demo"):
                    own = {"prototxt/demo": self.prototxt, "data/demo": self.data, "output/demo": self.output}[name]
                    text = re.sub(rf"{name}(?=[/\"\s])", f"\0{own}", text)
                text = text.replace("\0", "")
                text = re.sub(
                    r"random_seed: (\d+)", lambda m: f"random_seed: {int(m[1]) - FIRST_SEED + self.seed}", text
                )
                text = self._shortened(text)
                with atomic_write(self.root / self.prototxt / path.relative_to(source), "w") as stream:
                    stream.write(text)

    def _shortened(self, text: str) -> str:
        """A prototxt, or the surgery, for as many iterations as there are."""
        length = self.scale.iterations
        if length == ITERATIONS:
            return text
        text = re.sub(r"stepvalue: (\d+)", lambda m: f"stepvalue: {int(m[1]) * length // ITERATIONS}", text)
        return re.sub(rf"(max_iter: |_iter_){ITERATIONS}\b", rf"\g<1>{length}", text)

    # -- scores -----------------------------------------------------------------------------------------------

    def score(self) -> Result:
        """Score what the steps made; also writes ``results.json`` and ``conv1.png``."""
        teacher_model = self._path(f"teacher_iter_{self.scale.iterations}.caffemodel")
        transfer_model = self._path(f"transfer_iter_{self.scale.iterations}.caffemodel")
        teacher = load_net(self.root / self.prototxt / "teacher/deploy.prototxt", teacher_model)
        franken = load_net(
            self.root / self.prototxt / "transfer/franken_deploy.prototxt", self._path("franken.caffemodel")
        )
        lists, root = self.root / self.data / "lists", self.root / self.data
        pairs = self.root / self.prototxt / "transfer/train_val.prototxt"
        torch.manual_seed(self.seed + 100)  # the student that the transfer starts from
        before, copied = _with_teacher(pairs, teacher_model), _with_teacher(pairs, teacher_model)
        _copy_teacher(copied)
        after = load_net(pairs, transfer_model, "TEST")
        result = Result(
            seed=self.seed,
            teacher=accuracy(teacher, lists / "test_images.txt", root),
            copied=accuracy(teacher, lists / "test_hha.txt", root),
            franken=accuracy(franken, lists / "test_hha.txt", root),
            before=self._variance(before),
            copied_variance=self._variance(copied),
            after=self._variance(after),
            onnx_difference=_onnx_difference(franken, self._path("franken.onnx"), lists / "test_hha.txt", root),
        )
        conv1_picture(teacher, franken, self._path("conv1.png"))
        with atomic_write(self._path("results.json"), "w") as stream:
            json.dump(result.__dict__, stream, indent=1)
        return result

    def _path(self, name: str) -> Path:
        return self.root / self.output / name

    def _variance(self, net: Net) -> float:
        pairs = (self.root / self.data / "lists/pairs_val.txt").read_text(encoding="utf-8").splitlines()
        return explained_variance(net, len(pairs))


def _with_teacher(pairs: Path, weights: Path) -> Net:
    """The net of teacher and student where only the teacher has weights: that is meant, no warning says so."""
    net = Net(load_description(pairs, State("TEST")), blobs_in([weights]))
    net.copy_from(weights, strict=None)
    return net


def _copy_teacher(net: Net) -> None:
    """The student gets the teacher's weights, and the adaptation becomes the identity."""
    layers = {node.name: node.layer for node in net.nodes}
    with torch.no_grad():
        for name, layer in layers.items():
            if name.startswith("da_") and layer.blobs:
                for mine, theirs in zip(layer.blobs, layers[name.removeprefix("da_")].blobs, strict=True):
                    mine.copy_(theirs)
            if adaptation_of(name) and layer.blobs:
                weight, bias = layer.blobs
                weight.copy_(torch.eye(weight.shape[0])[:, :, None, None])
                bias.zero_()


def read_list(path: Path, root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N x 3 x H x W, BGR minus the means) and labels (N) of a list of ``path label`` lines.

    Raises:
        DataError: an image cannot be read; names list and line.
    """
    wanted, images, labels = Preprocessing(), [], []
    for entry in read_image_list(path, f"{root}{os.sep}"):
        with in_file(f"{path}:{entry.line}"):
            images.append(wanted.blob(wanted.picture(entry.path)))
        labels.append(entry.label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def accuracy(net: Net, images: Path, root: Path) -> float:
    """Share of the pictures of a list that a deploy net with one input and the output ``prob`` labels rightly.

    Raises:
        DataError: the net computes NaN, of which one class would be the largest too.
    """
    data, labels = read_list(images, root)
    (name,) = net.input_names
    with torch.inference_mode():
        found = torch.cat([net(**{name: part})["prob"] for part in data.split(100)])
    if bad := nan_in(found.numpy()):
        raise DataError(f"net '{net.description.name}', output 'prob': {bad}")
    return float((found.argmax(1) == labels).float().mean())


def explained_variance(net: Net, iterations: int) -> float:
    """What the layer that keeps a score over a whole test (ExplainedVariance) says after so many batches."""
    blob = next(node.top_ids[0] for node in net.nodes if node.layer.running_metric)
    return float(score(BlobNet(net), iterations).means()[blob])


def _onnx_difference(net: Net, model: Path, images: Path, root: Path) -> float:
    """Largest difference between ONNX Runtime and PyTorch on real pictures of the list.

    Raises:
        ExportError: there is no comparing them, for one of them computes NaN.
    """
    from caffe_compat.onnx import Session

    data = read_list(images, root)[0][:50]
    (name,) = net.input_names
    with torch.inference_mode():
        expected = net(**{name: data})["prob"]
    found = difference(Session(model)({name: data.numpy()})["prob"], expected.numpy())
    if found.note:
        raise ExportError(f"{model}: output 'prob' differs from PyTorch: {found}")
    return found.absolute


def conv1_picture(teacher: Net, student: Net, path: Path) -> None:
    """The first filters of the teacher, of the copy (the same filters, shown as they see HHA) and of the student."""
    panels = [
        ("teacher, on colour", teacher, "conv1"),
        ("teacher's copy, for HHA", teacher, "conv1"),
        ("transferred, for HHA", student, "da_conv1"),
    ]
    filters = [
        Filters(title, net.layer(layer).blobs[0].detach().numpy(), layer, "of the demo") for title, net, layer in panels
    ]
    write_figure(path, draw_filters(filters))


def table(results: list[Result]) -> str:
    """The results as text: one seed, or mean and range of several."""

    def cell(name: str, unit: float = 100) -> str:
        values = [getattr(result, name) * unit for result in results]
        if len(values) == 1:
            return f"{values[0]:6.1f}" if unit == 100 else f"{values[0]:6.3f}"
        shape = "{:6.1f}   {:.1f} to {:.1f}" if unit == 100 else "{:6.3f}   {:.3f} to {:.3f}"
        return shape.format(statistics.mean(values), min(values), max(values))

    seeds = ", ".join(str(result.seed) for result in results)
    rows = [
        f"Accuracy in % on held-out depth (HHA) pictures, {len(CLASSES)} classes, seed {seeds}",
        f"  (a) chance                                      {100 / len(CLASSES):6.1f}",
        f"  (b) teacher's weights copied, run on HHA        {cell('copied')}",
        f"  (c) franken net, zero-shot                      {cell('franken')}",
        f"      for comparison: teacher on colour           {cell('teacher')}",
        "Explained variance of the teacher's pool5 on held-out pairs",
        f"      random student, before                      {cell('before', 1)}",
        f"      teacher's weights copied                    {cell('copied_variance', 1)}",
        f"      student, after                              {cell('after', 1)}",
        f"Largest difference of ONNX Runtime to PyTorch     {max(r.onnx_difference for r in results):.2g}",
    ]
    return "\n".join(rows)
