"""The project's own files are found by name, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from program import call

from caffe_compat.errors import MissingFileError
from caffe_compat.net import load_description
from caffe_compat.proto import read_net
from caffe_compat.resources import located, package_path, program, prototxt, zoo_files


def test_zoo_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert located("zoo:caffenet/deploy") == located("zoo:caffenet") == "prototxt/caffenet/deploy.prototxt"
    assert located("zoo:detection/alexnet_hha/config.yml") == "prototxt/detection/alexnet_hha/config.yml"
    assert located("zoo:vgg16/deploy.prototxt@pool5") == "prototxt/vgg16/deploy.prototxt@pool5"
    monkeypatch.chdir(tmp_path)
    assert located("zoo:caffenet") == str(ROOT / "prototxt/caffenet/deploy.prototxt")
    assert located("my/zoo:x") == "my/zoo:x" and located(Path("a.prototxt")) == "a.prototxt"
    for name, hint in (("cafenet", "'caffenet'"), ("caffenet/deplo", "'caffenet/deploy'"), ("../setup.py", "")):
        with pytest.raises(MissingFileError, match=f"zoo:{name}.*{hint}"):
            located(f"zoo:{name}")


def test_a_net_of_a_solver_of_ours_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the current folder goes first, and what the project does not have is not found."""
    monkeypatch.chdir(tmp_path)
    name = "prototxt/small/deploy.prototxt"
    assert located(name) == str(ROOT / name) and read_net(name).name == "Small"
    Path(name).parent.mkdir(parents=True)
    Path(name).write_text('name: "mine"')
    assert located(name) == name and read_net(name).name == "mine"
    assert located("prototxt/none.prototxt") == "prototxt/none.prototxt"


def test_api_and_tools_take_zoo_names(tmp_path: Path) -> None:
    assert load_description("zoo:small").name == "Small"
    for words in (["zoo:small"], ["--plain", "zoo:small/deploy"]):
        done = call("describe", *words, folder=tmp_path)
        assert done.status == 0 and "conv5" in done.stdout
    done = call("export_onnx", "--model=zoo:small", "--output", "s.onnx", folder=tmp_path)
    assert done.status == 0 and (tmp_path / "s.onnx").exists(), done.stderr
    done = call("describe", "zoo:smal", folder=tmp_path)
    assert done.status == 2 and "did you mean 'small'?" in done.stderr


def test_where_things_are() -> None:
    assert (package_path() / "caffe_compat" / "resources.py").exists()
    assert prototxt("zoo.yml").exists() and "small/deploy.prototxt" in zoo_files()
    with pytest.raises(MissingFileError, match="small/deploy.prototxt"):
        prototxt("small/deply.prototxt")
    assert program("train_net") == "tools/train_net.py" and program("fetch") == "data/fetch.py"
