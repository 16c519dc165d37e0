"""What train_net.py and ``caffe train`` share."""

from __future__ import annotations

from pathlib import Path

import pytest
from transfer.tiny_nets import write_pairs

from caffe_compat.commands.training import TrainOptions, train
from caffe_compat.errors import CaffeCompatError, LayerError, MissingFileError, SolverError, UsageError, WeightsError
from caffe_compat.net import load_net
from caffe_compat.solver.actions import Action
from caffe_compat.solver.lock import hold
from caffe_compat.solver.signals import SignalHandler

LAYERS = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: %s } }
"""


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ('lr_policy: "sudden"', SolverError, "s.prototxt: unknown lr_policy 'sudden'"),
        ('lr_policy: "fixed" net: "none.prototxt"', MissingFileError, "s.prototxt: Could not open file none.prototxt"),
        ('lr_policy: "fixed" net: "bad.prototxt"', LayerError, "s.prototxt: bad.prototxt: layer 'ip' (InnerProduct)"),
        (
            'lr_policy: "fixed" net: "good.prototxt" snapshot_prefix: "good.prototxt/x"',
            SolverError,
            "s.prototxt: snapshot_prefix is 'good.prototxt/x', cannot make its folder",
        ),
    ],
)
def test_an_error_keeps_its_type_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[CaffeCompatError], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)  # it would stay on for other tests
    Path("s.prototxt").write_text(f"base_lr: 0.1 {text}")
    Path("good.prototxt").write_text(LAYERS % 4)
    Path("bad.prototxt").write_text(LAYERS % 0)
    with pytest.raises(kind) as caught:
        train(TrainOptions(solver="s.prototxt"))
    assert type(caught.value) in (kind, *kind.__subclasses__()) and str(caught.value).startswith(message)


def test_a_second_run_with_the_same_prefix_names_its_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    Path("good.prototxt").write_text(LAYERS % 4)
    Path("s.prototxt").write_text('net: "good.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1')
    with hold("s"), pytest.raises(SolverError, match=r"^s\.prototxt: process \d+ is training .* prefix 's'"):
        train(TrainOptions(solver="s.prototxt"))
    assert train(TrainOptions(solver="s.prototxt")) == 0


TRAINED = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "gaussian" } } }
layer { name: "zero" type: "DummyData" top: "zero" dummy_data_param { shape { dim: 2 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "zero" top: "loss" }
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    Path("net.prototxt").write_text(TRAINED)
    Path("s.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 8 snapshot: 2 '
        'snapshot_prefix: "out/run" random_seed: 5'
    )
    return tmp_path


def test_resume_passes_over_broken_snapshots_and_says_which(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "caffe_compat")
    assert train(TrainOptions(solver="s.prototxt", resume=True, iters=10)) == 0
    assert "No snapshot of out/run yet; starting from the beginning" in caplog.text
    whole = Path("out/run_iter_10.caffemodel").read_bytes()
    state = Path("out/run_iter_10.solverstate")
    state.write_bytes(state.read_bytes()[:-9])  # 10 is cut off, 8 has no weights, those of 6 are cut off
    Path("out/run_iter_8.caffemodel").unlink()
    weights = Path("out/run_iter_6.caffemodel")
    weights.write_bytes(weights.read_bytes()[:-5])
    Path("out/run_iter_x.solverstate").write_text("not a snapshot")
    Path("out/runner_iter_99.solverstate").write_text("another run's")
    caplog.clear()
    assert train(TrainOptions(solver="s.prototxt", resume=True, iters=10)) == 0
    passed = [record.getMessage() for record in caplog.records if "Passing over" in record.getMessage()]
    assert [f"iter_{number}." in line for number, line in zip((10, 8, 6), passed, strict=True)] == [True] * 3
    assert "the weights that out/run_iter_8.solverstate names" in passed[1]
    assert "Resuming from out/run_iter_4.solverstate" in caplog.text
    assert Path("out/run_iter_10.caffemodel").read_bytes() == whole, "a resumed run ends as the whole one"


def test_resume_takes_the_place_of_weights_once_there_is_a_snapshot(run: Path) -> None:
    assert train(TrainOptions(solver="s.prototxt", iters=4)) == 0
    assert train(TrainOptions(solver="s.prototxt", weights="gone.caffemodel", resume=True)) == 0
    assert Path("out/run_iter_8.solverstate").exists()


def test_resume_refuses_where_no_snapshot_is_whole(run: Path) -> None:
    Path("out").mkdir()
    for number in (2, 4):
        Path(f"out/run_iter_{number}.solverstate").write_bytes(b"")
    with pytest.raises(SolverError, match=r"none of the 2 states .*iter_4.*is empty.*iter_2.*remove them to start"):
        train(TrainOptions(solver="s.prototxt", resume=True))


def test_resume_and_snapshot_exclude_each_other(run: Path) -> None:
    with pytest.raises(UsageError, match="--snapshot .* or --resume"):
        train(TrainOptions(solver="s.prototxt", resume=True, snapshot="a.solverstate"))


FROZEN = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "gaussian" } } }
layer { name: "teacher" type: "InnerProduct" bottom: "x" top: "teacher" param { lr_mult: 0 } param { lr_mult: 0 }
  inner_product_param { num_output: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "teacher" top: "loss" }
"""


def test_a_teacher_without_weights_is_refused(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    Path("net.prototxt").write_text(FROZEN)
    with pytest.raises(WeightsError, match="layer 'teacher' of net '' have lr_mult 0 and no weights"):
        train(TrainOptions(solver="s.prototxt"))
    assert train(TrainOptions(solver="s.prototxt", stop_at_nan=False)) == 0, "Caffe trains"
    net = load_net("net.prototxt", phase="TRAIN")
    net.layer("teacher").blob(0).data.fill_(1)
    net.save("given.caffemodel")
    assert train(TrainOptions(solver="s.prototxt", weights="given.caffemodel", iters=1)) == 0


def test_weights_of_another_net_are_refused_and_part_of_them_is_told(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "caffe_compat")
    Path("other.prototxt").write_text(TRAINED.replace('"ip"', '"other"'))
    load_net("other.prototxt", phase="TRAIN").save("other.caffemodel")
    with pytest.raises(WeightsError, match=r"other\.caffemodel: no layer of this file fits net"):
        train(TrainOptions(solver="s.prototxt", weights="other.caffemodel"))
    load_net("net.prototxt", phase="TRAIN").save("own.caffemodel")
    Path("net.prototxt").write_text(FROZEN)
    Path("net.prototxt").write_text(
        FROZEN.replace("num_output: 2 }", 'num_output: 2 weight_filler { type: "msra" } }', 1)
    )
    assert train(TrainOptions(solver="s.prototxt", weights="own.caffemodel", iters=1)) == 0
    assert "fits net '' in part, 1 of 2 layers with weights: there are no weights for 'teacher'" in caplog.text


def test_numbers_that_grow_out_of_bounds_end_training_and_the_last_snapshot_is_named(
    run: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", "caffe_compat")
    text = Path("s.prototxt").read_text()
    Path("s.prototxt").write_text(text.replace("base_lr: 0.1", "base_lr: 3e3").replace("max_iter: 8", "max_iter: 99"))
    with pytest.raises(SolverError, match=r"s.prototxt: iteration \d+: the loss is (inf|nan)"):
        train(TrainOptions(solver="s.prototxt"))
    last = max(Path("out").glob("run_iter_*.solverstate"), key=lambda path: int(path.stem.split("_")[-1]))
    assert caplog.messages[-1] == f"The last snapshot is {last}"
    kept = load_net("net.prototxt", last.with_suffix(".caffemodel"))
    assert all(bool(blob.isfinite().all()) for blob in kept.parameters())


def test_a_stopped_run_prints_the_command_that_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: SignalHandler) -> Action:
        self.stopped_by = 15
        return Action.STOP

    monkeypatch.setattr(SignalHandler, "poll", stop)
    assert train(TrainOptions(solver="s.prototxt", iters=7)) == 143
    (state,) = Path("out").glob("*.solverstate")
    told = f"next:\n  tools/train_net.py --solver s.prototxt --snapshot {state} --iters 7\n"
    assert capsys.readouterr().out == told


def test_a_test_longer_than_its_list_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(Path("pairs"), count=4, size=(8, 8))
    Path("net.prototxt").write_text(
        """
layer { name: "pairs" type: "PairedImageData" top: "a" top: "b"
  paired_image_data_param { source: "pairs/train_pairs.txt" batch_size: 2 } }
layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "b" top: "loss" loss_weight: 1e-6 }
"""
    )
    text = Path("s.prototxt").read_text()
    Path("s.prototxt").write_text(f"{text} test_iter: 6 test_interval: 4")
    assert train(TrainOptions(solver="s.prototxt", iters=1)) == 0
    (told,) = (message for message in caplog.messages if "test_iter" in message and "batches" in message)
    assert told.endswith("has only 2 batches, of which each would be tested 3 times: tests take 2")
    assert train(TrainOptions(solver="s.prototxt", iters=1, stop_at_nan=False)) == 0, "Caffe goes round"
    assert len([message for message in caplog.messages if "batches, of which" in message]) == 1
