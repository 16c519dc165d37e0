"""What cannot be exported, through the command: one error that names the culprit, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_disk import everything, largest_file
from onnx_nets import conv, ip, layer, make_net, source
from program import call

from caffe_compat.onnx import save

NET = 'name: "n"\n' + source("data", 1, 3, 16, 16) + conv("conv", "data", "conv") + ip("ip", "conv", "ip")
ROIS = source("rois", 2, 5) + source("masks", 2, 1, 3, 3)
MASKED = layer("CFMPooling", "mask", "conv rois masks", "pooled", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }")
MODULE = """import caffe
class Mine(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data
    def backward(self, top, down, bottom): pass
"""
PYTHON = layer("Python", "mine", "ip", "out", 'python_param { module: "exported_by_nobody" layer: "Mine" }')
TWICE = MASKED + MASKED.replace('"mask"', '"again"').replace('"pooled"', '"more"')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good net with its weights, those of others, and a module with a Python layer; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("exported_by_nobody.py").write_text(MODULE)
    Path("n.prototxt").write_text(NET)
    make_net(NET).save("n.caffemodel")
    make_net(NET.replace("num_output: 5", "num_output: 6")).save("six.caffemodel")
    make_net(NET.replace('"conv"', '"other"').replace('"ip"', '"fc"')).save("other.caffemodel")
    Path("junk.caffemodel").write_bytes(bytes(range(256)))
    Path("empty.caffemodel").touch()
    Path("file").write_text("x")
    return tmp_path


def refused(folder: Path, *words: str, **options: str) -> str:
    """The error of an export; nothing has changed in the folder."""
    given = {"--model": "n.prototxt", "--output": "n.onnx", **{f"--{key}": value for key, value in options.items()}}
    before = everything(folder)
    done = call("export_onnx", *(word for pair in given.items() for word in pair), *words)
    found = {name: content for name, content in everything(folder).items() if "__pycache__" not in name}
    assert done.status == 2 and found == before, done
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return error


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (NET + ROIS + MASKED, ["bad.prototxt: layer 'mask' (CFMPooling): ONNX has no masked region pooling"]),
        (NET + ROIS + TWICE, ["layer 'mask' (CFMPooling)", "layer 'again' (CFMPooling)"]),
        (NET + PYTHON, ["bad.prototxt: layer 'mine' (Python): it runs Python code, which no ONNX runtime does"]),
        (NET + layer("Silence", "quiet", "ip", "").replace(' top: ""', ""), ["has no output to export"]),
        (NET.replace(source("data", 1, 3, 16, 16),
                     'layer { name: "data" type: "Input" top: "data" }'), ["Convolution", "bad.prototxt"]),
    ],
)  # fmt: skip
def test_layers_that_onnx_cannot_express(folder: Path, text: str, parts: list[str]) -> None:
    Path("bad.prototxt").write_text(text)
    error = refused(folder, model="bad.prototxt")
    assert all(part in error for part in parts), error


def test_many_layers_are_not_all_named(folder: Path) -> None:
    more = "".join(MASKED.replace('"mask"', f'"m{n}"').replace('"pooled"', f'"p{n}"') for n in range(8))
    Path("bad.prototxt").write_text(NET + ROIS + more)
    error = refused(folder, model="bad.prototxt")
    assert error.count("CFMPooling") == 5 and error.endswith("; and 3 more")


def test_what_does_not_depend_on_such_a_layer_can_be_exported(folder: Path) -> None:
    Path("bad.prototxt").write_text(NET + ROIS + MASKED)
    done = call("export_onnx", "--model", "bad.prototxt", "--output", "n.onnx", "--outputs", "ip")
    assert done.status == 0 and Path("n.onnx").exists()


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ("absent.caffemodel", []),
        ("six.caffemodel", ["layer 'ip'", "[6, 1024]", "[5, 1024]"]),
        ("other.caffemodel", ["no layer of this file fits net 'n'", "'other'", "'conv'"]),
        ("junk.caffemodel", []),
        ("empty.caffemodel", ["the file is empty"]),
        ("n.prototxt", ["text file"]),
        (".", ["folder"]),
    ],
)
def test_wrong_weights(folder: Path, weights: str, parts: list[str]) -> None:
    error = refused(folder, weights=weights)
    assert all(part in error for part in [weights, *parts]), error


@pytest.mark.parametrize("words", [(), ("--no-verify",), ("--fp16",)])
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("file/n.onnx", "Not a directory"),
        (".", "is a folder"),
        ("", "it "),
        ("/dev/full", ""),
        ("/proc/caffe_compat/n.onnx", ""),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
    ],
)
def test_paths_that_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, reason: str, external: bool, words: tuple[str, ...]
) -> None:
    if external:
        monkeypatch.setattr(save, "_LARGE", 1)
    error = refused(folder, *words, weights="n.caffemodel", output=output)
    assert reason in error, error
    assert error.startswith((f"error: cannot write {output[:1]}", "error: --output: ")), error


@pytest.mark.parametrize("words", [(), ("--no-verify",), ("--fp16",)])
@pytest.mark.parametrize("external", [False, True])
def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, external: bool, words: tuple[str, ...]) -> None:
    """The system lets no file grow beyond some bytes, at the start, in the middle and at the end of the model."""
    if external:
        monkeypatch.setattr(save, "_LARGE", 1)
    for size in (0, 100, 7_000):
        with largest_file(size):
            error = refused(folder, *words, weights="n.caffemodel")
        assert error == "error: cannot write n.onnx: File too large" or "--fp16" in words, error
        assert error.startswith("error: cannot write") and error.endswith("File too large")  # of a temporary folder
