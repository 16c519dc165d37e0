"""A row of a table, a setting and a seed as stages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from caffe_compat.detection.backbones import find_backbone
from caffe_compat.detection.nets import layers_with_weights
from caffe_compat.errors import UsageError, nearest
from caffe_compat.experiments.declarations import (
    IMAGENET,
    Experiment,
    Masks,
    NetRole,
    Row,
    Setting,
    Transfer,
)
from caffe_compat.experiments.stages import EXPERIMENT_FOLDER, HERE, Stage
from caffe_compat.experiments.workplace import Unavailable, Workplace
from caffe_compat.proto.read import read_net

__all__ = ["Model", "Planner"]

OUTPUTS = ("cls_score", "bbox_pred")
MATCHED = "student_matched.caffemodel"


@dataclass(frozen=True)
class Model:
    """A detector that some stages make: its test net, its weights (of several nets, or of one), and its options."""

    stages: tuple[Stage, ...]
    prototxt: str
    weights: tuple[str, ...]
    config: str
    backbone: str


class Planner(Workplace):
    """Makes the stages of rows.

    Args:
        setting: what they run on.
        seed: of everything random.
        folder: of all stages.
        find: gives experiments by name, for rows that are those of another table.
    """

    def __init__(self, setting: Setting, seed: int, folder: str, find: Callable[[str], Experiment]) -> None:
        super().__init__(setting, seed, folder)
        self._find = find

    def test(self, experiment: Experiment, name: str) -> Stage:
        """The stage that tests a row's detector; its ``after`` leads to all others.

        Raises:
            Unavailable: the setting has no such net, set, or feature.
            UsageError: the declarations contradict each other.
        """
        experiment, name, row = self.row(experiment, name)
        if row.masks is not None:
            return self._mask_test(experiment, row, row.masks)
        model = self.model(experiment, name)
        database, known = self._database(row.test), self._input(row)
        words = ["test_net", "--def", model.prototxt, "--net", *model.weights, "--imdb", self._imdb(database, known)]
        words += ["--cfg", model.config, *self._proposals(database, known)]
        options = self._words(self.setting.test)
        words += [*options, *([] if "--set" in options else ["--set"]), "EXP_DIR", EXPERIMENT_FOLDER]
        label = f"{model.stages[0].kind}-{model.stages[0].label}"
        before, needs = self._made_before(row)
        return self._stage("test", label, [words], after=[*model.stages, *before], needs=[*database.needs, *needs])

    def row(self, experiment: Experiment, name: str) -> tuple[Experiment, str, Row]:
        """A row as it is run: the experiment that declares it, its name there, and itself."""
        if "/" in name and name not in experiment.rows:
            table, _, name = name.partition("/")
            experiment = self._find(table)
        if name not in experiment.rows:
            raise UsageError(f"{experiment.name}: no row '{name}'{nearest(name, experiment.rows)}")
        row = experiment.rows[name]
        if row.same_as:
            return self.row(experiment, row.same_as)
        return experiment, name, row

    # -- detectors ----------------------------------------------------------------------------------------------

    def model(self, experiment: Experiment, name: str) -> Model:
        """The detector of a row."""
        experiment, name, row = self.row(experiment, name)
        if row.fuse:
            return self._fused(experiment, row)
        if row.head:
            return self._franken(experiment, row)
        return self._detector(experiment, row)

    def _detector(self, experiment: Experiment, row: Row) -> Model:
        net, database, timing = self._net(row.net), self._database(row.train), self._timing(row.schedule)
        known = self._input(row)
        after, more = self._made_before(row)
        backbone = net.rgb if row.input == "rgb" else net.depth
        words = ["make_detection", "--net", backbone, "--classes", str(database.classes), "--folder", HERE]
        words += ["--iters", str(timing.iters), "--base-lr", f"{timing.base_lr:g}"]
        words += ["--stepsize", str(timing.stepsize or timing.iters)]
        words += self._kinds(row.input)
        words += ["--freeze", "conv"] if row.tune == "fc" else []
        words += ["--fillers"] if row.init == "none" else []
        words += self._words(f"{self.setting.detector} {net.detector} {timing.options}")
        commands, files = [words], {}
        start: list[str] = []
        needs = [*database.needs, *more]
        if row.init in ("copy", "supervised"):
            trained = self._trained(net, row)
            needs += net.needs
            after += [self._stage_of(word) for word in self._mentions(trained)]
            start = [self._text(trained)]
            if row.input != "rgb":
                files["copy.json"] = self._copying(net, start[0])
                start = [f"{HERE}/init.caffemodel"]
                commands.append(["net_surgery", "--out_net_def", f"{HERE}/train.prototxt", "--net_surgery_json",
                                 f"{HERE}/copy.json", "--out_net_file", start[0]])  # fmt: skip
        elif row.transfer is not None:
            stage = self._transfer(experiment, row, row.transfer)
            after, start = [*after, stage], [self._student(stage, row.transfer)]
        train = ["train_net", "--solver", f"{HERE}/solver.prototxt", "--cfg", f"{HERE}/config.yml", "--resume"]
        train += ["--imdb", self._imdb(database, known), "--iters", str(timing.iters)]
        train += [*self._proposals(database, known), *(["--weights", ",".join(start)] if start else [])]
        train += ["--set", "RNG_SEED", str(self.seed), "EXP_DIR", EXPERIMENT_FOLDER, *self._words(self.setting.train)]
        how = row.init if row.transfer is None else self._taught(experiment, row, row.transfer)
        label = f"{row.input}-{row.net}-{how}-tune-{row.tune}"
        stage = self._stage("detector", label, [*commands, train], files, after, needs)
        models = (f"{stage.folder}/*/fast_rcnn_iter_{timing.iters}.caffemodel",)
        return Model((stage,), f"{stage.folder}/test.prototxt", models, f"{stage.folder}/config.yml", backbone)

    def _trained(self, net: NetRole, row: Row) -> str:
        """The weights that a detector starts from."""
        if row.init == "copy":
            return net.weights
        if row.input not in net.supervised:
            raise Unavailable(f"{self.setting.title}: no {row.net} is trained on labelled pictures of '{row.input}'")
        return net.supervised[row.input]

    def _copying(self, net: NetRole, weights: str) -> str:
        """For net_surgery: a classifier's weights into the layers of the other modality."""
        known = {layer.name for layer in read_net(self._file(net.classifier)).layer}
        backbone = find_backbone(net.depth)
        names = [name for name in layers_with_weights(backbone) if name in known and name not in OUTPUTS]
        dest = [backbone.prefix + name for name in names]
        copies = {"source": names, "dest": dest, "reshape": [0] * len(names)}
        entry = {"prototxt": self._file(net.classifier), "model": weights, "copy_ops": copies}
        return json.dumps([entry], indent=1) + "\n"

    def _fused(self, experiment: Experiment, row: Row) -> Model:
        """Two detectors whose scores are averaged: one net, tested with the weights of both."""
        first, second = (self.model(experiment, name) for name in row.fuse)
        classes = self._database(row.test).classes
        words = ["make_detection", "--net", first.backbone, "--second", second.backbone, "--classes", str(classes)]
        words += ["--folder", HERE, *self._kinds("rgb", row.input)]
        words += [*self._words(self.setting.detector), *self._words(self._net(row.net).detector)]
        stages = (*first.stages, *second.stages)
        label = "+".join(stage.label for stage in stages)
        stage = self._stage("fused", label, [words], after=stages)
        models = (*first.weights, *second.weights)
        return Model(
            (stage, *stages), f"{stage.folder}/test.prototxt", models, f"{stage.folder}/config.yml", first.backbone
        )

    def _franken(self, experiment: Experiment, row: Row) -> Model:
        """Zero-shot: the student of a transfer below fc6 and above of its teacher's detector."""
        net, classes = self._net(row.net), self._database(row.test).classes
        if not net.franken:
            raise Unavailable(f"there is no net for a student under the head of {row.net} here")
        head = self.model(experiment, row.head)
        if row.transfer is None:
            raise UsageError("a zero-shot row is expected to have a transfer")
        stage = self._transfer(experiment, row, row.transfer)
        words = ["make_detection", "--net", net.franken, "--classes", str(classes), "--folder", HERE]
        words += self._words(f"{self.setting.detector} {net.detector}")
        words += self._kinds(row.input)
        words += ["--part", f"{stage.folder}/student_deploy.prototxt", self._student(stage, row.transfer)]
        words += ["--part", head.prototxt, head.weights[0]]
        surgery = ["net_surgery", "--out_net_def", f"{HERE}/test.prototxt", "--net_surgery_json"]
        surgery += [f"{HERE}/init_weights.json", "--out_net_file", f"{HERE}/franken.caffemodel"]
        label = f"{row.input}-{row.net}-{self._taught(experiment, row, row.transfer)}"
        made = self._stage("franken", label, [words, surgery], after=(stage, *head.stages))
        models = (f"{made.folder}/franken.caffemodel",)
        return Model((made,), f"{made.folder}/test.prototxt", models, f"{made.folder}/config.yml", net.franken)

    # -- masks of detections ------------------------------------------------------------------------------------

    def _mask_test(self, experiment: Experiment, row: Row, masks: Masks) -> Stage:
        """The stage that segments the detections of a row and evaluates the regions."""
        source, name, found = self.row(experiment, masks.of)
        if masks.schedule not in self.setting.schedules:
            raise Unavailable(f"{self.setting.title}: nothing is segmented here (no schedule '{masks.schedule}')")
        if found.test != row.test:
            raise UsageError(f"masks of {masks.of}: it is tested on '{found.test}', the row on '{row.test}'")
        detections, model = self.test(source, name), self._segmenter(source, name, row, masks)
        database, known = self._database(row.test), self._input(found)
        words = ["test_net", "--def", model.prototxt, "--net", *model.weights, "--imdb", self._imdb(database, known)]
        words += [
            "--cfg",
            model.config,
            "--sds",
            "1",
            "--sds_detection_file",
            f"{detections.folder}/*/*/detections.npz",
        ]
        options = self._words(self.setting.mask_test)
        words += [*options, *([] if "--set" in options else ["--set"]), "EXP_DIR", EXPERIMENT_FOLDER]
        before, needs = self._made_before(found)
        label = f"{model.stages[0].kind}-{model.stages[0].label}"
        return self._stage(
            "test", label, [words], after=[*model.stages, detections, *before], needs=[*database.needs, *needs]
        )

    def _segmenter(self, experiment: Experiment, name: str, row: Row, masks: Masks) -> Model:
        """The net that segments the detections of a row: classifiers over its detector, or over each of two."""
        experiment, name, found = self.row(experiment, name)
        if not found.fuse:
            return self._classifiers(experiment, name, row, masks)
        first, second = (self._segmenter(experiment, part, row, masks) for part in found.fuse)
        words = ["make_sds", "--net", first.backbone, "--second", second.backbone, "--folder", HERE]
        words += ["--classes", str(self._database(row.test).classes), *self._mask_words(masks)]
        stages = (*first.stages, *second.stages)
        stage = self._stage("masks", "+".join(one.label for one in stages), [words], after=stages)
        weights = (*first.weights, *second.weights)
        files = (f"{stage.folder}/{file}" for file in ("test.prototxt", "config.yml"))
        return Model((stage, *stages), next(files), weights, next(files), first.backbone)

    def _classifiers(self, experiment: Experiment, name: str, row: Row, masks: Masks) -> Model:
        """Classifiers that are trained on the maps and fc7 of one row's detector."""
        detector, found = self.model(experiment, name), self.row(experiment, name)[2]
        database, timing, known = self._database(row.train), self._timing(masks.schedule), self._input(found)
        imdb = self._imdb(database, known)
        words = ["make_sds", "--net", detector.backbone, "--folder", HERE, "--imdb", imdb]
        words += ["--classes", str(database.classes), "--iters", str(timing.iters), "--base-lr", f"{timing.base_lr:g}"]
        words += ["--stepsize", str(timing.stepsize or timing.iters), *self._mask_words(masks)]
        words += self._words(timing.options)
        train = ["train_net", "--solver", f"{HERE}/solver.prototxt", "--cfg", f"{HERE}/config.yml", "--resume"]
        train += ["--imdb", imdb, *self._proposals(database, known), "--weights", ",".join(detector.weights)]
        train += ["--set", "RNG_SEED", str(self.seed), "EXP_DIR", EXPERIMENT_FOLDER]
        before, needs = self._made_before(found)
        label = f"{'fc7' if masks.maps == 'none' else 'maps'}-of-{detector.stages[0].label}"
        after = [*detector.stages, *before]
        stage = self._stage("masks", label, [words, train], after=after, needs=[*database.needs, *needs])
        weights = (f"{stage.folder}/*/inst_segm_iter_{timing.iters}.caffemodel",)
        files = (f"{stage.folder}/{file}" for file in ("test.prototxt", "config.yml"))
        return Model((stage, *detector.stages), next(files), weights, next(files), detector.backbone)

    def _mask_words(self, masks: Masks) -> list[str]:
        return [*self._words(self.setting.masks), *(["--maps", "none"] if masks.maps == "none" else [])]

    # -- transfers ----------------------------------------------------------------------------------------------

    def _transfer(self, experiment: Experiment, row: Row, transfer: Transfer) -> Stage:
        student, timing = self._net(row.net), self._timing(transfer.schedule)
        weights, teacher, after, needs = self._teacher(experiment, row, transfer)
        if transfer.pairs not in self.setting.pairs:
            raise Unavailable(f"{self.setting.title}: there are no pairs '{transfer.pairs}'")
        lists = self.setting.pairs[transfer.pairs]
        if row.input not in lists:
            raise Unavailable(f"{self.setting.title}: there are no pairs of colour and {row.input}")
        pairs = lists[row.input]
        nets = [teacher.teacher, student.student]
        if transfer.boxes:
            nets = [teacher.regions or nets[0], student.regions or nets[1]]
        words = ["make_transfer", "--teacher", self._file(nets[0]), "--teacher-weights", weights]
        words += ["--student", self._file(nets[1])]
        names = [[self._feature(net, layer) for layer in transfer.layers] for net in (teacher, student)]
        words += ["--layer", *names[0], *(["--student-layer", *names[1]] if names[0] != names[1] else [])]
        words += ["--output", HERE, "--source", self._text(pairs.train)]
        words += ["--val-source", self._text(pairs.val)]
        words += ["--root-folder", self._text(pairs.root)] if pairs.root else []
        if transfer.boxes:
            if not pairs.proposals:
                raise Unavailable(f"{self.setting.title}: there are no proposals of the pairs")
            words += ["--proposals", self._text(pairs.proposals), "--boxes-per-image", str(transfer.boxes)]
        words += ["--max-iter", str(timing.iters), "--base-lr", f"{timing.base_lr:g}", "--random-seed", str(self.seed)]
        words += self._words(f"{self.setting.transfer} {student.transfer} {timing.options} {transfer.options}")
        words += self._kinds(row.input)
        if transfer.start == "copy":
            words += ["--student-weights", self._text(student.weights)]
            after = (*after, *(self._stage_of(word) for word in self._mentions(student.weights)))
            needs = (*needs, *student.needs)
        commands = [words, ["train_net", "--solver", f"{HERE}/solver.prototxt", "--resume"]]
        if self.setting.match_norms:
            last = f"{HERE}/transfer_iter_{timing.iters}.caffemodel"
            commands.append(["match_norms", "--model", f"{HERE}/train_val.prototxt", "--weights", last,
                             "--output", f"{HERE}/{MATCHED}"])  # fmt: skip
        label = f"{row.input}-{row.net}-{self._taught(experiment, row, transfer)}"
        before, more = self._made_before(row)
        every = [*needs, *pairs.needs, *more]
        return self._stage("transfer", label, commands, after=[*after, *before], needs=every)

    def _teacher(
        self, experiment: Experiment, row: Row, transfer: Transfer
    ) -> tuple[str, NetRole, tuple[Stage, ...], tuple[str, ...]]:
        """Weights, net, stages and needs of the teacher."""
        if transfer.teacher == IMAGENET:
            net = self._net(transfer.teacher_net or row.net)
            after = tuple(self._stage_of(word) for word in self._mentions(net.weights))
            return self._text(net.weights), net, after, net.needs
        teacher = self.row(experiment, transfer.teacher)
        model = self.model(teacher[0], teacher[1])
        return model.weights[0], self._net(teacher[2].net), model.stages, ()

    def _taught(self, experiment: Experiment, row: Row, transfer: Transfer) -> str:
        """What and by whom, for names; the same words for rows of other names that mean the same."""
        if transfer.teacher == IMAGENET:
            teacher = f"{transfer.teacher_net or row.net}-imagenet"
        else:
            teacher = f"{self.row(experiment, transfer.teacher)[2].net}-detector"
        return f"{'+'.join(transfer.layers)}-of-{teacher}" + ("-from-copy" if transfer.start == "copy" else "")

    def _student(self, stage: Stage, transfer: Transfer) -> str:
        if self.setting.match_norms:
            return f"{stage.folder}/{MATCHED}"
        return f"{stage.folder}/transfer_iter_{self._timing(transfer.schedule).iters}.caffemodel"

    def _feature(self, net: NetRole, layer: str) -> str:
        if layer not in net.layers:
            raise Unavailable(f"its net has no '{layer}' here, only {', '.join(net.layers)}")
        return net.layers[layer]
