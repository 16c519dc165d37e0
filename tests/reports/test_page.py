"""The page about runs: it holds everything itself, says what the runs' files say, and a browser shows it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import browser, rendered

from caffe_compat.commands import report, train_net
from caffe_compat.errors import DataError
from caffe_compat.evaluation.reports import write_reports
from caffe_compat.evaluation.result import Evaluation
from caffe_compat.reports.detectors import read_evaluation
from caffe_compat.reports.html import picture, table
from caffe_compat.reports.tested import confusion
from caffe_compat.transfer.runs import named_apart, read_run

NET = """name: "small"
layer { name: "d" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  image_data_param { source: "list.txt" batch_size: 4 } }
layer { name: "d" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  image_data_param { source: "list.txt" batch_size: 5 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 5 stride: 2 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """net: "n.prototxt" base_lr: {rate} lr_policy: "fixed" max_iter: 4 display: 1 test_iter: 2 test_interval: 2
snapshot: 2 snapshot_prefix: "{folder}/small" random_seed: {seed} solver_mode: CPU
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    rng = np.random.default_rng(0)
    for number in range(10):
        cv2.imwrite(f"{number}.png", rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
    Path("list.txt").write_text("".join(f"{number}.png {number % 3}\n" for number in range(10)))
    Path("classes.txt").write_text("ball\nbox & <lid>\ncone\n")
    Path("n.prototxt").write_text(NET)


def trained(folder: str, rate: float = 1e-5, seed: int = 1) -> None:
    solver = f"{folder.replace('/', '_')}.prototxt"
    Path(solver).write_text(SOLVER.format(rate=rate, folder=folder, seed=seed))
    assert train_net.main(["--solver", solver]) == 0


class Page(HTMLParser):
    """What a page holds, and whether its elements are closed in order."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def stored(folder: Path) -> Evaluation:
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 1.0, 2 / 3, 0.75])
    none = np.zeros(0)
    found = Evaluation(
        "voc", ("chair", "table", "lamp"), np.array([0.625, 0.0, np.nan]), (precision, none, none),
        (recall, none, none), (np.array([0.9, 0.8, 0.7, 0.6]), none, none), np.array([4, 2, 0]), np.array([4, 0, 0]),
        0.3125, 2, 0.5,
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_reports(folder, found)
    return found


def test_a_page_of_several_runs_holds_everything_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for folder, rate in (("one/snap", 1e-5), ("two/snap", 1e-4)):
        trained(folder, rate)
    stored(Path("one/snap/x_test/small_iter_4"))
    words = ["one/snap", "two/snap", "--output", "both", "--classes", "classes.txt"]
    assert report.main(words) == 0 and "see both/report.html" in capsys.readouterr().out
    text = Path("both/report.html").read_text()
    page = Page(text)
    sources = [str(attributes["src"]) for attributes in page.of("img")]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert all(attributes["alt"] for attributes in page.of("img"))
    assert "://" not in "".join(str(attributes) for _, attributes in page.elements) and not list(page.of("script"))
    assert all(str(attributes["href"]).startswith("#") for attributes in page.of("a"))
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert {str(attributes["href"])[1:] for attributes in page.of("a")} <= targets
    for part in (
        "one and two", "accuracy", "base_lr", "What their solvers do not have in common", "0.0001",
        "Average precision, %", "62.5", "no objects", "Confusion", "box & <lid>",
        "6 filters of layer 'conv1', 3 x 5 x 5",
        "n.prototxt", "random_seed: 1", "Environment",
    ):  # fmt: skip
        assert part in page.text, part
    alts = " ".join(str(attributes["alt"]) for attributes in page.of("img"))
    for part in ("Curves over the iterations: accuracy, loss", "Precision against recall", "blobs of the net 'small'"):
        assert part in alts, part
    assert "iteration 2" in alts and "iteration 4" in alts  # filters of the first and of the last snapshot


def test_the_same_runs_give_the_same_page_and_no_tests_run_nothing() -> None:
    trained("one")
    assert report.main(["one", "--tests", "0"]) == 0
    first = Path("one/report.html").read_text()
    assert "Confusion" not in first
    assert report.main(["one", "--tests", "0"]) == 0 and Path("one/report.html").read_text() == first


def test_data_that_is_gone_is_said_and_the_rest_is_shown() -> None:
    trained("one")
    Path("list.txt").unlink()
    assert report.main(["one"]) == 0
    page = Page(Path("one/report.html").read_text())
    assert "No predictions are shown" in page.text and "list.txt" in page.text and "Curves" in page.text


def test_a_damaged_evaluation_is_refused_by_its_name() -> None:
    stored(Path("x"))
    Path("x/eval.npz").write_bytes(Path("x/eval.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="x/eval.npz"):
        read_evaluation(Path("x/eval.npz"), "x")
    found = stored(Path("y"))
    read = read_evaluation(Path("y/eval.npz"), "y")
    np.testing.assert_array_equal(read.curves[0], (found.recall[0], found.precision[0]))
    assert read.classes == found.classes and read.mean == found.mean


def test_confusion_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    labels, guesses = rng.integers(0, 5, 60).tolist(), rng.integers(0, 5, 60).tolist()
    expected = np.zeros((5, 5), int)
    for label, guess in zip(labels, guesses, strict=True):
        expected[label, guess] += 1
    np.testing.assert_array_equal(confusion(labels, guesses, 5), expected)


def test_text_is_escaped_and_empty_columns_are_left_out() -> None:
    made = table(["a", "<b>", "c"], [["x", "", "1"], ["<y>", "", "2 %"]], "t & u")
    assert "&lt;y&gt;" in made and "t &amp; u" in made and "&lt;b&gt;" not in made and '<td class="n">2 %' in made
    assert table(["a"], [], "t") == ""
    assert 'alt="a &quot;b&quot;"' in picture(b"x", "png", 'a "b"')


@pytest.mark.skipif(not browser(), reason="no Chromium is installed, and CAFFE_COMPAT_BROWSER names none")
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    """Reads what headless Chromium made of it; the screenshot stays, in CAFFE_COMPAT_SCREENSHOTS if that is set."""
    for folder, rate in (("one", 1e-5), ("two", 1e-4)):
        trained(folder, rate)
    stored(Path("one/x_test/small_iter_4"))
    assert report.main(["one", "two", "--output", "both", "--classes", "classes.txt"]) == 0
    kept = Path(os.environ.get("CAFFE_COMPAT_SCREENSHOTS", tmp_path)).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    dom = Page(rendered(Path("both/report.html"), kept / "report.png"))
    assert "one and two" in dom.text and "Confusion" in dom.text and "box & <lid>" in dom.text
    assert len(list(dom.of("img"))) > 12 and len(list(dom.of("table"))) > 6
    shown = cv2.imread(str(kept / "report.png"))
    colors = len(np.unique(shown.reshape(-1, 3)[::7], axis=0))
    assert min(shown.shape[:2]) > 700 and colors > 500, "text, drawings and pictures"


def test_runs_of_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs: Any = [_run(tmp_path / name / "snap" / "x") for name in ("a/deep", "b")]
    assert [run.name for run in named_apart(runs)] == ["a/deep", "b"]


def _run(prefix: Path) -> Any:
    prefix.parent.mkdir(parents=True)
    lines = [{"phase": "start", "iteration": 0}, {"phase": "train", "iteration": 0, "loss": 1.0, "lr": 0.1}]
    Path(f"{prefix}_metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(prefix.parent)
