"""No pair of nets diverges: what is measured makes the loss of any pair fall, at any layers that fit each other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from transfer.tiny_nets import write_pairs

from caffe_compat.proto import read_net
from caffe_compat.transfer import Recipe, Schedule, Transfer, read_branch
from caffe_compat.transfer.pairs import FeatureMap, feature_maps, fit, nearest_fits, table
from caffe_compat.transfer.random_teacher import write_random_weights
from caffe_compat.transfer.start import Start, measure_start
from caffe_compat.transfer.trial import Trial, draw

NETS = ("alexnet", "caffenet", "vgg16", "squeezenet", "mobilenet", "resnet50", "googlenet_bn")
SIZE = (96, 128)
NARROW = 8
REAL = ROOT.parent / "shared" / "real"
CPU = torch.device("cpu")
PADDED = ("alexnet_pad7", "caffenet_pad5")
"""Students whose maps are as large as VGG16's."""
STUDENTS = NETS + PADDED
DEPLOY = {name: f"prototxt/{'students/' * (name in PADDED)}{name}/deploy.prototxt" for name in STUDENTS}


def narrow(name: str) -> str:
    """A net of the product with an eighth of its channels, in a file of its own."""
    text = (ROOT / DEPLOY[name]).read_text()
    text = re.sub(r"(num_output|group): (\d+)", lambda match: f"{match[1]}: {_narrowed(match[1], int(match[2]))}", text)
    Path(f"{name}.prototxt").write_text(text)
    return f"{name}.prototxt"


def _narrowed(field: str, number: int) -> int:
    """Channels, and groups that are as many as channels (the 2 of AlexNet stay)."""
    return number if field == "group" and number == 2 else max(number // NARROW, 4)


def whole_features(path: str) -> list[FeatureMap]:
    """The features through which all of an image goes: of a block of ResNet or Inception its end, not its branches."""
    layers = [layer for layer in read_net(path).layer if layer.bottom]
    last = {top: number for number, layer in enumerate(layers) for top in layer.top}
    used = {bottom: number for number, layer in enumerate(layers) for bottom in layer.bottom}
    maps = feature_maps(path, "TEST", SIZE)
    around = {
        one.blob: any(made < last[one.blob] < used.get(blob, 0) for blob, made in last.items() if blob != one.blob)
        for one in maps
    }
    return [one for one in maps if not around[one.blob]]


def pairs_of(teacher: str, student: str) -> Iterator[tuple[str, str]]:
    """Every whole feature of a teacher, with the one of the student that fits it and stands nearest."""
    theirs = feature_maps(student, "TRAIN", SIZE)
    for mine in whole_features(teacher):
        for near in nearest_fits(mine, mine, theirs, 1):
            yield mine.blob, near.blob


def test_whole_features_are_those_between_blocks() -> None:
    names = [one.blob for one in whole_features(str(ROOT / DEPLOY["resnet50"]))]
    assert names[:3] == ["conv1", "pool1", "res2a"] and names[-2:] == ["res5c", "pool5"] and len(names) == 19
    names = [one.blob for one in whole_features(str(ROOT / DEPLOY["squeezenet"]))]
    assert names[2:5] == ["fire2/conv1x1_1", "fire2/concat", "fire3/conv1x1_1"]
    assert len(whole_features(str(ROOT / DEPLOY["vgg16"]))) == 18


def start(teacher: str, student: str, blobs: tuple[str, str], weights: str, **options: object) -> tuple[Start, str]:
    """What is measured for a pair of nets, and what to call the pair."""
    fields = {"source": "pairs/train_pairs.txt", "crop": SIZE} | options
    recipe = Recipe(teacher, student, (blobs[0],), "out", student_layers=(blobs[1],), **fields)  # type: ignore[arg-type]
    return measure_start(Transfer(recipe), Schedule(), [weights], CPU), f"{blobs[0]} of {teacher} to {blobs[1]}"


def falls(found: Start, weights: str, iterations: int = 30, seed: int = 11) -> None:
    """Train on other batches than those that were measured."""
    batches = draw(found.transfer, [weights], 6, seed, CPU)
    run = Trial(found.transfer, found.schedule, batches, CPU).train(iterations)
    first, last = sum(run.losses[:6]), sum(run.losses[-6:])
    assert len(run.losses) == iterations and last < first, (found.schedule.base_lr, run.losses)
    assert max(run.dead) < 0.5


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder that goes with the test: the weights of all pairs together would fill a disk."""
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), count=8, size=(100, 132))
    yield
    shutil.rmtree(tmp_path)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("teacher", "student", "blobs"),
    [
        ("squeezenet", "alexnet", ("pool8", "conv5")),
        ("vgg16", "alexnet_pad7", ("pool5", "da_pool5")),
        ("caffenet", "squeezenet", ("conv2", "fire5/concat")),
        ("alexnet", "vgg16", ("pool5", "pool5")),
        ("resnet50", "mobilenet", ("res3d", "conv4_1/sep")),
        ("squeezenet", "resnet50", ("fire5/concat", "res3b")),
        ("googlenet_bn", "alexnet_pad7", ("inception_4e/output", "da_conv5")),
    ],
)
def test_a_handful_of_pairs(teacher: str, student: str, blobs: tuple[str, str]) -> None:
    paths = narrow(teacher), narrow(student)
    write_random_weights(read_branch(paths[0], [blobs[0]], "TEST"), "teacher.caffemodel", 4)
    found, _ = start(*paths, blobs, "teacher.caffemodel", batch_size=1)
    recipe = found.transfer.recipe
    assert recipe.mean_norms[0] * recipe.scales[0] == pytest.approx(10, rel=0.01)
    assert found.schedule.clip_gradients == 1 and not found.table[-1].reason
    assert all(verdict.reason for verdict in found.table[:-1]), "the first stable rate is taken"
    fresh = Trial(found.transfer, found.schedule, draw(found.transfer, ["teacher.caffemodel"], 3, 2, CPU), CPU)
    assert max(fresh.train(1).dead) == 0, "no unit starts dead"
    falls(found, "teacher.caffemodel")


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("teacher", NETS)
def test_every_pair_at_every_layer_with_random_teachers(teacher: str, student: str) -> None:
    paths = narrow(teacher), narrow(student)
    maps = feature_maps(paths[0], "TEST", SIZE)
    write_random_weights(read_branch(paths[0], [one.blob for one in maps], "TEST"), "teacher.caffemodel", 4)
    for blobs in pairs_of(*paths):
        found, who = start(*paths, blobs, "teacher.caffemodel")
        try:
            falls(found, "teacher.caffemodel")
        except AssertionError as error:
            raise AssertionError(f"{who}: {error}") from error


TEACHERS = {
    "squeezenet": REAL / "models/squeezenet_v1.0_deepcomp/squeezenet_v1.0_decoded.caffemodel",
    "vgg16": REAL / "models/vgg16_hed_bsds/vgg16_hed_bsds.caffemodel",
}


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("teacher", sorted(TEACHERS))
def test_real_teachers(teacher: str, student: str) -> None:
    if not TEACHERS[teacher].exists():
        pytest.skip("the trained nets are not here")
    paths = str(ROOT / DEPLOY[teacher]), narrow(student)
    depths = {blobs[1]: blobs for blobs in pairs_of(*paths)}  # the deepest feature of the teacher for each
    for blobs in depths.values():
        found, _ = start(*paths, blobs, str(TEACHERS[teacher]))
        falls(found, str(TEACHERS[teacher]))


def test_the_table_of_features_holds_what_a_transfer_takes() -> None:
    mine = feature_maps(ROOT / DEPLOY["vgg16"], "TEST", (224, 288))
    theirs = feature_maps(ROOT / DEPLOY["alexnet_pad7"], "TRAIN", (224, 288))
    by_name = {one.blob: one for one in mine}
    assert by_name["pool5"] == FeatureMap("pool5", 512, 7, 9, 32, 1.0) and "fc6" not in by_name
    assert [one.blob for one in theirs if fit(by_name["pool5"], one)] == ["da_pool5"]
    assert "stride 32, 7 x 9" in table(mine, theirs) and "  student: da_conv1 (96); 57 x 73" in table(mine, theirs)
