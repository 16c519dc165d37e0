"""tools/transfer.py: pairs, teacher and student in, trained student, franken net and ONNX file out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from transfer.tiny_nets import write_nets, write_pairs, write_teacher

from caffe_compat.commands import transfer
from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import read_pair_list

NETS = ["--teacher", "teacher.prototxt", "--teacher-weights", "teacher.caffemodel", "--student", "student.prototxt"]
WHAT = [*NETS, "--layer", "pool1", "--student-layer", "c2", "--output", "out", "--image-size", "40", "48"]
SEED = 3
SHORT = ["--max-iter", "6", "--snapshot", "4", "--test-interval", "6", "--sweep", "12"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs", count=6)
    for which, name in (("a", "color"), ("b", "other")):
        Path(name).mkdir()
        for number in range(6):
            Path(f"pairs/{which}{number}.png").rename(f"{name}/{number}.png")
    write_teacher(tmp_path)


def test_from_two_folders_to_an_onnx_file_and_on_from_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--folders", "color", "other", "--hold-out", "3", *WHAT, *SHORT]
    assert transfer.main(arguments) == 0
    lists = [[Path(pair.first).name for pair in read_pair_list(f"out/{name}_pairs.txt")] for name in ("train", "val")]
    assert lists == [["0.png", "1.png", "3.png", "4.png"], ["2.png", "5.png"]]
    for name in ("student.onnx", "franken.onnx", "franken.caffemodel", "transfer_iter_6.caffemodel"):
        assert Path("out", name).stat().st_size > 0
    weights = Path("out/transfer_iter_6.caffemodel").read_bytes()
    Path("out/transfer_iter_6.solverstate").unlink()
    Path("out/student.onnx").unlink()
    report = json.loads(Path("out/report.json").read_text())
    capsys.readouterr()
    assert transfer.main(arguments) == 0  # goes on from iteration 4
    assert Path("out/transfer_iter_6.caffemodel").read_bytes() == weights and Path("out/student.onnx").exists()
    said = capsys.readouterr().out
    assert "wrote out/report.md" in said and f"--output out_seed{SEED + 1} --random-seed {SEED + 1}" in said
    again = json.loads(Path("out/report.json").read_text())
    assert [start["iteration"] for start in again["groups"][0]["runs"][0]["starts"]] == [0, 4]
    assert again["groups"][0]["curves"] == report["groups"][0]["curves"]
    assert "tools/transfer.py --folders color other" in again["command"] and cv2.imread("out/curve.png") is not None


def test_files_without_a_partner_are_all_named() -> None:
    Path("other/3.png").unlink()
    Path("color/0.png").rename("color/zero.png")
    with pytest.raises(DataError, match=r"without a partner: color/3.png, color/zero.png, other/0.png$"):
        transfer.main(["--folders", "color", "other", *WHAT])
    with pytest.raises(DataError, match="nowhere: is no folder"):
        transfer.main(["--folders", "color", "nowhere", *WHAT])


def test_only_the_same_command_goes_on() -> None:
    arguments = ["--folders", "color", "other", "--hold-out", "3", *WHAT, *SHORT]
    assert transfer.main(arguments) == 0
    with pytest.raises(UsageError, match="out holds a transfer with --max-iter 6, not 9: go on with the same command"):
        transfer.main([*arguments, "--max-iter", "9"])
    with pytest.raises(UsageError, match="with --layer pool1, not conv1"):
        transfer.main([*arguments, "--layer", "conv1", "--student-layer", "c1"])


def test_a_teacher_without_weights_and_pictures_that_cannot_be_used_write_nothing() -> None:
    with pytest.raises(UsageError, match="a teacher without weights teaches nothing; give --teacher-weights FILE"):
        transfer.main(["--folders", "color", "other", *WHAT[:2], *WHAT[4:]])
    Path("color/1.png").write_bytes(b"none")
    Path("other/4.png").write_bytes(b"none either")
    with pytest.raises(DataError, match="color and other: 2 of 6 pairs cannot be used: color/1.png.*; other/4.png"):
        transfer.main(["--folders", "color", "other", *WHAT])
    Path("pairs.txt").write_text("".join(f"color/{n}.png other/{n}.png\n" for n in range(6)))
    with pytest.raises(DataError, match=r"pairs.txt: 2 of 6 pairs cannot be used: line 2: .*line 5: .*other/4.png"):
        transfer.main(["--pairs", "pairs.txt", *WHAT])
    assert not Path("out").exists()


def test_too_few_pairs_to_hold_some_out() -> None:
    with pytest.raises(UsageError, match="--hold-out is 9, expected 2 to 6"):
        transfer.main(["--folders", "color", "other", "--hold-out", "9", *WHAT])
    assert not Path("out").exists()
