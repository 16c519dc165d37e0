"""The list of prototxts says what is so; copies are complete, and nothing is written over."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from program import call

from caffe_compat.commands.net_table import describe
from caffe_compat.importing import ARCHITECTURES

NETS = yaml.safe_load((ROOT / "prototxt/zoo.yml").read_text(encoding="utf-8"))


def test_every_deploy_net_is_listed() -> None:
    top = [path for path in (ROOT / "prototxt").glob("*/*.prototxt") if path.stem.startswith(("deploy", "trunk"))]
    top += (ROOT / "prototxt/students").rglob("*.prototxt")
    names = {path.relative_to(ROOT / "prototxt").with_suffix("").as_posix() for path in top}
    assert {name for name in NETS if not name.startswith("zoo/")} == names


@pytest.mark.parametrize("name", NETS)
def test_parameters_are_right(name: str) -> None:
    table = describe(str(ROOT / "prototxt" / f"{name}.prototxt"), "TEST", 0, (), {}, False)
    assert table.total("parameters") == NETS[name]["parameters"]


def test_imported_weights_are_named() -> None:
    for source, architecture in ARCHITECTURES.items():
        assert source in NETS[architecture.prototxt.removesuffix(".prototxt")]["weights"]


def test_listing() -> None:
    shown = call("zoo").stdout
    for words in ("zoo:caffenet/deploy ", "60,965,224", "243.9 MB", "zoo:detection/alexnet_hha/", "config.yml solver"):
        assert words in shown
    lines = call("zoo", "zoo:small").stdout.splitlines()
    assert [Path(line) for line in lines] == [ROOT / "prototxt/small/deploy.prototxt"]
    assert len(call("zoo", "zoo:detection/alexnet_hha").stdout.splitlines()) == 4
    assert "did you mean 'vgg16'?" in call("zoo", "vg16").stderr


def test_copies(tmp_path: Path) -> None:
    assert call("zoo", "detection/alexnet_hha", "--copy", "my", folder=tmp_path).status == 0
    assert {path.name for path in (tmp_path / "my").iterdir()} == {
        "config.yml",
        "solver.prototxt",
        "test.prototxt",
        "train.prototxt",
    }
    (tmp_path / "my/config.yml").unlink()
    done = call("zoo", "detection/alexnet_hha", "--copy", "my", folder=tmp_path)
    assert done.status == 2 and "is there already" in done.stderr and not (tmp_path / "my/config.yml").exists()
    call("zoo", "transfer", "--copy", "all", folder=tmp_path)
    copied = (tmp_path / "all/vgg16_to_alexnet_hha/surgery.json").read_bytes()
    assert copied == (ROOT / "prototxt/transfer/vgg16_to_alexnet_hha/surgery.json").read_bytes()
    assert "--copy" in call("zoo", "--copy", "x", folder=tmp_path).stderr
