"""Every row of every experiment becomes commands that exist, on every setting."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from experiments.tiny import Tree, scenes

from caffe_compat.commands import main_of
from caffe_compat.errors import UsageError
from caffe_compat.experiments.declarations import (
    Experiment,
    Setting,
    experiment_names,
    read_experiment,
    read_setting,
    setting_names,
)
from caffe_compat.experiments.planning import Planner
from caffe_compat.experiments.stages import Stage, in_order
from caffe_compat.experiments.workplace import Unavailable
from caffe_compat.net import load_net
from caffe_compat.proto import read_net
from caffe_compat.resources import root

FOLDER = "output/experiments/x/stages"


def planner(setting: Setting, seed: int = 1) -> Planner:
    return Planner(setting, seed, FOLDER, cache(read_experiment))


@cache
def planned() -> tuple[tuple[Setting, Experiment, str, Stage], ...]:
    return tuple(_planned())


def _planned() -> Iterator[tuple[Setting, Experiment, str, Stage]]:
    for setting in map(read_setting, setting_names()):
        plan = planner(setting)
        for experiment in map(read_experiment, experiment_names()):
            for name in experiment.rows:
                try:
                    yield setting, experiment, name, plan.test(experiment, name)
                except Unavailable as error:
                    assert str(error)


def test_which_rows_there_are() -> None:
    assert setting_names() == ["clips", "jhmdb", "mosd", "nyud2", "scenes"]
    rows = {name: list(read_experiment(name).rows) for name in experiment_names()}
    assert rows["table1"] == [
        *("1A", "1B", "1C", "1D", "2A", "2B", "2C", "2D", "3A", "3B", "3C", "3D"),
        *("VGG RGB", "VGG to VGG"),
    ]
    assert rows["table4"] == ["pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7", "conv3+fc7"]
    longer = ["random short", "transfer long"]
    assert rows["table7"] == ["random", "supervised", "transfer", *longer, "copy", "RGB", "RGB+flow"]
    assert set(rows) == {
        *("table1", "table2", "table3", "table4", "table5", "table6", "table7"),
        *("disparity", "loss_variant", "longer", "student_start"),
    }


def test_a_student_from_copied_weights_is_another_transfer() -> None:
    plan, experiment = planner(read_setting("mosd")), read_experiment("student_start")
    found = {name: in_order([plan.test(experiment, name)]) for name in ("fillers", "copied")}
    words = {name: [w for s in stages if s.kind == "transfer" for w in s.commands[0]] for name, stages in found.items()}
    assert "--student-weights" not in words["fillers"]
    index = words["copied"].index("--student-weights")
    assert words["copied"][index + 1].endswith("squeezenet_v1.0_decoded.caffemodel")
    transfers = {name: next(s for s in stages if s.kind == "transfer").folder for name, stages in found.items()}
    assert transfers["fillers"] != transfers["copied"]


def test_the_paper_s_figures() -> None:
    """Of the facts that the declarations were made from."""
    figures = {name: row.paper for name, row in read_experiment("table1").rows.items()}
    assert figures == {
        "1A": 22.7, "1B": 25.1, "1C": 29.7, "1D": 30.5, "2A": 19.8, "2B": 30.0, "2C": 32.2, "2D": 33.6, "3A": 22.3,
        "3B": 33.8, "3C": 35.6, "3D": 37.0, "VGG RGB": 28.0, "VGG to VGG": 33.5,
    }  # fmt: skip
    assert [row.paper for row in read_experiment("table4").rows.values()] == [
        24.4, 28.4, 30.6, 29.9, 30.5, 29.7, 27.7, 31.3,
    ]  # fmt: skip
    table7 = read_experiment("table7")
    figures = {name: row.paper for name, row in table7.rows.items() if row.paper is not None}
    assert figures == {"random": 31.7, "supervised": 38.4, "transfer": 35.7, "RGB": 32.0}
    assert table7.data == "JHMDB" and read_experiment("table1").data == "NYUD2"
    assert [row.paper for row in read_experiment("table5").rows.values()] == [33.0, 30.4, 37.6, 35.7, 45.0, 54.4]
    assert {name: row.paper for name, row in read_experiment("table2").rows.items() if row.paper} == {
        "RGB fc7 0.5": 26.3, "RGB maps 0.5": 29.8, "RGB fc7 0.7": 14.8, "RGB maps 0.7": 18.3,
        "D fc7 0.5": 28.4, "D maps 0.5": 31.5, "D fc7 0.7": 17.4, "D maps 0.7": 19.6,
    }  # fmt: skip
    assert {name: row.paper for name, row in read_experiment("table3").rows.items() if row.paper} == {
        "RGB AlexNet 0.5": 23.4, "RGB AlexNet 0.7": 13.4, "RGB VGG 0.5": 31.0, "RGB VGG 0.7": 17.7,
        "RGB+D 0.5": 40.5, "RGB+D 0.7": 25.4, "VGG+D 0.5": 42.1, "VGG+D 0.7": 26.9,
    }  # fmt: skip


def test_masks_say_by_name_what_they_are_of() -> None:
    for table in ("table2", "table3"):
        for name, row in read_experiment(table).rows.items():
            assert row.masks is not None and name.endswith(f" {row.masks.overlap:g}"), name
            assert (row.masks.maps == "none") == ("fc7" in name.split())
            assert f"overlap {row.masks.overlap:g}" in row.what


def test_masks_of_one_detector_share_it() -> None:
    """Overlaps differ in nothing that is run; with maps and without are two nets over one detector's detections."""
    plan, table2 = planner(read_setting("scenes")), read_experiment("table2")
    half, more = (plan.test(table2, name) for name in ("RGB maps 0.5", "RGB maps 0.7"))
    assert half.name == more.name
    words = half.commands[0]
    assert words[words.index("--sds_detection_file") + 1].endswith("/*/*/detections.npz")
    detector = plan.test(read_experiment("table1"), "3A")
    assert words[words.index("--sds_detection_file") + 1].startswith(detector.folder)
    alone = plan.test(table2, "RGB fc7 0.5")
    (first,), (second,) = ([one for one in in_order([test]) if one.kind == "masks"] for test in (half, alone))
    assert set(first.commands[0]) - {first.folder} == set(second.commands[0]) - {"--maps", "none"} - {second.folder}
    weights = [one.commands[1][one.commands[1].index("--weights") + 1] for one in (first, second)]
    assert weights[0] == weights[1] and weights[0].endswith("/*/fast_rcnn_iter_1000.caffemodel")


def test_masks_of_two_modalities_are_those_of_each() -> None:
    plan = planner(read_setting("nyud2"))
    test = plan.test(read_experiment("table3"), "VGG+D 0.5")
    stages = in_order([test])
    masks = [stage for stage in stages if stage.kind == "masks"]
    assert [stage.commands[0][2] for stage in masks] == ["vgg16", "alexnet_hha", "vgg16"]
    assert "--second" in masks[2].commands[0] and len(masks[2].commands) == 1
    words = test.commands[0]
    weights = words[words.index("--net") + 1 : words.index("--imdb")]
    assert [word.split("/")[-3] for word in weights] == [stage.name for stage in masks[:2]]
    assert sum(stage.kind == "test" for stage in stages) == 2  # of the detector, and of the masks


def test_masks_are_tested_on_what_was_detected(tmp_path: Path) -> None:
    text = "title: t\nrows:\n  a: {what: a, test: test, masks: {of: table1/3A}}\n"
    (tmp_path / "t.yml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="masks of table1/3A: it is tested on 'val', the row on 'test'"):
        planner(read_setting("scenes")).test(read_experiment(str(tmp_path / "t.yml")), "a")
    with pytest.raises(Unavailable, match="nothing is segmented here"):
        planner(read_setting("clips")).test(read_experiment("table2"), "RGB fc7 0.5")


def test_every_command_is_one_that_its_parser_takes() -> None:
    seen = set()
    for setting, experiment, name, test in planned():
        for stage in in_order([test]):
            for words in stage.commands:
                if words not in seen:
                    seen.add(words)
                    module = sys.modules[main_of(words[0]).__module__]
                    try:
                        module.make_parser().parse_args([stage.filled(word) for word in words[1:]])
                    except SystemExit:
                        pytest.fail(f"{setting.name} {experiment.name} {name}: {' '.join(words)}")
    assert len(seen) > 100


def test_all_rows_run_on_the_data_of_the_paper() -> None:
    """The first of the settings that an experiment names; those of flow on drawn clips too."""
    rows = dict.fromkeys(experiment_names(), 0)
    for setting, experiment, _, _ in planned():
        rows[experiment.name] += setting.name == experiment.settings[0]
    assert rows == {name: len(read_experiment(name).rows) for name in experiment_names()}
    clips = [(experiment.name, name) for setting, experiment, name, _ in planned() if setting.name == "clips"]
    assert [row for table, row in clips if table == "table7"] == list(read_experiment("table7").rows)


def test_flow_has_its_own_mean_and_colour_its() -> None:
    """Where a net sees flow, make_detection and make_transfer are told, and nobody is told of colour alone."""
    plan, table7 = planner(read_setting("clips")), read_experiment("table7")
    told: dict[tuple[str, str], list[str]] = {}
    for name in ("transfer", "RGB", "RGB+flow"):
        for stage in in_order([plan.test(table7, name)]):
            words = stage.commands[0]
            if words[0] in ("make_detection", "make_transfer"):
                at = words.index("--modality") if "--modality" in words else len(words)
                told[stage.kind, stage.label.partition("-")[0]] = list(words[at + 1 : at + 2 + (stage.kind == "fused")])
    assert told == {
        ("transfer", "flow"): ["flow"],
        ("detector", "flow"): ["flow"],
        ("detector", "rgb"): [],
        ("fused", "rgb"): ["color", "flow"],
    }


def test_a_supervised_start_is_that_of_labelled_flow(tmp_path: Path) -> None:
    setting, table7 = read_setting("clips"), read_experiment("table7")
    stages = in_order([planner(setting).test(table7, "supervised")])
    labels = [stage.label for stage in stages if stage.kind == "prepare"]
    assert {"supervised", "classifier"} <= set(labels) and labels.index("classifier") < labels.index("supervised")
    (detector,) = (stage for stage in stages if stage.kind == "detector")
    (entry,) = json.loads(detector.files["copy.json"])
    assert "/prepare-supervised-seed1-" in entry["model"] and "da_conv1" in entry["copy_ops"]["dest"]
    path = scenes(tmp_path, lambda tree: tree["inputs"].update(flow={"folder": "flow"}))
    with pytest.raises(Unavailable, match="no alexnet is trained on labelled pictures of 'flow'"):
        planner(read_setting(str(path))).test(table7, "supervised")
    with pytest.raises(Unavailable, match="there are no pictures of 'flow'"):
        planner(read_setting("nyud2")).test(table7, "supervised")


def test_seeds_of_jhmdb_are_its_splits() -> None:
    test = planner(read_setting("jhmdb"), 3).test(read_experiment("table7"), "random")
    assert test.commands[0][test.commands[0].index("--imdb") + 1] == "jhmdb_flow_split3_test"
    assert [need.path for need in test.needs] == ["data/jhmdb/jhmdb_annot.mat", "data/jhmdb/flow"]


def test_nets_and_features_are_there() -> None:
    for setting in map(read_setting, setting_names()):
        for role in setting.nets.values():
            for path in (role.teacher, role.student, role.classifier):
                assert (root() / path).is_file(), (setting.name, path)
            teacher, student = (set(load_net(root() / path).blob_shapes) for path in (role.teacher, role.student))
            for blob in role.layers.values():
                if not blob.startswith("fc"):
                    assert {blob, f"da_{blob}"} & student and blob in teacher, (setting.name, blob)


def test_rows_share_stages() -> None:
    """1D and 2B have one teacher and one transfer; Table 4's pool5 is 1D."""
    plan, table1, table4 = planner(read_setting("scenes")), read_experiment("table1"), read_experiment("table4")

    def names(experiment: Experiment, row: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for stage in in_order([plan.test(experiment, row)]):
            found.setdefault(stage.kind, []).append(stage.name)
        return found

    first, second = names(table1, "1D"), names(table1, "2B")
    assert first["transfer"] == second["transfer"] and len(first["detector"]) == 2
    assert first["detector"][0] == second["detector"][0] and first["detector"][1] != second["detector"][1]
    assert names(table4, "pool5") == first
    assert names(table1, "1C")["transfer"] != first["transfer"]


def test_seeds_share_what_does_not_depend_on_them() -> None:
    setting, table1 = read_setting("mosd"), read_experiment("table1")
    one, two = (
        {stage.name: stage for stage in in_order([planner(setting, seed).test(table1, "1B")])} for seed in (1, 2)
    )
    shared = {one[name].label for name in one.keys() & two.keys()}
    assert shared == {"hha", "boxes"}
    assert all(stage.seed == 2 for name, stage in two.items() if name not in one)


def test_names_say_what_a_stage_is_and_change_with_it(tmp_path: Path) -> None:
    table1, setting = read_experiment("table1"), read_setting("scenes")
    name = planner(setting).test(table1, "1D").after[0].name
    assert name.startswith("detector-hha-alexnet-pool5-of-alexnet-detector-tune-all-seed1-")

    def change(tree: Tree) -> None:
        tree["schedules"]["transfer"]["base_lr"] /= 2

    path = scenes(tmp_path, change)
    changed = planner(read_setting(str(path))).test(table1, "1D").after[0].name
    assert changed != name and changed.rpartition("-")[0] == name.rpartition("-")[0]


def test_the_root_folder_is_no_part_of_what_a_stage_is() -> None:
    table1, setting = read_experiment("table1"), read_setting("mosd")
    here, there = (Planner(setting, 1, folder, read_experiment).test(table1, "3C") for folder in (FOLDER, "output/y"))
    assert here.name == there.name and here.folder != there.folder


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{classifier}/", "{classifer}/", r"tiny: \{classifer\} stands for nothing \(did you mean 'classifier'"),
        ("  finetune:", "  fine:", "no schedule 'finetune'"),
        ("  alexnet:", "  alex:", r"no net 'alexnet' \(did you mean 'alex"),
        ("--out {here}/data", "--out {here}/data {classifier}", "classifier needs pictures needs classifier"),
    ],
)
def test_settings_that_contradict_themselves(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = scenes(tmp_path, lambda tree: None)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        planner(read_setting(str(path))).test(read_experiment("table1"), "1B")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{what: a, init: coppy}",
            r"t\.yml:3: init is 'coppy', expected one of none, copy, supervised, transfer \(did you",
        ),
        ("{what: a, init: transfer}", "belong together"),
        ("{what: a, fuse: [a]}", "fuse has 1 rows, expected two"),
        ("{what: a, head: b}", "expected to have 'init: transfer'"),
        ("{what: a, tune: some}", "tune is 'some'"),
        ("{what: a, masks: {of: b, maps: some}}", "maps is 'some', expected all or none"),
        ("{what: a, masks: {of: b, overlap: 0.6}}", "overlap is 0.6, expected 0.5 or 0.7"),
        ("{what: a, input: rgb, masks: {of: b}}", "'input' is what the row 'b' says"),
    ],
)
def test_rows_that_contradict_themselves(tmp_path: Path, entry: str, message: str) -> None:
    path = tmp_path / "t.yml"
    path.write_text(f"title: t\nrows:\n  a: {entry}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_experiment(str(path))


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no experiment 'table', expected one of .*did you mean 'table"):
        read_experiment("table")
    with pytest.raises(UsageError, match=r"no setting 'scene', expected one of clips, jhmdb, .*, scenes \(did"):
        read_setting("scene")
    with pytest.raises(UsageError, match="table1: no row '1Z'"):
        planner(read_setting("scenes")).test(read_experiment("table1"), "1Z")


@pytest.mark.parametrize("name", ["clips", "jhmdb", "mosd", "nyud2", "scenes"])
def test_every_transfer_of_a_setting_can_be_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: there are no pairs."""
    stages: dict[tuple[str, ...], tuple[str, ...]] = {}
    for setting, _, _, test in planned():
        for stage in in_order([test]) if setting.name == name else ():
            if stage.kind == "transfer":
                words = stage.commands[0]
                what = words[words.index("--layer") : words.index("--output")]
                stages.setdefault((words[2], words[6], *what), words)
    monkeypatch.chdir(tmp_path)
    assert len(stages) >= (1 if name in ("clips", "jhmdb") else 5)
    for number, words in enumerate(stages.values()):
        chosen = [str(root() / word) if word.startswith("prototxt/") else word for word in words[1:]]
        dropped = {"--source": 2, "--val-source": 2, "--root-folder": 2, "--sweep": 2, "--test-iter": 2}
        for option, count in dropped.items():
            if option in chosen:
                del chosen[chosen.index(option) : chosen.index(option) + count]
        folder = f"t{number}"
        chosen[chosen.index("--output") + 1] = folder
        sigmoid = ["--alpha", "1", "--tau", "0"] if "--loss" in chosen else []
        assert main_of("make_transfer")([*chosen, "--no-measure", *sigmoid]) == 0
        assert (tmp_path / folder / "train_val.prototxt").is_file(), words


def test_the_page_names_every_experiment_and_setting() -> None:
    page = (root() / "docs/experiments.md").read_text(encoding="utf-8")
    assert not [name for name in experiment_names() if f"{name}.yml" not in page]
    assert not [name for name in setting_names() if f"| `{name}` |" not in page]


@pytest.mark.parametrize("name", ["clips", "jhmdb", "mosd", "nyud2", "scenes"])
def test_every_detector_of_a_setting_can_be_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what net surgery copies into it are layers that it has."""
    stages: dict[tuple[str, ...], Stage] = {}
    for setting, _, _, test in planned():
        for stage in in_order([test]) if setting.name == name else ():
            if stage.commands[0][0] == "make_detection":
                stages.setdefault(tuple(word for word in stage.commands[0] if stage.root not in word), stage)
    monkeypatch.chdir(tmp_path)
    franken = set() if name in ("clips", "jhmdb") else {"franken"}
    assert {stage.kind for stage in stages.values()} == {"detector", "fused"} | franken
    for stage in stages.values():
        assert main_of("make_detection")([stage.filled(word) for word in stage.commands[0][1:]]) == 0
        if "copy.json" in stage.files:
            (entry,) = json.loads(stage.files["copy.json"])
            here, there = (
                {layer.name for layer in read_net(path).layer}
                for path in (f"{stage.folder}/train.prototxt", root() / entry["prototxt"])
            )
            copies = entry["copy_ops"]
            assert set(copies["dest"]) <= here and set(copies["source"]) <= there and "da_conv1" in copies["dest"]
