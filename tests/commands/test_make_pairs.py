"""tools/make_pairs.py: folders or a list in, lists for training and validation out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.commands import make_pairs
from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import read_pair_list


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve pairs of pictures of different sizes."""
    monkeypatch.chdir(tmp_path)
    for folder, ending, shape in (("visible", "jpg", (3,)), ("infrared", "png", ())):
        Path(folder).mkdir()
        for number in range(12):
            cv2.imwrite(f"{folder}/f{number:02}.{ending}", np.zeros((20 + number, 30, *shape), np.uint8))


def _held_out(*words: str) -> list[int]:
    assert make_pairs.main([*words, "--output", "out"]) == 0
    train, held = ([pair.first for pair in read_pair_list(f"out/{name}_pairs.txt")] for name in ("train", "val"))
    assert sorted(Path(name).name for name in train + held) == [f"f{number:02}.jpg" for number in range(12)]
    return [int(Path(name).stem[1:]) for name in held]


def test_every_nth_pair_or_block_is_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--folders", "visible", "infrared"]
    assert _held_out(*folders) == [4, 9]
    assert "wrote out/val_pairs.txt: 2 pairs" in capsys.readouterr().out
    assert Path("out/val_pairs.txt").read_text().splitlines()[0] == "../visible/f04.jpg ../infrared/f04.png"
    assert _held_out(*folders, "--hold-out", "2", "--block", "3") == [3, 4, 5, 9, 10, 11]
    assert _held_out(*folders, "--hold-out", "3", "--block", "5") == [10, 11]
    assert "next: tools/transfer.py" in capsys.readouterr().out


def test_a_list_is_split_too() -> None:
    Path("lists").mkdir()
    text = "".join(f"visible/f{number:02}.jpg infrared/f{number:02}.png\n" for number in range(12))
    Path("lists/all.txt").write_text(text)
    assert _held_out("--pairs", "lists/all.txt", "--root-folder", ".", "--hold-out", "6") == [5, 11]


def test_what_cannot_be_split_is_named() -> None:
    folders = ["--folders", "visible", "infrared", "--output", "out"]
    with pytest.raises(UsageError, match="give --folders or --pairs"):
        make_pairs.main(["--output", "out"])
    with pytest.raises(UsageError, match="--hold-out is 5, expected 2 to 4, the number of blocks of 3 of 12 pairs"):
        make_pairs.main([*folders, "--block", "3"])
    with pytest.raises(UsageError, match="--block is 0"):
        make_pairs.main([*folders, "--block", "0"])
    cv2.imwrite("infrared/f03.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="visible and infrared: the images of the pair have different sizes"):
        make_pairs.main(folders)
