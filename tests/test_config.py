"""Options of the fast-rcnn tools: values of another kind are refused by name."""

import pytest

from caffe_compat.config import DEFAULTS, load_config
from caffe_compat.errors import UsageError


def test_a_released_file(tmp_path):
    (tmp_path / "a.yml").write_text(
        "EXP_DIR: rgb\nTRAIN:\n  SCALES: [600]\n  BG_THRESH_LO: 0\nPIXEL_MEANS: !!python/tuple [[[1.5, 2, 3]]]\n"
    )
    config = load_config(tmp_path / "a.yml", ["RNG_SEED", "5", "TRAIN.SCALES", "(400, 500)"])
    changed = {key: value for key, value in config.items() if value != DEFAULTS[key]}
    assert changed == {
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
    with pytest.raises(UsageError, match=rf"{file}: .*{message}"):
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
