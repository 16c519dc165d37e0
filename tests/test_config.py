"""Options of the fast-rcnn tools: values of another kind are refused by name."""

import pytest

from caffe_compat.config import Config, load_config, without_detection, write_config
from caffe_compat.errors import UsageError


def test_a_released_file(tmp_path):
    (tmp_path / "a.yml").write_text(
        "EXP_DIR: rgb\nTRAIN:\n  SCALES: [600]\n  BG_THRESH_LO: 0\nPIXEL_MEANS: !!python/tuple [[[1.5, 2, 3]]]\n"
    )
    config = load_config(tmp_path / "a.yml", ["RNG_SEED", "5", "TRAIN.SCALES", "(400, 500)"])
    assert config.train.scales == (400, 500)
    assert config.changed() == {
        "EXP_DIR": "rgb", "TRAIN.BG_THRESH_LO": 0.0, "PIXEL_MEANS": (1.5, 2.0, 3.0), "RNG_SEED": 5,
        "TRAIN.SCALES": (400, 500),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("date.yml", "RNG_SEED is '2020-99-99', expected a int like 3"),
        ("loop.yml", "an alias stands inside its own anchor"),
    ],
)
def test_files_that_left_by_other_doors(root, file, message):
    with pytest.raises(UsageError, match=rf"{file}:.*{message}"):
        load_config(root / "tests/data/faults" / file)


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        ("EPS", "1e400", "EPS is inf, expected a float"),
        ("EPS", "0x" + "f" * 5000, "EPS is a number of thousands of digits, expected a float"),
        ("TRAIN.SCALES", "['a']", "expected a tuple like"),
        ("PIXEL_MEANS", "(1, (2, 3e999))", "expected a tuple like"),
        ("RNG_SEED", "(" * 5000, r"RNG_SEED is .*\.\.\., expected a int"),
        ("RNG_SED", "1", r"unknown key 'RNG_SED' \(did you mean 'RNG_SEED'"),
    ],
)
def test_words_of_another_kind(key, word, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_config(None, [key, word])
    assert len(str(caught.value)) < 400


def test_a_wrong_line_is_named(tmp_path):
    file = tmp_path / "a.yml"
    for text, message in (
        ("EXP_DIR: rgb\nTRAIN:\n  FG_TRESH: 0.5\n", r"a.yml:3: unknown key 'TRAIN.FG_TRESH' .*FG_THRESH"),
        ("TEST:\n  NMS: high\n", "a.yml:2: TEST.NMS is 'high', expected a float like 0.3"),
        ("TEST:\n  NMS: 0.3\nTEST:\n  SVM: true\n", "a.yml:3: TEST is given a second time, the first is in line 1"),
        ("TRAIN: 5\n", "a.yml:1: unknown key 'TRAIN'"),
        ("TRAIN:\n  BATCH_SIZE: 127\n", "a.yml: TRAIN.BATCH_SIZE is 127, expected a multiple of .*, 2"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            load_config(file)


def test_what_contradicts_itself_is_refused():
    for key, word, message in (
        ("TRAIN.SCALES", "()", "expected one or more sides"),
        ("TRAIN.BG_THRESH_LO", "0.6", r"TRAIN.BG_THRESH_LO is 0.6, expected at most TRAIN.BG_THRESH_HI, 0.5"),
        ("TEST.NMS", "1.5", "expected 0 to 1"),
        ("PIXEL_MEANS", "(1, 2)", "PIXEL_MEANS has 2 numbers"),
        ("MODALITY_MEANS", "((1, 2, 3), (1, 2))", "MODALITY_MEANS has 2 numbers, expected 3"),
        ("EXP_DIR", "../x", "expected a path below output"),
        ("TEST.DET_SALT", "a/b", "a part of a file name"),
        ("SDS.DET_SALT", "a/b", "a part of a file name"),
        ("SDS.TARGET_SIZE", "0", "SDS.TARGET_SIZE is 0, expected 1 or more"),
        ("SDS.MASK_SIZE", "1", "SDS.MASK_SIZE is 1, expected 2 or more"),
    ):
        with pytest.raises(UsageError, match=f"--set: .*{message}"):
            load_config(None, [key, word])


MEANS = ("MODALITY_MEANS", "((1, 2, 3.5), (128, 128, 128))")


def test_what_is_written_reads_back_and_does_not_change(tmp_path):
    config = load_config(
        None, ["TEST.MODALITY_SCALES", "((600,), (688, 700))", "EPS", "1e-9", "SDS.DET_SALT", "_a", *MEANS], parity=True
    )
    write_config(tmp_path / "a.yml", config)
    assert load_config(tmp_path / "a.yml") == config != Config()
    with pytest.raises(AttributeError):
        config.parity = False


def test_plain_training_refuses_options_of_detection():
    without_detection(load_config(None, ["RNG_SEED", "5", "EXP_DIR", "a/b"]))
    with pytest.raises(UsageError, match="TRAIN.SCALES, PARITY: only detection training"):
        without_detection(load_config(None, ["TRAIN.SCALES", "(5,)"], parity=True))
